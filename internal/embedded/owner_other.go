//go:build !unix

package embedded

import "syscall"

// owner is the user that the server runs as: always the current one here.
type owner struct{}

func chooseOwner() (*owner, error) { return nil, nil }

func (*owner) give(string) error { return nil }

func (*owner) attributes() *syscall.SysProcAttr { return nil }
