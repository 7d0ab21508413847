package torture

import "syscall"

// endWithParent makes the kernel end the relay when the harness dies, kill -9 included.
func endWithParent(attributes *syscall.SysProcAttr) { attributes.Pdeathsig = syscall.SIGKILL }
