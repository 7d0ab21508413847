package schemaregistry

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"unicode/utf16"
)

// AnyVersion asks for a comparison with all versions that the level is about.
const AnyVersion = 0

// Latest stands for the latest version that is in use where a version is asked for.
const Latest = -1

// CheckCompatibility tells why a schema does not fit a subject at its level; no message means
// that it does. version is AnyVersion for what the level asks for, or Latest, both of which
// every schema fits where there is no subject, or the number of one version to compare with.
func (r *Registry) CheckCompatibility(ctx context.Context, subject string, version int, submission Submission) ([]string, error) {
	subject = normalizeName(subject)
	return find(ctx, r, func(v view) ([]string, error) {
		var config *Config
		v(func(s *state) { config = s.config(subject) })
		earlier, err := versionsToCheck(v, subject, version)
		if err != nil {
			return nil, err
		}
		if blank(submission.Schema) {
			return nil, invalidSchema("Empty schema")
		}
		src, parsed, err := r.parseContent(v, subject, submission.content(), false)
		if err != nil {
			return nil, err
		}
		identity := src.identify(parsed, submission.Normalize || config.normalizes())
		return r.conflicts(v, config, subject, &identity, parsed, earlier)
	})
}

func versionsToCheck(v view, subject string, number int) (versions []version, err error) {
	v(func(s *state) {
		if number == AnyVersion {
			versions = s.subjects[subject].live()
			return
		}
		one, ok := s.find(subject, number, false)
		switch {
		case ok:
			versions = []version{one}
		case number != Latest:
			err = versionNotFound(number)
		}
	})
	return versions, err
}

// conflicts tells why a schema cannot follow the earlier versions of a subject, which are
// given oldest first.
func (r *Registry) conflicts(v view, config *Config, subject string, c *content, parsed parsedSchema, earlier []version) ([]string, error) {
	validate := config.ValidateFields != nil && *config.ValidateFields
	var problems []string
	if validate {
		problems = c.reservedConflicts(parsed, earlier)
	}
	unreadable, err := r.incompatibilities(v, config, subject, c, parsed, earlier)
	if err != nil {
		return nil, err
	}
	if problems = append(problems, unreadable...); len(problems) == 0 {
		return nil, nil
	}
	return append(problems, fmt.Sprintf("{validateFields: '%t', compatibility: '%s'}", validate, config.Level)), nil
}

// reservedConflicts looks at the fields that the metadata reserves: a schema must not have
// one, and must reserve those of the version before it.
func (c *content) reservedConflicts(parsed parsedSchema, earlier []version) (problems []string) {
	reserved := c.Metadata.reserved()
	if len(earlier) > 0 {
		for _, field := range earlier[len(earlier)-1].schema.Metadata.reserved() {
			if !slices.Contains(reserved, field) {
				problems = append(problems, fmt.Sprintf("The new schema does not reserve field '%s' in its metadata any more, as the old schema does.", field))
			}
		}
	}
	for _, field := range reserved {
		if parsed.hasField(field) {
			problems = append(problems, fmt.Sprintf("The new schema has field '%s', which its metadata reserves.", field))
		}
	}
	return problems
}

// incompatibilities compares a schema with earlier versions and returns what is wrong with the
// first that it does not fit, newest first.
func (r *Registry) incompatibilities(v view, config *Config, subject string, c *content, parsed parsedSchema, earlier []version) ([]string, error) {
	if config.CompatibilityGroup != nil {
		group, _ := c.Metadata.property(*config.CompatibilityGroup)
		earlier = slices.DeleteFunc(slices.Clone(earlier), func(v version) bool {
			other, _ := v.schema.Metadata.property(*config.CompatibilityGroup)
			return other != group
		})
	}
	if config.Level == None || len(earlier) == 0 {
		return nil, nil
	}
	if !config.Level.transitive() {
		earlier = earlier[len(earlier)-1:]
	}
	for _, old := range slices.Backward(earlier) {
		problems, err := r.compare(v, config, subject, c, parsed, old)
		if len(problems) > 0 || err != nil {
			return problems, err
		}
	}
	return nil, nil
}

// largestShown bounds how much of an old schema a message repeats, in UTF-16 units as the
// original counts them.
const largestShown = 10 << 10

// shown is a schema in quotes, or its beginning.
func shown(schema string) string {
	units := 0
	for i, r := range schema {
		if units += utf16.RuneLen(r); units > largestShown {
			return "<truncated> '" + schema[:i] + "...'"
		}
	}
	return "'" + schema + "'"
}

// compare tells what is wrong between a schema and one version.
func (r *Registry) compare(v view, config *Config, subject string, c *content, parsed parsedSchema, old version) ([]string, error) {
	if c.Type != old.schema.Type {
		return []string{"Incompatible because of different schema type"}, nil
	}
	other, err := r.parseVersion(v, subject, old.schema)
	if err != nil {
		return nil, err
	}
	level := config.Level
	var problems []string
	add := func(reader, writer parsedSchema, names ...any) {
		if err != nil {
			return
		}
		var found []string
		found, err = reader.unreadable(writer, config.lenient())
		for _, problem := range found {
			problems = append(problems, fmt.Sprintf(problem, names...))
		}
	}
	if level.forward() {
		add(other, parsed, "old", "new")
	}
	forward := len(problems)
	if level.backward() {
		add(parsed, other, "new", "old")
	}
	if err != nil {
		return nil, err
	}
	if len(problems) == 0 || level.full() && len(problems) == forward {
		return problems, nil // the original tells of the old schema behind the backward problems
	}
	return append(problems, "{oldSchemaVersion: "+strconv.Itoa(old.number)+"}", "{oldSchema: "+shown(other.canonical())+"}"), nil
}
