package schemaregistry

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Mode says what may be done with a subject.
type Mode string

// The modes. ReadOnlyOverride is ReadOnly that no subject's own mode can undo; Import takes
// schemas with the IDs they have elsewhere, and does not check them against each other.
const (
	ReadWrite        Mode = "READWRITE"
	ReadOnly         Mode = "READONLY"
	ReadOnlyOverride Mode = "READONLY_OVERRIDE"
	Import           Mode = "IMPORT"
)

// DefaultMode holds until another is set.
const DefaultMode = ReadWrite

// ParseMode reads the name of a mode in any case.
func ParseMode(name string) (Mode, bool) {
	mode := Mode(strings.ToUpper(name))
	return mode, slices.Contains([]Mode{ReadWrite, ReadOnly, ReadOnlyOverride, Import}, mode)
}

func (m Mode) readOnly() bool { return m == ReadOnly || m == ReadOnlyOverride }

// Config is the settings of a subject, of a context or of all. What is not set is nil or
// empty.
type Config struct {
	Alias               *string   `json:"alias,omitempty"`     // the subject that stands for this one
	Normalize           *bool     `json:"normalize,omitempty"` // schemas as if normalize were asked for
	ValidateFields      *bool     `json:"validateFields,omitempty"`
	ValidateNames       *bool     `json:"validateNames,omitempty"`
	ValidateRules       *bool     `json:"validateRules,omitempty"`
	Level               Level     `json:"compatibilityLevel,omitempty"`
	CompatibilityPolicy *string   `json:"compatibilityPolicy,omitempty"`
	CompatibilityGroup  *string   `json:"compatibilityGroup,omitempty"` // only versions with the same value of this property are compared
	DefaultMetadata     *Metadata `json:"defaultMetadata,omitempty"`    // what new schemas get where they have none
	OverrideMetadata    *Metadata `json:"overrideMetadata,omitempty"`   // what new schemas get whatever they have
	DefaultRuleSet      *RuleSet  `json:"defaultRuleSet,omitempty"`
	OverrideRuleSet     *RuleSet  `json:"overrideRuleSet,omitempty"`
}

func (c *Config) hasDefaults() bool {
	return c.DefaultMetadata != nil || c.OverrideMetadata != nil || c.DefaultRuleSet != nil || c.OverrideRuleSet != nil
}

// lenient tells whether the policy of comparing is the one that lets more pass.
func (c *Config) lenient() bool {
	return c.CompatibilityPolicy != nil && *c.CompatibilityPolicy == "LENIENT"
}

func (c *Config) normalizes() bool { return c.Normalize != nil && *c.Normalize }

// ConfigUpdate changes some settings of a Config.
type ConfigUpdate func(*Config)

// ownConfig returns the settings of a scope, nil where none are set. The scope "" holds for the
// default context, and for others by way of the global context's.
func (s *state) ownConfig(scope string) *Config {
	config := s.configs[scope]
	switch {
	case config != nil:
		filled := *config
		filled.Level = cmp.Or(filled.Level, DefaultLevel)
		return &filled
	case scope == "" || contextOf(scope) == globalContext:
		return &Config{Level: DefaultLevel}
	}
	return nil
}

// config returns the settings that hold for a subject: its own, its context's, or those of
// all. Only a whole set counts, a subject with an alias alone has the default level.
func (s *state) config(subject string) *Config {
	for _, scope := range scopes(subject) {
		if s.configs[scope] != nil {
			return s.ownConfig(scope)
		}
	}
	return &Config{Level: DefaultLevel}
}

// ownMode returns the mode of a scope, "" where none is set.
func (s *state) ownMode(scope string) Mode {
	if s.modes[""] == ReadOnlyOverride {
		return ReadOnlyOverride
	}
	mode := s.modes[scope]
	if mode == "" && (scope == "" || contextOf(scope) == globalContext) {
		return DefaultMode
	}
	return mode
}

// mode returns the mode that holds for a subject.
func (s *state) mode(subject string) Mode {
	if s.modes[""] == ReadOnlyOverride {
		return ReadOnlyOverride
	}
	for _, scope := range scopes(subject) {
		if mode := s.modes[scope]; mode != "" {
			return mode
		}
	}
	return DefaultMode
}

// scopes are where a setting for a subject is looked for, one after the other.
func scopes(subject string) []string {
	return []string{subject, joinName(contextOf(subject), ""), joinName(globalContext, "")}
}

// settingsScope is the key of the settings of a subject or context; "" is the default
// context.
func settingsScope(name string) string { return normalizeName(name) }

