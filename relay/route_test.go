package relay

import (
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5/pgtype"
)

// outboxRelation is the table of the migration, whose columns the stream describes in any
// order.
func outboxRelation() *Relation {
	column := func(name string, oid uint32) Column { return Column{Name: name, TypeOID: oid, TypeMod: -1} }
	return &Relation{OID: 20000, Namespace: "public", Name: "outbox", ReplicaIdentity: 'd', Columns: []Column{
		column("id", pgtype.UUIDOID), column("aggregate_type", pgtype.TextOID), column("aggregate_id", pgtype.TextOID),
		column("event_type", pgtype.TextOID), column("payload", pgtype.JSONOID), column("payload_avro", pgtype.ByteaOID),
		column("schema_fingerprint", pgtype.ByteaOID), column("headers", pgtype.JSONBOID), column("topic", pgtype.TextOID),
		column("expires_at", pgtype.TimestamptzOID), column("created_at", pgtype.TimestamptzOID), column("tx_id", 5069),
	}}
}

const eventID = "0199aa00-0000-7000-8000-000000000001"

// outboxRow returns an insert of an ordinary JSON event with other values for some columns;
// "NULL" is null.
func outboxRow(rel *Relation, values map[string]string) *Change {
	row := map[string]string{
		"id": eventID, "aggregate_type": "order", "aggregate_id": "42", "event_type": "order.created",
		"payload": `{"total": 7}`, "created_at": "2026-11-21 05:00:00.123456+00", "tx_id": "777",
	}
	for name, value := range values {
		row[name] = value
	}
	c := &Change{Kind: ChangeInsert, Relation: rel}
	for _, column := range rel.Columns {
		if v, ok := row[column.Name]; ok && v != "NULL" {
			c.New = append(c.New, textValue(v))
		} else {
			c.New = append(c.New, nullValue)
		}
	}
	return c
}

type skippedChange struct {
	Relation string
	Kind     ChangeKind
}

func newTestRouter(t *testing.T, cfg Config, relations ...*Relation) (r *Router, skipped *[]skippedChange) {
	t.Helper()
	cfg = cfg.withDefaults()
	skipped = new([]skippedChange)
	r = NewRouter(&cfg, func(rel *Relation, kind ChangeKind) {
		*skipped = append(*skipped, skippedChange{rel.String(), kind})
	})
	for _, rel := range relations {
		if err := r.Relate(rel); err != nil {
			t.Fatal(err)
		}
	}
	return r, skipped
}

var ignoreScratch = cmpopts.IgnoreUnexported(Event{})

func TestRouter_ReadsAnOutboxRow(t *testing.T) {
	t.Parallel()
	fingerprint := strings.Repeat("\x01\xFE", 16)
	for _, tc := range []struct {
		name   string
		values map[string]string
		want   Event
	}{
		{"JSON", nil, Event{Payload: []byte(`{"total": 7}`)}},
		{"JSON null is a payload", map[string]string{"payload": "null"}, Event{Payload: []byte("null")}},
		{"Avro", map[string]string{"payload": "NULL", "payload_avro": `\x00ff0A`, "schema_fingerprint": `\x` + hex.EncodeToString([]byte(fingerprint))},
			Event{PayloadAvro: []byte{0, 0xFF, 0x0A}, Fingerprint: []byte(fingerprint)}},
		{"tombstone", map[string]string{"payload": "NULL"}, Event{}},
		{"everything", map[string]string{"topic": "special", "headers": `{"tenant": "acme"}`, "expires_at": "2026-11-22 00:00:00.5+00", "aggregate_id": ""},
			Event{
				AggregateID: []byte{}, Payload: []byte(`{"total": 7}`), Topic: []byte("special"), Headers: headersOf("tenant", "acme"),
				ExpiresAt: time.Date(2026, 11, 22, 0, 0, 0, 5e8, time.UTC),
			}},
		{"never expires", map[string]string{"expires_at": "infinity"}, Event{Payload: []byte(`{"total": 7}`)}},
		{"no creation time", map[string]string{"created_at": "NULL"}, Event{Payload: []byte(`{"total": 7}`), CreatedAt: []byte{}}},
	} {
		rel := outboxRelation()
		slices.Reverse(rel.Columns) // the place of a column means nothing
		r, _ := newTestRouter(t, minimalConfig(), rel)
		e := Event{Headers: headersOf("left", "over"), ExpiresAt: time.Now(), Topic: []byte("left over")}
		isEvent, err := r.Route(outboxRow(rel, tc.values), &e)
		if !isEvent || err != nil {
			t.Errorf("%s: %v, %v", tc.name, isEvent, err)
			continue
		}
		want := tc.want
		want.ID, want.AggregateType, want.Type = []byte(eventID), []byte("order"), []byte("order.created")
		if want.AggregateID == nil {
			want.AggregateID = []byte("42")
		}
		if want.CreatedAt == nil {
			want.CreatedAt = []byte("2026-11-21 05:00:00.123456+00")
		} else {
			want.CreatedAt = nil
		}
		if diff := cmp.Diff(want, e, ignoreScratch, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, diff)
		}
		if e.tombstone() != (tc.name == "tombstone") || e.AggregateID == nil {
			t.Errorf("%s: tombstone %v, aggregate id %q", tc.name, e.tombstone(), e.AggregateID)
		}
	}
}

