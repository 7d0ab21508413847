package transcode

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

// fuzzSchemas together have every type and every kind of union.
func fuzzSchemas() []string {
	scalars := recordOf("S", `a "int" = 0`, `b "long" = 0`, `c "float" = 0`, `d "double" = 0`, `e "boolean" = false`, `f "bytes" = ""`,
		`g {"type":"fixed","name":"F","size":2} = "xx"`, `h {"type":"enum","name":"E","symbols":["A","B"]} = "A"`,
		`i `+money+` = "\u0000"`, `j {"type":"fixed","name":"D","size":20,"logicalType":"decimal","precision":40,"scale":5} = "01234567890123456789"`,
		`k `+logical("string", "uuid")+` = ""`, `l {"type":"fixed","name":"U","size":16,"logicalType":"uuid"} = "0123456789012345"`,
		`m `+logical("int", "date")+` = 0`, `n `+logical("int", "time-millis")+` = 0`, `o `+logical("long", "time-micros")+` = 0`,
		`p `+logical("long", "timestamp-millis")+` = 0`, `q `+logical("long", "timestamp-nanos")+` = 0`, `r `+logical("long", "local-timestamp-micros")+` = 0`,
		`s {"type":"map","values":"string"} = {}`, `t {"type":"array","items":"boolean"} = []`)
	unions := recordOf("R", `a ["null","int","long","double",`+money+`]`, `b ["float","bytes",{"type":"enum","name":"E","symbols":["A","B"]},"string"] = 0`,
		`c ["null",`+recordOf("One", `x "int"`, `y "int" = 0`)+`,`+recordOf("Two", `x "int"`, `z ["null","R"] = null`)+`] = null`,
		`d [`+logical("long", "timestamp-micros")+`,{"type":"map","values":["null","R"]},{"type":"array","items":["null","R"]}] = 0`)
	return []string{`"string"`, orderSchema(`"double"`), scalars, unions}
}

var surrogate = regexp.MustCompile(`\\u[dD][89a-fA-F]`)

// FuzzAppend feeds bytes to transcoders that live through all inputs, as the relay's do.
func FuzzAppend(f *testing.F) {
	schemas := fuzzSchemas()
	var transcoders []*Transcoder
	var readers []*oracle
	for _, text := range schemas {
		reader, err := newOracle(strings.ReplaceAll(text, `"logicalType"`, `"plain"`))
		if err != nil {
			f.Fatal(err)
		}
		transcoders = append(transcoders, compileText(f, text))
		readers = append(readers, reader)
	}
	for i, doc := range []string{
		`"a\u00e9\ud83d\ude00é"`, orderDoc, orderJSONB,
		`{"a":1e3,"b":-1.0,"c":"NaN","d":1.5E-3,"e":true,"f":"AQ==","g":"AQI=","h":"B","i":"12.30","j":-1.5e3}`,
		`{"k":"0190163d-8694-739b-aea5-966c26f8ad91","m":"2026-11-21","n":"05:00:00.123","o":1,"p":"2026-11-21T05:00:00Z","r":"2026-11-21 05:00:00"}`,
		`{"a":{"double":1},"b":"A","c":{"z":{"a":null},"x":1},"d":{"k":{"a":5.25}}}`,
		`{"c":{"One":{"x":1}},"d":[null,{"a":null}],"a":99999999999}`,
		`{"s":{"a":"b","c":"d"},"t":[true,false]}`,
	} {
		f.Add(uint8(i), []byte(doc))
		for k := range schemas {
			f.Add(uint8(k), []byte(doc))
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, doc []byte) {
		i := int(which) % len(schemas)
		tr, reader := transcoders[i], readers[i]
		given := bytes.Clone(doc)
		out, err := tr.Append([]byte("dst"), doc)
		if !bytes.Equal(doc, given) {
			t.Fatal("the document was changed")
		}
		if !bytes.HasPrefix(out, []byte("dst")) {
			t.Fatalf("what was in dst is gone: %q", out)
		}
		if i == 0 {
			checkString(t, out[3:], err, doc)
		}
		if err != nil {
			if len(out) != 3 {
				t.Fatalf("both output %x and error %v", out, err)
			}
			return
		}
		if !json.Valid(doc) || !utf8.Valid(doc) {
			t.Fatalf("accepted what is not JSON: %q", doc)
		}
		reader.decode(t, out[3:])
		// What the transcoder learns of the order of fields must not show.
		if again, err := tr.Append([]byte("dst"), doc); err != nil || !bytes.Equal(again, out) {
			t.Fatalf("the second time: %x, %v; the first: %x", again, err, out)
		}
		if fresh, err := compileText(t, schemas[i]).Append([]byte("dst"), doc); err != nil || !bytes.Equal(fresh, out) {
			t.Fatalf("a fresh transcoder: %x, %v; one in use: %x", fresh, err, out)
		}
	})
}

// checkString compares with encoding/json, which differs in what is not Unicode only.
func checkString(t *testing.T, out []byte, err error, doc []byte) {
	var want *string
	wantErr := json.Unmarshal(doc, &want)
	if surrogate.Match(doc) || !utf8.Valid(doc) {
		return
	}
	if ok := wantErr == nil && want != nil; ok != (err == nil) {
		t.Fatalf("%q: encoding/json says %v, we say %v", doc, wantErr, err)
	}
	if err != nil {
		return
	}
	n := 0
	for out[n]&0x80 != 0 {
		n++
	}
	if got := string(out[n+1:]); got != *want {
		t.Fatalf("%q: got %q, want %q", doc, got, *want)
	}
}
