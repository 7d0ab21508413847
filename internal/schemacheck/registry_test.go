package schemacheck

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	schemaregistry "github.com/postrider/postrider/schema-registry"
)

func TestRegistry_ItsLevelHoldsAndReferencesAreFollowed(t *testing.T) {
	t.Parallel()
	// What a registry answers, where one schema uses a type of another subject.
	answers := map[string]string{
		"/subjects":                  `["order", "address", "other"]`,
		"/config/order":              `{"compatibilityLevel": "FORWARD_TRANSITIVE"}`,
		"/subjects/order/versions":   `[1, 2]`,
		"/subjects/order/versions/1": `{"subject": "order", "version": 1, "id": 1, "schema": "{\"type\":\"record\",\"name\":\"order\",\"fields\":[]}"}`,
		"/subjects/order/versions/2": `{"subject": "order", "version": 2, "id": 2, "references": [{"name": "address", "subject": "address", "version": 1}],
			"schema": "{\"type\":\"record\",\"name\":\"order\",\"fields\":[{\"name\":\"to\",\"type\":\"address\"}]}"}`,
		"/subjects/address/versions/1": `{"subject": "address", "version": 1, "id": 3, "schema": "{\"type\":\"record\",\"name\":\"address\",\"fields\":[{\"name\":\"zip\",\"type\":\"int\"}]}"}`,
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer, ok := answers[r.URL.Path]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
		}
		fmt.Fprint(w, answer)
	}))
	t.Cleanup(server.Close)
	dir := writeDir(t, map[string]string{
		"order.avsc": `{"type":"record","name":"order","fields":[{"name":"to","type":{"type":"record","name":"address","fields":[]}}]}`,
	})
	opts := Options{Dir: dir, Against: "registry:" + server.URL, Registry: func(url string) (*schemaregistry.Client, error) {
		return schemaregistry.NewClient(schemaregistry.ClientConfig{URL: url})
	}}
	report, err := Run(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	if s := report.Schemas[0]; s.Level != "FORWARD_TRANSITIVE" || strings.Join(s.Versions, ", ") != "version 2, version 1" {
		t.Errorf("%+v", *s)
	}
	if len(report.Problems) != 1 || !strings.Contains(report.Problems[0].Message, "readers on version 2 cannot read new events: field `to.zip`") {
		t.Errorf("%+v", report.Problems)
	}
	opts.Level = schemaregistry.Backward
	if _, err := Run(t.Context(), opts); err == nil {
		t.Error("the latest version was not asked for, or a 404 that says nothing was taken for an answer")
	}
}
