package transcode

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"maps"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// generator draws schemas, values of them, and JSON texts of the values.
type generator struct {
	*rapid.T
	names int
	named []*genType
}

// genType is a type of a generated schema.
type genType struct {
	kind             string // the type or logical type
	base             string // the type below a logical type
	name             string // named types
	fields           []genField
	symbols          []string
	size             int
	precision, scale int
	items            *genType
	branches         []*genType
}

type genField struct {
	name       string
	typ        *genType
	hasDefault bool
	value      any // the default
}

var leaves = []struct{ kind, base string }{
	{"boolean", "boolean"}, {"int", "int"}, {"long", "long"}, {"float", "float"},
	{"double", "double"}, {"string", "string"}, {"bytes", "bytes"}, {"fixed", "fixed"}, {"enum", "enum"},
	{"decimal", "bytes"}, {"decimal", "fixed"}, {"uuid", "string"}, {"uuid", "fixed"}, {"duration", "fixed"},
	{"date", "int"}, {"time-millis", "int"}, {"time-micros", "long"},
	{"timestamp-millis", "long"}, {"timestamp-micros", "long"}, {"timestamp-nanos", "long"},
	{"local-timestamp-millis", "long"}, {"local-timestamp-micros", "long"}, {"local-timestamp-nanos", "long"},
}

func (g *generator) upTo(n int) int { return rapid.IntRange(0, n).Draw(g.T, "n") }
func (g *generator) coin() bool     { return rapid.Bool().Draw(g.T, "coin") }

func (g *generator) pick(words ...string) string {
	return rapid.SampledFrom(words).Draw(g.T, "word")
}

func (g *generator) newName(prefix string) string {
	g.names++
	return prefix + strconv.Itoa(g.names)
}

func (g *generator) typ(depth int) *genType {
	if depth == 0 {
		return g.leaf()
	}
	switch g.upTo(6) {
	case 0:
		return &genType{kind: "array", base: "array", items: g.typ(depth - 1)}
	case 1:
		return &genType{kind: "map", base: "map", items: g.typ(depth - 1)}
	case 2, 3:
		return g.record(depth)
	case 4:
		return g.union(depth)
	case 5:
		if len(g.named) > 0 {
			return g.named[g.upTo(len(g.named)-1)]
		}
	}
	return g.leaf()
}

func (g *generator) leaf() *genType {
	l := rapid.SampledFrom(leaves).Draw(g.T, "leaf")
	t := &genType{kind: l.kind, base: l.base}
	switch {
	case t.kind == "enum":
		for range 1 + g.upTo(3) {
			t.symbols = append(t.symbols, g.newName("S"))
		}
	case t.kind == "decimal":
		t.precision = 1 + g.upTo(40)
		t.scale = g.upTo(t.precision)
		limit := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(t.precision)), nil)
		t.size = len(twosComplement(limit, 0)) + g.upTo(2)
	case t.kind == "uuid":
		t.size = 16
	case t.kind == "duration":
		t.size = 12
	case t.kind == "fixed":
		t.size = 1 + g.upTo(8)
	}
	if t.base == "fixed" || t.base == "enum" {
		t.name = g.newName("ns.T")
		g.named = append(g.named, t)
	}
	return t
}

func (g *generator) record(depth int) *genType {
	t := &genType{kind: "record", base: "record", name: g.newName(g.pick("ns.R", "other.R"))}
	for i := range 1 + g.upTo(5) {
		f := genField{name: g.newName("f"), typ: g.typ(depth - 1)}
		// The first field has no default, so that no two records fit the same object.
		if i > 0 && g.coin() {
			f.hasDefault = true
			f.value = finite(f.typ, g.value(f.typ, 1))
		}
		t.fields = append(t.fields, f)
	}
	if g.upTo(3) == 0 {
		again := &genType{kind: "union", base: "union", branches: []*genType{{kind: "null", base: "null"}, t}}
		t.fields = append(t.fields, genField{name: g.newName("f"), typ: again})
	}
	g.named = append(g.named, t)
	return t
}

