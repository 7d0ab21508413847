package schemaregistry

import (
	"slices"
	"strings"
)

// Level says which earlier versions of a subject a new one must be compatible with, and in
// which direction.
type Level string

// The levels. Backward: readers of the new version can read what was written with the old
// one; forward: the other way round; full: both. The transitive ones look at all versions of
// the subject, the others at the latest.
const (
	None               Level = "NONE"
	Backward           Level = "BACKWARD"
	BackwardTransitive Level = "BACKWARD_TRANSITIVE"
	Forward            Level = "FORWARD"
	ForwardTransitive  Level = "FORWARD_TRANSITIVE"
	Full               Level = "FULL"
	FullTransitive     Level = "FULL_TRANSITIVE"
)

// DefaultLevel holds until another is set.
const DefaultLevel = Backward

// ParseLevel reads the name of a level in any case.
func ParseLevel(name string) (Level, bool) {
	level := Level(strings.ToUpper(name))
	return level, slices.Contains([]Level{None, Backward, BackwardTransitive, Forward, ForwardTransitive, Full, FullTransitive}, level)
}

func (l Level) transitive() bool { return strings.HasSuffix(string(l), "_TRANSITIVE") }
func (l Level) backward() bool   { return strings.HasPrefix(string(l), "BACKWARD") || l.full() }
func (l Level) forward() bool    { return strings.HasPrefix(string(l), "FORWARD") || l.full() }
func (l Level) full() bool       { return strings.HasPrefix(string(l), "FULL") }
