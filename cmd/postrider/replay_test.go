package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/postrider/postrider/internal/testserver"
	"github.com/postrider/postrider/relay"
)

// haltKey lets the workplace park keys.
func (w *workplace) haltKey() {
	w.t.Helper()
	text, err := os.ReadFile(w.config)
	if err != nil {
		w.t.Fatal(err)
	}
	dead := testserver.Topic(w.t, 1)
	w.config = writeConfig(w.t, strings.Replace(string(text), "kafka: {", fmt.Sprintf("on_poison: halt-key\nkafka: {dead_letter_topic: %s, ", dead), 1))
}

// replay runs the command and returns its exit code and what it printed.
func (w *workplace) replay(args ...string) (code int, stdout, stderr string) {
	w.t.Helper()
	return runReplay(w.t, append([]string{"-c", w.config}, args...)...)
}

func runReplay(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errOut bytes.Buffer
	cmd := newRootCommand()
	cmd.SetOut(&out)
	cmd.SetErr(&errOut)
	cmd.SetArgs(append([]string{"replay"}, args...))
	err := cmd.ExecuteContext(t.Context())
	if err != nil {
		code = exitNo
		fmt.Fprintln(&errOut, err)
	}
	var coded *exitError
	if errors.As(err, &coded) {
		code = coded.code
	}
	return code, out.String(), errOut.String()
}

// awaitParked returns when so many events are parked in the dead-letter topic. The relay says
// that a key is parked before Kafka has acknowledged it.
func (w *workplace) awaitParked(events int) {
	w.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); ; <-tick.C {
		code, out, errOut := w.replay("--list", "--json")
		var keys []relay.ParkedKey
		if err := json.Unmarshal([]byte(out), &keys); err != nil || code != 0 {
			w.t.Fatalf("exit %d, %v: %s", code, err, errOut)
		}
		parked := 0
		for _, key := range keys {
			parked += key.Events
		}
		if parked == events {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("%d events are parked after %v, want %d", parked, patience, events)
		}
	}
}

func emitSeq(t *testing.T, db *pgx.Conn, key, payload string) {
	t.Helper()
	execSQL(t, db, `INSERT INTO outbox (aggregate_type, aggregate_id, event_type, payload) VALUES ('order', '`+key+`', 'order.created', '`+payload+`')`)
}

func wantCode(t *testing.T, what string, got, want int, output ...string) {
	t.Helper()
	if got != want {
		t.Fatalf("%s: exit %d, want %d\n%s", what, got, want, strings.Join(output, "\n"))
	}
}

