package schemaregistry

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"hash"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Metadata goes with a schema and is part of its identity.
type Metadata struct {
	Tags       map[string][]string `json:"tags,omitempty"` // values sorted
	Properties map[string]string   `json:"properties,omitempty"`
	Sensitive  []string            `json:"sensitive,omitempty"` // sorted
}

// Rule is one rule of a data contract. The registry keeps rules, clients carry them out.
type Rule struct {
	Name      string            `json:"name,omitempty"`
	Doc       string            `json:"doc,omitempty"`
	Kind      string            `json:"kind,omitempty"` // TRANSFORM or CONDITION
	Mode      string            `json:"mode,omitempty"` // UPGRADE, DOWNGRADE, UPDOWN; WRITE, READ, WRITEREAD
	Type      string            `json:"type,omitempty"`
	Tags      []string          `json:"tags,omitempty"` // sorted
	Params    map[string]string `json:"params,omitempty"`
	Expr      string            `json:"expr,omitempty"`
	OnSuccess string            `json:"onSuccess,omitempty"`
	OnFailure string            `json:"onFailure,omitempty"`
	Disabled  bool              `json:"disabled"`
}

// RuleSet is the rules that go with a schema; they are part of its identity.
type RuleSet struct {
	MigrationRules []Rule `json:"migrationRules,omitempty"`
	DomainRules    []Rule `json:"domainRules,omitempty"`
	EncodingRules  []Rule `json:"encodingRules,omitempty"`
}

// versionProperty is the property in which a schema carries its own version.
const versionProperty = "confluent:version"

// normalize sorts what is a set.
func (m *Metadata) normalize() {
	if m == nil {
		return
	}
	for name, values := range m.Tags {
		m.Tags[name] = sortedSet(values)
	}
	m.Sensitive = sortedSet(m.Sensitive)
}

func sortedSet(values []string) []string {
	return slices.Compact(slices.Sorted(slices.Values(values)))
}

func (m *Metadata) property(name string) (string, bool) {
	if m == nil {
		return "", false
	}
	value, ok := m.Properties[name]
	return value, ok
}

// reservedProperty is the property that lists fields which a schema must not have.
const reservedProperty = "confluent:reserved"

func (m *Metadata) reserved() (fields []string) {
	list, _ := m.property(reservedProperty)
	for field := range strings.SplitSeq(list, ",") {
		if field = strings.TrimSpace(field); field != "" {
			fields = append(fields, field)
		}
	}
	return fields
}

// withVersion returns m with the version property.
func (m *Metadata) withVersion(version int) *Metadata {
	set := Metadata{}
	if m != nil {
		set = *m
	}
	set.Properties = maps.Clone(set.Properties)
	if set.Properties == nil {
		set.Properties = map[string]string{}
	}
	set.Properties[versionProperty] = strconv.Itoa(version)
	return &set
}

// withoutVersion returns m without the version property; it is never nil.
func (m *Metadata) withoutVersion() *Metadata {
	if m == nil {
		return &Metadata{}
	}
	rest := *m
	rest.Properties = maps.Clone(m.Properties)
	delete(rest.Properties, versionProperty)
	return &rest
}

func (m *Metadata) equal(other *Metadata) bool {
	if m == nil || other == nil {
		return m == other
	}
	return maps.EqualFunc(m.Tags, other.Tags, slices.Equal) && maps.Equal(m.Properties, other.Properties) &&
		slices.Equal(m.Sensitive, other.Sensitive)
}

// mergeMetadata adds what is in over to base; of two values that of over counts.
func mergeMetadata(base, over *Metadata) *Metadata {
	if base == nil || over == nil {
		return cmp.Or(base, over)
	}
	return &Metadata{
		Tags:       mergeMaps(base.Tags, over.Tags),
		Properties: mergeMaps(base.Properties, over.Properties),
		Sensitive:  sortedSet(slices.Concat(base.Sensitive, over.Sensitive)),
	}
}

func mergeMaps[V any](base, over map[string]V) map[string]V {
	if len(base) == 0 {
		return over
	}
	merged := maps.Clone(base)
	maps.Copy(merged, over)
	return merged
}

func (s *RuleSet) equal(other *RuleSet) bool {
	if s == nil || other == nil {
		return s == other
	}
	return slices.EqualFunc(s.all(), other.all(), func(a, b Rule) bool {
		return a.Name == b.Name && a.Doc == b.Doc && a.Kind == b.Kind && a.Mode == b.Mode && a.Type == b.Type &&
			slices.Equal(a.Tags, b.Tags) && maps.Equal(a.Params, b.Params) && a.Expr == b.Expr &&
			a.OnSuccess == b.OnSuccess && a.OnFailure == b.OnFailure && a.Disabled == b.Disabled
	}) && len(s.MigrationRules) == len(other.MigrationRules) && len(s.DomainRules) == len(other.DomainRules)
}

