package schemaregistry

import (
	"crypto/md5"
	"maps"
	"slices"
	"sync/atomic"

	"github.com/google/uuid"
)

// state is all that a registry knows, in memory. It is made of facts and knows no rules.
type state struct {
	contexts map[string]*contextState
	subjects map[string]*subjectState // by qualified name
	configs  map[string]*Config       // by scope
	modes    map[string]Mode
	// referrers are the schemas that refer to a version.
	referrers map[subjectVersion]map[contextID]*referrer
}

// contextState is what has an ID.
type contextState struct {
	contextValue
	known   bool // it was used, or set up
	schemas map[int]*schemaState
	ids     map[[md5.Size]byte]int // by what identifies a schema; the ID may be gone
}

// schemaState is a schema and where it is used.
type schemaState struct {
	*schema
	uses map[string]int         // the highest version by subject, soft-deleted ones included
	body atomic.Pointer[[]byte] // the answer to the question for its ID, once it was asked
}

// subjectState has at least one version.
type subjectState struct {
	name     string
	versions []version // rising
}

// version is one version of a subject.
type version struct {
	number  int
	schema  *schema
	deleted bool
	time    int64
}

type subjectVersion struct {
	subject string
	version int
}

type contextID struct {
	context string
	id      int
}

// referrer counts the versions that have the same referring schema.
type referrer struct{ live, deleted int }

// schema is a registered schema. It never changes.
type schema struct {
	content
	context  string
	id       int
	hash     [md5.Size]byte
	guid     string
	likeness atomic.Pointer[likeness] // once it was asked for
}

// content is what identifies a schema, in its canonical form.
type content struct {
	Type       string      `json:"type,omitempty"` // "" is Avro
	Text       string      `json:"text"`
	References []Reference `json:"references,omitempty"`
	Metadata   *Metadata   `json:"metadata,omitempty"`
	RuleSet    *RuleSet    `json:"ruleSet,omitempty"`
}

func newSchema(context string, id int, c content) *schema {
	hash := c.hash()
	return &schema{content: c, context: context, id: id, hash: hash, guid: uuid.UUID(hash).String()}
}

func (c *content) hash() (sum [md5.Size]byte) {
	h := md5.New()
	hashContent(h, c.Text, c.References, c.Metadata, c.RuleSet)
	h.Sum(sum[:0])
	return sum
}

func (c *content) equal(other *content) bool {
	return c.Type == other.Type && c.Text == other.Text && slices.Equal(c.References, other.References) &&
		c.Metadata.equal(other.Metadata) && c.RuleSet.equal(other.RuleSet)
}

func newState() *state {
	return &state{
		contexts:  map[string]*contextState{},
		subjects:  map[string]*subjectState{},
		configs:   map[string]*Config{},
		modes:     map[string]Mode{},
		referrers: map[subjectVersion]map[contextID]*referrer{},
	}
}

// clone copies all that may change.
func (s *state) clone() *state {
	c := newState()
	for name, ctx := range s.contexts {
		copied := &contextState{ctx.contextValue, ctx.known, make(map[int]*schemaState, len(ctx.schemas)), maps.Clone(ctx.ids)}
		for id, e := range ctx.schemas {
			copied.schemas[id] = &schemaState{schema: e.schema, uses: maps.Clone(e.uses)}
		}
		c.contexts[name] = copied
	}
	for name, subject := range s.subjects {
		c.subjects[name] = &subjectState{name, slices.Clone(subject.versions)}
	}
	c.configs, c.modes = maps.Clone(s.configs), maps.Clone(s.modes)
	for key, referrers := range s.referrers {
		copied := make(map[contextID]*referrer, len(referrers))
		for id, r := range referrers {
			counts := *r
			copied[id] = &counts
		}
		c.referrers[key] = copied
	}
	return c
}

func (s *state) context(name string) *contextState {
	ctx := s.contexts[name]
	if ctx == nil {
		ctx = &contextState{schemas: map[int]*schemaState{}, ids: map[[md5.Size]byte]int{}}
		s.contexts[name] = ctx
	}
	return ctx
}

// apply takes in a fact. A schema comes before the versions that have it.
func (s *state) apply(f fact) {
	switch f := f.(type) {
	case schemaFact:
		ctx := s.context(f.context)
		if f.schema == nil {
			delete(ctx.schemas, f.id)
			return
		}
		if old := ctx.schemas[f.id]; old == nil || old.hash != f.schema.hash {
			ctx.schemas[f.id] = &schemaState{schema: f.schema, uses: map[string]int{}}
		}
		ctx.ids[f.schema.hash] = f.id
	case versionFact:
		s.applyVersion(f)
	case contextFact:
		ctx := s.context(f.name)
		ctx.contextValue, ctx.known = f.contextValue, true
	case configFact:
		if f.config == nil {
			delete(s.configs, f.scope)
		} else {
			s.configs[f.scope] = f.config
		}
	case modeFact:
		if f.mode == "" {
			delete(s.modes, f.scope)
		} else {
			s.modes[f.scope] = f.mode
		}
	}
}

