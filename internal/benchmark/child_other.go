//go:build !linux

package benchmark

import "syscall"

func childAttributes() *syscall.SysProcAttr { return nil }
