//go:build !linux

package subprocess

import (
	"os/exec"
	"syscall"
)

// bind: only Linux tells a child of its parent's end.
func bind(*exec.Cmd, syscall.Signal) {}
