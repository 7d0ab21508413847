package transfer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	schemaregistry "github.com/postrider/postrider/schema-registry"
)

const (
	modeImport    = "IMPORT"
	modeReadWrite = "READWRITE"
	// restoreTimeout is how long an import that was broken off goes on, to put modes back.
	restoreTimeout = 30 * time.Second
)

// Options say how to import.
type Options struct {
	// DryRun only says what would be done.
	DryRun bool
	// Progress is told what is done. May be nil.
	Progress Progress
}

// Report is what became of an import.
type Report struct {
	DryRun   bool `json:"dry_run"`
	Subjects int  `json:"subjects"` // of what was to be imported
	Schemas  int  `json:"schemas"`  // the same, versions, deleted ones too
	Added    int  `json:"added"`    // versions that the target did not have
	Deleted  int  `json:"deleted"`  // versions that were softly deleted there
	Configs  int  `json:"configs"`  // settings that were changed
	Modes    int  `json:"modes"`    // modes that were changed for good
	Verified bool `json:"verified"` // the target was asked again and has everything
	// Conflicts say what the target has in the place of something else, one for each.
	Conflicts []string `json:"conflicts,omitempty"`
	// Missing says what the target does not have in the end, or not as it should be.
	Missing []string `json:"missing,omitempty"`
}

// ErrConflicts is returned where a target has other things in the same places. It was not
// changed.
var ErrConflicts = errors.New("the target has other schemas in the same places, nothing was changed")

// ErrNotVerified is returned where a target does not have in the end what it should.
var ErrNotVerified = errors.New("the target does not have everything as it should be")

// Import makes a registry know content. The subjects that get versions are in mode IMPORT
// meanwhile, in which nobody else can register in them.
func Import(ctx context.Context, client *schemaregistry.Client, content *Content, options Options) (Report, error) {
	report := Report{DryRun: options.DryRun, Subjects: len(content.subjects()), Schemas: len(content.Schemas)}
	target, err := Read(ctx, client, options.Progress)
	if err != nil {
		return report, fmt.Errorf("read the target: %w", err)
	}
	p := newPlan(content, target)
	report.Added, report.Deleted, report.Configs, report.Modes = len(p.add), len(p.remove), len(p.configs), len(p.modes)
	report.Conflicts = p.conflicts
	if len(p.conflicts) > 0 {
		return report, ErrConflicts
	}
	if options.DryRun {
		return report, nil
	}
	i := importer{client, options.Progress}
	if err := i.run(ctx, p); err != nil {
		return report, err
	}
	if target, err = Read(ctx, client, options.Progress); err != nil {
		return report, fmt.Errorf("read the target again: %w", err)
	}
	if report.Missing = missing(content, target); len(report.Missing) > 0 {
		return report, ErrNotVerified
	}
	report.Verified = true
	return report, nil
}

// plan is what has to be done at the target.
type plan struct {
	add       []*Schema // each behind those that it refers to
	remove    []*Schema // softly, each before those that it refers to
	configs   []Config
	modes     []Mode            // as they are in the end
	importing map[string]string // subjects that get versions, with the mode to end with; "" is none
	conflicts []string
}

