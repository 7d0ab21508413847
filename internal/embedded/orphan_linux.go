package embedded

import "syscall"

// endWithParent makes the kernel shut the server down at once when we die, kill -9 included.
func endWithParent(attributes *syscall.SysProcAttr) { attributes.Pdeathsig = syscall.SIGQUIT }
