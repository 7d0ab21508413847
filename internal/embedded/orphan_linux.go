package embedded

import "syscall"

// endWithParent makes the kernel send the child a signal when we die, kill -9 included.
func endWithParent(attributes *syscall.SysProcAttr, signal syscall.Signal) {
	attributes.Pdeathsig = signal
}