// union draws branches of which no two take the same form of JSON value, as value or as
// default, but for records.
func (g *generator) union(depth int) *genType {
	t := &genType{kind: "union", base: "union"}
	taken := map[form]bool{}
	names := map[string]bool{}
	null := &genType{kind: "null", base: "null"} // hamba/avro reads null in unions only
	nullable := g.pick("first", "last", "no")
	if nullable == "first" {
		t.branches = append(t.branches, null)
	}
	for range 1 + g.upTo(4) {
		b := g.typ(depth - 1)
		if b.kind == "union" || names[b.tag()] {
			continue
		}
		free := true
		for _, f := range b.forms() {
			free = free && !taken[f]
		}
		if !free && (b.kind != "record" || names["map"]) {
			continue
		}
		for _, f := range b.forms() {
			taken[f] = true
		}
		names[b.tag()] = true
		t.branches = append(t.branches, b)
	}
	if len(t.branches) == 0 || nullable == "last" {
		t.branches = append(t.branches, null)
	}
	return t
}

func (t *genType) forms() []form {
	switch t.kind {
	case "null":
		return []form{formNull}
	case "boolean":
		return []form{formBoolean}
	case "int", "long":
		return []form{formNumber}
	case "string", "bytes", "fixed", "enum", "uuid", "duration":
		return []form{formString}
	case "array":
		return []form{formArray}
	case "map", "record":
		return []form{formObject}
	}
	return []form{formNumber, formString}
}

func (t *genType) tag() string {
	if t.name != "" {
		return t.name
	}
	return t.base
}

// text writes the schema; the plain one has no logical types and no defaults.
func (t *genType) text(full bool) string {
	return t.textOnce(full, map[string]bool{})
}

func (t *genType) textOnce(full bool, seen map[string]bool) string {
	if seen[t.name] {
		return strconv.Quote(t.name)
	}
	if t.name != "" {
		seen[t.name] = true
	}
	attributes := ""
	if full && t.kind != t.base {
		attributes = fmt.Sprintf(`,"logicalType":%q`, t.kind)
	}
	if full && t.kind == "decimal" {
		attributes += fmt.Sprintf(`,"precision":%d,"scale":%d`, t.precision, t.scale)
	}
	switch t.base {
	case "array":
		return `{"type":"array","items":` + t.items.textOnce(full, seen) + `}`
	case "map":
		return `{"type":"map","values":` + t.items.textOnce(full, seen) + `}`
	case "enum":
		return fmt.Sprintf(`{"type":"enum","name":%q,"symbols":["%s"]}`, t.name, strings.Join(t.symbols, `","`))
	case "fixed":
		return fmt.Sprintf(`{"type":"fixed","name":%q,"size":%d%s}`, t.name, t.size, attributes)
	case "union":
		var branches []string
		for _, b := range t.branches {
			branches = append(branches, b.textOnce(full, seen))
		}
		return "[" + strings.Join(branches, ",") + "]"
	case "record":
		var fields []string
		for _, f := range t.fields {
			def := ""
			if full && f.hasDefault {
				def = `,"default":` + defaultText(f.typ, f.value)
			}
			fields = append(fields, fmt.Sprintf(`{"name":%q,"type":%s%s}`, f.name, f.typ.textOnce(full, seen), def))
		}
		return fmt.Sprintf(`{"type":"record","name":%q,"fields":[%s]}`, t.name, strings.Join(fields, ","))
	}
	return fmt.Sprintf(`{"type":%q%s}`, t.base, attributes)
}

