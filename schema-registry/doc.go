// Package schemaregistry is a schema registry for Avro, Protobuf and JSON Schema that speaks
// the HTTP API of Confluent's, and a client for any registry that does.
//
// A subject is a named line of versions of one schema. A new version is taken only if it is
// compatible with the earlier ones at the subject's level; for Avro, package avroschema
// decides. An ID stands for one schema for ever: it is the same in every subject of a
// context, and never given twice.
//
// A server in a program of one's own:
//
//	store, err := schemaregistry.OpenStore(ctx, "postgres://registry@db/registry")
//	if err != nil {
//		return err
//	}
//	defer store.Close()
//	registry := schemaregistry.New(store)
//	if err := registry.Load(ctx); err != nil {
//		return err
//	}
//	handler := schemaregistry.NewHandler(registry, schemaregistry.HandlerConfig{Logger: slog.Default()})
//	return http.ListenAndServe("127.0.0.1:8081", handler)
//
// A client:
//
//	client, err := schemaregistry.NewClient(schemaregistry.ClientConfig{URL: "http://127.0.0.1:8081"})
//	if err != nil {
//		return err
//	}
//	id, err := client.Register(ctx, "order.created", schemaText)
//	if schemaregistry.IsIncompatible(err) {
//		// readers of earlier events would break
//	}
//
// The registry holds all it knows in memory and answers from there. A Store only keeps
// records; the rules are the Registry's. An answer to a change comes after the store has made
// it durable, and a change sees what every change before it has done, in this process or in
// another one on the same Postgres.
//
// Compatibility of JSON Schemas is decided up to draft 7, that of newer drafts only for trivial
// changes: a request that would need more is refused, never half obeyed.
package schemaregistry
