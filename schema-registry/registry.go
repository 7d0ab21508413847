package schemaregistry

import (
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/postrider/postrider/schema-registry/avroschema"
)

// Registry holds the rules: what is a new version, what is compatible, what may be deleted.
// Its methods may be called from several goroutines. An answer that says no is an *Error
// with the code and message of the HTTP API; any other error comes from the store.
type Registry struct {
	store Store
}

// New returns a registry that keeps what it knows in store.
func New(store Store) *Registry { return &Registry{store} }

// maxSubject bounds the length of a subject in bytes: an index entry of Postgres must hold it.
const maxSubject = 1024

// Register makes schema a version of subject and reports that it is new. If a version that
// is in use has that schema already, it is returned, compatible or not.
func (r *Registry) Register(ctx context.Context, subject string, schema *avroschema.Schema) (v Version, added bool, err error) {
	if err := checkSubject(subject); err != nil {
		return Version{}, false, err
	}
	text := schema.Canonical()
	for {
		versions, err := r.store.Versions(ctx, subject)
		if err != nil {
			return Version{}, false, err
		}
		for _, v := range versions {
			if !v.Deleted && v.Schema == text {
				return v, false, nil
			}
		}
		level, err := r.Level(ctx, subject)
		if err != nil {
			return Version{}, false, err
		}
		conflict, err := level.check(schema, live(versions))
		if err != nil {
			return Version{}, false, err
		}
		if conflict != nil {
			return Version{}, false, &Error{http.StatusConflict, CodeIncompatible, fmt.Sprintf(
				"Schema being registered is incompatible with an earlier schema for subject %q, details: [%s], compatibility: %s",
				subject, strings.Join(conflict.messages(), "; "), level)}
		}
		v, err := r.store.AddVersion(ctx, subject, text, highest(versions))
		if !errors.Is(err, errConflict) {
			return v, err == nil, err
		}
		// Somebody else registered meanwhile: look at the subject again. Each round that
		// fails is one in which another succeeded.
	}
}

// Lookup returns the version of subject that has schema.
func (r *Registry) Lookup(ctx context.Context, subject string, schema *avroschema.Schema, deleted bool) (Version, error) {
	versions, err := r.Versions(ctx, subject, deleted)
	if err != nil {
		return Version{}, err
	}
	text := schema.Canonical()
	for _, v := range slices.Backward(versions) {
		if v.Schema == text {
			return v, nil
		}
	}
	return Version{}, &Error{http.StatusNotFound, CodeSchemaNotFound, "Schema not found"}
}

// Versions returns the versions of a subject that are in use, or all of them, rising.
func (r *Registry) Versions(ctx context.Context, subject string, deleted bool) ([]Version, error) {
	if err := checkSubject(subject); err != nil {
		return nil, err
	}
	versions, err := r.store.Versions(ctx, subject)
	if err != nil {
		return nil, err
	}
	if !deleted {
		versions = live(versions)
	}
	if len(versions) == 0 {
		return nil, subjectNotFound(subject)
	}
	return versions, nil
}

// Latest stands for the latest version that is in use where a version is asked for.
const Latest = -1

// Version returns one version of a subject.
func (r *Registry) Version(ctx context.Context, subject string, version int, deleted bool) (Version, error) {
	versions, err := r.Versions(ctx, subject, deleted)
	if err != nil {
		return Version{}, err
	}
	if version == Latest {
		return versions[len(versions)-1], nil
	}
	for _, v := range versions {
		if v.Version == version {
			return v, nil
		}
	}
	return Version{}, versionNotFound(version)
}

// SchemaByID returns the text that an ID stands for, soft-deleted or not.
func (r *Registry) SchemaByID(ctx context.Context, id int) (string, error) {
	schema, err := r.store.SchemaByID(ctx, id)
	if errors.Is(err, errNoSchema) {
		return "", &Error{http.StatusNotFound, CodeSchemaNotFound, fmt.Sprintf("Schema %d not found", id)}
	}
	return schema, err
}

