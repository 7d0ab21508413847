package avroschema

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/postrider/postrider/internal/testserver"
)

// The tests of this file ask Avro's Java library, whose verdicts this package promises. With
//
//	ORACLE_CASES=200000 go test -count=1 -timeout 1h -v -run Java ./schema-registry/avroschema
//
// they ask for long, and with ORACLE_SEED they ask again what a run with that seed has asked.

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestParse_AgreesWithJava(t *testing.T) {
	t.Parallel()
	java := startOracle(t)
	t.Run("edge cases", func(t *testing.T) {
		java.compareParses(t, slices.Values(slices.Concat(valueEdges(), nameEdges(), syntaxEdges())))
	})
	t.Run("mutated schemas", func(t *testing.T) {
		java.compareParses(t, generated(t, 2500, mutatedText))
	})
	t.Run("forward references", func(t *testing.T) {
		java.compareParses(t, generated(t, 2500, forwardText))
	})
}

func TestParseAnyDefault_AgreesWithJava(t *testing.T) {
	t.Parallel()
	java := startOracle(t)
	t.Run("edge cases", func(t *testing.T) { java.compareAnyDefaults(t, slices.Values(valueEdges())) })
	t.Run("mutated schemas", func(t *testing.T) { java.compareAnyDefaults(t, generated(t, 1500, mutatedText)) })
	t.Run("forward references", func(t *testing.T) { java.compareAnyDefaults(t, generated(t, 1500, forwardText)) })
}

func TestCheckCompatibility_AgreesWithJava(t *testing.T) {
	t.Parallel()
	java := startOracle(t)
	t.Run("changed texts", func(t *testing.T) { java.comparePairs(t, generated(t, 3000, pairOfTexts)) })
	t.Run("evolved schemas", func(t *testing.T) { java.comparePairs(t, generated(t, 5000, evolvedPair)) })
}

// generated makes cases from a seed of which the test's log tells.
func generated[T any](t *testing.T, cases uint64, generate func(*rand.Rand) T) iter.Seq[T] {
	t.Helper()
	cases = fromEnv(t, "ORACLE_CASES", cases)
	seed := fromEnv(t, "ORACLE_SEED", rand.Uint64())
	t.Logf("ORACLE_SEED=%d ORACLE_CASES=%d", seed, cases)
	return func(yield func(T) bool) {
		rng := rand.New(rand.NewPCG(seed, 0))
		for range cases {
			if !yield(generate(rng)) {
				return
			}
		}
	}
}

func fromEnv(t *testing.T, variable string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", variable, err)
	}
	return n
}

// oracle is a process that answers for Avro's Java library. Oracle.java has the questions and
// the answers. One goroutine may ask at a time.
type oracle struct {
	questions io.Writer
	answers   *bufio.Reader
}

// startOracle starts a process that ends with the test.
func startOracle(t *testing.T) *oracle {
	t.Helper()
	cmd := exec.Command("../../testdata/avro-oracle/oracle.sh")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	questions, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	answers, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// The end of its input ends the oracle, even if it is this process that ends.
	stop := func() error {
		questions.Close()
		return cmd.Wait()
	}
	java := &oracle{questions, bufio.NewReader(answers)}
	if _, err := java.answer(); err != nil {
		err = stop()
		const missing = 3 // how the script ends when a program that it needs is not installed
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.ExitCode() == missing {
			testserver.Absent(t, strings.TrimSpace(stderr.String()))
		}
		t.Fatalf("the oracle does not start: %v\n%s", err, &stderr)
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("the oracle failed: %v\n%s", err, &stderr)
		}
	})
	return java
}

// ask returns the words of the answer.
func (o *oracle) ask(t *testing.T, question string, texts ...string) []string {
	t.Helper()
	for _, text := range texts {
		question += "\t" + base64.StdEncoding.EncodeToString([]byte(text))
	}
	if _, err := io.WriteString(o.questions, question+"\n"); err != nil {
		t.Fatalf("ask the oracle: %v", err)
	}
	words, err := o.answer()
	if err != nil {
		t.Fatalf("the oracle does not answer about %.2000q: %v", texts, err)
	}
	return words
}

