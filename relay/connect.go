package relay

import (
	"context"
	"crypto/tls"

	"github.com/jackc/pgx/v5"

	schemaregistry "github.com/postrider/postrider/schema-registry"
)

// What the tools beside the relay need to reach the same servers in the same way.

// Connect opens an ordinary connection as the relay does, by URL and TLS. What no waiting
// mends is a HaltError.
func (c PostgresConfig) Connect(ctx context.Context) (*pgx.Conn, error) { return c.connect(ctx) }

// Client returns a client of the registry that c describes.
func (c RegistryConfig) Client() (*schemaregistry.Client, error) { return c.client() }

// Load reads the files that c names and returns the client's side of TLS, or nil where c is
// empty.
func (c TLSConfig) Load() (*tls.Config, error) { return c.load() }
