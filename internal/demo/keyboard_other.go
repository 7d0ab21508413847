//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package demo

import (
	"errors"
	"os"
)

func inForeground(*os.File) bool { return true }

// singleKeys: here commands are words that end with Enter.
func singleKeys(*os.File) (restore func(), err error) { return nil, errors.ErrUnsupported }
