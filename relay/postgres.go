package relay

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postrider/postrider/internal/oneline"
)

const (
	connectTimeout = 10 * time.Second
	// applicationName is what pg_stat_activity and pg_stat_replication show.
	applicationName = "postrider"
)

// connConfig parses the URL and adds what every connection of the relay sets. Its error
// holds no secret: pgconn quotes the URL and masks only the passwords that it recognizes, so
// ours is quoted instead.
func (c PostgresConfig) connConfig() (*pgx.ConnConfig, error) {
	conf, err := pgx.ParseConfig(string(c.URL))
	if err != nil {
		var parse *pgconn.ParseConfigError
		if errors.As(err, &parse) && parse.Unwrap() != nil {
			return nil, fmt.Errorf("cannot parse %s: %w", c.URL, parse.Unwrap())
		}
		return nil, fmt.Errorf("cannot parse %s", c.URL)
	}
	tlsConf, err := c.TLS.load()
	if err != nil {
		return nil, fmt.Errorf("postgres.tls: %w", err)
	}
	if tlsConf != nil {
		useTLS(&conf.Config, tlsConf)
	}
	conf.ConnectTimeout = connectTimeout
	return conf, nil
}

// useTLS makes TLS by conf the only way to every host of the URL.
func useTLS(pg *pgconn.Config, conf *tls.Config) {
	forHost := func(host string) *tls.Config {
		c := conf.Clone()
		setDefault(&c.ServerName, host)
		return c
	}
	pg.TLSConfig = forHost(pg.Host)
	var fallbacks []*pgconn.FallbackConfig
	for _, f := range pg.Fallbacks {
		if f.Host == pg.Host && f.Port == pg.Port {
			continue // the same server without TLS
		}
		fallbacks = append(fallbacks, &pgconn.FallbackConfig{Host: f.Host, Port: f.Port, TLSConfig: forHost(f.Host)})
	}
	pg.Fallbacks = fallbacks
}

// sessionParams make the text form of values the same whatever the server's settings.
var sessionParams = map[string]string{
	"application_name":   applicationName,
	"datestyle":          "ISO",
	"timezone":           "UTC",
	"extra_float_digits": "3",
	"bytea_output":       "hex",
	// A snapshot or a halt may take long.
	"statement_timeout":                   "0",
	"idle_in_transaction_session_timeout": "0",
	"idle_session_timeout":                "0",
	"client_encoding":                     "UTF8",
}

// connect opens an ordinary connection.
func (c PostgresConfig) connect(ctx context.Context) (*pgx.Conn, error) {
	conf, err := c.connConfig()
	if err != nil {
		return nil, err
	}
	for k, v := range sessionParams {
		conf.RuntimeParams[k] = v
	}
	conn, err := pgx.ConnectConfig(ctx, conf)
	if err != nil {
		return nil, postgresError(oneline.Error(err))
	}
	return conn, nil
}

// connectReplication opens a replication connection whose reads pass through a pacedConn.
func (c PostgresConfig) connectReplication(ctx context.Context, onNotice pgconn.NoticeHandler) (*pgconn.PgConn, *pacedConn, error) {
	conf, err := c.connConfig()
	if err != nil {
		return nil, nil, err
	}
	for k, v := range sessionParams {
		conf.RuntimeParams[k] = v
	}
	conf.RuntimeParams["replication"] = "database"
	conf.OnNotice = onNotice
	var paced *pacedConn
	dial := conf.DialFunc
	conf.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		// Below TLS, where one read can still bring a whole window.
		paced = newPacedConn(conn)
		return paced, nil
	}
	conn, err := pgconn.ConnectConfig(ctx, &conf.Config)
	if err != nil {
		return nil, nil, postgresError(oneline.Error(err))
	}
	return conn, paced, nil
}

// postgresError turns an error that no waiting mends into its named halt and returns every
// other one as it is.
func postgresError(err error) error {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		if err != nil && (strings.Contains(err.Error(), "x509: ") || strings.Contains(err.Error(), "remote error: tls: ")) {
			return &HaltError{Code: AuthPostgres, Err: err,
				Hint: "check sslmode and sslrootcert in postgres.url, postgres.tls, and the certificates' dates"}
		}
		return err
	}
	switch pg.Code {
	case "28P01", "28000": // invalid password, invalid authorization
		return &HaltError{Code: AuthPostgres, Err: err,
			Hint: "check user and password in postgres.url and the server's pg_hba.conf"}
	case "42501": // insufficient privilege
		return &HaltError{Code: AuthPostgres, Err: err,
			Hint: "grant the role what `postrider outbox sql --part dba` prints"}
	case "3D000": // invalid catalog name
		return &HaltError{Code: AuthPostgres, Err: err, Hint: "check the database in postgres.url"}
	case "42704": // undefined object
		if strings.Contains(pg.Message, "publication") {
			return &HaltError{Code: PublicationMissing, Err: err, Hint: hintPublicationLost}
		}
		return &HaltError{Code: SlotMissing, Err: err, Hint: hintSlotMissing}
	case "55000": // object not in prerequisite state
		if strings.Contains(pg.Message, "slot") {
			return &HaltError{Code: SlotLost, Err: err, Hint: hintSlotLost}
		}
	}
	return err
}

// slotActive reports whether err says that another process reads the slot.
func slotActive(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "55006"
}

// shuttingDown reports whether err says that the server takes no new sessions.
func shuttingDown(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "57P03"
}
