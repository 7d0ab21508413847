//go:build !unix

package subprocess

import (
	"os"
	"os/exec"
)

// separate: there are no process groups.
func separate(*exec.Cmd) {}

func killGroup(p *os.Process) { _ = p.Kill() }