// Use is a version that has a schema.
type Use struct {
	Subject string `json:"subject"`
	Version int    `json:"version"`
}

// UsesOfID returns the versions that have a schema, sorted by subject: those in use, or all.
func (r *Registry) UsesOfID(ctx context.Context, id int, deleted bool) ([]Use, error) {
	if _, err := r.SchemaByID(ctx, id); err != nil {
		return nil, err
	}
	subjects, err := r.store.Subjects(ctx)
	if err != nil {
		return nil, err
	}
	uses := []Use{}
	for _, subject := range slices.Sorted(maps.Keys(subjects)) {
		for _, v := range subjects[subject] {
			if v.ID == id && (deleted || !v.Deleted) {
				uses = append(uses, Use{subject, v.Version})
			}
		}
	}
	return uses, nil
}

// Subjects returns the names of all subjects that match, sorted.
func (r *Registry) Subjects(ctx context.Context, match func(versions []Version) bool) ([]string, error) {
	subjects, err := r.store.Subjects(ctx)
	if err != nil {
		return nil, err
	}
	names := []string{}
	for name, versions := range subjects {
		if match(versions) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// CheckCompatibility tells why schema does not fit the subject at its level; no message
// means that it does. version is AnyVersion for what the level asks for, which every schema
// fits where there is no subject, or one version to compare with.
func (r *Registry) CheckCompatibility(ctx context.Context, subject string, version int, schema *avroschema.Schema) ([]string, error) {
	if err := checkSubject(subject); err != nil {
		return nil, err
	}
	all, err := r.store.Versions(ctx, subject)
	if err != nil {
		return nil, err
	}
	versions := live(all)
	switch {
	case version == Latest && len(versions) > 0:
		versions = versions[len(versions)-1:]
	case version > 0:
		versions = slices.DeleteFunc(versions, func(v Version) bool { return v.Version != version })
		if len(versions) == 0 {
			return nil, versionNotFound(version)
		}
	}
	level, err := r.Level(ctx, subject)
	if err != nil {
		return nil, err
	}
	conflict, err := level.check(schema, versions)
	if err != nil || conflict == nil {
		return nil, err
	}
	return conflict.messages(), nil
}

// AnyVersion asks for a comparison with all versions that the level is about.
const AnyVersion = 0

// Level returns the level that holds for a subject: its own or the global one.
func (r *Registry) Level(ctx context.Context, subject string) (Level, error) {
	for _, scope := range []string{subject, ""} {
		if level, err := r.store.Level(ctx, scope); err != nil || level != "" {
			return level, err
		}
	}
	return DefaultLevel, nil
}

// SubjectLevel returns a subject's own level.
func (r *Registry) SubjectLevel(ctx context.Context, subject string) (Level, error) {
	if err := checkSubject(subject); err != nil {
		return "", err
	}
	level, err := r.store.Level(ctx, subject)
	if err == nil && level == "" {
		err = &Error{http.StatusNotFound, CodeLevelNotConfigured,
			fmt.Sprintf("Subject '%s' does not have subject-level compatibility configured", subject)}
	}
	return level, err
}

// SetLevel sets the level of a subject, or the global one for the subject "".
func (r *Registry) SetLevel(ctx context.Context, subject string, level Level) error {
	if subject != "" {
		if err := checkSubject(subject); err != nil {
			return err
		}
	}
	return r.store.SetLevel(ctx, subject, level)
}

// UnsetLevel removes the level of a subject, or sets the global one for the subject "" back
// to the default. It returns the level that held.
func (r *Registry) UnsetLevel(ctx context.Context, subject string) (Level, error) {
	level, err := r.Level(ctx, "")
	if subject != "" {
		if level, err = r.SubjectLevel(ctx, subject); isCode(err, CodeLevelNotConfigured) {
			err = subjectNotFound(subject)
		}
	}
	if err != nil {
		return "", err
	}
	return level, r.store.SetLevel(ctx, subject, "")
}

// DeleteSubject deletes all versions of a subject and returns their numbers: those in use
// softly, or for ever all, which must be soft-deleted before.
func (r *Registry) DeleteSubject(ctx context.Context, subject string, permanent bool) ([]int, error) {
	versions, err := r.Versions(ctx, subject, true)
	if err != nil {
		return nil, err
	}
	inUse := live(versions)
	switch {
	case permanent && len(inUse) > 0:
		return nil, &Error{http.StatusNotFound, CodeSubjectNotSoftDeleted,
			fmt.Sprintf("Subject '%s' was not deleted first before being permanently deleted", subject)}
	case !permanent && len(inUse) == 0:
		return nil, &Error{http.StatusNotFound, CodeSubjectSoftDeleted,
			fmt.Sprintf("Subject '%s' was soft deleted. Set permanent=true to delete permanently", subject)}
	case !permanent:
		versions = inUse
	}
	var numbers []int
	for _, v := range versions {
		numbers = append(numbers, v.Version)
	}
	return numbers, r.store.DeleteVersions(ctx, subject, numbers, permanent)
}

// DeleteVersion deletes one version of a subject, softly, or for ever if it is soft-deleted.
func (r *Registry) DeleteVersion(ctx context.Context, subject string, version int, permanent bool) (int, error) {
	v, err := r.Version(ctx, subject, version, version != Latest || permanent)
	switch {
	case err != nil:
		return 0, err
	case permanent && !v.Deleted:
		return 0, &Error{http.StatusNotFound, CodeVersionNotSoftDeleted,
			fmt.Sprintf("Subject '%s' Version %d was not deleted first before being permanently deleted", subject, v.Version)}
	case !permanent && v.Deleted:
		return 0, &Error{http.StatusNotFound, CodeVersionSoftDeleted,
			fmt.Sprintf("Subject '%s' Version %d was soft deleted. Set permanent=true to delete permanently", subject, v.Version)}
	}
	return v.Version, r.store.DeleteVersions(ctx, subject, []int{v.Version}, permanent)
}

// Ready tells whether the registry can answer now.
func (r *Registry) Ready(ctx context.Context) error { return r.store.Ping(ctx) }

// guid is the identifier of a schema across registries.
func guid(schema string) string { return uuid.UUID(md5.Sum([]byte(schema))).String() }

func (c *conflict) messages() []string {
	what := "data of version %d cannot be read with the new schema: %s"
	if !c.backward {
		what = "data of the new schema cannot be read with version %d: %s"
	}
	var messages []string
	for _, problem := range c.problems {
		messages = append(messages, fmt.Sprintf(what, c.version, problem))
	}
	return messages
}

func live(versions []Version) []Version {
	return slices.DeleteFunc(slices.Clone(versions), func(v Version) bool { return v.Deleted })
}

func highest(versions []Version) int {
	if len(versions) == 0 {
		return 0
	}
	return versions[len(versions)-1].Version
}

func checkSubject(subject string) error {
	printable := func(r rune) bool { return r >= ' ' && r != 0x7f }
	if subject != "" && len(subject) <= maxSubject && !strings.ContainsFunc(subject, func(r rune) bool { return !printable(r) }) &&
		strings.ToValidUTF8(subject, "") == subject {
		return nil
	}
	return &Error{http.StatusUnprocessableEntity, CodeInvalidSubject, fmt.Sprintf(
		"The specified subject %.80q is not valid: it has 1 to %d bytes of UTF-8 without control characters", subject, maxSubject)}
}

func subjectNotFound(subject string) error {
	return &Error{http.StatusNotFound, CodeSubjectNotFound, fmt.Sprintf("Subject '%s' not found.", subject)}
}

func versionNotFound(version int) error {
	return &Error{http.StatusNotFound, CodeVersionNotFound, fmt.Sprintf("Version %d not found.", version)}
}

func isCode(err error, code int) bool {
	var e *Error
	return errors.As(err, &e) && e.Code == code
}