// value draws a value as the oracles return it.
func (g *generator) value(t *genType, depth int) any {
	switch t.kind {
	case "null":
		return nil
	case "boolean":
		return g.coin()
	case "int", "date":
		if t.kind == "date" && g.coin() {
			return int64(g.upTo(100_000)) - 50_000
		}
		return int64(rapid.Int32().Draw(g.T, "int"))
	case "time-millis":
		return int64(g.upTo(86_399_999))
	case "time-micros":
		return int64(g.upTo(86_399_999_999))
	case "float":
		return float64(rapid.SampledFrom([]float32{0, 0.1, -1.5, math.MaxFloat32, math.SmallestNonzeroFloat32,
			float32(math.Inf(1)), float32(math.Inf(-1)), float32(math.NaN()), rapid.Float32().Draw(g.T, "float")}).Draw(g.T, "float"))
	case "double":
		return rapid.SampledFrom([]float64{0, 0.1, -1.5, math.MaxFloat64, math.SmallestNonzeroFloat64,
			math.Inf(1), math.Inf(-1), math.NaN(), rapid.Float64().Draw(g.T, "double")}).Draw(g.T, "double")
	case "string":
		return g.chars()
	case "bytes", "fixed", "duration":
		size := t.size
		if t.kind == "bytes" {
			size = rapid.SampledFrom([]int{0, 1, 2, 3, 5, 70}).Draw(g.T, "size")
		}
		return rapid.SliceOfN(rapid.Byte(), size, size).Draw(g.T, "bytes")
	case "enum":
		return g.pick(t.symbols...)
	case "decimal":
		return g.decimal(t)
	case "uuid":
		return g.uuid(t)
	case "array":
		items := make([]any, g.length(t.items, depth))
		for i := range items {
			items[i] = g.value(t.items, depth-1)
		}
		return items
	case "map":
		m := map[string]any{}
		for range g.length(t.items, depth) {
			m[g.chars()] = g.value(t.items, depth-1)
		}
		return m
	case "record":
		m := map[string]any{}
		for _, f := range t.fields {
			m[f.name] = f.value
			if !f.hasDefault || g.coin() {
				m[f.name] = g.value(f.typ, depth-1)
			}
		}
		return m
	case "union":
		b := t.branches[g.upTo(len(t.branches)-1)]
		if depth <= 0 && t.branches[0].kind == "null" {
			b = t.branches[0]
		}
		if b.kind == "null" {
			return nil
		}
		return map[string]any{b.tag(): g.value(b, depth-1)}
	}
	// long, and what counts in it
	if g.coin() {
		return int64(g.upTo(4e18)) - 2e18
	}
	return rapid.Int64().Draw(g.T, "long")
}

// length is that of an array or map, more than one byte can count where that is cheap.
func (g *generator) length(items *genType, depth int) int {
	if depth <= 0 {
		return 0
	}
	if items.kind == "int" {
		return rapid.SampledFrom([]int{0, 1, 63, 64, 70}).Draw(g.T, "length")
	}
	return g.upTo(3)
}

func (g *generator) chars() string {
	if g.upTo(3) == 0 {
		return strings.Repeat("long ascii text ", g.upTo(6))
	}
	return rapid.String().Draw(g.T, "string")
}

func (g *generator) uuid(t *genType) any {
	b := rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(g.T, "uuid")
	if t.base == "fixed" {
		return b
	}
	s := uuidText(b)
	if g.coin() {
		return strings.ToUpper(s)
	}
	return s
}

func uuidText(b []byte) string {
	s := hex.EncodeToString(b)
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}

func (g *generator) decimal(t *genType) []byte {
	digits := strconv.Itoa(1 + g.upTo(8))
	for range g.upTo(t.precision - 1) {
		digits += g.pick("0", "0", "1", "5", "9")
	}
	v, _ := new(big.Int).SetString(digits, 10)
	if g.coin() {
		v.Neg(v)
	}
	if g.upTo(9) == 0 {
		v.SetInt64(0)
	}
	size := 0
	if t.base == "fixed" {
		size = t.size
	}
	return twosComplement(v, size)
}

// twosComplement returns v in size bytes, or in the least number of bytes for size 0.
func twosComplement(v *big.Int, size int) []byte {
	if size == 0 {
		for size = 1; ; size++ {
			limit := new(big.Int).Lsh(big.NewInt(1), uint(8*size-1))
			if v.Cmp(limit) < 0 && v.Cmp(new(big.Int).Neg(limit)) >= 0 {
				break
			}
		}
	}
	mod := new(big.Int).Lsh(big.NewInt(1), uint(8*size))
	return new(big.Int).Mod(v, mod).FillBytes(make([]byte, size))
}

func unscaled(b []byte) *big.Int {
	v := new(big.Int).SetBytes(b)
	if b[0]&0x80 != 0 {
		v.Sub(v, new(big.Int).Lsh(big.NewInt(1), uint(8*len(b))))
	}
	return v
}

