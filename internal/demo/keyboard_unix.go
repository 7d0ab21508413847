//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package demo

import (
	"os"

	"golang.org/x/sys/unix"
)

// inForeground tells whether a terminal lets us read: a job in the background that tries is
// stopped.
func inForeground(terminal *os.File) bool {
	group, err := unix.IoctlGetInt(int(terminal.Fd()), unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

// singleKeys turns off a terminal's lines and its echo, and nothing else: signals and the ends
// of lines that are printed stay as they are.
func singleKeys(terminal *os.File) (restore func(), err error) {
	fd := int(terminal.Fd())
	before, err := unix.IoctlGetTermios(fd, getTermios)
	if err != nil {
		return nil, err
	}
	single := *before
	single.Lflag &^= unix.ICANON | unix.ECHO
	single.Cc[unix.VMIN], single.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(fd, setTermios, &single); err != nil {
		return nil, err
	}
	return func() { _ = unix.IoctlSetTermios(fd, setTermios, before) }, nil
}
