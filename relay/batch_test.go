package relay

import (
	"bytes"
	"encoding/binary"
	"io"
	"math"
	"math/rand/v2"
	"net"
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

// someRecords returns n records with keys, values and headers of all kinds and of up to
// largest bytes, in a block and as sarama takes them.
func someRecords(random *rand.Rand, n, largest int) ([]queuedRecord, []*sarama.Record) {
	text := func() []byte {
		switch random.IntN(8) {
		case 0:
			return []byte{}
		case 1:
			return bytes.Repeat([]byte{'a'}, random.IntN(largest))
		}
		return bytes.Repeat([]byte{'b'}, random.IntN(min(largest, 200)))
	}
	b, queued, records := new(block), make([]queuedRecord, n), make([]*sarama.Record, n)
	for i := range n {
		b.copy(text()) // what does not travel
		m, r := b.mark(), &sarama.Record{OffsetDelta: int64(i)}
		if random.IntN(5) == 0 {
			b.putNull()
		} else {
			r.Key = text()
			b.put(r.Key)
		}
		switch random.IntN(3) {
		case 0:
			b.putNull()
		case 1:
			r.Value = text()
			b.put(r.Value)
		default:
			r.Value = text()
			about := random.IntN(2*len(r.Value) + 1)
			start := b.open(about)
			b.bytes = append(b.bytes, r.Value...)
			b.close(start, about)
		}
		b.beginHeaders()
		for range random.IntN(4) * random.IntN(30) { // there can be more than 63
			h := &sarama.RecordHeader{Key: text(), Value: text()}
			r.Headers = append(r.Headers, h)
			if random.IntN(2) == 0 {
				b.header(h.Key, h.Value)
			} else {
				b.text(string(h.Key), string(h.Value))
			}
		}
		b.add(m, blockRecord{})
		queued[i], records[i] = queuedRecord{b, int32(i)}, r
	}
	return queued, records
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
		queued, records := someRecords(random, kind.records, kind.largest)
		batches.fill(space, queued)
		space.batch.ProducerID, space.batch.ProducerEpoch, space.batch.FirstSequence = 1<<40, 7, 1<<30
		got := sent(t, &space.batch)
		setEncoded(&space.batch, 0, nil)
		space.batch.Records = records // now it is sarama that encodes
		want := sent(t, &space.batch)
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
	b.putNull()
	b.put(make([]byte, 20<<20))
	b.beginHeaders()
	b.add(m, blockRecord{})
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
		queued, _ := someRecords(rand.New(rand.NewPCG(3, 4)), 300, 100)
		space := new(batchSpace)
		allocs := testing.AllocsPerRun(50, func() {
			batches.fill(space, queued)
			space.clear()
		})
		most := 0.0
		if raceDetector && codec == "lz4" { // s2 has its tables from a pool
			most = math.Ceil(float64(cap(batches.raw)) / lz4Block)
		}
		if allocs > most {
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
	queued, _ := someRecords(rand.New(rand.NewPCG(5, 6)), 2, 10)
	before, space := time.Now(), new(batchSpace)
	batches.fill(space, queued)
	if at := space.batch.FirstTimestamp; at.Before(before) || at.After(time.Now()) || !at.Equal(space.batch.MaxTimestamp) {
		t.Errorf("its time is %v to %v", at, space.batch.MaxTimestamp)
	}
}