func (g *generator) space() string {
	return g.pick("", "", "", " ", "\n\t", "\r\n  ")
}

// json writes a value in one of the spellings that are accepted for its type.
func (g *generator) json(t *genType, v any) string {
	switch t.kind {
	case "null":
		return "null"
	case "boolean":
		return strconv.FormatBool(v.(bool))
	case "float":
		return g.float(v.(float64), 32)
	case "double":
		return g.float(v.(float64), 64)
	case "string", "enum":
		return g.quote(v.(string))
	case "bytes", "fixed", "duration":
		s := base64.StdEncoding.EncodeToString(v.([]byte))
		if len(s) > 76 {
			s = s[:76] + "\n" + s[76:]
		}
		return g.quote(s)
	case "uuid":
		if b, ok := v.([]byte); ok {
			return g.quote(uuidText(b))
		}
		return g.quote(v.(string))
	case "decimal":
		return g.decimalText(unscaled(v.([]byte)), t.scale)
	case "array":
		var items []string
		for _, item := range v.([]any) {
			items = append(items, g.space()+g.json(t.items, item)+g.space())
		}
		return "[" + strings.Join(items, ",") + g.space() + "]"
	case "map":
		types := map[string]*genType{}
		for k := range v.(map[string]any) {
			types[k] = t.items
		}
		return g.object(types, v.(map[string]any), slices.Sorted(maps.Keys(types)))
	case "record":
		return g.recordText(t, v.(map[string]any))
	case "union":
		return g.unionText(t, v)
	case "int", "long":
		return g.integer(v.(int64))
	}
	if s, ok := t.timeText(g, v.(int64)); ok && g.coin() {
		return g.quote(s)
	}
	return g.integer(v.(int64))
}

func (g *generator) recordText(t *genType, v map[string]any) string {
	types := map[string]*genType{}
	var order []string
	for _, f := range t.fields {
		if f.hasDefault && cmp.Equal(f.value, v[f.name]) && g.coin() {
			continue
		}
		types[f.name] = f.typ
		order = append(order, f.name)
	}
	switch g.pick("schema", "shuffled", "jsonb") {
	case "shuffled":
		order = rapid.Permutation(order).Draw(g.T, "order")
	case "jsonb":
		slices.SortFunc(order, func(a, b string) int {
			if len(a) != len(b) {
				return len(a) - len(b)
			}
			return strings.Compare(a, b)
		})
	}
	return g.object(types, v, order)
}

func (g *generator) object(types map[string]*genType, v map[string]any, order []string) string {
	var members []string
	for _, k := range order {
		members = append(members, g.space()+g.quote(k)+g.space()+":"+g.space()+g.json(types[k], v[k])+g.space())
	}
	return "{" + strings.Join(members, ",") + g.space() + "}"
}

func (g *generator) unionText(t *genType, v any) string {
	if v == nil {
		return "null"
	}
	hasMap := slices.ContainsFunc(t.branches, func(b *genType) bool { return b.kind == "map" })
	for _, b := range t.branches {
		if inner, ok := v.(map[string]any)[b.tag()]; ok {
			s := g.json(b, inner)
			if hasMap || g.coin() {
				return s
			}
			return "{" + g.quote(b.tag()) + ":" + g.space() + s + "}"
		}
	}
	panic("a value of no branch")
}