func TestRouter_KeepsNothingOfALargeRow(t *testing.T) {
	t.Parallel()
	rel := outboxRelation()
	r, _ := newTestRouter(t, minimalConfig(), rel)
	var e Event
	large := map[string]string{
		"payload": "NULL", "payload_avro": `\x` + strings.Repeat("00", 2*maxScratch), "schema_fingerprint": `\x` + strings.Repeat("00", 32),
		"headers": `{"first": "1", "second": "2"}`,
	}
	for _, values := range []map[string]string{large, {"headers": `{"first": "1"}`}} {
		if _, err := r.Route(outboxRow(rel, values), &e); err != nil {
			t.Fatal(err)
		}
	}
	if cap(e.scratch) > maxScratch {
		t.Errorf("%d bytes of scratch memory are kept", cap(e.scratch))
	}
	for _, h := range e.Headers[len(e.Headers):cap(e.Headers)] {
		if h.Name != nil || h.Value != nil {
			t.Errorf("header %s=%s of the large row is held, and with it the row", h.Name, h.Value)
		}
	}
}

func TestRouter_AlreadyExpiredIsNotNever(t *testing.T) {
	t.Parallel()
	rel := outboxRelation()
	r, _ := newTestRouter(t, minimalConfig(), rel)
	var e Event
	if _, err := r.Route(outboxRow(rel, map[string]string{"expires_at": "-infinity"}), &e); err != nil || e.ExpiresAt.IsZero() || e.ExpiresAt.After(time.Now()) {
		t.Errorf("-infinity became %v, %v", e.ExpiresAt, err)
	}
}

func TestRouter_RefusesRowsThatCanBeNoEvent(t *testing.T) {
	t.Parallel()
	fingerprint := `\x` + strings.Repeat("00", 32)
	for _, tc := range []struct {
		values map[string]string
		want   string
	}{
		{map[string]string{"id": "NULL"}, "an event without id"},
		{map[string]string{"aggregate_id": "NULL"}, "column aggregate_id is null"},
		{map[string]string{"aggregate_type": "NULL"}, "column aggregate_type is empty"},
		{map[string]string{"aggregate_type": ""}, "column aggregate_type is empty"},
		{map[string]string{"event_type": ""}, "column event_type is empty"},
		{map[string]string{"payload_avro": `\x00`, "schema_fingerprint": fingerprint}, "both payload and payload_avro"},
		{map[string]string{"payload": "NULL", "payload_avro": `\x00`}, "column schema_fingerprint"},
		{map[string]string{"payload": "NULL", "payload_avro": `\x00`, "schema_fingerprint": `\x0000`}, "2 bytes instead of the 32"},
		{map[string]string{"payload": "NULL", "payload_avro": `\x0`, "schema_fingerprint": fingerprint}, "column payload_avro"},
		{map[string]string{"payload": "NULL", "payload_avro": `abc`, "schema_fingerprint": fingerprint}, "hex format"},
		{map[string]string{"headers": `["a"]`}, "column headers: not a flat JSON object"},
		{map[string]string{"headers": `{"a": {}}`}, `"a" is nested`},
		{map[string]string{"expires_at": "soon"}, "column expires_at"},
	} {
		rel := outboxRelation()
		r, _ := newTestRouter(t, minimalConfig(), rel)
		var e Event
		isEvent, err := r.Route(outboxRow(rel, tc.values), &e)
		var h *HaltError
		if !isEvent || !errors.As(err, &h) || h.Code != PoisonEvent || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%v: %v, %v, want POISON_EVENT with %q", tc.values, isEvent, err, tc.want)
		}
	}
}

