package torture

import (
	"fmt"

	"github.com/postrider/postrider/outbox"
)

const (
	jsonType = "torture.json"
	avroType = "torture.avro"
	// txHeader carries the number of the transaction that wrote the event.
	txHeader = "torture-tx"
)

// schemaText returns the schema of an ordinary payload under another name.
func schemaText(name string) string {
	return fmt.Sprintf(`{"type": "record", "namespace": "torture", "name": %q, "fields": [
	{"name": "key", "type": "string"},
	{"name": "version", "type": "long"},
	{"name": "tx", "type": "long"},
	{"name": "filler", "type": "string"},
	{"name": "note", "type": ["null", "string"], "default": null}]}`, name)
}

var avroSchema = outbox.MustParseSchema(schemaText("avro"))
