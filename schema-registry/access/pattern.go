package access

import (
	"fmt"
	"strings"
)

// name is a subject with its context. In the API a subject of another context than the
// default one is written :.context:subject.
type name struct {
	context string // begins with a dot; "." is the default one
	subject string // "" stands for all that is in the context, as in a level for it
}

const defaultContext = "."

// String writes a name as the API does.
func (n name) String() string {
	if n.context == defaultContext {
		return n.subject
	}
	return ":" + n.context + ":" + n.subject
}

// readName reads a subject as it stands in a request, outside of any context.
func readName(text string) name { return readNameIn(defaultContext, text) }

// readNameIn reads a subject under /contexts/{context}. A qualified one names its context itself.
func readNameIn(context, text string) name {
	if strings.HasPrefix(text, ":*:") {
		return name{defaultContext, text} // no context of that name can be
	}
	if strings.HasPrefix(text, ":.") {
		inner, subject, _ := strings.Cut(text[1:], ":")
		return name{inner, subject}
	}
	return name{context, text}
}

// pattern matches names. Its subject is a glob in which * stands for any characters, none
// too, and everything else for itself.
type pattern struct {
	context string // "*" stands for every context
	subject string
}

// readPattern reads a pattern as it stands in the file: * for everything, a glob of subjects
// of the default context, or one of another context, or of any: :.context:glob, :*:glob.
func readPattern(text string) (pattern, error) {
	switch {
	case text == "":
		return pattern{}, fmt.Errorf("a subject pattern is empty; * stands for all subjects")
	case text == "*":
		return pattern{"*", "*"}, nil
	case !strings.HasPrefix(text, ":.") && !strings.HasPrefix(text, ":*"):
		return pattern{defaultContext, text}, nil
	}
	context, subject, ok := strings.Cut(text[1:], ":")
	if !ok || subject == "" || context != "*" && strings.Contains(context, "*") {
		return pattern{}, fmt.Errorf("subject pattern %q is neither like :.context:glob nor like :*:glob", text)
	}
	return pattern{context, subject}, nil
}

func (p pattern) inContext(context string) bool { return p.context == "*" || p.context == context }

// matches tells whether the pattern covers a name. All of a context, or the context itself,
// is covered by nothing less than *.
func (p pattern) matches(n name) bool {
	if !p.inContext(n.context) {
		return false
	}
	if n.subject == "" {
		return p.subject == "*"
	}
	return glob(p.subject, n.subject)
}

// glob matches in time proportional to the product of the lengths at worst: of the stars
// that were passed only the last one is ever tried again.
func glob(pattern, s string) bool {
	star, resume := -1, 0
	p, i := 0, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, resume = p, i
			p++
		case p < len(pattern) && pattern[p] == s[i]:
			p, i = p+1, i+1
		case star >= 0:
			resume++
			p, i = star+1, resume
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}
