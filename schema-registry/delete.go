package schemaregistry

import (
	"context"
	"fmt"
	"strconv"
)

// DeleteSubject deletes all versions of a subject and returns their numbers: those in use
// softly, or for ever all, which must be soft-deleted before.
func (r *Registry) DeleteSubject(ctx context.Context, subject string, permanent bool) ([]int, error) {
	subject = normalizeName(subject)
	numbers := []int{}
	err := r.update(ctx, func(d *draft) error {
		switch {
		case !d.exists(subject, true):
			return subjectNotFound(subject)
		case !permanent && !d.exists(subject, false):
			return notFound(CodeSubjectSoftDeleted, fmt.Sprintf("Subject '%s' was soft deleted.Set permanent=true to delete permanently", subject))
		}
		if err := d.writable(subject); err != nil {
			return err
		}
		var versions []version
		if t := d.subjects[subject]; t != nil {
			versions = append(versions, t.versions...)
		}
		if !permanent {
			versions = d.subjects[subject].live()
		}
		for _, v := range versions {
			if len(d.referredBy(subject, v.number, false)) > 0 {
				return referenceExists(subject, v.number)
			}
			if permanent && !v.deleted {
				return notFound(CodeSubjectNotSoftDeleted, fmt.Sprintf("Subject '%s' was not deleted first before being permanently deleted", subject))
			}
			numbers = append(numbers, v.number)
		}
		for _, v := range versions {
			d.delete(subject, v, permanent)
		}
		if permanent {
			d.dropSettings(subject)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return numbers, nil
}

// DeleteVersion deletes one version of a subject, softly, or for ever if it is soft-deleted.
func (r *Registry) DeleteVersion(ctx context.Context, subject string, number int, permanent bool) (int, error) {
	subject = normalizeName(subject)
	err := r.update(ctx, func(d *draft) error {
		v, ok := d.find(subject, number, true)
		switch {
		case !ok && !d.exists(subject, true):
			return subjectNotFound(subject)
		case !ok:
			return versionNotFound(number)
		case v.deleted && !permanent:
			return notFound(CodeVersionSoftDeleted, fmt.Sprintf(
				"Subject '%s' Version %s was soft deleted.Set permanent=true to delete permanently", subject, strconv.Itoa(number)))
		}
		if err := d.writable(subject); err != nil {
			return err
		}
		number = v.number
		switch {
		case len(d.referredBy(subject, number, false)) > 0:
			return referenceExists(subject, number)
		case permanent && !v.deleted:
			return notFound(CodeVersionNotSoftDeleted, fmt.Sprintf(
				"Subject '%s' Version %d was not deleted first before being permanently deleted", subject, number))
		}
		d.delete(subject, v, permanent)
		if permanent && d.subjects[subject] == nil {
			d.dropSettings(subject)
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	return number, nil
}

func (d *draft) delete(subject string, v version, permanent bool) {
	if permanent {
		d.remove(subject, v)
		return
	}
	d.put(versionFact{subject, v.number, &versionValue{ID: v.schema.id, Deleted: true, Time: d.now}})
}

func (d *draft) dropSettings(subject string) {
	if d.modes[subject] != "" {
		d.put(modeFact{subject, ""})
	}
	if d.configs[subject] != nil {
		d.put(configFact{subject, nil})
	}
}

// writable refuses changes in read-only mode. The scope "" is called null, as clients know it.
func (d *draft) writable(scope string) error {
	if !d.mode(scope).readOnly() {
		return nil
	}
	name := scope
	if name == "" {
		name = "null"
	}
	return notPermitted("Subject %s in context %s is in read-only mode", name, joinName(contextOf(scope), ""))
}

// DeleteContext removes a context without subjects from the list. Its count of IDs goes on.
func (r *Registry) DeleteContext(ctx context.Context, name string) error {
	context := contextOf(name)
	return r.update(ctx, func(d *draft) error {
		for range d.inContext(context, true) {
			return unprocessable(CodeContextNotEmpty, fmt.Sprintf("The specified context '%s' is not empty.", name))
		}
		if c := d.contexts[context]; c != nil && c.known {
			hidden := c.contextValue
			hidden.Hidden = true
			d.put(contextFact{context, hidden})
		}
		return nil
	})
}