func (o *oracle) answer() ([]string, error) {
	line, err := o.answers.ReadString('\n')
	return strings.Split(strings.TrimSuffix(line, "\n"), "\t"), err
}

func decodeWord(t *testing.T, word string) string {
	t.Helper()
	text, err := base64.StdEncoding.DecodeString(word)
	if err != nil {
		t.Fatalf("the oracle answers %q: %v", word, err)
	}
	return string(text)
}

// tooMany is the number of disagreements after which no more are looked for.
const tooMany = 10

func (o *oracle) compareParses(t *testing.T, texts iter.Seq[string]) {
	t.Helper()
	o.compareTexts(t, texts, "parse", func(text string) (*Schema, error) { return Parse(text) })
}

func (o *oracle) compareAnyDefaults(t *testing.T, texts iter.Seq[string]) {
	t.Helper()
	o.compareTexts(t, texts, "parseany", func(text string) (*Schema, error) { return ParseAnyDefault(text) })
}

func (o *oracle) compareTexts(t *testing.T, texts iter.Seq[string], question string, parse func(string) (*Schema, error)) {
	t.Helper()
	count := map[string]int{}
	disagreements := 0
	for text := range texts {
		answer := o.ask(t, question, text)
		java := []string{answer[0], decodeWord(t, answer[1])}
		count[java[0]]++
		ours := []string{"refused", ""}
		if s, err := parse(text); err == nil {
			ours = []string{"schema", s.Canonical()}
		} else {
			ours[1] = err.Error()
		}
		// Only the verdicts on what is refused are the same, not the words.
		if java[0] != ours[0] || java[0] == "schema" && java[1] != ours[1] {
			t.Errorf("%.2000q\nJava: %.2000s\nours: %.2000s", text, java, ours)
			if disagreements++; disagreements == tooMany {
				break
			}
		}
	}
	t.Logf("texts: %v", count)
}

func (o *oracle) comparePairs(t *testing.T, pairs iter.Seq[pair]) {
	t.Helper()
	count := map[string]int{}
	disagreements := 0
	for p := range pairs {
		java, ours := javaVerdict(t, o.ask(t, "compare", p.reader, p.writer)), p.verdict()
		count[java[0]]++
		if diff := cmp.Diff(java, ours); diff != "" {
			t.Errorf("reader %s\nwriter %s\nJava -, ours +:\n%s", p.reader, p.writer, diff)
			if disagreements++; disagreements == tooMany {
				break
			}
		}
	}
	t.Logf("pairs: %v", count)
}

// javaVerdict is an answer in the form of pair.verdict.
func javaVerdict(t *testing.T, answer []string) []string {
	t.Helper()
	switch answer[0] {
	case "incompatible":
		verdict := answer[:1:1]
		for problem := range slices.Chunk(answer[1:], 3) {
			verdict = append(verdict, fmt.Sprintf("%s at %s: %s", problem[0], problem[1], decodeWord(t, problem[2])))
		}
		return verdict
	case "incomparable":
		return []string{answer[0], decodeWord(t, answer[1])}
	default:
		return answer[:1] // not why
	}
}

// pair is two schemas of which one may have become the other.
type pair struct{ reader, writer string }

// verdict is "compatible", "refused", "incompatible" followed by the
// rules that are broken, or "incomparable" and why Java gave up.
func (p pair) verdict() []string {
	reader, readerErr := Parse(p.reader)
	writer, writerErr := Parse(p.writer)
	if readerErr != nil || writerErr != nil {
		return []string{"refused"}
	}
	problems := RepeatedIncompatibilities(reader, writer)
	switch {
	case len(problems) == 0:
		return []string{"compatible"}
	case problems[0].Type == AmbiguousField:
		return []string{"incomparable", "org.apache.avro.AvroRuntimeException: " + problems[0].Detail}
	}
	verdict := []string{"incompatible"}
	for _, problem := range problems {
		verdict = append(verdict, fmt.Sprintf("%s at %s: %s", problem.Type, problem.Location, problem.Detail))
	}
	return verdict
}

