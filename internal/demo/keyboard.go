package demo

import (
	"bufio"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// keyboard reads commands: keys on a terminal, lines elsewhere.
type keyboard struct {
	in      io.Reader
	keys    bool
	restore func()
}

// openKeyboard prepares in. A terminal gives every key at once and does not show it, until
// close; Ctrl-C and Ctrl-Z do what they always do. In a job in the background nothing is read.
func openKeyboard(in io.Reader) *keyboard {
	k := &keyboard{in: in, restore: func() {}}
	file, ok := in.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return k
	}
	if !inForeground(file) {
		k.in = strings.NewReader("")
		return k
	}
	if restore, err := singleKeys(file); err == nil {
		k.keys, k.restore = true, restore
	}
	return k
}

func (k *keyboard) close() { k.restore() }

// read calls do with each command, until the input ends. Nothing can interrupt it but that:
// it may outlive the demo.
func (k *keyboard) read(do func(string)) {
	in := bufio.NewReader(k.in)
	for {
		if k.keys {
			key, _, err := in.ReadRune()
			if err != nil {
				return
			}
			if command, ok := keyCommands[key]; ok {
				do(command)
			}
			continue
		}
		line, err := in.ReadString('\n')
		if line = strings.Join(strings.Fields(line), " "); line != "" && line[0] != '#' {
			do(strings.ToLower(line))
		}
		if err != nil {
			return
		}
	}
}
