package main

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/internal/testserver"
)

const (
	keys, each = 10, 20
	events     = keys * each
	duplicates = 30
	clients    = "../../testdata/clients/clients.sh"
)

func TestConsumers_HandleEachEventOnceInThreeLanguages(t *testing.T) {
	t.Parallel()
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	f := newFixture(t)
	want := f.emit(keys, each)
	f.produceAgain(f.poll(events)[:duplicates])
	for _, language := range []struct {
		name    string
		command []string
	}{
		{"Go", []string{binary}},
		{"Python", []string{clients, "python", "python/consumer.py"}},
		{"JavaScript", []string{clients, "node", "javascript/consumer.mjs"}},
	} {
		t.Run(language.name, func(t *testing.T) {
			t.Parallel()
			group := testserver.UniqueName(t)
			if language.name == "Go" {
				f.createDeadLetterTopic(t, group)
			}
			// Stopped in the middle: the offsets stand behind what was handled, and behind no more.
			first := f.start(t, group, language.command...)
			first.await(5, 0)
			first.stop()
			handled := f.one(t, "SELECT count(*) FROM inbox WHERE consumer = $1", group)
			if n := f.committed(t, group); n != handled+first.skipped || handled != len(first.events) {
				t.Errorf("stopped after %d events: %d are marked, the offsets stand at %d with %d duplicates", len(first.events), handled, n, first.skipped)
			}
			second := f.start(t, group, language.command...)
			second.await(events-len(first.events), duplicates-first.skipped)
			second.stop()
			if n := f.committed(t, group); n != events+duplicates {
				t.Errorf("the offsets stand at %d, want %d", n, events+duplicates)
			}
			f.check(t, group, want, append(first.events, second.events...))

			// Everything once more: nothing happens.
			f.rewind(t, group)
			third := f.start(t, group, language.command...)
			third.await(0, events+duplicates)
			third.stop()
			f.check(t, group, want, append(append(first.events, second.events...), third.events...))
			if third.skipped != events+duplicates {
				t.Errorf("%d duplicates were skipped, want %d", third.skipped, events+duplicates)
			}
			t.Logf("it printed, for example:\n%s\n%s", first.events[0], second.events[len(second.events)-1])
		})
	}
}

// check wants a line of each event, once, and each event to count once.
func (f *fixture) check(t *testing.T, group string, want map[string]string, printed []string) {
	t.Helper()
	byID := regexp.MustCompile(` id=(\S+) `)
	got := map[string]string{}
	for _, line := range printed {
		id := byID.FindStringSubmatch(line)
		if id == nil || got[id[1]] != "" {
			t.Fatalf("unexpected line, or the second of this event: %s", line)
		}
		got[id[1]] = line
	}
	if diff := cmp.Diff(parse(t, want), parse(t, got)); diff != "" {
		t.Errorf("printed (-want +got):\n%s", diff)
	}
	const right = "SELECT count(*) FROM event_counts WHERE consumer = $1 AND events = $2"
	if n := f.one(t, right, group, each); n != keys {
		t.Errorf("%d keys have a count of %d, want %d", n, each, keys)
	}
	if n := f.one(t, "SELECT coalesce(sum(events), 0)::int FROM event_counts WHERE consumer = $1", group); n != events {
		t.Errorf("%d events were counted, want %d", n, events)
	}
}

// parse splits each line in attributes and data, whose spaces and order of fields are nobody's business.
func parse(t *testing.T, lines map[string]string) map[string]any {
	t.Helper()
	parsed := map[string]any{}
	for id, line := range lines {
		words := strings.SplitN(line, " ", 6)
		if len(words) < 6 {
			t.Fatalf("a line is too short: %s", line)
		}
		var data any
		if err := json.Unmarshal([]byte(words[5]), &data); err != nil {
			t.Fatalf("%v in the line %s", err, line)
		}
		parsed[id] = []any{words[:5], data}
	}
	return parsed
}

func TestReadme_NamesTheVersionsThatAreTested(t *testing.T) {
	t.Parallel()
	readme := read(t, "README.md")
	var tested []string
	for line := range strings.Lines(read(t, "../../testdata/clients/requirements.txt")) {
		tested = append(tested, strings.TrimSpace(line))
	}
	var manifest struct{ Dependencies map[string]string }
	if err := json.Unmarshal([]byte(read(t, "../../testdata/clients/package.json")), &manifest); err != nil {
		t.Fatal(err)
	}
	for name, version := range manifest.Dependencies {
		tested = append(tested, name+"@"+version)
	}
	// name[extras]==version for pip, name@version for npm.
	named := regexp.MustCompile(`[ ']([@\w/-]+)(?:\[[\w,]+\])?((?:==|@)\d[\w.]*)`).FindAllStringSubmatch(readme, -1)
	if len(named) != 6 {
		t.Errorf("README.md names %d packages, want 6: %q", len(named), named)
	}
	for _, install := range named {
		if !slices.Contains(tested, install[1]+install[2]) {
			t.Errorf("README.md says%s, the tests run with none of that", install[0])
		}
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