var schemas = rapid.Custom(schemaText)

// pairOfTexts mostly makes a schema and what a few changes have made of it.
func pairOfTexts(rng *rand.Rand) pair {
	one := schemas.Example(rng.Int())
	if rng.IntN(3) == 0 {
		return pair{one, schemas.Example(rng.Int())}
	}
	changes := [][2]string{
		{`"int"`, `"long"`}, {`"long"`, `"int"`}, {`"string"`, `"bytes"`}, {`"null"`, `"float"`},
		{`"double"`, `["null","double"]`}, {`"boolean"`, `"A"`},
		{`"a"`, `"b"`}, {`"A"`, `"B"`}, {`"C"`, `"A"`}, {`"n.A"`, `"A"`}, {`"n.C"`, `"A"`}, {`"x"`, `"xx"`},
		{`,"default":1`, ``}, {`["X","Y"]`, `["X"]`}, {`"size":1`, `"size":2`},
	}
	other := one
	for range 3 {
		change := changes[rng.IntN(len(changes))]
		other = replaceOne(rng, other, change[0], change[1])
	}
	if rng.IntN(2) == 0 {
		return pair{one, other}
	}
	return pair{other, one}
}

// mutatedText makes a schema with up to three faults in it, not all of which matter.
func mutatedText(rng *rand.Rand) string {
	pieces := []string{
		`"int"`, `"A"`, `"B"`, `"C"`, `"n.A"`, `"A","B"`, `["null","A"]`, `"x"`,
		`null`, `{}`, `[]`, `[null]`, `1`, `1.0`, `-1`, `99999999999`, `,`,
		`"type":"error"`, `"name":"A"`, `"name":"B"`, `"namespace":"n",`, `"namespace":"",`,
		`"default":null,`, `"default":{},`, `"default":"X",`, `"size":1,`, `"symbols":["Q"],`,
		`"doc":"q",`, `"aliases":["B"],`, `"order":"ignore",`, `"logicalType":"date",`, `"custom":1.50e3,`,
	}
	names := []string{`"A"`, `"B"`, `"C"`, `"n.A"`, `"n.B"`}
	text := schemas.Example(rng.Int())
	for range rng.IntN(4) {
		piece := pieces[rng.IntN(len(pieces))]
		switch rng.IntN(3) {
		case 0: // one more value or attribute
			if at := positions(text, "{[,:"); len(at) > 0 {
				i := at[rng.IntN(len(at))] + 1
				text = text[:i] + piece + text[i:]
			}
		case 1: // another value, or another attribute's name
			if quotes := positions(text, `"`); len(quotes) > 1 {
				i := rng.IntN(len(quotes)/2) * 2
				text = text[:quotes[i]] + piece + text[quotes[i+1]+1:]
			}
		case 2: // another type, or another name for one
			text = replaceOne(rng, text, names[rng.IntN(len(names))], names[rng.IntN(len(names))])
		}
	}
	return text
}

// positions returns where any of the characters stands in a text.
func positions(text, characters string) []int {
	var at []int
	for i := range len(text) {
		if strings.IndexByte(characters, text[i]) >= 0 {
			at = append(at, i)
		}
	}
	return at
}

// replaceOne replaces any one occurrence of a part, if there is one.
func replaceOne(rng *rand.Rand, text, part, by string) string {
	parts := strings.Split(text, part)
	if len(parts) == 1 {
		return text
	}
	i := 1 + rng.IntN(len(parts)-1)
	return strings.Join(parts[:i], part) + by + strings.Join(parts[i:], part)
}

