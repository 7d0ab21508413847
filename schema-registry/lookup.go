package schemaregistry

import (
	"context"
	"slices"
	"strconv"
	"strings"
)

// Submission is a schema that is registered, looked up or checked.
type Submission struct {
	Schema     string
	Type       string // Avro, JSONSchema, Protobuf; "" is Avro
	References []Reference
	Metadata   *Metadata
	RuleSet    *RuleSet
	// ID and Version are for registering with mode Import; nil, or one below 0, and a Version
	// of 0 mean none. A Version of Latest or one more than the latest, in other modes, asks
	// for the version to be written into the metadata.
	ID      *int
	Version int
	// Normalize asks for the normalized text in place of the canonical one.
	Normalize bool
}

func (s *Submission) content() content {
	return content{s.Type, s.Schema, s.References, s.Metadata, s.RuleSet}
}

// id is the ID that is asked for, below 0 where none is.
func (s *Submission) id() int {
	if s.ID == nil {
		return -1
	}
	return *s.ID
}

func blank(text string) bool { return strings.TrimSpace(text) == "" }

// Version is one version of a subject.
type Version struct {
	Subject    string
	Version    int // from 1
	ID         int
	GUID       string
	Type       string // Avro, JSONSchema or Protobuf
	Schema     string // canonical text
	References []Reference
	Metadata   *Metadata
	RuleSet    *RuleSet
	Deleted    bool
	Time       int64 // of its last change, in ms since 1970; 0 is not known
}

func (v version) export(subject string) Version {
	s := v.schema
	exported := Version{subject, v.number, s.id, s.guid, s.Type, s.Text, s.References, s.Metadata, s.RuleSet, v.deleted, v.time}
	if exported.Type == "" {
		exported.Type = Avro
	}
	return exported
}

// found is a version that a schema was found to be.
type found struct {
	subject string
	version
}

// Lookup returns the version of a subject that has a schema. A subject without a context is
// looked for in all, in the default one first.
func (r *Registry) Lookup(ctx context.Context, subject string, submission Submission, deleted bool) (Version, error) {
	subject = normalizeName(subject)
	return find(ctx, r, func(v view) (Version, error) {
		f, err := r.lookUpPopulated(v, subject, submission, deleted)
		if f == nil && err == nil && contextOf(subject) == defaultContext {
			var others []string
			v(func(s *state) { others = s.otherContexts() })
			for _, context := range others {
				// A reference that leads nowhere in another context says nothing about this one.
				if f, _ = r.lookUpPopulated(v, joinName(context, subject), submission, deleted); f != nil {
					break
				}
			}
		}
		switch {
		case err != nil:
			return Version{}, err
		case f != nil:
			return f.export(f.subject), nil
		}
		exists := false
		v(func(s *state) { exists = s.exists(subject, deleted) })
		if !exists {
			return Version{}, subjectNotFound(subject)
		}
		return Version{}, schemaNotFound()
	})
}

// lookUpPopulated looks a schema up as it is, and then with the metadata and rules that
// registering it would give it.
func (r *Registry) lookUpPopulated(v view, subject string, submission Submission, deleted bool) (*found, error) {
	var config *Config
	v(func(s *state) { config = s.config(subject) })
	normalize := submission.Normalize || config.normalizes()
	c := submission.content()
	f, err := r.lookUp(v, subject, c, normalize, deleted)
	if f != nil || err != nil {
		return f, err
	}
	var latest version
	var ok bool
	v(func(s *state) { latest, ok = s.find(subject, Latest, false) })
	if !ok {
		return nil, nil
	}
	populated := c
	populated.populate(config, &latest)
	if populated.Metadata.equal(c.Metadata) && populated.RuleSet.equal(c.RuleSet) {
		return nil, nil
	}
	return r.lookUp(v, subject, populated, normalize, deleted)
}