func newPlan(content, target *Content) *plan {
	p := &plan{importing: make(map[string]string)}
	there := target.places()
	type contextID struct {
		context string
		id      int
	}
	ids := make(map[contextID]*Schema)
	for i := range target.Schemas {
		s := &target.Schemas[i]
		ids[contextID{contextOf(s.Subject), s.ID}] = s
	}
	for i := range content.Schemas {
		s := &content.Schemas[i]
		other := there[s.place()]
		holder := ids[contextID{contextOf(s.Subject), s.ID}]
		switch {
		case other != nil && (other.ID != s.ID || !sameSchema(s, other)):
			p.conflicts = append(p.conflicts, fmt.Sprintf("subject %q version %d: the target has another schema there, with ID %d instead of %d",
				s.Subject, s.Version, other.ID, s.ID))
			continue
		case holder != nil && !sameSchema(s, holder):
			p.conflicts = append(p.conflicts, fmt.Sprintf("subject %q version %d: the target has ID %d for the schema of subject %q version %d",
				s.Subject, s.Version, s.ID, holder.Subject, holder.Version))
			continue
		case other == nil, other.Deleted && !s.Deleted:
			p.add = append(p.add, s)
			p.importing[s.Subject] = ""
		}
		if s.Deleted && (other == nil || !other.Deleted) {
			p.remove = append(p.remove, s)
		}
	}
	slices.Reverse(p.remove)

	had := target.configs()
	for _, config := range content.Configs {
		if !sameSettings(config.Settings, had[config.Subject]) {
			p.configs = append(p.configs, config)
		}
	}
	modes := target.modes()
	for _, mode := range content.Modes {
		if _, later := p.importing[mode.Subject]; later {
			p.importing[mode.Subject] = mode.Mode
		}
		if mode.Mode != modes[mode.Subject] {
			p.modes = append(p.modes, mode)
		}
	}
	for subject, mode := range p.importing {
		// IMPORT is what an import that was broken off has left.
		if before := modes[subject]; mode == "" && before != modeImport {
			p.importing[subject] = before
		}
	}
	for subject, mode := range modes {
		_, planned := p.importing[subject]
		if mode == modeImport && !planned && !hasMode(content, subject) && isSubjectOf(content, subject) {
			p.importing[subject] = "" // the same, where nothing is left to add
		}
	}
	return p
}

func hasMode(content *Content, subject string) bool {
	return slices.ContainsFunc(content.Modes, func(m Mode) bool { return m.Subject == subject })
}

func isSubjectOf(content *Content, subject string) bool {
	return slices.ContainsFunc(content.Schemas, func(s Schema) bool { return s.Subject == subject })
}

// sameSettings tells whether all of wanted holds.
func sameSettings(wanted, had map[string]json.RawMessage) bool {
	for key, value := range wanted {
		if !sameJSON(value, had[key]) {
			return false
		}
	}
	return true
}

// missing compares what a target has in the end with what it should have.
func missing(content, target *Content) []string {
	var lines []string
	there, configs, modes := target.places(), target.configs(), target.modes()
	for i := range content.Schemas {
		s := &content.Schemas[i]
		switch got := there[s.place()]; {
		case got == nil:
			lines = append(lines, fmt.Sprintf("subject %q version %d is not there", s.Subject, s.Version))
		case got.ID != s.ID || !sameSchema(s, got):
			lines = append(lines, fmt.Sprintf("subject %q version %d is another schema, with ID %d instead of %d", s.Subject, s.Version, got.ID, s.ID))
		case got.Deleted != s.Deleted:
			lines = append(lines, fmt.Sprintf("subject %q version %d: deleted is %v", s.Subject, s.Version, got.Deleted))
		}
	}
	for _, config := range content.Configs {
		if !sameSettings(config.Settings, configs[config.Subject]) {
			lines = append(lines, fmt.Sprintf("settings of %q are not all taken", config.Subject))
		}
	}
	for _, mode := range content.Modes {
		if modes[mode.Subject] != mode.Mode {
			lines = append(lines, fmt.Sprintf("mode of %q is %q instead of %q", mode.Subject, modes[mode.Subject], mode.Mode))
		}
	}
	return lines
}

type importer struct {
	client   *schemaregistry.Client
	progress Progress
}

func (i *importer) run(ctx context.Context, p *plan) (err error) {
	subjects := slices.Sorted(maps.Keys(p.importing))
	if len(subjects) > 0 {
		defer func() {
			// Whatever happened, nobody shall find the subjects closed.
			restore, cancel := context.WithTimeout(context.WithoutCancel(ctx), restoreTimeout)
			defer cancel()
			err = errors.Join(err, i.restore(restore, subjects, p.importing))
		}()
	}
	if err := i.addVersions(ctx, p, subjects); err != nil {
		return err
	}
	for n, s := range p.remove {
		var deleted json.RawMessage
		err := i.client.Do(ctx, http.MethodDelete, pathOf("subjects", s.Subject, "versions", strconv.Itoa(s.Version)), nil, &deleted)
		if err != nil {
			return fmt.Errorf("delete subject %q version %d softly: %w", s.Subject, s.Version, err)
		}
		i.progress.show("deleting softly", n+1, len(p.remove))
	}
	for _, config := range p.configs {
		body := maps.Clone(config.Settings)
		if level, ok := body["compatibilityLevel"]; ok { // GET and PUT name it differently
			delete(body, "compatibilityLevel")
			body["compatibility"] = level
		}
		var answer json.RawMessage
		if err := i.client.Do(ctx, http.MethodPut, pathOf("config", config.Subject), body, &answer); err != nil {
			return fmt.Errorf("set the level of %q: %w", config.Subject, err)
		}
	}
	for _, mode := range p.modes {
		if _, later := p.importing[mode.Subject]; later {
			continue
		}
		if err := i.setMode(ctx, mode.Subject, mode.Mode); err != nil {
			return err
		}
	}
	return nil
}

