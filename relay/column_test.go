package relay

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/postrider/postrider/internal/testserver"
)

// binaryRow returns c with its values as the stream carries them in binary.
func binaryRow(t testing.TB, c *Change) *Change {
	t.Helper()
	types := pgtype.NewMap()
	out := &Change{Kind: c.Kind, Relation: c.Relation}
	for i, v := range c.New {
		oid := c.Relation.Columns[i].TypeOID
		if v.Kind == ValueText && binaryForms[oid] != formUnknown {
			dt, ok := types.TypeForOID(oid)
			if !ok {
				t.Fatalf("no type %d", oid)
			}
			value, err := dt.Codec.DecodeValue(types, oid, pgtype.TextFormatCode, v.Data)
			if err == nil && (oid == pgtype.JSONOID || oid == pgtype.JSONBOID) {
				value = v.Data // the text as it is
			}
			if infinite, ok := value.(pgtype.InfinityModifier); ok {
				value = pgtype.Timestamptz{InfinityModifier: infinite, Valid: true}
			}
			data := []byte{}
			if err == nil {
				data, err = types.Encode(oid, pgtype.BinaryFormatCode, value, data)
			}
			if err != nil {
				t.Fatalf("column %s: %v", c.Relation.Columns[i].Name, err)
			}
			v = Value{Kind: ValueBinary, Data: data}
		}
		out.New = append(out.New, v)
	}
	return out
}

func TestRouter_ReadsTheSameEventInBinaryAsInText(t *testing.T) {
	t.Parallel()
	avro := map[string]string{"payload": "NULL", "payload_avro": `\x00ff0a`, "schema_fingerprint": `\x` + strings.Repeat("01fe", 16)}
	keyed := outboxRelation()
	keyed.Columns[0].TypeOID, keyed.Columns[2].TypeOID = pgtype.Int8OID, pgtype.Int2OID
	keyedByBytes := outboxRelation()
	keyedByBytes.Columns[2].TypeOID = pgtype.ByteaOID
	strange := outboxRelation()
	for i, oid := range map[int]uint32{0: pgtype.VarcharOID, 1: pgtype.NameOID, 2: pgtype.UUIDOID, 3: pgtype.BPCharOID, 4: pgtype.JSONBOID} {
		strange.Columns[i].TypeOID = oid
	}
	for name, c := range map[string]*Change{
		"JSON":      outboxRow(outboxRelation(), nil),
		"Avro":      outboxRow(outboxRelation(), avro),
		"no fields": outboxRow(outboxRelation(), map[string]string{"payload": "NULL", "payload_avro": `\x`, "schema_fingerprint": avro["schema_fingerprint"]}),
		"tombstone": outboxRow(outboxRelation(), map[string]string{"payload": "NULL"}),
		"everything": outboxRow(outboxRelation(), map[string]string{
			"topic": "special", "headers": `{"tenant": "acme", "n": "é"}`, "expires_at": "2026-11-22 00:00:00.5+00", "aggregate_id": "",
		}),
		"never expires":      outboxRow(outboxRelation(), map[string]string{"expires_at": "infinity"}),
		"numbers as keys":    outboxRow(keyed, map[string]string{"id": "-9223372036854775808", "aggregate_id": "-7"}),
		"other types":        outboxRow(strange, map[string]string{"id": "42", "aggregate_id": eventID, "event_type": "padded  "}),
		"bytes as a key":     outboxRow(keyedByBytes, map[string]string{"aggregate_id": `\x00ff`}),
		"what is no payload": outboxRow(outboxRelation(), map[string]string{"payload": "null", "headers": `{}`, "topic": ""}),
	} {
		r, _ := newTestRouter(t, minimalConfig(), c.Relation)
		var text, binary Event
		if _, err := r.Route(c, &text); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if _, err := r.Route(binaryRow(t, c), &binary); err != nil {
			t.Errorf("%s in binary: %v", name, err)
		}
		if diff := cmp.Diff(text, binary, ignoreScratch); diff != "" {
			t.Errorf("%s (-text +binary):\n%s", name, diff)
		}
	}
}

// Neighbours share what was printed for the row before, of two columns in turn.
func TestRouter_ReadsTimesOfOneRowAfterTheOther(t *testing.T) {
	t.Parallel()
	rel := outboxRelation()
	r, _ := newTestRouter(t, minimalConfig(), rel)
	var text, inBinary Event
	for i, created := range []string{
		"2026-11-21 05:00:00.123456+00", "2026-11-21 05:00:00.9+00", "2026-11-21 05:00:01+00", "1999-12-31 23:59:59.999999+00",
		"2000-01-01 00:00:00+00", "infinity", "2000-01-01 00:00:00.5+00", "0044-03-15 00:00:00+00 BC", "2026-11-21 05:00:00+00",
	} {
		values := map[string]string{"created_at": created}
		if i%2 == 0 {
			values["expires_at"] = "2026-11-22 00:00:00.5+00"
		}
		c := outboxRow(rel, values)
		if _, err := r.Route(c, &text); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Route(binaryRow(t, c), &inBinary); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(text, inBinary, ignoreScratch); diff != "" {
			t.Errorf("row %d (-text +binary):\n%s", i, diff)
		}
	}
}

