package relay

import (
	"bytes"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"
)

// sent returns a request with the batch as sarama sends it, from the client's name on.
func sent(t *testing.T, batch *sarama.RecordBatch) []byte {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conf := sarama.NewConfig()
	conf.ApiVersionsRequest = false
	broker := sarama.NewBroker(l.Addr().String())
	if err := broker.Open(conf); err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	received := make(chan []byte, 1)
	go func() {
		defer close(received)
		var size [4]byte
		if _, err := io.ReadFull(conn, size[:]); err != nil {
			return
		}
		body := make([]byte, binary.BigEndian.Uint32(size[:]))
		if _, err := io.ReadFull(conn, body); err == nil {
			received <- body
		}
	}()
	request := &sarama.ProduceRequest{RequiredAcks: sarama.WaitForAll, Timeout: 1000, Version: 7}
	request.AddBatch("orders", 3, batch)
	if err := broker.AsyncProduce(request, func(*sarama.ProduceResponse, error) {}); err != nil {
		t.Fatal(err)
	}
	body, ok := <-received
	if !ok {
		t.Fatal("the request did not arrive")
	}
	return body
}

// bySarama is what batch would be if sarama encoded its records.
func bySarama(batch sarama.RecordBatch, queued []queuedRecord) *sarama.RecordBatch {
	setEncoded(&batch, len(queued), nil)
	batch.Records = nil
	for i, q := range queued {
		b, r := q.block, q.record()
		record := &sarama.Record{OffsetDelta: int64(i), Key: b.at(r.key), Value: b.at(r.value)}
		for _, h := range b.headers[r.first:r.after] {
			record.Headers = append(record.Headers, &sarama.RecordHeader{Key: b.at(h.name), Value: b.at(h.value)})
		}
		batch.Records = append(batch.Records, record)
	}
	return &batch
}

// someRecords returns n records with keys, values and headers of all kinds and of up to
// largest bytes.
func someRecords(random *rand.Rand, n, largest int) []queuedRecord {
	b := new(block)
	b.begin([]byte("what all share"))
	text := func() span {
		switch random.IntN(8) {
		case 0:
			return null
		case 1:
			return b.copy(nil)
		case 2:
			return span{5, 8}
		case 3:
			return b.copy([]byte(strings.Repeat("a", random.IntN(largest))))
		}
		return b.copy([]byte(strings.Repeat("b", random.IntN(min(largest, 200)))))
	}
	queued := make([]queuedRecord, n)
	for i := range queued {
		m := b.mark()
		for range random.IntN(4) * random.IntN(30) {
			name := text()
			if name == null {
				name = span{0, 4}
			}
			b.header(name, text())
		}
		b.add(m, blockRecord{key: text(), value: text()})
		queued[i] = queuedRecord{b, int32(i)}
	}
	return queued
}

func TestBatch_TravelsAsIfSaramaHadEncodedIt(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	batches, err := newBatchEncoder("none")
	if err != nil {
		t.Fatal(err)
	}
	space := new(batchSpace)
	for _, kind := range []struct{ records, largest int }{{1, 1}, {1, 100}, {2, 3 << 20}, {3, 70}, {70, 20_000}, {batchRecords, 100}, {9, 9000}} {
		queued := someRecords(random, kind.records, kind.largest)
		batches.fill(space, queued)
		space.batch.ProducerID, space.batch.ProducerEpoch, space.batch.FirstSequence = 1<<40, 7, 1<<30
		got, want := sent(t, &space.batch), sent(t, bySarama(space.batch, queued))
		if !bytes.Equal(got, want) {
			t.Fatalf("%d records of up to %d bytes: the request has %d bytes, sarama's %d", kind.records, kind.largest, len(got), len(want))
		}
		space.clear()
	}
}

func TestBatch_LetsGoOfTheMemoryOfAHugeRecord(t *testing.T) {
	t.Parallel()
	batches, err := newBatchEncoder("none")
	if err != nil {
		t.Fatal(err)
	}
	b, space := new(block), new(batchSpace)
	m := b.mark()
	b.add(m, blockRecord{key: null, value: b.copy(make([]byte, 20<<20))})
	batches.fill(space, []queuedRecord{{b, 0}})
	space.clear()
	if kept := cap(batches.raw) + cap(space.wire); kept > 4*maxBatchBytes {
		t.Errorf("%d bytes are kept", kept)
	}
}

// Not parallel: AllocsPerRun counts the allocations of the whole process.
func TestBatch_CostsNoAllocation(t *testing.T) {
	for _, codec := range []string{"none", "lz4"} {
		batches, err := newBatchEncoder(codec)
		if err != nil {
			t.Fatal(err)
		}
		queued, space := someRecords(rand.New(rand.NewPCG(3, 4)), 300, 100), new(batchSpace)
		allocs := testing.AllocsPerRun(50, func() {
			batches.fill(space, queued)
			space.clear()
		})
		if allocs != 0 {
			t.Errorf("%s: a batch of 300 records costs %v allocations", codec, allocs)
		}
	}
}

func TestBatch_HasTheTimeAtWhichItWasMade(t *testing.T) {
	t.Parallel()
	batches, err := newBatchEncoder("lz4")
	if err != nil {
		t.Fatal(err)
	}
	before, space := time.Now(), new(batchSpace)
	batches.fill(space, someRecords(rand.New(rand.NewPCG(5, 6)), 2, 10))
	if at := space.batch.FirstTimestamp; at.Before(before) || at.After(time.Now()) || !at.Equal(space.batch.MaxTimestamp) {
		t.Errorf("its time is %v to %v", at, space.batch.MaxTimestamp)
	}
}
