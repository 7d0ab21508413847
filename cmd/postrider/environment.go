package main

import (
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/postrider/postrider/internal/nearest"
	"github.com/postrider/postrider/relay"
)

// serviceLink are the variables that Kubernetes gives every container for each service of its
// namespace, and so for one that is called postrider or postrider-registry.
var serviceLink = regexp.MustCompile(`_SERVICE_(HOST|PORT(_[A-Z0-9_]+)?)$|_PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?$`)

// unknownVariables says of each variable that begins as the relay's do and is none which one may
// be meant. That is worth a warning, not an error as an unknown key of the file is: whoever
// writes the file means this program, but the environment is written by many, and one file of
// variables often serves several versions and programs. A relay that does not start for the sake
// of a variable that nobody reads would be the worse mistake.
func unknownVariables(environ []string) []string {
	known := slices.Concat(relay.Variables(), []string{registryPrefix + "_STORE"})
	var warnings []string
	for _, entry := range environ {
		name, _, _ := strings.Cut(entry, "=")
		switch {
		case !strings.HasPrefix(name, "POSTRIDER_"), slices.Contains(known, name), serviceLink.MatchString(name):
		case strings.HasPrefix(name, registryFromPrefix+"_"): // of registry import
		case name == "POSTRIDER_FAILPOINT", name == "POSTRIDER_BUG": // of test builds, which say so themselves
		default:
			warning := "the environment variable " + name + " is not known and does nothing"
			if near := nearest.Of(name, known); near != "" {
				warning += "; is " + near + " meant?"
			}
			warnings = append(warnings, warning)
		}
	}
	slices.Sort(warnings)
	return warnings
}

// warnOfVariables writes the warnings of a command that does not log.
func warnOfVariables(w io.Writer) {
	for _, warning := range unknownVariables(os.Environ()) {
		fmt.Fprintln(w, "postrider: warning:", warning)
	}
}