func (s *state) applyVersion(f versionFact) {
	subject := s.subjects[f.subject]
	if subject == nil {
		if f.version == nil {
			return
		}
		subject = &subjectState{name: f.subject}
		s.subjects[f.subject] = subject
	}
	at, found := subject.find(f.number)
	if found {
		s.unlink(subject, at)
	}
	var e *schemaState
	if f.version != nil {
		e = s.context(contextOf(f.subject)).schemas[f.version.ID]
	}
	if e == nil { // removed, or a version of a schema that somebody has taken out of the store
		if len(subject.versions) == 0 {
			delete(s.subjects, f.subject)
		}
		return
	}
	v := version{f.number, e.schema, f.version.Deleted, f.version.Time}
	subject.versions = slices.Insert(subject.versions, at, v)
	e.uses[f.subject] = max(e.uses[f.subject], f.number)
	e.body.Store(nil)
	s.countReferences(f.subject, v, 1)
}

// unlink takes a version out of a subject.
func (s *state) unlink(subject *subjectState, at int) {
	v := subject.versions[at]
	subject.versions = slices.Delete(subject.versions, at, at+1)
	s.countReferences(subject.name, v, -1)
	e := s.context(v.schema.context).schemas[v.schema.id]
	if e == nil {
		return
	}
	e.body.Store(nil)
	delete(e.uses, subject.name)
	for _, other := range subject.versions {
		if other.schema == v.schema {
			e.uses[subject.name] = other.number
		}
	}
}

func (s *state) countReferences(subject string, v version, by int) {
	id := contextID{v.schema.context, v.schema.id}
	for _, ref := range v.schema.References {
		key := subjectVersion{inContextOf(subject, ref.Subject), ref.Version}
		referrers := s.referrers[key]
		if referrers == nil {
			referrers = map[contextID]*referrer{}
			s.referrers[key] = referrers
		}
		r := referrers[id]
		if r == nil {
			r = &referrer{}
			referrers[id] = r
		}
		if v.deleted {
			r.deleted += by
		} else {
			r.live += by
		}
		if *r == (referrer{}) {
			delete(referrers, id)
		}
		if len(referrers) == 0 {
			delete(s.referrers, key)
		}
	}
}

func (t *subjectState) find(number int) (int, bool) {
	return slices.BinarySearchFunc(t.versions, number, func(v version, number int) int { return v.number - number })
}

// live returns the versions that are not deleted, rising.
func (t *subjectState) live() []version {
	if t == nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(t.versions), func(v version) bool { return v.deleted })
}

func (t *subjectState) anyLive() bool {
	return t != nil && slices.ContainsFunc(t.versions, func(v version) bool { return !v.deleted })
}

// find returns one version of a subject; Latest is the latest that is not deleted.
func (s *state) find(subject string, number int, deleted bool) (version, bool) {
	t := s.subjects[subject]
	if t == nil {
		return version{}, false
	}
	if number == Latest {
		for _, v := range slices.Backward(t.versions) {
			if !v.deleted {
				return v, true
			}
		}
		return version{}, false
	}
	at, ok := t.find(number)
	if !ok || t.versions[at].deleted && !deleted {
		return version{}, false
	}
	return t.versions[at], true
}

// exists tells whether there is a subject by this name, or, for the name of a context, any
// subject in it.
func (s *state) exists(name string, deleted bool) bool {
	if t := s.subjects[name]; t != nil && (deleted || t.anyLive()) {
		return true
	}
	if !isContextName(name) {
		return false
	}
	for range s.inContext(contextOf(name), deleted) {
		return true
	}
	return false
}

// inContext yields the subjects of a context; of all where it is the global one.
func (s *state) inContext(context string, deleted bool) func(func(*subjectState) bool) {
	return func(yield func(*subjectState) bool) {
		for name, t := range s.subjects {
			if (context == globalContext || contextOf(name) == context) && (deleted || t.anyLive()) && !yield(t) {
				return
			}
		}
	}
}

// otherContexts returns the names of the contexts in use beside the default one, sorted.
func (s *state) otherContexts() []string {
	var names []string
	for name, ctx := range s.contexts {
		if ctx.known && !ctx.Hidden && name != defaultContext {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// referredBy returns the IDs of the schemas that refer to a version, sorted.
func (s *state) referredBy(subject string, number int, deleted bool) []int {
	ids := map[int]bool{}
	for id, r := range s.referrers[subjectVersion{subject, number}] {
		if r.live > 0 || deleted {
			ids[id.id] = true
		}
	}
	return slices.Sorted(maps.Keys(ids))
}

// entryFor finds the schema of an ID. The subject says in which context: that of its
// qualified name; a bare one is looked for in the default context and then in the others.
func (s *state) entryFor(id int, subject string) *schemaState {
	context, bare := splitName(subject)
	in := func(context string) *schemaState {
		if ctx := s.contexts[context]; ctx != nil {
			return ctx.schemas[id]
		}
		return nil
	}
	e := in(context)
	if e != nil && (bare == "" || e.uses[subject] > 0) {
		return e
	}
	if bare == "" || context != defaultContext {
		return nil
	}
	for _, other := range s.otherContexts() {
		if e := in(other); e != nil && e.uses[joinName(other, bare)] > 0 {
			return e
		}
	}
	return e
}

// use returns one version that has the schema: that of the subject where it is one, or else
// that of the first by name.
func (s *state) use(e *schemaState, subject string) (string, version, bool) {
	if e.uses[subject] == 0 {
		if len(e.uses) == 0 {
			return "", version{}, false
		}
		subject = slices.Min(slices.Collect(maps.Keys(e.uses)))
	}
	v, ok := s.find(subject, e.uses[subject], true)
	return subject, v, ok
}
