package transcode_test

import (
	"fmt"

	"github.com/postrider/postrider/relay/transcode"
	"github.com/postrider/postrider/schema-registry/avroschema"
)

func ExampleTranscoder_Append() {
	schema, err := avroschema.Parse(`{"type": "record", "name": "order.line", "fields": [
		{"name": "sku", "type": "string"},
		{"name": "qty", "type": "int"},
		{"name": "note", "type": ["null", "string"], "default": null}
	]}`)
	if err != nil {
		fmt.Println(err)
		return
	}
	t, err := transcode.Compile(schema)
	if err != nil {
		fmt.Println(err)
		return
	}
	value, err := t.Append(nil, []byte(`{"qty": 3, "sku": "A-7"}`))
	fmt.Printf("%x %v\n", value, err)
	_, err = t.Append(nil, []byte(`{"qty": "3", "sku": "A-7"}`))
	fmt.Println(err)
	// Output:
	// 06412d370600 <nil>
	// $.qty: wrong type: want int, got string
}