func (s *RuleSet) all() []Rule {
	return slices.Concat(s.MigrationRules, s.DomainRules, s.EncodingRules)
}

// mergeRuleSets adds the rules of over to base; of two with one name that of over counts.
func mergeRuleSets(base, over *RuleSet) *RuleSet {
	if base == nil || over == nil {
		return cmp.Or(base, over)
	}
	merge := func(base, over []Rule) []Rule {
		kept := slices.DeleteFunc(slices.Clone(base), func(b Rule) bool {
			return slices.ContainsFunc(over, func(o Rule) bool { return o.Name == b.Name })
		})
		return append(kept, over...)
	}
	return &RuleSet{
		MigrationRules: merge(base.MigrationRules, over.MigrationRules),
		DomainRules:    merge(base.DomainRules, over.DomainRules),
		EncodingRules:  merge(base.EncodingRules, over.EncodingRules),
	}
}

// normalize fills in defaults, sorts what is a set and refuses what is no rule.
func (s *RuleSet) normalize() error {
	if s == nil {
		return nil
	}
	seen := map[string]bool{}
	for _, group := range []struct {
		rules []Rule
		modes []string
		what  string
	}{
		{s.MigrationRules, []string{"UPGRADE", "DOWNGRADE", "UPDOWN"}, "Migration"},
		{s.DomainRules, []string{"WRITE", "READ", "WRITEREAD"}, "Domain"},
		{s.EncodingRules, []string{"WRITE", "READ", "WRITEREAD"}, "Encoding"},
	} {
		for i := range group.rules {
			rule := &group.rules[i]
			rule.Kind = cmp.Or(rule.Kind, "TRANSFORM")
			rule.Mode = cmp.Or(rule.Mode, "WRITEREAD")
			rule.Tags = sortedSet(rule.Tags)
			switch problem := checkRuleName(rule.Name); {
			case seen[rule.Name]:
				return invalidRules("Found rule with duplicate name '%s'", rule.Name)
			case problem != "":
				return invalidRules("%s", problem)
			case rule.Type == "":
				return invalidRules("Missing rule type")
			case !slices.Contains(group.modes, rule.Mode):
				return invalidRules("%s rules can only be %s", group.what, strings.Join(group.modes, ", "))
			}
			seen[rule.Name] = true
		}
	}
	return nil
}

func checkRuleName(name string) string {
	const longest = 256
	switch {
	case name == "":
		return "Missing rule name"
	case len(name) > longest:
		return "Rule name too long"
	}
	for i, r := range name {
		if unicode.IsLetter(r) || r == '_' || i > 0 && (unicode.IsDigit(r) || r == '-') {
			continue
		}
		if i == 0 {
			return "Illegal initial character in rule name: " + name
		}
		return "Illegal character in rule name: " + name
	}
	return ""
}

// hashContent writes what makes a schema the one it is. The order of the pieces is that of
// Confluent's registry, since its clients compare the GUIDs that come out.
func hashContent(h hash.Hash, text string, references []Reference, metadata *Metadata, rules *RuleSet) {
	put := func(pieces ...string) {
		for _, piece := range pieces {
			_, _ = h.Write([]byte(piece)) // a hash never fails
		}
	}
	put(text)
	for _, ref := range references {
		put(ref.Name, ref.Subject)
		_, _ = h.Write(binary.BigEndian.AppendUint32(nil, uint32(ref.Version)))
	}
	if metadata != nil {
		put("\x01")
		for _, name := range slices.Sorted(maps.Keys(metadata.Tags)) {
			put(name)
			put(metadata.Tags[name]...)
		}
		for _, name := range slices.Sorted(maps.Keys(metadata.Properties)) {
			put(name, metadata.Properties[name])
		}
		put(metadata.Sensitive...)
	}
	if rules != nil {
		put("\x01")
		for _, rule := range rules.all() {
			put(rule.Name, rule.Doc, rule.Kind, rule.Mode, rule.Type)
			put(rule.Tags...)
			for _, name := range slices.Sorted(maps.Keys(rule.Params)) {
				put(name, rule.Params[name])
			}
			put(rule.Expr, rule.OnSuccess, rule.OnFailure)
			if rule.Disabled {
				put("\x01")
			}
		}
	}
}

func invalidRules(format string, args ...any) error {
	return unprocessable(CodeInvalidRules, fmt.Sprintf(format, args...))
}