func (g *generator) quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	often := g.upTo(3) == 0
	for _, r := range s {
		switch {
		case r == '/' && often:
			b.WriteString(`\/`)
		case r == '\n' && often:
			b.WriteString(`\n`)
		case r >= 0x10000 && often:
			fmt.Fprintf(&b, `\u%04x\u%04X`, 0xD800+(r-0x10000)>>10, 0xDC00+(r-0x10000)&0x3ff)
		case r < ' ' || r == '"' || r == '\\' || often && r < 0x10000 && g.coin():
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String() + `"`
}

func (g *generator) integer(v int64) string {
	s := strconv.FormatInt(v, 10)
	switch n := g.upTo(7); {
	case n == 0:
		return s + ".0"
	case n == 1 && v != 0:
		return s + "0e-1"
	case n == 2:
		if short := strings.TrimRight(s, "0"); short != "" && short != "-" {
			return short + "E+" + strconv.Itoa(len(s)-len(short))
		}
	}
	return s
}

func (g *generator) float(f float64, size int) string {
	switch {
	case math.IsNaN(f):
		return `"NaN"`
	case math.IsInf(f, 1):
		return `"Infinity"`
	case math.IsInf(f, -1):
		return `"-Infinity"`
	}
	return strconv.FormatFloat(f, g.pick("g", "f", "e")[0], -1, size)
}

func (g *generator) decimalText(v *big.Int, scale int) string {
	sign := ""
	if v.Sign() < 0 {
		sign = "-"
	}
	digits := new(big.Int).Abs(v).String()
	if len(digits) <= scale {
		digits = strings.Repeat("0", scale-len(digits)+1) + digits
	}
	s := sign + digits[:len(digits)-scale]
	if scale > 0 {
		s += "." + digits[len(digits)-scale:]
	}
	if g.coin() {
		s = fmt.Sprintf("%s%se-%d", sign, new(big.Int).Abs(v), scale)
	}
	if g.coin() {
		return `"` + s + `"`
	}
	return s
}

// timeText writes a count as text, where the years have four digits.
func (t *genType) timeText(g *generator, v int64) (string, bool) {
	layout := "2006-01-02T15:04:05.999999999"
	var at time.Time
	switch {
	case t.kind == "date":
		at, layout = time.Unix(v*86400, 0), "2006-01-02"
	case strings.HasPrefix(t.kind, "time-"):
		layout = "15:04:05.999999999"
	}
	switch {
	case strings.HasSuffix(t.kind, "millis"):
		at = time.UnixMilli(v)
	case strings.HasSuffix(t.kind, "micros"):
		at = time.UnixMicro(v)
	case strings.HasSuffix(t.kind, "nanos"):
		at = time.Unix(v/1e9, v%1e9)
	}
	at = at.UTC()
	if strings.HasPrefix(t.kind, "timestamp") {
		layout += "Z07:00"
		at = at.In(time.FixedZone("", 60*(g.upTo(2*14*60)-14*60)))
	} else if strings.HasPrefix(t.kind, "local") && g.coin() {
		layout = strings.Replace(layout, "T", " ", 1)
	}
	return at.Format(layout), at.Year() >= 0 && at.Year() <= 9999
}

// finite replaces what a default cannot express: numbers that are none.
func finite(t *genType, v any) any {
	switch v := v.(type) {
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return float64(0)
		}
	case []any:
		for i := range v {
			v[i] = finite(t.items, v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = finite(t.member(k), v[k])
		}
	}
	return v
}

// member is the type of the value that a neutral map has under k.
func (t *genType) member(k string) *genType {
	for _, f := range t.fields {
		if f.name == k {
			return f.typ
		}
	}
	for _, b := range t.branches {
		if b.tag() == k {
			return b
		}
	}
	return t.items
}

// defaultText writes a value as schemas write defaults.
func defaultText(t *genType, v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64)
	case []byte:
		var b strings.Builder
		for _, c := range v {
			fmt.Fprintf(&b, `\u%04x`, c)
		}
		return `"` + b.String() + `"`
	case string:
		var b strings.Builder
		for _, u := range v {
			if u < ' ' || u == '"' || u == '\\' {
				fmt.Fprintf(&b, `\u%04x`, u)
			} else {
				b.WriteRune(u)
			}
		}
		return `"` + b.String() + `"`
	case []any:
		var items []string
		for _, item := range v {
			items = append(items, defaultText(t.items, item))
		}
		return "[" + strings.Join(items, ",") + "]"
	case map[string]any:
		if t.kind == "union" {
			for k := range v {
				return defaultText(t.member(k), v[k])
			}
		}
		var members []string
		for _, k := range slices.Sorted(maps.Keys(v)) {
			members = append(members, defaultText(nil, k)+":"+defaultText(t.member(k), v[k]))
		}
		return "{" + strings.Join(members, ",") + "}"
	}
	return fmt.Sprint(v)
}
