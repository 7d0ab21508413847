package benchmark

import "syscall"

// childAttributes keep Ctrl-C from the relay, which is stopped in order, and have the kernel
// end it when this process is killed.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