func TestRouter_PassesOverWhatIsNoEventAndSaysSo(t *testing.T) {
	t.Parallel()
	outbox, orders := outboxRelation(), ordersRelation
	elsewhere := outboxRelation()
	elsewhere.OID, elsewhere.Namespace = 20001, "elsewhere"
	r, skipped := newTestRouter(t, minimalConfig(), outbox, orders, elsewhere)
	var e Event
	for _, c := range []*Change{
		{Kind: ChangeInsert, Relation: orders, New: []Value{nullValue, nullValue, nullValue}},
		outboxRow(elsewhere, nil),
		{Kind: ChangeUpdate, Relation: outbox, New: outboxRow(outbox, nil).New},
		{Kind: ChangeDelete, Relation: outbox, Key: outboxRow(outbox, nil).New},
	} {
		if isEvent, err := r.Route(c, &e); isEvent || err != nil {
			t.Errorf("%s of %s: %v, %v", c.Kind, c.Relation, isEvent, err)
		}
	}
	want := []skippedChange{
		{"public.orders", ChangeInsert}, {"elsewhere.outbox", ChangeInsert}, {"public.outbox", ChangeUpdate}, {"public.outbox", ChangeDelete},
	}
	if diff := cmp.Diff(want, *skipped); diff != "" {
		t.Errorf("passed over (-want +got):\n%s", diff)
	}
}

func TestRouter_HaltsAtATableItCannotRead(t *testing.T) {
	t.Parallel()
	without := func(names ...string) *Relation {
		rel := outboxRelation()
		rel.Columns = slices.DeleteFunc(rel.Columns, func(c Column) bool { return slices.Contains(names, c.Name) })
		return rel
	}
	retyped := outboxRelation()
	for i := range retyped.Columns {
		retyped.Columns[i].TypeOID = pgtype.Int8OID
	}
	for _, tc := range []struct {
		name string
		rel  *Relation
		want string
	}{
		{"missing columns", without("payload", "topic"), "table public.outbox has no column payload, topic"},
		{"wrong types", retyped, "wrong type: aggregate_type, event_type, payload, payload_avro, schema_fingerprint, headers, topic, expires_at, created_at"},
	} {
		r, _ := newTestRouter(t, minimalConfig())
		var h *HaltError
		if err := r.Relate(tc.rel); !errors.As(err, &h) || h.Code != TableMismatch || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want TABLE_MISMATCH with %q", tc.name, err, tc.want)
		}
	}
	cfg := minimalConfig()
	cfg.Outbox.Columns = ColumnsConfig{Topic: "-", Headers: "-", ExpiresAt: "-"}
	r, _ := newTestRouter(t, cfg)
	if err := r.Relate(without("topic", "headers", "expires_at")); err != nil {
		t.Errorf("without columns that the configuration leaves out: %v", err)
	}
}

func TestRouter_FollowsAnAlteredTable(t *testing.T) {
	t.Parallel()
	rel := outboxRelation()
	r, _ := newTestRouter(t, minimalConfig(), rel)
	altered := outboxRelation()
	altered.Columns = append([]Column{{Name: "added", TypeOID: pgtype.TextOID}}, altered.Columns...)
	if err := r.Relate(altered); err != nil {
		t.Fatal(err)
	}
	var e Event
	if _, err := r.Route(outboxRow(altered, map[string]string{"added": "x"}), &e); err != nil || string(e.ID) != eventID {
		t.Errorf("after a column was added: id %q, %v", e.ID, err)
	}
	renamed := outboxRelation() // the same OID under another name is the outbox no more
	renamed.Name = "outbox_old"
	if err := r.Relate(renamed); err != nil {
		t.Fatal(err)
	}
	if isEvent, err := r.Route(outboxRow(renamed, nil), &e); isEvent || err != nil {
		t.Errorf("after the table was renamed: %v, %v", isEvent, err)
	}
}

