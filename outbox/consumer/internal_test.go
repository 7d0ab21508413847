package consumer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/internal/avroread"
	"github.com/postrider/postrider/outbox"
	schemaregistry "github.com/postrider/postrider/schema-registry"
)

func TestBackoff_DoublesToItsMaximum(t *testing.T) {
	t.Parallel()
	l := &loop{cfg: Config{MinBackoff: 100 * time.Millisecond, MaxBackoff: time.Second}}
	for failures, want := range map[int]time.Duration{
		1: 100 * time.Millisecond, 2: 200 * time.Millisecond, 4: 800 * time.Millisecond,
		5: time.Second, 6: time.Second, 62: time.Second, 63: time.Second, 1 << 30: time.Second,
	} {
		for range 100 {
			if got := l.backoff(failures); got > want || got < want/2-1 {
				t.Errorf("after %d failures: %s, want half of %s to all of it", failures, got, want)
			}
		}
	}
}

func newSchema(t testing.TB, text string, readers ...string) *avroread.Schema {
	t.Helper()
	var parsed []*outbox.Schema
	for _, reader := range readers {
		parsed = append(parsed, outbox.MustParseSchema(reader))
	}
	s, err := newSchemas(nil, parsed)
	if err != nil {
		t.Fatal(err)
	}
	made, err := s.resolve(text)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func TestDecode_ReadsOldAndNewWritersAsTheHandlersSchema(t *testing.T) {
	t.Parallel()
	const reader = `{"type": "record", "name": "paid", "fields": [
		{"name": "cents", "type": "long"}, {"name": "currency", "type": "string", "default": "EUR"}]}`
	type paid struct {
		Cents    int64  `avro:"cents"`
		Currency string `avro:"currency"`
	}
	for name, c := range map[string]struct {
		writer string
		value  []byte
		want   paid
	}{
		"before the currency, in an int": {`{"type": "record", "name": "paid", "fields": [{"name": "cents", "type": "int"}]}`, []byte{14}, paid{7, "EUR"}},
		"the same":                       {reader, []byte{14, 6, 'U', 'S', 'D'}, paid{7, "USD"}},
		"with a field more": {`{"type": "record", "name": "paid", "fields": [
			{"name": "note", "type": "string"}, {"name": "currency", "type": "string"}, {"name": "cents", "type": "long"}]}`, []byte{2, 'x', 6, 'C', 'H', 'F', 14}, paid{7, "CHF"}},
	} {
		var got paid
		if err := newSchema(t, c.writer, reader).Decode(c.value, &got); err != nil || got != c.want {
			t.Errorf("%s: %+v, %v; want %+v", name, got, err, c.want)
		}
	}
	s, err := newSchemas(nil, []*outbox.Schema{outbox.MustParseSchema(reader)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.resolve(`{"type": "record", "name": "paid", "fields": [{"name": "cents", "type": "string"}]}`); err == nil {
		t.Error("a writer that the handler's schema cannot read was taken")
	}
}

func TestSchemas_TellsTroubleFromAMissingSchema(t *testing.T) {
	t.Parallel()
	status, body := http.StatusServiceUnavailable, `{"error_code": 50003, "message": "later"}`
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}))
	defer server.Close()
	client, err := schemaregistry.NewClient(schemaregistry.ClientConfig{URL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	s, err := newSchemas(client, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.get(t.Context(), 7); !isTrouble(err) {
		t.Errorf("a registry that is down: %v", err)
	}
	status, body = http.StatusUnauthorized, `{"error_code": 40101, "message": "who?"}`
	if _, err := s.get(t.Context(), 7); !isTrouble(err) {
		t.Errorf("a registry that refuses us: %v", err)
	}
	status, body = http.StatusNotFound, `{"error_code": 40403, "message": "Schema 7 not found"}`
	if _, err := s.get(t.Context(), 7); isTrouble(err) || codeOf(err) != CodeSchemaNotFound || isFinal(err) || !strings.Contains(err.Error(), server.URL) {
		t.Errorf("a schema that is missing: %v", err)
	}
	status, body = http.StatusOK, `{"schema": "{"}`
	if _, err := s.get(t.Context(), 7); codeOf(err) != CodeUndecodable || !isFinal(err) {
		t.Errorf("a schema that is none: %v", err)
	}
}

func TestFinal_IsSeenThroughOtherErrors(t *testing.T) {
	t.Parallel()
	cause := errors.New("not for us")
	err := errors.Join(errors.New("context"), Final(cause))
	if !isFinal(err) || codeOf(err) != CodeRefused || !errors.Is(err, cause) {
		t.Errorf("%v: final %v, code %s", err, isFinal(err), codeOf(err))
	}
	if Final(nil) != nil {
		t.Error("Final makes an error of none")
	}
}

func FuzzSchemaID(f *testing.F) {
	for _, value := range [][]byte{nil, {}, {0}, {0, 0, 0, 0, 1}, {0, 255, 255, 255, 255, 1, 2}, {1, 0, 0, 0, 1}, []byte("{}"), []byte("{\"a\": 1}")} {
		f.Add(value)
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		id, err := schemaID(value)
		if err != nil {
			if !isFinal(err) {
				t.Errorf("%x is not final: %v", value, err)
			}
			return
		}
		if again := binary.BigEndian.AppendUint32([]byte{0}, uint32(id)); !bytes.Equal(again, value[:wireHeader]) {
			t.Errorf("%x has the ID %d", value, id)
		}
	})
}