// forwardText makes records that contain and mention each other, mostly before they are
// defined, with defaults that mostly do not fit.
func forwardText(rng *rand.Rand) string {
	g := &forwardGen{
		rng:       rng,
		undefined: []string{"A", "B", "C", "D"},
		types:     []string{`%s`, `%s`, `%s`, `["null",%s]`, `[%s,"null"]`, `{"type":"array","items":%s}`},
		defaults:  []string{"", "", "null", "1", "[]"},
	}
	g.types = append(g.types, `[%s,"A"]`)
	g.defaults = append(g.defaults, "{}", `{"f0":null}`, `{"f0":{}}`)
	text := g.record()
	if len(g.undefined) > 0 && rng.IntN(2) == 0 {
		text = "[" + text + "," + g.record() + "]"
	}
	return text
}

type forwardGen struct {
	rng       *rand.Rand
	undefined []string // names that no record has yet
	types     []string // forms of a field's type
	defaults  []string // "" is none
}

func (g *forwardGen) record() string {
	name := g.undefined[0]
	g.undefined = g.undefined[1:]
	var fields []string
	for i := range g.rng.IntN(4) {
		field := fmt.Sprintf(`"name":"f%d","type":%s`, i, g.fieldType())
		if value := g.defaults[g.rng.IntN(len(g.defaults))]; value != "" {
			field += `,"default":` + value
		}
		fields = append(fields, "{"+field+"}")
	}
	return fmt.Sprintf(`{"type":"record","name":%q,"fields":[%s]}`, name, strings.Join(fields, ","))
}

func (g *forwardGen) fieldType() string {
	form := g.types[g.rng.IntN(len(g.types))]
	switch {
	case len(g.undefined) > 0 && g.rng.IntN(3) == 0:
		return fmt.Sprintf(form, g.record())
	case g.rng.IntN(5) == 0:
		return fmt.Sprintf(form, `"int"`)
	}
	return fmt.Sprintf(form, []string{`"A"`, `"B"`, `"C"`, `"D"`}[g.rng.IntN(4)])
}

// valueEdges puts every kind of JSON value, right and wrong, in every place of a schema.
func valueEdges() []string {
	values := []string{
		"0", "-0", "100", "2147483639", "2147483640", "2147483648", "9223372036854775807", "-9223372036854775809", "123456789012345678901234567890",
		"1.0", "1.50", "0.1", "0.001", "0.00099", "9999999.5", "1e7", "1E+2", "1e21", "1e22", "-1e-7", "123456.789e3",
		"1e400", "1e-400", "5e-324", "1.7976931348623157e308",
		"01", "1.", ".5", "+1", "-", "NaN", "Infinity", "tru", "'a'",
		"true", "null", `"\u0000"`, `"\u001f\u007f\u2028é😀\ud83d\ude00\/\b\f"`, `{"b":1,"a":2,"b":3}`, `[1,[2.0,{}]]`, `"Descending"`, `"up"`,
		`"NaN"`, `"Infinity"`, `"-Infinity"`, `"+Infinity"`, `"-NaN"`, `"inf"`, `"nan"`, `"1e999"`,
		`" 1"`, `"1f"`, `"1D"`, `"0x1p3"`, `"0x1"`, `"0x1.8p1f"`, `"1_0"`, `""`, `"."`, `".5"`, `"5."`, `"1e"`, `"--1"`, `"+-1"`,
	}
	types := []string{
		`"int"`, `"long"`, `"float"`, `"double"`, `"string"`, `"bytes"`, `"boolean"`, `"null"`, `["null","double"]`, `["null","string"]`,
		`{"type":"map","values":"int"}`, `{"type":"array","items":["int",{"type":"array","items":"double"}]}`,
	}
	places := []string{
		`%s`, `[%s]`, `{"type":%s}`,
		`{"type":"int","p":%s}`,
		`{"type":"map","values":"int","p":%s}`,
		`{"type":"array","items":"int","p":[{"q":%s}]}`,
		`{"type":"record","name":"r","fields":[{"name":"a","type":"int","p":%[1]s}],"p":%[1]s}`,
		`{"type":"record","name":"r","fields":[{"name":"a","type":"int","order":%s}]}`,
		`{"type":"record","name":"r","fields":[{"name":"a","type":"int","aliases":[%[1]s,%[1]s]}]}`,
		`{"type":"enum","name":"r","symbols":["A"],"p":%[1]s,"default":%[1]s}`,
		`{"type":"fixed","name":%s,"size":1}`,
		`{"type":"fixed","name":"r","size":%s}`,
		`{"type":"fixed","name":"r","size":1,"doc":%s}`,
		`{"type":"fixed","name":"r","size":1,"namespace":%s}`,
		`{"type":"fixed","name":"r","size":1,"aliases":%s}`,
		`{"type":"fixed","name":"r","size":1,"aliases":[%s]}`,
	}
	var texts []string
	for _, value := range values {
		for _, typ := range types {
			texts = append(texts, field(typ, value))
		}
		for _, place := range places {
			texts = append(texts, fmt.Sprintf(place, value))
		}
	}
	return texts
}

