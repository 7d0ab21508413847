//go:build darwin || dragonfly || freebsd || netbsd || openbsd

package demo

import "golang.org/x/sys/unix"

const getTermios, setTermios = unix.TIOCGETA, unix.TIOCSETA
