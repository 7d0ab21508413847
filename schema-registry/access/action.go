package access

import (
	"fmt"
	"strings"
)

// Action is what a right allows. A set of them is their sum.
type Action uint8

// The actions.
const (
	Read     Action = 1 << iota // see schemas, versions, levels and modes
	Register                    // add versions
	Check                       // ask whether a schema would be compatible
	Config                      // set and remove levels and modes
	Delete                      // delete versions and subjects, softly or for ever

	all = Read | Register | Check | Config | Delete
)

var actionNames = []struct {
	action Action
	name   string
}{{Read, "read"}, {Register, "register"}, {Check, "check"}, {Config, "config"}, {Delete, "delete"}}

// String names the actions, separated by commas.
func (a Action) String() string {
	var names []string
	for _, n := range actionNames {
		if a&n.action != 0 {
			names = append(names, n.name)
		}
	}
	return strings.Join(names, ",")
}

// UnmarshalText reads the name of one action, or "all".
func (a *Action) UnmarshalText(text []byte) error {
	if string(text) == "all" {
		*a = all
		return nil
	}
	for _, n := range actionNames {
		if n.name == string(text) {
			*a = n.action
			return nil
		}
	}
	return fmt.Errorf("%q is not one of read, register, check, config, delete, all", text)
}
