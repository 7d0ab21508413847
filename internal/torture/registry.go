package torture

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/twmb/avro"

	schemaregistry "github.com/postrider/postrider/schema-registry"
)

// registry is a real schema registry in this process that can be made to fail.
type registry struct {
	server *http.Server
	url    string
	client *schemaregistry.Client
	http   *http.Client

	mu      sync.Mutex
	store   *schemaregistry.Registry
	handler http.Handler
	status  int // to answer everything with; 0 for none, dropConnection for no answer
	delay   time.Duration
	schemas map[int32]*avro.Schema // by id, as they were first served
}

// dropConnection is a status that ends the connection without an answer.
const dropConnection = -1

func startRegistry() (*registry, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &registry{url: "http://" + listener.Addr().String(), http: &http.Client{Transport: &http.Transport{}}, schemas: make(map[int32]*avro.Schema)}
	r.empty()
	r.server = &http.Server{Handler: http.HandlerFunc(r.serve), ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = r.server.Serve(listener) }() // until close
	if r.client, err = schemaregistry.NewClient(schemaregistry.ClientConfig{URL: r.url}); err != nil {
		r.close()
		return nil, err
	}
	return r, nil
}

func (r *registry) serve(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	handler, status, delay := r.handler, r.status, r.delay
	r.mu.Unlock()
	if delay > 0 {
		pause(req.Context(), delay)
	}
	switch status {
	case 0:
		handler.ServeHTTP(w, req)
	case dropConnection:
		panic(http.ErrAbortHandler)
	default:
		http.Error(w, "out of order", status)
	}
}

// fail makes the registry answer everything with status, after a delay. fail(0, 0) mends it.
func (r *registry) fail(status int, delay time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status, r.delay = status, delay
}

// empty puts an empty registry in the place of the present one, which it returns.
func (r *registry) empty() http.Handler {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.handler
	r.store = schemaregistry.New(schemaregistry.NewMemoryStore())
	r.handler = schemaregistry.NewHandler(r.store, schemaregistry.HandlerConfig{})
	return before
}

// wipe makes the registry forget everything, and returns what brings back its content.
func (r *registry) wipe() (restore func()) {
	r.mu.Lock()
	store := r.store
	r.mu.Unlock()
	before := r.empty()
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.store, r.handler = store, before
	}
}

// registerBehind registers past the failures of the HTTP server.
func (r *registry) registerBehind(ctx context.Context, name string) error {
	r.mu.Lock()
	store := r.store
	r.mu.Unlock()
	_, _, err := store.Register(ctx, "torture."+name, schemaregistry.Submission{Schema: schemaText(name)})
	return err
}

// register puts in the schema of an ordinary payload for an event type torture.NAME.
func (r *registry) register(ctx context.Context, name string) error {
	_, err := r.client.Register(ctx, "torture."+name, schemaText(name))
	return err
}

// schema returns the schema with an id, parsed by a library that the relay does not use.
func (r *registry) schema(id int32) (*avro.Schema, error) {
	r.mu.Lock()
	known := r.schemas[id]
	r.mu.Unlock()
	if known != nil {
		return known, nil
	}
	response, err := r.http.Get(fmt.Sprintf("%s/schemas/ids/%d/schema", r.url, id))
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("schema %d: %s", id, response.Status)
	}
	if err != nil {
		return nil, err
	}
	schema, err := avro.Parse(string(text))
	if err != nil {
		return nil, fmt.Errorf("schema %d: %w", id, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.schemas[id] = schema
	return schema, nil
}

func (r *registry) close() {
	if r.client != nil {
		r.client.Close()
	}
	r.http.CloseIdleConnections()
	_ = r.server.Close()
}