// Config returns the settings that hold for a subject, or, with inherit false, those that
// were made for it. The subject "" means all.
func (r *Registry) Config(ctx context.Context, subject string, inherit bool) (Config, error) {
	scope := settingsScope(subject)
	return get(ctx, r, func(s *state) (Config, error) {
		config := s.ownConfig(scope)
		if inherit {
			config = s.config(scope)
		}
		if config == nil {
			return Config{}, notFound(CodeLevelNotConfigured, fmt.Sprintf("Subject '%s' does not have subject-level compatibility configured", scope))
		}
		return *config, nil
	})
}

// SetConfig changes settings and returns them all.
func (r *Registry) SetConfig(ctx context.Context, subject string, update ConfigUpdate) (Config, error) {
	if err := checkSubject(subject, true); err != nil {
		return Config{}, err
	}
	scope := settingsScope(subject)
	var config Config
	err := r.update(ctx, func(d *draft) error {
		if err := d.writable(scope); err != nil {
			return err
		}
		if old := d.configs[scope]; old != nil {
			config = *old
		}
		update(&config)
		changed := config
		d.put(configFact{scope, &changed})
		return nil
	})
	return config, err
}

// UnsetConfig removes settings and returns what they were.
func (r *Registry) UnsetConfig(ctx context.Context, subject string) (Config, error) {
	scope := settingsScope(subject)
	var removed Config
	err := r.update(ctx, func(d *draft) error {
		config := d.ownConfig(scope)
		if config == nil {
			return subjectNotFound(scope)
		}
		removed = *config
		if err := d.writable(scope); err != nil {
			return err
		}
		if d.configs[scope] != nil {
			d.put(configFact{scope, nil})
		}
		return nil
	})
	return removed, err
}

// Level returns the compatibility level that holds for a subject; "" means all.
func (r *Registry) Level(ctx context.Context, subject string) (Level, error) {
	config, err := r.Config(ctx, subject, true)
	return config.Level, err
}

// SetLevel sets the compatibility level of a subject; "" means all.
func (r *Registry) SetLevel(ctx context.Context, subject string, level Level) error {
	_, err := r.SetConfig(ctx, subject, func(c *Config) { c.Level = level })
	return err
}

// Mode returns the mode that holds for a subject, or, with inherit false, the one that was
// set for it. The subject "" means all.
func (r *Registry) Mode(ctx context.Context, subject string, inherit bool) (Mode, error) {
	scope := settingsScope(subject)
	return get(ctx, r, func(s *state) (Mode, error) {
		mode := s.ownMode(scope)
		if inherit {
			mode = s.mode(scope)
		}
		if mode == "" {
			return "", notFound(CodeModeNotConfigured, fmt.Sprintf("Subject '%s' does not have subject-level mode configured", scope))
		}
		return mode, nil
	})
}

// SetMode sets the mode of a subject or context, or unsets it with "". Import needs a place
// without versions in use, and forgets the deleted ones in it; force does neither.
func (r *Registry) SetMode(ctx context.Context, subject string, mode Mode, force bool) error {
	if err := checkSubject(subject, true); err != nil {
		return err
	}
	scope := settingsScope(subject)
	return r.update(ctx, func(d *draft) error {
		if mode == Import && d.mode(scope) != Import && !force {
			if err := d.clear(scope); err != nil {
				return err
			}
		}
		if d.modes[scope] != mode {
			d.put(modeFact{scope, mode})
		}
		return nil
	})
}

// clear forgets the deleted versions of a subject or of all subjects in a context; the scope
// "" means those of every context.
func (d *draft) clear(scope string) error {
	var subjects []*subjectState
	switch {
	case scope == "":
		subjects = slices.Collect(maps.Values(d.subjects))
	case isContextName(scope):
		subjects = slices.Collect(d.inContext(contextOf(scope), true))
	case d.subjects[scope] != nil:
		subjects = []*subjectState{d.subjects[scope]}
	}
	for _, t := range subjects {
		if t.anyLive() {
			return notPermitted("Cannot import since found existing subjects")
		}
		for _, v := range t.versions {
			if len(d.referredBy(t.name, v.number, false)) > 0 {
				return referenceExists(t.name, v.number)
			}
		}
	}
	for _, t := range subjects {
		for _, v := range slices.Clone(t.versions) {
			d.remove(t.name, v)
		}
	}
	return nil
}

// UnsetMode removes the mode of a subject or context and returns what it was; "" where there
// was none, which is refused unless recursive. That removes the modes of all subjects of a
// context too.
func (r *Registry) UnsetMode(ctx context.Context, subject string, recursive bool) (Mode, error) {
	scope := settingsScope(subject)
	var removed Mode
	err := r.update(ctx, func(d *draft) error {
		removed = d.ownMode(scope)
		if removed == "" && !recursive {
			return subjectNotFound(scope)
		}
		for _, name := range slices.Sorted(maps.Keys(d.modes)) {
			if name == scope || recursive && isContextName(scope) && contextOf(name) == contextOf(scope) {
				d.put(modeFact{name, ""})
			}
		}
		return nil
	})
	return removed, err
}
