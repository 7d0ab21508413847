package relay

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"pgregory.net/rapid"
)

// parkedModel is what is parked, by topic and key, as one reads it off the records without
// regard to their order.
func parkedModel(records []parkedRecord, system string, passed LSN) map[string][]string {
	model := make(map[string][]string)
	seen := make(map[string]bool)
	for _, r := range records {
		name := fmt.Sprintf("%s %s %s %s", r.topic, r.key, r.system, r.at)
		if r.releases || seen[name] {
			continue
		}
		seen[name] = true
		free := slices.ContainsFunc(records, func(m parkedRecord) bool {
			return m.releases && m.topic == r.topic && m.key == r.key && m.system == r.system &&
				!m.through.Less(r.at) && (m.system != system || m.at.LSN < passed)
		})
		if !free {
			key := r.topic + " " + r.key
			model[key] = append(model[key], r.id)
		}
	}
	for _, ids := range model {
		slices.Sort(ids)
	}
	return model
}

func parkedState(p *parkedKeys) map[string][]string {
	state := make(map[string][]string)
	for _, k := range p.keys {
		for _, r := range k.runs {
			if !slices.IsSortedFunc(r.events, func(a, b parkedEvent) int { return cmpBool(b.at.Less(a.at), false) }) {
				panic("not in order")
			}
			for _, e := range r.events {
				state[k.topic+" "+k.key] = append(state[k.topic+" "+k.key], p.id(r.system, e))
			}
		}
	}
	for _, ids := range state {
		slices.Sort(ids)
	}
	return state
}

// The records of the dead-letter topic may be read in any order and any number of times.
func TestParked_FoldDependsOnNeitherOrderNorRepetition(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		systems := []string{"1", "2"}
		topics, keys := []string{"orders", "payments", ""}, []string{"a", "b", ""}
		var records []parkedRecord
		for i := range rapid.IntRange(1, 40).Draw(t, "records") {
			at := Position{LSN(i/3 + 1), uint32(i % 3)}
			r := parkedRecord{
				topic: rapid.SampledFrom(topics).Draw(t, "topic"), key: rapid.SampledFrom(keys).Draw(t, "key"),
				system: rapid.SampledFrom(systems).Draw(t, "system"), at: at,
			}
			if rapid.IntRange(0, 3).Draw(t, "kind") == 0 {
				r.releases, r.through = true, Position{LSN(rapid.IntRange(0, i/3+1).Draw(t, "lsn")), uint32(rapid.IntRange(0, 2).Draw(t, "index"))}
			} else {
				r.id = rapid.SampledFrom([]string{
					fmt.Sprintf("018f0000-0000-7000-8000-%012d", i), fmt.Sprintf("event %d", i), "00000000-0000-0000-0000-000000000000",
				}).Draw(t, "id")
			}
			records = append(records, r)
		}
		read := append(slices.Clone(records), rapid.SliceOf(rapid.SampledFrom(records)).Draw(t, "repeated")...)
		read = rapid.Permutation(read).Draw(t, "read")
		passed := LSN(rapid.IntRange(0, 20).Draw(t, "passed"))

		p := newParkedKeys(nil)
		for _, r := range read {
			p.fold(&r, "1", passed)
		}
		p.settled()
		want := parkedModel(records, "1", passed)
		if d := cmp.Diff(want, parkedState(p)); d != "" {
			t.Fatalf("parked (-want +got):\n%s", d)
		}
		total := 0
		for _, ids := range want {
			total += len(ids)
		}
		ids, known := p.ids()
		if !known || len(ids) != total || p.events != total || len(p.keys) != len(want) {
			t.Fatalf("%d ids, %d events, %d keys; want %d events of %d keys", len(ids), p.events, len(p.keys), total, len(want))
		}
		for i := range records {
			r := parkedRecord{releases: true, topic: records[i].topic, key: records[i].key, system: records[i].system, through: Position{maxLSN, 0}}
			p.release(&r)
		}
		if len(p.keys) != 0 || p.events != 0 || len(p.odd) != 0 {
			t.Fatalf("%d keys, %d events and %d odd ids are left when everything is released", len(p.keys), p.events, len(p.odd))
		}
	})
}

