// Package schemaregistry is a schema registry for Avro that speaks the HTTP API of
// Confluent's, and a client for any registry that does.
//
// A subject is a named line of versions of one schema. A new version is taken only if it is
// compatible with the earlier ones at the subject's level, by the rules of package
// avroschema. An ID stands for one schema text for ever: it is the same in every subject,
// and never given twice.
//
// A server in a program of one's own:
//
//	store, err := schemaregistry.OpenPostgres(ctx, "postgres://registry@db/registry")
//	if err != nil {
//		return err
//	}
//	defer store.Close()
//	registry := schemaregistry.New(store)
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
// References between schemas, contexts, modes and other schema types than Avro are not
// there yet; a request that needs one is refused, never half obeyed.
package schemaregistry
