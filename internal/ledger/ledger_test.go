package ledger

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/postrider/postrider/internal/testserver"
)

func TestLedger_CountsEveryKindOfMistake(t *testing.T) {
	t.Parallel()
	url, brokers, topic := testserver.Postgres(t), testserver.Kafka(t), testserver.Topic(t, 1)
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	_, err = conn.Exec(t.Context(), `
		CREATE TABLE outbox (id uuid, aggregate_id text, payload json);
		INSERT INTO outbox SELECT ('00000000-0000-0000-0000-00000000000' || i)::uuid, 'a', json_build_object('seq', i) FROM generate_series(0, 4) i`)
	if err != nil {
		t.Fatal(err)
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.DefaultProduceTopic(topic))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for _, r := range []struct{ event, value string }{
		{"0", "x"}, {"2", "x"}, {"1", "x"}, // one out of order
		{"2", "x"}, {"1", "y"}, // two duplicates, one of them changed
		{"9", "x"}, // never committed
		{"4", "x"}, // and 3 is lost
	} {
		id := []byte("00000000-0000-0000-0000-00000000000" + r.event)
		record := &kgo.Record{Key: []byte("a"), Value: []byte(r.value), Headers: []kgo.RecordHeader{{Key: "ce_id", Value: id}}}
		if err := client.ProduceSync(t.Context(), record).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	got := Open(t, url, brokers, topic).Balance()
	want := Balance{Committed: 5, Records: 7, Lost: 1, Phantoms: 1, OutOfOrder: 1, Duplicates: 2, Changed: 1}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("balance (-want +got):\n%s", diff)
	}
}
