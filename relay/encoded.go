package relay

import (
	"reflect"
	"unsafe"

	"github.com/IBM/sarama"
)

// encodedField is where a sarama.RecordBatch keeps its records as they travel: encoded and
// compressed. sarama fills it from Records, by way of a structure for every record and header
// and a kilobyte of garbage per event, but sends what it finds there already. The field is
// not exported, and there is no other way to hand over records that are encoded.
var encodedField = func() uintptr {
	f, ok := reflect.TypeFor[sarama.RecordBatch]().FieldByName("compressedRecords")
	if !ok || f.Type != reflect.TypeFor[[]byte]() {
		panic("postrider was built with an IBM/sarama that it does not know: take the version of its go.mod")
	}
	return f.Offset
}()

// nobody is the Records of a batch that is encoded, of which sarama only asks how many there
// are. Were it to look at one after all, it would find nil and end the process at once.
var nobody [batchRecords]*sarama.Record

// setEncoded makes b a batch of n records, which are encoded and compressed in wire.
func setEncoded(b *sarama.RecordBatch, n int, wire []byte) {
	b.Records = nobody[:n]
	*(*[]byte)(unsafe.Add(unsafe.Pointer(b), encodedField)) = wire
}