func TestRouter_AsksForTextWhereBinaryCannotBeRead(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		column string
		oid    uint32
		data   string
	}{
		"a type that is not known": {"aggregate_id", pgtype.NumericOID, "\x00\x01\x00\x00\x00\x00\x00\x00\x00\x07"},
		"UUID of 15 bytes":         {"id", pgtype.UUIDOID, strings.Repeat("x", 15)},
		"time of 4 bytes":          {"created_at", pgtype.TimestamptzOID, "1234"},
		"integer of 3 bytes":       {"aggregate_id", pgtype.Int4OID, "123"},
		"jsonb of version 2":       {"headers", pgtype.JSONBOID, "\x02{}"},
		"jsonb without a version":  {"headers", pgtype.JSONBOID, ""},
	} {
		rel := outboxRelation()
		c := outboxRow(rel, nil)
		for i := range rel.Columns {
			if rel.Columns[i].Name == tc.column {
				rel.Columns[i].TypeOID = tc.oid
				c.New[i] = Value{Kind: ValueBinary, Data: []byte(tc.data)}
			}
		}
		r, _ := newTestRouter(t, minimalConfig(), rel)
		var e Event
		if _, err := r.Route(c, &e); !errors.Is(err, errNeedsText) || !strings.Contains(err.Error(), tc.column) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What Postgres prints and what it sends are asked for side by side.
func TestRowReader_PrintsAsPostgresDoes(t *testing.T) {
	t.Parallel()
	conn, err := PostgresConfig{URL: SecretURL(testserver.Postgres(t))}.connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeConn(conn) })
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	times := []string{
		"infinity", "-infinity", "4714-11-24 00:00:00+00 BC", "294276-12-31 23:59:59.999999+00", "0001-01-01 00:00:00+00",
		"0001-12-31 23:59:59.999999+00 BC", "0005-02-29 12:00:00.1+00 BC", "0401-02-28 00:00:00+00 BC", "9999-12-31 23:59:59.999999+00",
		"10000-01-01 00:00:00+00", "1999-12-31 23:59:59.999999+00", "2000-01-01 00:00:00+00", "1970-01-01 00:00:00.00001+00",
		"2026-11-22 05:06:07.5+00", "2026-11-22 05:06:07.123450+00", "2024-02-29 00:00:00.000001+00", "1900-03-01 00:00:00.1+00",
	}
	const earliest, latest = -210866803200, 9.2e12 // Unix seconds, of which the microseconds still fit
	for range 20000 {
		scale := []int64{1, 10, 1000, 100000, 1e6}[random.IntN(5)]
		from, to := int64(0), int64(4e9)
		if random.IntN(4) == 0 {
			from, to = earliest, latest
		}
		us := (from + random.Int64N(to-from)) * 1e6
		times = append(times, fmt.Sprintf("%d", us+random.Int64N(1e6)/scale*scale))
	}
	check := func(oid uint32, query string, values []string) {
		t.Helper()
		rows, err := conn.Query(t.Context(), query, values)
		if err != nil {
			t.Fatal(err)
		}
		var text string
		var sent []byte
		var second printedSecond
		c, n := routeColumn{form: binaryForms[oid]}, 0
		_, err = pgx.ForEachRow(rows, []any{&text, &sent}, func() error {
			r := rowReader{row: []Value{{Kind: ValueBinary, Data: sent}}, scratch: []byte("before"), second: &second}
			if got := r.text(c); string(got) != text || r.err != nil {
				t.Errorf("type %d: %x is printed as %q instead of %q (%v)", oid, sent, got, text, r.err)
			}
			n++
			return nil
		})
		if err != nil || n != len(values) {
			t.Errorf("type %d: %d rows of %d, %v", oid, n, len(values), err)
		}
	}
	check(pgtype.TimestamptzOID, `SELECT v::text, timestamptz_send(v) FROM (
		SELECT CASE WHEN v ~ '^-?\d+$' THEN 'epoch'::timestamptz + v::bigint / 86400000000 * interval '1 day' + v::bigint % 86400000000 * interval '1 us'
			ELSE v::timestamptz END AS v FROM unnest($1::text[]) v) t`, times)
	var ids, numbers []string
	for range 1000 {
		var id [16]byte
		for i := range id {
			id[i] = byte(random.Uint32())
		}
		ids = append(ids, hex.EncodeToString(id[:]))
		numbers = append(numbers, fmt.Sprint(int64(random.Uint64())>>random.IntN(64)))
	}
	check(pgtype.UUIDOID, `SELECT v::uuid::text, uuid_send(v::uuid) FROM unnest($1::text[]) v`, ids)
	check(pgtype.Int8OID, `SELECT v, int8send(v::bigint) FROM unnest($1::text[]) v`, append(numbers, fmt.Sprint(math.MinInt64)))
	check(pgtype.Int4OID, `SELECT v, int4send(v::int) FROM unnest($1::text[]) v`, []string{"0", "-1", "2147483647", "-2147483648"})
	check(pgtype.Int2OID, `SELECT v, int2send(v::smallint) FROM unnest($1::text[]) v`, []string{"0", "-1", "32767", "-32768"})
	check(pgtype.JSONBOID, `SELECT v::jsonb::text, jsonb_send(v::jsonb) FROM unnest($1::text[]) v`, []string{`{"b": 1.50, "a": ["ü", null]}`, `null`})
	check(pgtype.JSONOID, `SELECT v, json_send(v::json) FROM unnest($1::text[]) v`, []string{` {"b":1.50,  "a":"\u00fc"}`})
	check(pgtype.TextOID, `SELECT v, textsend(v) FROM unnest($1::text[]) v`, []string{"", "grüße", "\x01"})
	check(pgtype.VarcharOID, `SELECT v, varcharsend(v::varchar) FROM unnest($1::text[]) v`, []string{"", "grüße "})
	check(pgtype.BPCharOID, `SELECT v, bpcharsend(v::char(5)) FROM unnest($1::text[]) v`, []string{"ab   ", "grüße"})
	check(pgtype.NameOID, `SELECT v, namesend(v::name) FROM unnest($1::text[]) v`, []string{"", "grüße"})
	check(pgtype.ByteaOID, `SELECT v::bytea::text, byteasend(v::bytea) FROM unnest($1::text[]) v`, []string{"", `\x00ff0a`})
}

