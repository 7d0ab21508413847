package schemacheck

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/postrider/postrider/schema-registry/avroschema"
)

func TestPretty_LeavesFormattedFilesAsTheyAre(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"a name":           "\"string\"\n",
		"a union":          "[\"null\", \"int\"]\n",
		"no fields":        "{\n  \"type\": \"record\",\n  \"name\": \"r\",\n  \"fields\": []\n}\n",
		"a name elsewhere": "{\"type\": \"array\", \"items\": \"somewhere.else\"}\n",
		"numbers and escapes": "{\n  \"type\": \"record\",\n  \"name\": \"r\",\n  \"fields\": [\n" +
			"    {\"name\": \"x\", \"type\": \"double\", \"default\": 1.50e+1, \"n\\u0065w\": \"\\u00e9\"}\n  ]\n}\n",
	} {
		if got, err := Pretty(text); err != nil || got != text {
			t.Errorf("%s: %v\n%s", name, err, got)
		}
	}
}

func TestPretty_RefusesWhatItWouldSpoil(t *testing.T) {
	t.Parallel()
	if _, err := Pretty("/* why */ \"int\""); !errors.Is(err, ErrComments) {
		t.Errorf("comments: %v", err)
	}
	var parseErr *avroschema.ParseError
	if _, err := Pretty(`{"type":`); !errors.As(err, &parseErr) {
		t.Errorf("no JSON: %v", err)
	}
	if _, err := Pretty(`{"type":"record","name":"r"}`); !errors.As(err, &parseErr) {
		t.Errorf("no schema: %v", err)
	}
}

// Formatting keeps the schema, whose identity is its canonical text, and is done once.
func FuzzPretty(f *testing.F) {
	files, err := filepath.Glob("../../testdata/schemas/*.avsc")
	if err != nil || len(files) == 0 {
		f.Fatal(files, err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Add(`{"name":"r","type":"record","x":{"fields":[{"type":"int","name":"no field"}]},"name":"s","fields":[{"default":{"b":1},"type":{"values":"int","type":"map"},"name":"a"}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		pretty, err := Pretty(text)
		if err != nil {
			return
		}
		if again, err := Pretty(pretty); err != nil || again != pretty {
			t.Fatalf("the result is formatted otherwise: %v\n%s\n%s", err, pretty, again)
		}
		before, err := avroschema.Parse(text)
		if err != nil {
			return // types of other files
		}
		after, err := avroschema.Parse(pretty)
		if err != nil {
			t.Fatalf("%v\n%s", err, pretty)
		}
		if before.Canonical() != after.Canonical() {
			t.Fatalf("%s\nbecame\n%s", before.Canonical(), after.Canonical())
		}
	})
}
