package schemaregistry

import (
	"context"
	"maps"
	"slices"

	"github.com/google/uuid"
)

// Deletion says which versions or subjects a list has, by whether they are soft-deleted.
type Deletion int

// What lists can have. The zero value leaves out what is deleted.
const (
	WithoutDeleted Deletion = iota
	WithDeleted
	OnlyDeleted
)

func (d Deletion) includes(deleted bool) bool {
	return d == WithDeleted || deleted == (d == OnlyDeleted)
}

// Subjects returns the names of subjects, sorted. The prefix is one of bare names in the
// default context, of a qualified name, or of bare names in all contexts after ":*:". A
// subject counts as deleted when all its versions are.
func (r *Registry) Subjects(ctx context.Context, prefix string, deletion Deletion) ([]string, error) {
	matches := prefixMatch(prefix)
	return read(ctx, r, func(s *state) ([]string, error) {
		names := []string{}
		for name, t := range s.subjects {
			if matches(splitName(name)) && deletion.includes(!t.anyLive()) {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		return names, nil
	})
}

// Versions returns the numbers of the versions of a subject, rising.
func (r *Registry) Versions(ctx context.Context, subject string, deletion Deletion) ([]int, error) {
	subject = normalizeName(subject)
	return get(ctx, r, func(s *state) ([]int, error) {
		if !s.exists(subject, deletion != WithoutDeleted) {
			return nil, subjectNotFound(subject)
		}
		numbers := []int{}
		if t := s.subjects[subject]; t != nil {
			for _, v := range t.versions {
				if deletion.includes(v.deleted) {
					numbers = append(numbers, v.number)
				}
			}
		}
		return numbers, nil
	})
}

// Version returns one version of a subject. A subject without a context is looked for in
// all, in the default one first.
func (r *Registry) Version(ctx context.Context, subject string, number int, deleted bool) (Version, error) {
	subject = normalizeName(subject)
	return get(ctx, r, func(s *state) (Version, error) {
		name, v, ok := s.findAnywhere(subject, number, deleted)
		switch {
		case ok:
			return v.export(name), nil
		case s.exists(subject, deleted):
			return Version{}, versionNotFound(number)
		}
		return Version{}, subjectNotFound(subject)
	})
}

func (s *state) findAnywhere(subject string, number int, deleted bool) (string, version, bool) {
	v, ok := s.find(subject, number, deleted)
	if ok || contextOf(subject) != defaultContext {
		return subject, v, ok
	}
	for _, context := range s.otherContexts() {
		name := joinName(context, subject)
		if v, ok := s.find(name, number, deleted); ok {
			return name, v, true
		}
	}
	return subject, version{}, false
}

// ReferencedBy returns the IDs of the schemas that refer to a version, sorted; with deleted
// also those that only soft-deleted versions have.
func (r *Registry) ReferencedBy(ctx context.Context, subject string, number int, deleted bool) ([]int, error) {
	v, err := r.Version(ctx, subject, number, true)
	if err != nil {
		return nil, err
	}
	return read(ctx, r, func(s *state) ([]int, error) {
		return append([]int{}, s.referredBy(v.Subject, v.Version, deleted)...), nil
	})
}

// WithMetadata returns the latest version of a subject that has all these properties in its
// metadata.
func (r *Registry) WithMetadata(ctx context.Context, subject string, properties map[string]string, deleted bool) (Version, error) {
	subject = normalizeName(subject)
	return get(ctx, r, func(s *state) (Version, error) {
		if !s.exists(subject, deleted) {
			return Version{}, subjectNotFound(subject)
		}
		if t := s.subjects[subject]; t != nil {
			for _, v := range slices.Backward(t.versions) {
				m := v.schema.Metadata
				if m == nil || v.deleted && !deleted {
					continue
				}
				if merged := mergeMaps(m.Properties, properties); maps.Equal(merged, m.Properties) {
					return v.export(subject), nil
				}
			}
		}
		return Version{}, schemaNotFound()
	})
}

// SchemaByID returns the schema of an ID with one of the versions that have it. The subject
// may be "" for any; a qualified one, or ":.context:", says in which context the ID is meant.
func (r *Registry) SchemaByID(ctx context.Context, id int, subject string) (Version, error) {
	subject = normalizeName(subject)
	return get(ctx, r, func(s *state) (Version, error) {
		if e := s.entryFor(id, subject); e != nil {
			if name, v, ok := s.use(e, subject); ok {
				return v.export(name), nil
			}
		}
		return Version{}, schemaNotFound()
	})
}

// LastID returns the highest ID that was given in the context of a qualified name.
func (r *Registry) LastID(ctx context.Context, name string) (int, error) {
	return read(ctx, r, func(s *state) (int, error) {
		if c := s.contexts[contextOf(name)]; c != nil {
			return c.LastID, nil
		}
		return 1, nil
	})
}

// Use is a version that has a schema.
type Use struct {
	Subject string `json:"subject"`
	Version int    `json:"version"`
}

// UsesOfID returns the versions that have the schema of an ID, sorted by subject: those in
// use, or all. The subject is that of SchemaByID.
func (r *Registry) UsesOfID(ctx context.Context, id int, subject string, deleted bool) ([]Use, error) {
	subject = normalizeName(subject)
	return get(ctx, r, func(s *state) ([]Use, error) {
		e := s.entryFor(id, subject)
		if e == nil {
			return nil, schemaNotFound()
		}
		uses := []Use{}
		for _, name := range slices.Sorted(maps.Keys(e.uses)) {
			if v, ok := s.find(name, e.uses[name], true); ok && (deleted || !v.deleted) {
				uses = append(uses, Use{name, v.number})
			}
		}
		return uses, nil
	})
}

// ContextID is an ID in the context in which it was given.
type ContextID struct {
	Context string `json:"context"`
	ID      int    `json:"id"`
}

// IDsOfGUID returns the IDs that a schema has in all contexts, sorted.
func (r *Registry) IDsOfGUID(ctx context.Context, guid string) ([]ContextID, error) {
	hash, err := uuid.Parse(guid)
	if err != nil {
		return []ContextID{}, nil //nolint:nilerr // what is no GUID is nobody's
	}
	return read(ctx, r, func(s *state) ([]ContextID, error) {
		ids := []ContextID{}
		for _, name := range append([]string{defaultContext}, s.otherContexts()...) {
			if e := s.byHash(name, hash); e != nil {
				ids = append(ids, ContextID{name, e.id})
			}
		}
		return ids, nil
	})
}

// Schemas returns versions, sorted by subject and number: all, or the latest of each subject.
// The prefix is that of Subjects.
func (r *Registry) Schemas(ctx context.Context, prefix string, deleted, latestOnly bool) ([]Version, error) {
	matches := prefixMatch(prefix)
	return read(ctx, r, func(s *state) ([]Version, error) {
		versions := []Version{}
		for _, name := range slices.Sorted(maps.Keys(s.subjects)) {
			if !matches(splitName(name)) {
				continue
			}
			listed := s.subjects[name].versions
			if !deleted {
				listed = s.subjects[name].live()
			}
			if latestOnly && len(listed) > 1 {
				listed = listed[len(listed)-1:]
			}
			for _, v := range listed {
				versions = append(versions, v.export(name))
			}
		}
		return versions, nil
	})
}

// Contexts returns the names of all contexts, the default one first.
func (r *Registry) Contexts(ctx context.Context) ([]string, error) {
	return read(ctx, r, func(s *state) ([]string, error) {
		return append([]string{defaultContext}, s.otherContexts()...), nil
	})
}

// aliasOf returns the subject that stands for a name by its settings, the name itself where
// none does.
func (r *Registry) aliasOf(ctx context.Context, name string) (string, error) {
	return read(ctx, r, func(s *state) (string, error) {
		scope := normalizeName(name)
		config := s.configs[scope]
		if scope == "" || config == nil || config.Alias == nil || *config.Alias == "" {
			return name, nil
		}
		return inContextOf(scope, *config.Alias), nil
	})
}
