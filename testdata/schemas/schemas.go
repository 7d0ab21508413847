// Package schemas holds the Avro schemas that tests and examples share, laid out as a
// service would do it: the .avsc files, the structs generated from them, and the files'
// text embedded, since the text is what travels to the registry (generated code loses its
// defaults and docs).
package schemas

import _ "embed"

//go:generate go tool avrogen -pkg schemas -fullname -o generated.go order.created.avsc order.paid.avsc order.cancelled.avsc sample.everything.avsc

// The text of the schemas.
var (
	//go:embed order.created.avsc
	OrderCreatedText string
	//go:embed order.paid.avsc
	OrderPaidText string
	//go:embed order.cancelled.avsc
	OrderCancelledText string
	//go:embed sample.everything.avsc
	SampleEverythingText string
)