func (i *importer) addVersions(ctx context.Context, p *plan, subjects []string) error {
	for n, subject := range subjects {
		if err := i.setMode(ctx, subject, modeImport); err != nil {
			return err
		}
		i.progress.show("opening subjects for the import", n+1, len(subjects))
	}
	for n, s := range p.add {
		var answer struct {
			ID int `json:"id"`
		}
		body := map[string]any{"schema": s.Schema, "id": s.ID, "version": s.Version}
		if s.Type != "" {
			body["schemaType"] = s.Type
		}
		if len(s.References) > 0 {
			body["references"] = s.References
		}
		for key, value := range map[string]json.RawMessage{"metadata": s.Metadata, "ruleSet": s.RuleSet} {
			if len(value) > 0 && string(value) != "null" {
				body[key] = value
			}
		}
		err := i.client.Do(ctx, http.MethodPost, pathOf("subjects", s.Subject, "versions"), body, &answer)
		if err == nil && answer.ID != s.ID {
			err = fmt.Errorf("the target gives it the ID %d", answer.ID)
		}
		if err != nil {
			return fmt.Errorf("register subject %q version %d with ID %d: %w", s.Subject, s.Version, s.ID, err)
		}
		i.progress.show("importing versions", n+1, len(p.add))
	}
	return nil
}

// setMode sets a mode. force is for IMPORT: a registry takes it else only for empty subjects.
func (i *importer) setMode(ctx context.Context, subject, mode string) error {
	var answer json.RawMessage
	path := pathOf("mode", subject)
	if mode == modeImport {
		path += "?force=true"
	}
	err := i.client.Do(ctx, http.MethodPut, path, map[string]string{"mode": mode}, &answer)
	if isStatus(err, http.StatusNotFound) || isStatus(err, http.StatusMethodNotAllowed) {
		return fmt.Errorf("the target knows no modes, and without mode IMPORT it gives IDs of its own: "+
			"use a postrider registry or one of Confluent from 5.2 on: %w", err)
	}
	if err != nil {
		return fmt.Errorf("set the mode of %q to %s: %w", subject, mode, err)
	}
	return nil
}

// restore gives subjects the modes that they should end with.
func (i *importer) restore(ctx context.Context, subjects []string, modes map[string]string) error {
	var failed []string
	for n, subject := range subjects {
		var err error
		if mode := modes[subject]; mode != "" {
			err = i.setMode(ctx, subject, mode)
		} else {
			var answer json.RawMessage
			err = i.client.Do(ctx, http.MethodDelete, pathOf("mode", subject), nil, &answer)
			if isStatus(err, http.StatusNotFound) {
				err = nil // it had none
			}
			if isStatus(err, http.StatusMethodNotAllowed) { // servers of before 7.0
				err = i.setMode(ctx, subject, modeReadWrite)
			}
		}
		if err != nil {
			failed = append(failed, subject)
			if ctx.Err() != nil {
				failed = append(failed, subjects[n+1:]...)
				break
			}
		}
		i.progress.show("closing subjects", n+1, len(subjects))
	}
	if len(failed) == 0 {
		return nil
	}
	return fmt.Errorf("%d subjects are still in mode IMPORT, import again to end it: %s", len(failed), strings.Join(failed[:min(len(failed), 10)], ", "))
}
