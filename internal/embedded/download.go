package embedded

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"syscall"

	embeddedpostgres "github.com/fergusstrange/embedded-postgres"
)

// version of Postgres that is downloaded where none is installed. The list in the library
// ends with older ones.
const version = embeddedpostgres.PostgresVersion("17.11.0")

// repository is where the library fetches binaries from by default. It does not export that,
// and only the URL that it uses itself is sure to have what it asks for.
func repository() (string, error) {
	field := reflect.ValueOf(embeddedpostgres.DefaultConfig()).FieldByName("binaryRepositoryURL")
	if !field.IsValid() {
		return "", errors.New("embedded-postgres does not say where it downloads from")
	}
	return field.String(), nil
}

// cachedBinaries returns the downloaded server, after its download where it is not in the
// cache yet.
func cachedBinaries(ctx context.Context, cache string, progress io.Writer) (string, error) {
	home := filepath.Join(cache, "postgres-"+string(version))
	bin := filepath.Join(home, "bin")
	if isServer(bin) {
		return bin, nil
	}
	from, err := repository()
	if err == nil {
		err = download(ctx, from, home, progress)
	}
	if err != nil {
		return "", fmt.Errorf("download Postgres %s to %s: %w; or install one (Debian: apt-get install -y postgresql) and try again",
			version, home, explain(err))
	}
	return bin, nil
}

// download fetches and unpacks the server into home, which appears complete or not at all.
func download(ctx context.Context, repository, home string, progress io.Writer) error {
	if err := os.MkdirAll(filepath.Dir(home), 0o755); err != nil {
		return err
	}
	scratch, err := os.MkdirTemp(filepath.Dir(home), "download-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)

	relay, err := newDownloadRelay(ctx, repository, progress)
	if err != nil {
		return err
	}
	unpacked := filepath.Join(scratch, "postgres")
	err = unpack(relay.url(), scratch, unpacked)
	if cause := relay.close(); cause != nil {
		return cause
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return err
	}
	err = os.Rename(unpacked, home)
	if isServer(filepath.Join(home, "bin")) {
		return nil // by us, or by another process meanwhile
	}
	return err
}

// unpack makes the library fetch, verify and unpack. It can do so only as the first part of
// a start, and its start cannot succeed for root. So it is given a data directory that looks
// initialised and is empty: the start fails right after the unpacking, for everybody alike.
func unpack(repository, scratch, target string) error {
	data := filepath.Join(scratch, "data")
	if err := os.Mkdir(data, 0o700); err != nil {
		return err
	}
	major, _, _ := strings.Cut(string(version), ".")
	if err := os.WriteFile(filepath.Join(data, "PG_VERSION"), []byte(major+"\n"), 0o600); err != nil {
		return err
	}
	port, err := freePort()
	if err != nil {
		return err
	}
	// It leaves a log in the directory for temporary files, and only the environment says which.
	before, was := os.LookupEnv("TMPDIR")
	if err := os.Setenv("TMPDIR", scratch); err != nil {
		return err
	}
	defer func() {
		if was {
			_ = os.Setenv("TMPDIR", before)
		} else {
			_ = os.Unsetenv("TMPDIR")
		}
	}()
	err = embeddedpostgres.NewDatabase(embeddedpostgres.DefaultConfig().
		Version(version).
		Port(uint32(port)).
		BinaryRepositoryURL(repository).
		CachePath(scratch).
		RuntimePath(filepath.Join(scratch, "runtime")).
		BinariesPath(target).
		DataPath(data).
		Logger(io.Discard)).Start()
	if err != nil && strings.HasPrefix(err.Error(), "could not start postgres") {
		return nil
	}
	if err == nil {
		return errors.New("a server was started on an empty data directory")
	}
	return err
}

// downloadRelay stands between the library and the repository: the library shows no
// progress, drops the causes of errors and cannot be cancelled.
type downloadRelay struct {
	server   http.Server
	listener net.Listener
	upstream *http.Transport

	mu    sync.Mutex
	cause error // the first error of a download
}

func newDownloadRelay(ctx context.Context, repository string, progress io.Writer) (*downloadRelay, error) {
	target, err := url.Parse(repository)
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	d := &downloadRelay{listener: listener, upstream: &http.Transport{Proxy: http.ProxyFromEnvironment}}
	d.server.Handler = &httputil.ReverseProxy{
		Transport: d.upstream,
		ErrorLog:  log.New(io.Discard, "", 0), // the caller gets the error
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out = r.Out.WithContext(ctx)
		},
		ModifyResponse: func(response *http.Response) error {
			if response.StatusCode != http.StatusOK {
				return fmt.Errorf("%s: %s", response.Request.URL, response.Status)
			}
			response.Body = &watchedBody{
				ReadCloser: response.Body,
				bar:        newBar(progress, response),
				failed:     d.fail,
			}
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			d.fail(err)
			w.WriteHeader(http.StatusBadGateway)
		},
	}
	go d.server.Serve(listener) //nolint:errcheck // ends by close, with an error that says so
	return d, nil
}

func (d *downloadRelay) url() string { return "http://" + d.listener.Addr().String() }

func (d *downloadRelay) fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cause == nil {
		d.cause = err
	}
}

// close ends the relay and returns why a download failed, if one did.
func (d *downloadRelay) close() error {
	_ = d.server.Close()
	d.upstream.CloseIdleConnections()
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.cause
}

// watchedBody moves the bar with what is read, and reports a connection that breaks.
type watchedBody struct {
	io.ReadCloser
	bar    bar
	failed func(error)
}

func (b *watchedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.bar.add(n)
	if err != nil && !errors.Is(err, io.EOF) {
		b.failed(err)
	}
	return n, err
}

// explain adds what can be done about the errors that a download meets.
func explain(err error) error {
	var dns *net.DNSError
	var op *net.OpError
	switch {
	case errors.Is(err, syscall.ENOSPC):
		return fmt.Errorf("%w: free about 100 MB there", err)
	case errors.As(err, &dns), errors.As(err, &op):
		return fmt.Errorf("%w: check the network, HTTPS_PROXY is honoured", err)
	default:
		return err
	}
}

// freePort returns a port on which nobody listens at the moment.
func freePort() (int, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port, nil
}
