package transcode

import (
	"bytes"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	hamba "github.com/hamba/avro/v2"
	twmb "github.com/twmb/avro"
	"pgregory.net/rapid"

	"github.com/postrider/postrider/schema-registry/avroschema"
)

// oracle decodes Avro with two libraries that are not ours.
type oracle struct {
	twmb  *twmb.Schema
	hamba hamba.Schema
}

func newOracle(text string) (*oracle, error) {
	ts, err := twmb.Parse(text)
	if err != nil {
		return nil, err
	}
	// A cache of its own: the shared one leaks names from one schema to the next.
	hs, err := hamba.ParseBytesWithCache([]byte(text), "", &hamba.SchemaCache{})
	if err != nil {
		return nil, err
	}
	return &oracle{ts, hs}, nil
}

type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

// decode returns what both libraries make of data: int64, float64, string, []byte, []any,
// map[string]any; a value of a union is a map with the branch's name as its key.
func (o *oracle) decode(t fataler, data []byte) any {
	t.Helper()
	var got any
	rest, err := o.twmb.Decode(data, &got, twmb.TaggedUnions())
	if err != nil {
		t.Fatalf("twmb/avro cannot decode %x: %v", data, err)
	}
	if len(rest) > 0 {
		t.Fatalf("twmb/avro leaves %d bytes of %x", len(rest), data)
	}
	r := hamba.NewReader(bytes.NewReader(data), 512)
	second := r.ReadNext(o.hamba)
	if r.Error != nil {
		t.Fatalf("hamba/avro cannot decode %x: %v", data, r.Error)
	}
	a, b := normal(got), normal(second)
	if diff := cmp.Diff(a, b, cmpopts.EquateNaNs()); diff != "" {
		t.Fatalf("the libraries disagree (-twmb +hamba):\n%s", diff)
	}
	return a
}

// normal makes the same of the Go types that different libraries choose.
func normal(v any) any {
	switch v := v.(type) {
	case nil, bool, string, []byte, int64, float64:
		return v
	case int:
		return int64(v)
	case int32:
		return int64(v)
	case float32:
		return float64(v)
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = normal(v[i])
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(v))
		for k := range v {
			out[k] = normal(v[k])
		}
		return out
	}
	if rv := reflect.ValueOf(v); rv.Kind() == reflect.Array {
		b := make([]byte, rv.Len())
		reflect.Copy(reflect.ValueOf(b), rv)
		return b
	}
	panic("a decoder returned a type that is not expected")
}

// TestAppend_TwoLibrariesReadBackAnyValueOfAnySchema writes generated values as JSON, in
// all the spellings that the package accepts, and reads the Avro back.
func TestAppend_TwoLibrariesReadBackAnyValueOfAnySchema(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		g := &generator{T: rt}
		typ := g.typ(3)
		text := typ.text(true)
		schema, err := avroschema.Parse(text)
		if err != nil {
			rt.Fatalf("parse %s: %v", text, err)
		}
		tr, err := Compile(schema)
		if err != nil {
			rt.Fatalf("compile %s: %v", text, err)
		}
		reader, err := newOracle(typ.text(false))
		if err != nil {
			rt.Fatalf("oracle for %s: %v", typ.text(false), err)
		}
		prefix := []byte("kept")
		for range 3 {
			want := g.value(typ, 3)
			doc := g.space() + g.json(typ, want) + g.space()
			out, err := tr.Append(prefix, []byte(doc))
			if err != nil {
				rt.Fatalf("schema %s\ndocument %s\n%v", text, doc, err)
			}
			if !bytes.HasPrefix(out, prefix) {
				rt.Fatalf("what was in dst is gone: %q", out)
			}
			got := reader.decode(rt, out[len(prefix):])
			if diff := cmp.Diff(want, got, cmpopts.EquateNaNs(), cmpopts.EquateEmpty()); diff != "" {
				rt.Fatalf("schema %s\ndocument %s\n(-want +got)\n%s", text, doc, diff)
			}
		}
	})
}