func TestRouter_ReadsDebeziumsTable(t *testing.T) {
	t.Parallel()
	rel := &Relation{OID: 1, Namespace: "inventory", Name: "outboxevent", ReplicaIdentity: 'd', Columns: []Column{
		{Name: "id", TypeOID: pgtype.UUIDOID}, {Name: "aggregatetype", TypeOID: pgtype.VarcharOID}, {Name: "aggregateid", TypeOID: pgtype.VarcharOID},
		{Name: "type", TypeOID: pgtype.VarcharOID}, {Name: "payload", TypeOID: pgtype.JSONBOID}, {Name: "tracingspancontext", TypeOID: pgtype.VarcharOID},
	}}
	cfg := minimalConfig()
	cfg.Outbox.Table = "inventory.outboxevent"
	cfg.Outbox.Columns.Preset = "debezium"
	r, _ := newTestRouter(t, cfg, rel)
	var e Event
	isEvent, err := r.Route(&Change{Kind: ChangeInsert, Relation: rel, New: []Value{
		textValue(eventID), textValue("order"), textValue("42"), textValue("OrderCreated"), textValue(`{"total": 7}`), nullValue,
	}}, &e)
	want := Event{ID: []byte(eventID), AggregateType: []byte("order"), AggregateID: []byte("42"), Type: []byte("OrderCreated"), Payload: []byte(`{"total": 7}`)}
	if diff := cmp.Diff(want, e, ignoreScratch, cmpopts.EquateEmpty()); diff != "" || !isEvent || err != nil {
		t.Errorf("%v, %v, (-want +got):\n%s", isEvent, err, diff)
	}
}

func TestRouter_CostsNoAllocation(t *testing.T) {
	rel := outboxRelation()
	r, _ := newTestRouter(t, minimalConfig(), rel)
	avro := outboxRow(rel, map[string]string{"payload": "NULL", "payload_avro": `\x0102`, "schema_fingerprint": `\x` + strings.Repeat("00", 32), "headers": `{"a": "b"}`})
	var e Event
	allocs := testing.AllocsPerRun(100, func() {
		if _, err := r.Route(avro, &e); err != nil {
			t.Fatal(err)
		}
	})
	if allocs != 0 {
		t.Errorf("an event costs %v allocations", allocs)
	}
}

func TestRouter_EmptyAvroIsNoTombstone(t *testing.T) {
	t.Parallel()
	rel := outboxRelation()
	r, _ := newTestRouter(t, minimalConfig(), rel)
	var e Event
	_, err := r.Route(outboxRow(rel, map[string]string{"payload": "NULL", "payload_avro": `\x`,
		"schema_fingerprint": `\x` + strings.Repeat("00", 32)}), &e)
	if err != nil || e.tombstone() {
		t.Errorf("tombstone %v, %v", e.tombstone(), err)
	}
}

func TestBlock_EmptyIsNotNull(t *testing.T) {
	t.Parallel()
	var b block
	if b.at(b.put([]byte{})) == nil {
		t.Error("an empty key becomes null")
	}
	if b.at(b.putNull()) != nil {
		t.Error("null becomes an empty value")
	}
}

func TestParseTimestamp_TakesWhatOnlyADatabaseWrites(t *testing.T) {
	t.Parallel()
	for text, expired := range map[string]bool{
		"infinity": false, "294276-12-31 23:59:59.999999+00": false,
		"-infinity": true, "0044-03-15 00:00:00+00 BC": true, "2020-01-01 00:00:00+00": true,
	} {
		at, err := parseTimestamp([]byte(text))
		if err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if got := !at.IsZero() && time.Now().After(at); got != expired {
			t.Errorf("%s: expired %v, want %v", text, got, expired)
		}
	}
}