// lookUp returns the version of a subject that has a schema, nil where none has.
func (r *Registry) lookUp(v view, subject string, c content, normalize, deleted bool) (*found, error) {
	if blank(c.Text) {
		return nil, nil
	}
	src, parsed, err := r.parseContent(v, subject, c, false)
	if err != nil {
		return nil, err
	}
	identity := src.identify(parsed, normalize)
	hash := identity.hash()
	var match *found
	var candidates []version
	v(func(s *state) {
		if e := s.byHash(contextOf(subject), hash); e != nil && e.uses[subject] > 0 {
			if hit, ok := s.find(subject, e.uses[subject], deleted); ok {
				match = &found{subject, hit}
				return
			}
		}
		if t := s.subjects[subject]; t != nil {
			candidates = slices.Clone(t.versions)
		}
	})
	if match != nil {
		return match, nil
	}
	for _, candidate := range slices.Backward(candidates) {
		if (deleted || !candidate.deleted) && r.fits(v, subject, &identity, parsed, candidate) {
			return &found{subject, candidate}, nil
		}
	}
	return nil, nil
}

// lookUpLatest returns the latest version of a subject if it has a schema, nil if not.
func (r *Registry) lookUpLatest(v view, subject string, c content, normalize, deleted bool) (*found, error) {
	if blank(c.Text) {
		return nil, nil
	}
	src, parsed, err := r.parseContent(v, subject, c, false)
	if err != nil {
		return nil, err
	}
	var latest version
	var ok bool
	v(func(s *state) { latest, ok = s.find(subject, Latest, deleted) })
	identity := src.identify(parsed, normalize)
	if !ok || !r.fits(v, subject, &identity, parsed, latest) {
		return nil, nil
	}
	return &found{subject, latest}, nil
}

func (r *Registry) parseContent(v view, subject string, c content, strict bool) (*source, parsedSchema, error) {
	var src *source
	var err error
	v(func(s *state) { src, err = s.resolve(subject, c, !strict) })
	if err != nil {
		return nil, nil, err
	}
	parsed, err := r.parse(src, strict)
	return src, parsed, err
}

// byHash returns the schema in use that has a hash.
func (s *state) byHash(context string, hash [16]byte) *schemaState {
	ctx := s.contexts[context]
	if ctx == nil {
		return nil
	}
	id, ok := ctx.ids[hash]
	if !ok {
		return nil
	}
	e := ctx.schemas[id]
	if e == nil || e.hash != hash || len(e.uses) == 0 {
		return nil
	}
	return e
}

// fits tells whether a schema counts as a version that is not the same to the letter: one
// that the same types were put into instead of references to them, or one that carries its
// version in its metadata.
func (r *Registry) fits(v view, subject string, c *content, parsed parsedSchema, candidate version) bool {
	resolved := len(c.References) == 0 && len(candidate.schema.References) > 0
	if !resolved && !slices.Equal(c.References, candidate.schema.References) {
		return false
	}
	if !c.sameMetadata(candidate) || !c.RuleSet.equal(candidate.schema.RuleSet) {
		return false
	}
	if like, err := r.likenessOf(v, subject, candidate.schema); err != nil || like != parsed.likeness() {
		return false
	}
	other, err := r.parseVersion(v, subject, candidate.schema)
	return err == nil && parsed.same(other)
}

func (c *content) sameMetadata(candidate version) bool {
	mine, hasMine := metadataVersion(c.Metadata)
	_, hasOther := metadataVersion(candidate.schema.Metadata)
	switch {
	case !hasMine && hasOther:
		return c.Metadata.orEmpty().equal(candidate.schema.Metadata.withoutVersion())
	case hasMine && !hasOther:
		return mine == candidate.number && c.Metadata.withoutVersion().equal(candidate.schema.Metadata.orEmpty())
	}
	return c.Metadata.equal(candidate.schema.Metadata)
}

func (m *Metadata) orEmpty() *Metadata {
	if m == nil {
		return &Metadata{}
	}
	return m
}

func metadataVersion(m *Metadata) (int, bool) {
	text, _ := m.property(versionProperty)
	number, err := strconv.Atoi(text)
	return number, err == nil
}

// populate gives a schema the metadata and rules that it has not brought: those of the
// version before it, and what the settings say.
func (c *content) populate(config *Config, previous *version) {
	metadata, rules := c.Metadata, c.RuleSet
	if previous != nil {
		if metadata == nil {
			metadata = previous.schema.Metadata
		}
		if rules == nil {
			rules = previous.schema.RuleSet
		}
	}
	metadata = mergeMetadata(mergeMetadata(config.DefaultMetadata, metadata), config.OverrideMetadata)
	rules = mergeRuleSets(mergeRuleSets(config.DefaultRuleSet, rules), config.OverrideRuleSet)
	if metadata != nil || rules != nil {
		c.Metadata, c.RuleSet = metadata, rules
	}
}
