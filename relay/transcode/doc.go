// Package transcode turns JSON documents into Avro binary by a schema.
//
// It is the relay's encoder for events that were written as JSON. A schema is compiled
// once; after that a document is read in one pass, from its bytes straight to Avro's, with
// no tree or map in between and, in steady state, no allocation.
//
// It is strict: what it returns without an error is the whole document, unchanged in
// meaning. Unknown and missing fields, a value of the wrong type or range, digits that the
// type cannot hold and anything that is not JSON by RFC 8259 are errors that name the
// place by its JSON path.
//
//	schema, err := avroschema.Parse(text)
//	if err != nil {
//		return err
//	}
//	t, err := transcode.Compile(schema)
//	if err != nil {
//		return err
//	}
//	for _, doc := range docs {
//		value, err = t.Append(value[:0], doc)
//		if err != nil {
//			return err // $.lines[2].qty: wrong type: want int, got string
//		}
//	}
//
// docs/json-to-avro.md says how each Avro type is written in JSON. Bytes are base64, not
// the code points of Avro's own JSON encoding, and unions need no tags where the value
// itself says which branch is meant.
package transcode