func TestParked_EventWaitsOnlyBehindThoseBeforeIt(t *testing.T) {
	t.Parallel()
	p := newParkedKeys(nil)
	p.settled()
	at := func(lsn LSN) Position { return Position{LSN: lsn} }
	for _, lsn := range []LSN{10, 30} {
		p.park(&parkedRecord{topic: "orders", key: "a", system: "1", at: at(lsn), id: "x"})
	}
	p.park(&parkedRecord{topic: "", key: "b", system: "1", at: at(10), id: "x"})
	for _, tc := range []struct {
		topic, key string
		at         LSN
		waits      bool
	}{
		{"orders", "a", 9, false}, {"orders", "a", 10, true}, {"orders", "a", 20, true}, {"orders", "a", 40, true},
		{"payments", "a", 40, false}, {"", "a", 40, false},
		{"orders", "b", 9, false}, {"orders", "b", 11, true}, {"payments", "b", 11, true}, {"", "b", 11, true},
	} {
		if got := p.behind(tc.topic, tc.key, "1", at(tc.at)) != nil; got != tc.waits {
			t.Errorf("event of %q %q at %d waits: %v", tc.topic, tc.key, tc.at, got)
		}
	}
	key := "a"
	parts := p.before(&replayRequest{Key: &key}, "1", at(20))
	if len(parts) != 1 || len(parts[0].events) != 1 || parts[0].events[0].at != at(10) {
		t.Errorf("a request at 20 takes %+v, want what was parked before it", parts)
	}
	if p.behind("orders", "a", "2", at(1)) == nil {
		t.Error("an event of another cluster does not wait behind what was parked from the old one")
	}
}

func TestParked_AtItsBoundIsFull(t *testing.T) {
	t.Parallel()
	p := newParkedKeys(nil)
	p.settled()
	n := 0
	for ; !p.full(); n++ {
		p.park(&parkedRecord{topic: "orders", key: "a", system: "1", at: Position{LSN(n), 0}, id: "018f0000-0000-7000-8000-000000000001"})
	}
	if n < 2_000_000 || n > 2_200_000 {
		t.Errorf("full with %d events of a key", n)
	}
}

func TestParked_ListsTheKeysParkedForLongest(t *testing.T) {
	t.Parallel()
	p := newParkedKeys(nil)
	p.settled()
	for i := range 50 {
		key := fmt.Sprintf("%02d", i*37%50)
		p.park(&parkedRecord{topic: "orders", key: key, system: "1", at: Position{LSN(i + 1), 0}, id: "x", time: int64(i * 37 % 50)})
	}
	for _, limit := range []int{0, 1, 5, 49, 50, 1000} {
		got := p.list(limit)
		if len(got) != min(limit, 50) {
			t.Errorf("%d of at most %d", len(got), limit)
		}
		for i, k := range got {
			if k.Key != fmt.Sprintf("%02d", i) {
				t.Errorf("at most %d: key %s is number %d", limit, k.Key, i)
			}
		}
	}
}

func TestParked_IsNotKnownBeforeTheTopicIsRead(t *testing.T) {
	t.Parallel()
	p := newParkedKeys(nil)
	if _, known := p.ids(); known {
		t.Error("known before the topic is read")
	}
	p.settled()
	if _, known := p.ids(); !known {
		t.Error("not known after the topic was read")
	}
	p.forget()
	if _, known := p.ids(); known {
		t.Error("known though it was forgotten")
	}
	p = nil
	if ids, known := p.ids(); !known || len(ids) > 0 {
		t.Error("nothing is parked without halt-key, and that is known")
	}
}

func FuzzReadParkedRecord(f *testing.F) {
	for _, seed := range []string{
		"postrider-parked=orders\nce_id=018f0000-0000-7000-8000-000000000001\npostrider-position=0/10/0\npostrider-system=7\npostrider-error-code=POISON_EVENT",
		"postrider-parked=\nce_id=17\npostrider-position=0/10/0",
		"postrider-released=orders\npostrider-released-through=0/10/0\npostrider-position=0/20/1\npostrider-released-events=1\n" +
			"postrider-parked-events=0\npostrider-request=ABC 1/3\npostrider-system=7",
		"postrider-released=orders\npostrider-parked=orders\npostrider-position=0/20/1\nce_id=1",
		"postrider-position=0/20/1\nce_id=1",
		"postrider-released=\npostrider-position=\npostrider-request=1",
	} {
		f.Add("a", seed)
	}
	f.Fuzz(func(t *testing.T, key, text string) {
		var headers []*recordHeader
		for line := range strings.Lines(text) {
			name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
			headers = append(headers, &recordHeader{Key: []byte(name), Value: []byte(value)})
		}
		p := newParkedKeys(nil)
		r, ok := readParkedRecord([]byte(key), headers, 0)
		if !ok {
			return
		}
		if r.key != key || !r.releases && r.id == "" {
			t.Fatalf("read %+v", r)
		}
		p.fold(&r, r.system, maxLSN)
		p.fold(&r, r.system, maxLSN)
		p.settled()
		ids, _ := p.ids()
		if r.releases && len(ids) != 0 || !r.releases && !slices.Equal(ids, []string{r.id}) {
			t.Fatalf("%+v parks %q", r, ids)
		}
		if keys := p.list(10); len(keys) != len(ids) {
			t.Fatalf("listed %+v", keys)
		}
	})
}

