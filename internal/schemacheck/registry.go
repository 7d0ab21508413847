package schemacheck

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	schemaregistry "github.com/postrider/postrider/schema-registry"
	"github.com/postrider/postrider/schema-registry/avroschema"
)

// registry compares with the versions that a registry has.
type registry struct {
	client *schemaregistry.Client
}

// registryRequests is how many subjects are asked for at a time.
const registryRequests = 8

func (r *registry) load(ctx context.Context, t *tree) error {
	known, err := r.client.Subjects(ctx)
	if err != nil {
		return &UnreachableError{err}
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(registryRequests)
	for _, s := range t.subjects {
		// Each goroutine has one subject to itself.
		g.Go(func() error {
			if s.level == "" {
				level, err := r.client.Level(ctx, s.name)
				if err != nil {
					return err
				}
				s.level = level
			}
			if !slices.Contains(known, s.name) {
				return nil
			}
			return r.versions(ctx, s)
		})
	}
	if err := g.Wait(); err != nil {
		return &UnreachableError{err}
	}
	r.note(t, known)
	return nil
}

// versions gets the versions of a subject that its level is about. One that is gone since the
// registry has named it makes the check fail: run it again.
func (r *registry) versions(ctx context.Context, s *subject) error {
	if !transitive(s.level) {
		v, err := r.client.Latest(ctx, s.name)
		return r.add(ctx, s, v, err)
	}
	numbers, err := r.client.Versions(ctx, s.name)
	if err != nil {
		return err
	}
	for _, number := range slices.Backward(numbers) {
		v, err := r.client.Version(ctx, s.name, number)
		if err := r.add(ctx, s, v, err); err != nil {
			return err
		}
	}
	return nil
}

func (r *registry) add(ctx context.Context, s *subject, v schemaregistry.SubjectVersion, err error) error {
	if err != nil {
		return err
	}
	schema, err := r.parse(ctx, v, maxReferenceDepth)
	if err != nil {
		return err
	}
	s.versions = append(s.versions, version{label: fmt.Sprintf("version %d", v.Version), schema: schema})
	return nil
}

const maxReferenceDepth = 50

// parse parses a version with the types that it refers to.
func (r *registry) parse(ctx context.Context, v schemaregistry.SubjectVersion, depth int) (*avroschema.Schema, error) {
	if depth == 0 {
		return nil, fmt.Errorf("the references of subject %q nest too deep", v.Subject)
	}
	var refs []*avroschema.Schema
	for _, ref := range v.References {
		used, err := r.client.Version(ctx, ref.Subject, ref.Version)
		if err != nil {
			return nil, err
		}
		schema, err := r.parse(ctx, used, depth-1)
		if err != nil {
			return nil, err
		}
		refs = append(refs, schema)
	}
	// Registries have taken defaults that do not fit, and leave them out of account when they compare.
	schema, err := avroschema.ParseAnyDefault(v.Schema, refs...)
	if err != nil {
		return nil, fmt.Errorf("version %d of subject %q in the registry is no Avro schema: %w", v.Version, v.Subject, err)
	}
	return schema, nil
}

// note says what the registry has beside the subjects of the directory: other services use
// it too, so that nothing is wrong with that, but a schema that was removed is among them.
func (r *registry) note(t *tree, known []string) {
	names := make(map[string]bool)
	for _, s := range t.subjects {
		names[s.name] = true
	}
	others := slices.DeleteFunc(slices.Clone(known), func(name string) bool { return names[name] })
	slices.Sort(others)
	switch {
	case len(known) == 0:
		t.note("the registry has no subject, so that all are new")
	case len(others) > 0:
		const few = 5
		shown := strings.Join(others[:min(len(others), few)], ", ")
		if more := len(others) - few; more > 0 {
			shown += fmt.Sprintf(" and %d more", more)
		}
		t.note("the registry has %s that no schema here is for: %s", count(len(others), "subject"), shown)
	}
}
