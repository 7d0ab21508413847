package transcode

import (
	"testing"
)

// The shape and the spacing of what json_build_object makes of an order.
const (
	orderDoc = `{"seq" : 123456, "customer" : "customer-3456", "currency" : "EUR", "total" : 34.5600000000000000, "status" : "CREATED", ` +
		`"lines" : [{"sku" : "SKU-350", "qty" : 5}], ` +
		`"note" : "c4ca4238a0b923820dcc509a6f75849bc81e728d9d4c2f636f067f89cc14862ceccbc87e4b5ce2fe28308fd9f2a7baf3a87ff679a2f3e71d9181a67b7542122cabcdefghijklmnopqrstuv"}`
	// The same as jsonb prints it: keys by length, then by bytes.
	orderJSONB = `{"seq": 123456, "note": "c4ca4238a0b923820dcc509a6f75849bc81e728d9d4c2f636f067f89cc14862ceccbc87e4b5ce2fe28308fd9f2a7baf3a87ff679a2f3e71d9181a67b7542122cabcdefghijklmnopqrstuv", ` +
		`"lines": [{"qty": 5, "sku": "SKU-350"}], "total": 34.56, "status": "CREATED", "currency": "EUR", "customer": "customer-3456"}`
)

func orderSchema(total string) string {
	return recordOf("order", `seq "long"`, `customer "string"`, `currency "string"`, `total `+total, `status "string"`,
		`lines {"type":"array","items":`+recordOf("line", `sku "string"`, `qty "int"`)+`}`, `note ["null","string"] = null`)
}

const money = `{"type":"bytes","logicalType":"decimal","precision":12,"scale":2}`

func BenchmarkAppend(b *testing.B) {
	for _, bc := range []struct{ name, schema, doc string }{
		{"json", orderSchema(`"double"`), orderDoc},
		{"jsonb", orderSchema(`"double"`), orderJSONB},
		{"decimal", orderSchema(money), orderDoc},
	} {
		b.Run(bc.name, func(b *testing.B) {
			tr := compileText(b, bc.schema)
			doc := []byte(bc.doc)
			var dst []byte
			var err error
			b.SetBytes(int64(len(doc)))
			b.ReportAllocs()
			for b.Loop() {
				if dst, err = tr.Append(dst[:0], doc); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// Not parallel: AllocsPerRun counts the allocations of the whole process.
func TestAppend_DoesNotAllocateInSteadyState(t *testing.T) {
	mixed := recordOf("R", `s ["null","string"]`, `b "bytes"`, `u {"type":"fixed","name":"U","size":16,"logicalType":"uuid"}`,
		`at `+logical("long", "timestamp-micros"), `d `+money, `e {"type":"enum","name":"E","symbols":["A","B"]}`,
		`m {"type":"map","values":"double"}`, `next ["null","R"] = null`, `many {"type":"array","items":"int"} = []`)
	for name, tc := range map[string]struct{ schema, doc string }{
		"json":  {orderSchema(`"double"`), orderDoc},
		"jsonb": {orderSchema(money), orderJSONB},
		"all types": {mixed, `{"d":"-12.30","s":"an \u00e9scape","b":"AQ\/\/","u":"0190163d-8694-739b-aea5-966c26f8ad91","at":"2026-11-21T05:00:00.123456+00:00",
			"e":"B","m":{"a":0.1,"b":1e3,"c":2.50},"next":{"s":{"string":"x"},"b":"","u":"0190163d-8694-739b-aea5-966c26f8ad91","at":1,"d":1,"e":"A","m":{}},
			"many":[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31,32,33,34,35,36,37,38,39,40,41,42,43,44,45,46,47,48,49,50,51,52,53,54,55,56,57,58,59,60,61,62,63,64,65]}`},
	} {
		tr := compileText(t, tc.schema)
		doc := []byte(tc.doc)
		var dst []byte
		allocs := testing.AllocsPerRun(100, func() {
			var err error
			if dst, err = tr.Append(dst[:0], doc); err != nil {
				t.Fatal(err)
			}
		})
		if allocs != 0 {
			t.Errorf("%s: %v allocations a document, want 0", name, allocs)
		}
	}
}
