package schemaregistry

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// A qualified name is ":.context:subject", or the bare subject in the default context. A
// context has a name that starts with a dot; that of the default one is the dot alone. IDs
// are counted in each context by itself.
const (
	defaultContext  = "."
	globalContext   = ".__GLOBAL" // holds settings for all contexts, never subjects
	contextPrefix   = ":."
	contextWildcard = ":*:"
)

// maxSubject bounds the length of a qualified name in bytes: an index entry of Postgres must
// hold it.
const maxSubject = 1024

// splitName returns the context and the bare subject of a qualified name; both may stand
// alone.
func splitName(qualified string) (context, subject string) {
	rest, ok := strings.CutPrefix(qualified, contextPrefix)
	if !ok {
		return defaultContext, qualified
	}
	context, subject, _ = strings.Cut(rest, ":")
	return "." + context, subject
}

// joinName is the opposite of splitName.
func joinName(context, subject string) string {
	if context == defaultContext {
		return subject
	}
	return ":" + context + ":" + subject
}

// normalizeName gives a qualified name its one form: nothing before a subject of the default
// context, and a closing colon behind every other context.
func normalizeName(qualified string) string { return joinName(splitName(qualified)) }

func contextOf(qualified string) string {
	context, _ := splitName(qualified)
	return context
}

// inContextOf qualifies a subject that stands in the schema or settings of parent: without a
// context of its own it is one of the parent's.
func inContextOf(parent, subject string) string {
	context, bare := splitName(subject)
	if context == defaultContext {
		return joinName(contextOf(parent), bare)
	}
	return joinName(context, bare)
}

// isContextName tells whether a name means a whole context.
func isContextName(qualified string) bool {
	_, subject := splitName(qualified)
	return subject == ""
}

// checkSubject refuses names under which nothing can be registered or, with settings, nothing
// can be set.
func checkSubject(qualified string, settings bool) error {
	context, subject := splitName(qualified)
	switch {
	case !utf8.ValidString(qualified), strings.ContainsFunc(qualified, unicode.IsControl),
		len(qualified) > maxSubject,
		subject == "__GLOBAL", subject == "__EMPTY",
		context == globalContext && !settings:
		return invalidSubject(qualified)
	}
	return nil
}

// prefixMatch returns a test of qualified names: those that start with prefix, where a prefix
// without a context means the default one, ":*:" any context, and a context without its
// closing colon all contexts that start so.
func prefixMatch(prefix string) func(context, subject string) bool {
	if _, rest, ok := strings.Cut(prefix, contextWildcard); ok {
		return func(_, subject string) bool { return strings.HasPrefix(subject, rest) }
	}
	context, start := splitName(prefix)
	if strings.HasPrefix(prefix, contextPrefix) && strings.Count(prefix, ":") == 1 {
		return func(c, _ string) bool { return strings.HasPrefix(c, context) }
	}
	return func(c, subject string) bool { return c == context && strings.HasPrefix(subject, start) }
}