func FuzzReadReplayRequest(f *testing.F) {
	for _, seed := range []string{
		`{"replay":{"id":"X","key":"a"}}`, `{"replay":{"key":"","topic":""}}`, `{"replay":{"all":true}}`,
		`{"replay":{}}`, `{"replay":{"all":true,"key":"a"}}`, `{}`, `null`, `[`, `{"replay":{"key":"a","id":"a b"}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		r, err := readReplayRequest(content)
		if err == nil && ((r.Key == nil) != r.All || strings.ContainsAny(r.ID, " \n\x00") || len(r.ID) > maxReplayID) {
			t.Fatalf("read %+v", r)
		}
	})
}

// A topic is read to its end though transaction markers stand there, and from its oldest
// record on though retention has removed those before.
func TestTopicReader_ReadsToTheEndOverTransactionMarkers(t *testing.T) {
	t.Parallel()
	kafka := startKafka(t, 2)
	client, err := kgo.NewClient(kgo.SeedBrokers(kafka.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.TransactionalID("markers"))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	produce := func(from, to int) {
		if err := client.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		for i := from; i < to; i++ {
			r := &kgo.Record{Topic: testTopic, Partition: int32(i % 2), Key: fmt.Append(nil, i), Timestamp: time.UnixMilli(int64(1000 + i))}
			if err := client.ProduceSync(t.Context(), r).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
		if err := client.EndTransaction(t.Context(), kgo.TryCommit); err != nil {
			t.Fatal(err)
		}
	}
	reader, err := openTestCluster(t, kafka, 1).readTopic(testTopic)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	read := func() {
		t.Helper()
		err := reader.read(t.Context(), func(r topicRecord) {
			if want := fmt.Sprint(r.time.UnixMilli() - 1000); want != string(r.key) {
				t.Errorf("record %s has time %v", r.key, r.time)
			}
			got = append(got, string(r.key))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	read()
	produce(0, 6)
	read()
	read()
	produce(6, 8)
	read()
	if reader.gone != 0 {
		t.Errorf("%d records are said to be gone", reader.gone)
	}
	var upTo kadm.Offsets
	upTo.AddOffset(testTopic, 0, 4, -1)
	upTo.AddOffset(testTopic, 1, 3, -1)
	deleted, err := kadm.NewClient(client).DeleteRecords(t.Context(), upTo)
	if err == nil {
		err = deleted.Error()
	}
	if err != nil {
		t.Fatal(err)
	}
	if reader, err = openTestCluster(t, kafka, 1).readTopic(testTopic); err != nil {
		t.Fatal(err)
	}
	read()
	if reader.gone != 7 {
		t.Errorf("%d records are said to be gone, want 7", reader.gone)
	}
	if d := cmp.Diff([]string{"0", "2", "4", "1", "3", "5", "6", "7", "6", "7"}, got); d != "" {
		t.Errorf("records (-want +got):\n%s", d)
	}
}

func TestTopicReader_TopicThatDoesNotExistHasNoRecords(t *testing.T) {
	t.Parallel()
	reader, err := openTestCluster(t, startKafka(t, 1), 1).readTopic("no-such-topic")
	if err != nil {
		t.Fatal(err)
	}
	if err := reader.read(t.Context(), func(topicRecord) { t.Error("a record") }); err != nil {
		t.Error(err)
	}
}

func TestArrayLiteral_QuotesWhatPostgresWouldRead(t *testing.T) {
	t.Parallel()
	if got, want := arrayLiteral([]string{`a`, `"b" \ {c},`, ``}), `{"a","\"b\" \\ {c},",""}`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