// nameEdges puts good and bad names in every place of a schema, in good and bad namespaces.
func nameEdges() []string {
	names := []string{
		"a", "_", "a1", "1a", "a-b", "$", "a.b", ".a", "a.", "..a", "a..b", "a.1.b",
		"null", "int", "n.int", "array", "record", "n.record", "error",
		"é", "𝒜", "a𝒜", "٣", "a٣", "ª", "Ⅷ", "‿", "a\u0300",
	}
	spaces := []string{"", `,"namespace":"n"`, `,"namespace":""`, `,"namespace":"n.m"`, `,"namespace":"1"`, `,"namespace":"n."`, `,"namespace":".n"`, `,"namespace":"."`}
	var texts []string
	for _, name := range names {
		texts = append(texts,
			fmt.Sprintf(`{"type":"record","name":"r","fields":[{"name":"%s","type":"int"}]}`, name),
			fmt.Sprintf(`{"type":"enum","name":"r","symbols":["%[1]s"],"default":"%[1]s"}`, name))
		for _, space := range spaces {
			texts = append(texts,
				fmt.Sprintf(`{"type":"fixed","size":1,"name":"%s"%s}`, name, space),
				fmt.Sprintf(`{"type":"record","name":"o.x","fields":[{"name":"f","type":{"type":"fixed","size":1,"name":"%[1]s"%[2]s}},{"name":"g","type":"%[1]s"}]}`, name, space),
				fmt.Sprintf(`{"type":"record","name":"o"%[2]s,"fields":[{"name":"f","type":{"type":"fixed","size":1,"name":"%[1]s"}},{"name":"g","type":"%[1]s"}]}`, name, space),
				fmt.Sprintf(`{"type":"record","name":"o"%[2]s,"aliases":["%[1]s"],"fields":[{"name":"f","type":{"type":"fixed","size":1,"name":"q","aliases":["%[1]s"]}}]}`, name, space))
		}
	}
	return texts
}

// syntaxEdges are texts at the border of what is JSON.
func syntaxEdges() []string {
	return []string{
		"", " ", "{", "[", "[,]", "[[]]", "{} {}", `"int`, `"int""int"`, "\"int\" \n\x00", "\ufeff\"int\"",
		"/* */", "// c\n\"int\"", `/**/"int"`, `"int" // c`, "# c\n\"int\"", "{\"type\"/*a*/:\"int\"//b\n}",
		`{'type':'int'}`, `{type:"int"}`, `{"type":"int",}`, `{"type" "int"}`, `["int" "long"]`,
		`"\x"`, `"\u12"`, "\"a\tb\"", `[{"type":"array","items":[]}]`, nested(MaxDepth), nested(MaxDepth + 1),
	}
}
