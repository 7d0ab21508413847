package avroschema

import "slices"

// resolve replaces the stand-ins of references by the types they mean and checks what could
// not be checked before: that each is defined, that no union has a type twice, and that
// defaults fit.
//
// A default can only be checked against records whose own fields are settled. Java settles
// them in the order of definitions, each after the types it uses, and refuses an object as
// the default of a type that is not settled yet, as that of a field that holds its own
// record. The order here is the same, so that the same schemas are refused.
func (p *parser) resolve(root *Schema) (*Schema, *ParseError) {
	if ref := p.unknown[root]; ref != nil {
		return nil, p.unknownType(ref)
	}
	all := append(slices.Clone(p.defined), root)
	r := &resolver{parser: p, entered: make(map[*Schema]bool)}
	for _, s := range all {
		if err := r.visit(s, make(map[*Schema]bool)); err != nil {
			return nil, err
		}
	}
	for _, s := range all {
		p.patch(s)
	}
	return root, nil
}

func (p *parser) unknownType(ref *reference) *ParseError {
	err := p.fail(ref.node, ref.path, "unknown type %s", ref.name)
	err.UnknownType = ref.name
	return err
}

type resolver struct {
	*parser
	entered map[*Schema]bool // records that are settled or being settled
	chain   int              // references being followed
}

// visit settles all that s is made of, then s. A reference to a record that was not entered
// starts a visit of its own.
func (r *resolver) visit(s *Schema, visited map[*Schema]bool) *ParseError {
	if ref := r.unknown[s]; ref != nil {
		if ref.target == nil {
			if ref.target = r.known[ref.name]; ref.target == nil {
				return r.unknownType(ref)
			}
		}
		if r.entered[ref.target] {
			return nil
		}
		if r.chain++; r.chain > MaxDepth {
			return r.fail(ref.node, ref.path, "types nest deeper than the limit of %d through references", MaxDepth)
		}
		err := r.visit(ref.target, make(map[*Schema]bool))
		r.chain--
		return err
	}
	if visited[s] || r.settled[s] {
		return nil
	}
	visited[s] = true
	if s.Type == Record {
		r.entered[s] = true
	}
	for part := range s.parts() {
		if err := r.visit(part, visited); err != nil {
			return err
		}
	}
	switch {
	case s.Type == Union:
		if i := r.duplicateBranch(s); i >= 0 {
			ref := r.unknown[s.Branches[i]]
			if ref == nil {
				ref = r.earlierReference(s, i)
			}
			return r.fail(ref.node, ref.path, "union has the type %s twice", ref.target.Name)
		}
	case s.Type == Record && !r.settled[s]:
		for _, f := range s.Fields {
			if d := r.defaults[f]; d != nil && !r.fits(d.node, f.Type) {
				return r.invalidDefault(f, *d)
			}
		}
		r.settled[s] = true
	}
	return nil
}

// earlierReference finds the reference that, before branch i of union, means the same type.
func (r *resolver) earlierReference(union *Schema, i int) *reference {
	for _, branch := range union.Branches[:i] {
		if ref := r.unknown[branch]; ref != nil && ref.target == union.Branches[i] {
			return ref
		}
	}
	panic("avroschema: duplicate branch without a reference passed the first check")
}

// patch replaces the stand-ins directly in s and in its unnamed parts.
func (p *parser) patch(s *Schema) {
	replace := func(at **Schema) {
		if ref := p.unknown[*at]; ref != nil {
			*at = ref.target
		} else if (*at).Name == "" {
			p.patch(*at)
		}
	}
	if s.Items != nil {
		replace(&s.Items)
	}
	if s.Values != nil {
		replace(&s.Values)
	}
	for i := range s.Branches {
		replace(&s.Branches[i])
	}
	for _, f := range s.Fields {
		replace(&f.Type)
	}
}