func TestReplay_ListsWhatIsParkedAndReleasesItWhenTheRowIsMended(t *testing.T) {
	t.Parallel()
	w := newWorkplace(t)
	w.haltKey()
	db := connect(t, w.url)
	code, out, _ := w.replay("--list")
	wantCode(t, "nothing parked yet", code, 0, out)
	if out != "nothing is parked\n" {
		t.Errorf("printed %q", out)
	}
	p := w.relay()
	p.awaitLog(streaming)
	emitSeq(t, db, "42", `{"seq": "one"}`)
	emitSeq(t, db, "42", `{"seq": 2}`)
	emitSeq(t, db, "7", `{"seq": "one"}`)
	p.awaitLog(`"key":"7"`)
	p.terminate() // both are in the topic then

	code, out, _ = w.replay("--list", "--json")
	var keys []relay.ParkedKey
	if err := json.Unmarshal([]byte(out), &keys); err != nil || code != 0 || len(keys) != 2 || keys[0].Key != "42" || keys[0].Events != 2 {
		t.Fatalf("exit %d, %v:\n%s", code, err, out)
	}
	code, out, _ = w.replay("--list")
	wantCode(t, "--list", code, 0)
	for _, part := range []string{w.topic + ` "42": 2 events since `, "POISON_EVENT: ", "$.seq", keys[0].First.ID, keys[0].Last.Position, `"7": 1 event `} {
		if !strings.Contains(out, part) {
			t.Errorf("the list lacks %q:\n%s", part, out)
		}
	}
	code, out, errOut := w.replay("--key", "42")
	wantCode(t, "without a terminal", code, exitUsage, out, errOut)
	if !strings.Contains(errOut, `"42": 2 events`) || !strings.Contains(errOut, "--yes") {
		t.Errorf("printed %s", errOut)
	}
	code, _, errOut = w.replay("--key", "42", "--yes", "--timeout", "2s")
	wantCode(t, "without a relay", code, exitUnreachable, errOut)
	code, _, errOut = w.replay("--key", "43", "--yes")
	wantCode(t, "a key that is not parked", code, exitNo, errOut)

	p = w.relay() // it meets the request that nobody waits for any more
	p.awaitLog(`"msg":"key stays parked"`)
	code, out, errOut = w.replay("--key", "42", "--yes")
	wantCode(t, "still poison", code, exitNo, out, errOut)
	if !strings.Contains(out, `"42": 0 events released, 2 events still parked`) || !strings.Contains(out, "$.seq") {
		t.Errorf("printed %s", out)
	}
	execSQL(t, db, `UPDATE outbox SET payload = '{"seq": 1}' WHERE aggregate_id = '42' AND payload->>'seq' = 'one'`)
	code, out, errOut = w.replay("--key", "42", "--topic", w.topic, "--yes", "--json")
	var outcomes []relay.ReplayOutcome
	if err := json.Unmarshal([]byte(out), &outcomes); err != nil || code != 0 || len(outcomes) != 1 ||
		outcomes[0] != (relay.ReplayOutcome{Topic: w.topic, Key: "42", Released: 2}) {
		t.Fatalf("exit %d, %v: %s%s", code, err, out, errOut)
	}
	execSQL(t, db, `UPDATE outbox SET payload = '{"seq": 1}' WHERE aggregate_id = '7'`)
	code, out, errOut = w.replay("--all", "--yes")
	wantCode(t, "all", code, 0, out, errOut)
	if !strings.Contains(out, `"7": 1 event released`) {
		t.Errorf("printed %s", out)
	}
	code, out, _ = w.replay("--list")
	if out != "nothing is parked\n" {
		t.Errorf("exit %d, printed %q", code, out)
	}
}

func TestReplay_CompletesParkedKeys(t *testing.T) {
	t.Parallel()
	w := newWorkplace(t)
	w.haltKey()
	p := w.relay()
	p.awaitLog(streaming)
	for _, key := range []string{"order-1", "order-2", "user-1"} {
		emitSeq(t, connect(t, w.url), key, `{"seq": "one"}`)
		p.awaitLog(`"key":"` + key + `"`)
	}
	p.terminate()
	var out bytes.Buffer
	cmd := newRootCommand()
	cmd.SetOut(&out)
	cmd.SetArgs([]string{"__complete", "replay", "-c", w.config, "--key", "order"})
	if err := cmd.ExecuteContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); !strings.HasPrefix(got, "order-1\norder-2\n:") {
		t.Errorf("completed to %q", got)
	}
}

func TestReplay_WrongUsageIsExit2AndNoAnswerExit3(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := listener.Addr().String()
	listener.Close()
	config := func(onPoison string) string {
		return writeConfig(t, fmt.Sprintf(`
name: nobody
postgres: {url: "postgres://nobody@%[1]s/nobody?sslmode=disable"}
kafka: {brokers: [%[1]q]}
registry: {url: "http://%[1]s"}
on_poison: %[2]s
`, nobody, onPoison))
	}
	haltKey := config("halt-key")
	for name, tc := range map[string]struct {
		args []string
		code int
	}{
		"nothing asked for":  {[]string{"-c", haltKey}, exitUsage},
		"two things":         {[]string{"-c", haltKey, "--key", "a", "--all"}, exitUsage},
		"no configuration":   {[]string{"--list"}, exitUsage},
		"unknown flag":       {[]string{"-c", haltKey, "--keys"}, exitUsage},
		"Kafka is not there": {[]string{"-c", haltKey, "--key", "a", "--yes"}, exitUnreachable},
	} {
		code, out, errOut := runReplay(t, tc.args...)
		wantCode(t, name, code, tc.code, out, errOut)
	}
	code, out, errOut := runReplay(t, "-c", config("halt"), "--list")
	wantCode(t, "other on_poison", code, exitUsage, out, errOut)
	if !strings.Contains(errOut, "may still wait in the dead-letter topic") || !strings.Contains(errOut, "set on_poison: halt-key") {
		t.Errorf("with another on_poison it printed %s", errOut)
	}
}