// FuzzRowReader reads any bytes as a value of any type. What can be read must be what they
// say.
func FuzzRowReader(f *testing.F) {
	f.Add(byte(formUUID), byte(ValueBinary), []byte("0123456789abcdef"))
	f.Add(byte(formTimestamp), byte(ValueBinary), []byte{0x80, 0, 0, 0, 0, 0, 0, 1})
	f.Add(byte(formInt), byte(ValueBinary), []byte{0xFF, 0xFE})
	f.Add(byte(formJSONB), byte(ValueBinary), []byte("\x01{}"))
	f.Add(byte(formBytes), byte(ValueText), []byte(`\x00fF`))
	f.Fuzz(func(t *testing.T, form, kind byte, data []byte) {
		c := routeColumn{form: binaryForm(form % 7), name: "c"}
		before := []byte("before")
		r := rowReader{row: []Value{{Kind: ValueKind(kind), Data: data}}, scratch: before, second: new(printedSecond)}
		text := r.text(c)
		if (r.err == nil) != (text != nil) && (kind == byte(ValueBinary) || kind == byte(ValueText) && data != nil) {
			t.Errorf("%q and %v", text, r.err)
		}
		if kind == byte(ValueBinary) && r.err == nil {
			switch c.form {
			case formUUID:
				if digits := strings.ReplaceAll(string(text), "-", ""); digits != hex.EncodeToString(data) {
					t.Errorf("%x became %s", data, text)
				}
			case formTimestamp:
				if at, err := time.Parse("2006-01-02 15:04:05.999999-07", string(text)); err == nil {
					if us := at.UnixMicro() - postgresEpoch*1e6; us != int64(binary.BigEndian.Uint64(data)) {
						t.Errorf("%x became %s", data, text)
					}
				} else if us := int64(binary.BigEndian.Uint64(data)); us > -63e15 && us < 250e15 { // years of four digits
					t.Errorf("%x became %s: %v", data, text, err)
				}
			}
		}
		r = rowReader{row: r.row, scratch: before, second: new(printedSecond)}
		if b := r.bytea(c); kind == byte(ValueText) && r.err == nil && len(b) != (len(data)-2)/2 {
			t.Errorf("%q became %x", data, b)
		}
		if string(before) != "before" {
			t.Error("what stood in the scratch memory has changed")
		}
	})
}

func TestSource_TakesForAFaultOfBinaryOnlyWhatMayBeOne(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]bool{
		"42883": true, "0A000": true, "XX000": true, "22003": true, "54000": true, // from a send function
		"57P01": false, "53100": false, "58P01": false, "55006": false, "08P01": false, // the server's own
		"42501": false, "42704": false, "28P01": false, // halts
		"": false,
	} {
		if got := maybeOfBinary(postgresError(&pgconn.PgError{Code: code})); got != want {
			t.Errorf("%s: %t, want %t", code, got, want)
		}
	}
	if maybeOfBinary(errors.New("connection reset")) {
		t.Error("an error that is not the server's")
	}
}
