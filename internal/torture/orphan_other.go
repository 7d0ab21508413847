//go:build !linux

package torture

import "syscall"

func endWithParent(*syscall.SysProcAttr) {}
