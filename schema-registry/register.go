package schemaregistry

import (
	"context"
	"slices"
	"strings"
)

// Register makes a schema a version of subject and reports that it is new. A version in use
// that has the schema already is returned, compatible or not.
func (r *Registry) Register(ctx context.Context, subject string, submission Submission) (registered Version, added bool, err error) {
	if err := checkSubject(subject, false); err != nil {
		return Version{}, false, err
	}
	if err := r.Load(ctx); err != nil {
		return Version{}, false, err
	}
	subject = normalizeName(subject)
	known, err := r.knownVersion(subject, submission)
	if known != nil || err != nil {
		return registeredVersion(known, subject), false, err
	}
	// What takes long is done before others have to wait for it; whether it went well is
	// asked again later, when it is this schema's turn.
	_, _, _ = r.parseContent(r.published, subject, submission.content(), submission.id() < 0)
	var v version
	err = r.update(ctx, func(d *draft) error {
		v, added, err = r.register(d, subject, submission)
		return err
	})
	if err != nil {
		return Version{}, false, err
	}
	return v.export(subject), added, nil
}

func registeredVersion(f *found, subject string) Version {
	if f == nil {
		return Version{}
	}
	return f.export(subject)
}

// knownVersion returns the version in use that a registration would come to, whatever mode
// and level say.
func (r *Registry) knownVersion(subject string, submission Submission) (*found, error) {
	var config *Config
	r.published(func(s *state) { config = s.config(subject) })
	if config.hasDefaults() {
		return nil, nil
	}
	normalize := submission.Normalize || config.normalizes()
	lookUp := r.lookUp
	if submission.Version == Latest {
		lookUp = r.lookUpLatest
	}
	f, err := lookUp(r.published, subject, submission.content(), normalize, false)
	if f == nil || err != nil {
		return nil, err
	}
	id := submission.id()
	switch submission.Version {
	case 0, Latest:
		if id < 0 || id == f.schema.id {
			return f, nil
		}
	case f.number:
		if id == f.schema.id {
			return f, nil
		}
	}
	return nil, nil
}

// register is Register in its turn.
func (r *Registry) register(d *draft, subject string, submission Submission) (version, bool, error) {
	mode := d.mode(subject)
	if err := checkMode(mode, subject, submission.id()); err != nil {
		return version{}, false, err
	}
	t := d.subjects[subject]
	if t == nil {
		t = &subjectState{}
	}
	next := 1
	if n := len(t.versions); n > 0 {
		next = t.versions[n-1].number + 1
	}
	live := t.live()
	config := d.config(subject)
	c := submission.content()
	if mode != Import {
		if err := c.completeFrom(config, live, submission.Version, next); err != nil {
			return version{}, false, err
		}
	}
	if blank(c.Text) {
		return version{}, false, invalidSchema("Empty schema")
	}
	src, parsed, err := r.parseContent(d.view, subject, c, submission.id() < 0)
	if err != nil {
		return version{}, false, err
	}
	identity := src.identify(parsed, submission.Normalize || config.normalizes())
	id := submission.id()
	if e := d.byHash(contextOf(subject), identity.hash()); e != nil && (id < 0 || id == e.id) {
		if v, ok := d.find(subject, e.uses[subject], false); ok && submission.Version == 0 {
			return v, false, nil
		}
		id = e.id
	}
	if submission.Version == 0 {
		for _, candidate := range slices.Backward(live) {
			if (id < 0 || id == candidate.schema.id) && r.fits(d.view, subject, &identity, parsed, candidate) {
				return candidate, false, nil
			}
		}
	}
	if mode != Import {
		problems, err := r.conflicts(d.view, config, subject, &identity, parsed, live)
		if err != nil {
			return version{}, false, err
		}
		if len(problems) > 0 {
			return version{}, false, r.incompatible(subject, problems)
		}
	}
	number := submission.Version
	switch {
	case number <= 0:
		number = next
	case number != next && mode != Import:
		return version{}, false, invalidSchema("Version is not one more than previous version")
	}
	v, added, err := d.add(subject, number, id, identity)
	if err == nil {
		like := parsed.likeness()
		v.schema.likeness.Store(&like)
	}
	return v, added, err
}

func checkMode(mode Mode, subject string, id int) error {
	context := joinName(contextOf(subject), "")
	switch {
	case mode.readOnly():
		return notPermitted("Subject %s in context %s is in read-only mode", subject, context)
	case id >= 0 && mode != Import:
		return notPermitted("Subject %s in context %s is not in import mode", subject, context)
	case id < 0 && mode != ReadWrite:
		return notPermitted("Subject %s in context %s is not in read-write mode", subject, context)
	}
	return nil
}

// completeFrom gives a schema what it takes over from the version before it. An empty schema
// means the same one with other metadata.
func (c *content) completeFrom(config *Config, live []version, asked, next int) error {
	var previous *version
	if len(live) > 0 {
		previous = &live[len(live)-1]
	}
	if blank(c.Text) {
		if previous == nil {
			return invalidSchema("Empty schema")
		}
		c.Type, c.Text, c.References = previous.schema.Type, previous.schema.Text, previous.schema.References
	}
	c.populate(config, previous)
	if _, carries := c.Metadata.property(versionProperty); carries || asked != 0 {
		c.Metadata = c.Metadata.withVersion(next)
	}
	return nil
}

// add makes a schema a version of a subject. An ID below 0 stands for the next one.
func (d *draft) add(subject string, number, id int, c content) (version, bool, error) {
	context := contextOf(subject)
	ctx := d.context(context)
	kept := ctx.contextValue
	if id < 0 {
		for id = kept.LastID + 1; ctx.schemas[id] != nil; id++ {
			continue // it was imported
		}
	} else if e := ctx.schemas[id]; e != nil && !e.content.equal(&c) {
		return version{}, false, notPermitted("Overwrite new schema with id %d in context %s is not permitted.", id, joinName(context, ""))
	}
	kept.LastID, kept.Hidden = max(kept.LastID, id), false
	if !ctx.known || kept != ctx.contextValue {
		d.put(contextFact{context, kept})
	}
	if ctx.schemas[id] == nil {
		d.put(schemaFact{context, id, newSchema(context, id, c)})
	}
	var earlier []version
	if t := d.subjects[subject]; t != nil {
		earlier = slices.Clone(t.versions)
	}
	if i := slices.IndexFunc(earlier, func(v version) bool { return v.number == number }); i >= 0 && earlier[i].schema.id != id {
		d.remove(subject, earlier[i]) // an import puts another schema in its place
	}
	d.put(versionFact{subject, number, &versionValue{ID: id, Time: d.now}})
	for _, v := range earlier {
		if v.deleted && v.number < number && v.schema.id == id {
			d.remove(subject, v) // this version has taken its place
		}
	}
	added, _ := d.find(subject, number, false)
	return added, true, nil
}

// remove takes a version out for ever, and its schema where no other has it.
func (d *draft) remove(subject string, v version) {
	d.put(versionFact{subject, v.number, nil})
	if e := d.context(v.schema.context).schemas[v.schema.id]; e != nil && len(e.uses) == 0 {
		d.put(schemaFact{v.schema.context, v.schema.id, nil})
	}
}

func (r *Registry) incompatible(subject string, problems []string) error {
	return &Error{409, CodeIncompatible, "Schema being registered is incompatible with an earlier schema for subject \"" +
		subject + "\", details: [" + strings.Join(problems, ", ") + "]"}
}