func TestReplay_GivesUpAnEventWhoseRowIsGoneByTheIDThatItNames(t *testing.T) {
	t.Parallel()
	w := newWorkplace(t)
	w.haltKey()
	db := connect(t, w.url)
	p := w.relay()
	p.awaitLog(streaming)
	emitSeq(t, db, "42", `{"seq": "one"}`)
	emitSeq(t, db, "42", `{"seq": 2}`)
	emitSeq(t, db, "7", `{"seq": "one"}`)
	w.awaitParked(3)
	const nobody = "0199e1f5-6f0c-7c7d-8a55-0c6f0a1f4f11"
	var gone, other string
	for key, id := range map[string]*string{"42": &gone, "7": &other} {
		if err := db.QueryRow(t.Context(), `SELECT id::text FROM outbox WHERE aggregate_id = $1 ORDER BY payload->>'seq' DESC LIMIT 1`, key).Scan(id); err != nil {
			t.Fatal(err)
		}
	}
	execSQL(t, db, `DELETE FROM outbox WHERE id = '`+gone+`'`)
	for _, id := range []string{nobody, other} {
		code, out, errOut := w.replay("--key", "42", "--yes", "--give-up", gone, "--give-up", id)
		wantCode(t, "an id that is not parked under that key", code, exitNo, out, errOut)
		if !strings.Contains(errOut, "event "+id+" is not parked") || out != "" {
			t.Errorf("printed %s%s", out, errOut)
		}
	}
	code, out, errOut := w.replay("--key", "42", "--yes")
	wantCode(t, "the row is gone", code, exitNo, out, errOut)
	if !strings.Contains(out, "--give-up "+gone) {
		t.Errorf("printed %s", out)
	}
	code, out, errOut = w.replay("--key", "42", "--yes", "--give-up", gone)
	wantCode(t, "given up", code, 0, out, errOut)
	if !strings.Contains(out, `"42": 1 event released, 1 event given up`) {
		t.Errorf("printed %s", out)
	}
}

// A relay that is killed again and again while it releases a key loses nothing of it and
// keeps its order, as does one that is killed between the release and its confirmation.
func TestReplay_RelayKilledWhileItReleasesKeepsTheOrder(t *testing.T) {
	t.Parallel()
	const parked, later = 3000, 50
	w := newWorkplace(t)
	w.haltKey()
	db := connect(t, w.url)
	p := w.relay()
	p.awaitLog(streaming)
	emitSeq(t, db, "a", `{"seq": "one"}`)
	execSQL(t, db, fmt.Sprintf(`INSERT INTO outbox (aggregate_type, aggregate_id, event_type, payload)
		SELECT 'order', 'a', 'order.created', json_build_object('seq', s) FROM generate_series(2, %d) s`, parked))
	p.awaitLog("key is parked")
	execSQL(t, db, `UPDATE outbox SET payload = '{"seq": 1}' WHERE payload->>'seq' = 'one'`)
	execSQL(t, db, `SELECT pg_logical_emit_message(true, replace(slot_name, 'postrider_', 'postrider/'), '{"replay":{"key":"a"}}')
		FROM pg_replication_slots WHERE database = current_database()`)
	for i := range later {
		emitSeq(t, db, "a", fmt.Sprintf(`{"seq": %d}`, parked+1+i))
	}
	for i := range 6 {
		time.Sleep(time.Duration(rand.IntN(20*(i+1))) * time.Millisecond) //nolint:forbidigo // a random moment is the point
		p.kill()
		p = w.relay()
		p.awaitLog(streaming)
	}
	for deadline := time.Now().Add(patience); ; {
		if _, out, _ := w.replay("--list"); out == "nothing is parked\n" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("not released after %v", patience)
		}
	}
	emitSeq(t, db, "a", fmt.Sprintf(`{"seq": %d}`, parked+later+1))

	client, err := kgo.NewClient(kgo.SeedBrokers(w.brokers...), kgo.ConsumeTopics(w.topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	seen, duplicates := int64(0), 0
	for seen < parked+later+1 {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("only %d events after %v", seen, patience)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			zigzag, _ := binary.Uvarint(r.Value[5:])
			switch seq := int64(zigzag >> 1); {
			case seq == seen+1:
				seen = seq
			case seq <= seen:
				duplicates++
			default:
				t.Fatalf("event %d comes after %d", seq, seen)
			}
		})
	}
	t.Logf("six kills: %d duplicates", duplicates)
}
