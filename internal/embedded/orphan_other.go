//go:build !linux

package embedded

import "syscall"

// endWithParent: only Linux tells a child of its parent's death.
func endWithParent(*syscall.SysProcAttr, syscall.Signal) {}
