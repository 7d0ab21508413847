package subprocess

import (
	"os/exec"
	"syscall"
)

// bind makes the kernel send the child a signal when this process ends.
func bind(cmd *exec.Cmd, lastWill syscall.Signal) { cmd.SysProcAttr.Pdeathsig = lastWill }
