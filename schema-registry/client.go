package schemaregistry

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// Defaults of ClientConfig.
const (
	DefaultTimeout   = 10 * time.Second
	DefaultCacheSize = 10_000
)

const (
	contentType = "application/vnd.schemaregistry.v1+json"
	// maxAnswer bounds what the client reads of an answer.
	maxAnswer = 64 << 20
)

// ClientConfig says which registry to ask and how.
type ClientConfig struct {
	// URL is the base URL, such as http://127.0.0.1:8081. Several, separated by commas, are
	// servers of one registry: where one cannot be reached, the next is asked. A user and
	// password in it are used as if they were given below.
	URL string
	// Username and Password are for basic authentication, BearerToken is for a token; at
	// most one of the two.
	Username    string
	Password    string
	BearerToken string
	// TLS is the configuration for https. Defaults to the system's certificates.
	TLS *tls.Config
	// HTTPClient sends the requests, TLS is not used then. Defaults to a client of its own.
	HTTPClient *http.Client
	// Timeout bounds one request to one server. Defaults to DefaultTimeout.
	Timeout time.Duration
	// CacheSize bounds how many registered schemas, and how many schemas by ID, are kept in
	// memory. Defaults to DefaultCacheSize.
	CacheSize int
}

// Client asks a registry: that of this package, or any with the same API. Its methods may
// be called from several goroutines. They return a *Error where the registry says no; see
// IsNotFound and its like. No error holds a password or token.
type Client struct {
	http       *http.Client
	servers    []*url.URL
	current    atomic.Uint32 // index of the server that answered last
	authorize  func(*http.Request)
	timeout    time.Duration
	registered *lru[registration, int]
	schemas    *lru[int, string]
}

type registration struct{ subject, schema string }

// NewClient checks cfg and returns a client. It does not connect yet.
func NewClient(cfg ClientConfig) (*Client, error) {
	c := &Client{http: cfg.HTTPClient, timeout: cfg.Timeout}
	if c.timeout <= 0 {
		c.timeout = DefaultTimeout
	}
	if c.http == nil {
		transport := http.DefaultTransport.(*http.Transport).Clone()
		transport.TLSClientConfig = cfg.TLS
		c.http = &http.Client{Transport: transport}
	}
	for _, text := range strings.Split(cfg.URL, ",") {
		server, err := parseServer(strings.TrimSpace(text))
		if err != nil {
			return nil, err
		}
		if server.User != nil && cfg.Username == "" && cfg.BearerToken == "" {
			cfg.Username = server.User.Username()
			cfg.Password, _ = server.User.Password()
		}
		server.User = nil
		c.servers = append(c.servers, server)
	}
	switch {
	case cfg.BearerToken != "" && cfg.Username != "":
		return nil, errors.New("schema registry: user name and bearer token are both given, use one of them")
	case cfg.BearerToken != "":
		c.authorize = func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+cfg.BearerToken) }
	case cfg.Username != "":
		c.authorize = func(r *http.Request) { r.SetBasicAuth(cfg.Username, cfg.Password) }
	default:
		c.authorize = func(*http.Request) {}
	}
	size := cfg.CacheSize
	if size <= 0 {
		size = DefaultCacheSize
	}
	c.registered, c.schemas = newLRU[registration, int](size), newLRU[int, string](size)
	return c, nil
}

// parseServer reads a base URL. Its errors do not repeat it, since it may hold a password.
func parseServer(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case text == "":
		return nil, errors.New("schema registry: no URL given, want one such as http://127.0.0.1:8081")
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return nil, errors.New("schema registry: the URL has no http:// or https:// and host, want one such as http://127.0.0.1:8081")
	}
	return u, nil
}

// Servers returns the addresses of the servers, without credentials, for messages.
func (c *Client) Servers() string {
	var list []string
	for _, server := range c.servers {
		list = append(list, server.String())
	}
	return strings.Join(list, ", ")
}

// Close drops idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// errNoRegistry is a success that says nothing a registry would say.
var errNoRegistry = errors.New("the server does not answer like a schema registry, check the URL")

// SubjectVersion is one version of a subject.
type SubjectVersion struct {
	Subject string `json:"subject"`
	Version int    `json:"version"` // from 1
	ID      int    `json:"id"`
	Schema  string `json:"schema"`
	// References name the versions that define types which Schema uses and does not define.
	References []Reference `json:"references,omitempty"`
}

// Reference says that a schema uses another one, a version of a subject.
type Reference struct {
	Name    string `json:"name"` // by which the text mentions it, in Avro the full name of a type
	Subject string `json:"subject"`
	Version int    `json:"version"`
}

type schemaRequest struct {
	Schema string `json:"schema"`
}

// Register makes schema a version of subject, unless it is one already, and returns its ID.
// Success is remembered, so that registering again costs nothing.
func (c *Client) Register(ctx context.Context, subject, schema string) (int, error) {
	key := registration{subject, schema}
	if id, ok := c.registered.get(key); ok {
		return id, nil
	}
	var answer struct {
		ID *int `json:"id"`
	}
	err := c.do(ctx, http.MethodPost, subjectPath(subject, "versions"), schemaRequest{schema}, &answer)
	if err == nil && answer.ID == nil {
		err = errNoRegistry
	}
	if err != nil {
		return 0, fmt.Errorf("register schema for subject %q: %w", subject, err)
	}
	c.registered.put(key, *answer.ID)
	return *answer.ID, nil
}

// Latest returns the latest version of subject. It always asks the registry.
func (c *Client) Latest(ctx context.Context, subject string) (SubjectVersion, error) {
	return c.version(ctx, subject, "latest")
}

// Version returns a version of subject. It always asks the registry.
func (c *Client) Version(ctx context.Context, subject string, version int) (SubjectVersion, error) {
	return c.version(ctx, subject, strconv.Itoa(version))
}

func (c *Client) version(ctx context.Context, subject, version string) (SubjectVersion, error) {
	var v SubjectVersion
	err := c.do(ctx, http.MethodGet, subjectPath(subject, "versions", version), nil, &v)
	if err == nil && v.Schema == "" {
		err = errNoRegistry
	}
	if err != nil {
		return SubjectVersion{}, fmt.Errorf("get version %s of subject %q: %w", version, subject, err)
	}
	return v, nil
}

// SchemaByID returns the schema that an ID stands for. It never changes, so it is
// remembered.
func (c *Client) SchemaByID(ctx context.Context, id int) (string, error) {
	if schema, ok := c.schemas.get(id); ok {
		return schema, nil
	}
	var answer schemaRequest
	err := c.do(ctx, http.MethodGet, "/schemas/ids/"+strconv.Itoa(id), nil, &answer)
	if err == nil && answer.Schema == "" {
		err = errNoRegistry
	}
	if err != nil {
		return "", fmt.Errorf("get schema %d: %w", id, err)
	}
	c.schemas.put(id, answer.Schema)
	return answer.Schema, nil
}

// Lookup returns the version of subject that schema is; see IsNotFound if it is none.
func (c *Client) Lookup(ctx context.Context, subject, schema string) (SubjectVersion, error) {
	var v SubjectVersion
	if err := c.do(ctx, http.MethodPost, subjectPath(subject), schemaRequest{schema}, &v); err != nil {
		return SubjectVersion{}, fmt.Errorf("look up schema in subject %q: %w", subject, err)
	}
	return v, nil
}

// Compatibility is the answer of CheckCompatibility.
type Compatibility struct {
	Compatible bool     `json:"is_compatible"`
	Messages   []string `json:"messages"` // why not
}

// CheckCompatibility asks whether schema could be registered for subject, without doing so.
// A subject that does not exist takes any schema.
func (c *Client) CheckCompatibility(ctx context.Context, subject, schema string) (Compatibility, error) {
	var answer Compatibility
	path := "/compatibility" + subjectPath(subject, "versions") + "?verbose=true"
	if err := c.do(ctx, http.MethodPost, path, schemaRequest{schema}, &answer); err != nil {
		return Compatibility{}, fmt.Errorf("check schema for subject %q: %w", subject, err)
	}
	return answer, nil
}

// Subjects returns the names of all subjects.
func (c *Client) Subjects(ctx context.Context) ([]string, error) {
	var names []string
	if err := c.do(ctx, http.MethodGet, "/subjects", nil, &names); err != nil {
		return nil, fmt.Errorf("list subjects: %w", err)
	}
	return names, nil
}

// Versions returns the numbers of all versions of subject, rising.
func (c *Client) Versions(ctx context.Context, subject string) ([]int, error) {
	var versions []int
	if err := c.do(ctx, http.MethodGet, subjectPath(subject, "versions"), nil, &versions); err != nil {
		return nil, fmt.Errorf("list versions of subject %q: %w", subject, err)
	}
	return versions, nil
}

// Level returns the level that holds for subject: its own or that of the registry.
func (c *Client) Level(ctx context.Context, subject string) (Level, error) {
	var answer struct {
		Level string `json:"compatibilityLevel"`
	}
	path := "/config" + strings.TrimPrefix(subjectPath(subject), "/subjects") + "?defaultToGlobal=true"
	err := c.do(ctx, http.MethodGet, path, nil, &answer)
	level, ok := ParseLevel(answer.Level)
	if err == nil && !ok {
		err = errNoRegistry
	}
	if err != nil {
		return "", fmt.Errorf("get level of subject %q: %w", subject, err)
	}
	return level, nil
}

// DeleteSubject deletes every version of subject. What is deleted keeps its IDs and can be
// registered again; permanent, which a first deletion without it must precede, removes the
// subject for good.
func (c *Client) DeleteSubject(ctx context.Context, subject string, permanent bool) error {
	path := subjectPath(subject)
	if permanent {
		path += "?permanent=true"
	}
	var versions []int
	if err := c.do(ctx, http.MethodDelete, path, nil, &versions); err != nil {
		return fmt.Errorf("delete subject %q: %w", subject, err)
	}
	c.registered.forget(func(r registration) bool { return r.subject == subject })
	return nil
}

// Do asks for what has no method of its own: a path of the API with its query, a body that
// is written as JSON or nil for none, and what the answer is read into.
func (c *Client) Do(ctx context.Context, method, path string, body, answer any) error {
	return c.do(ctx, method, path, body, answer)
}

func subjectPath(subject string, more ...string) string {
	// A subject of dots alone would be taken for a relative path.
	path := "/subjects/" + strings.ReplaceAll(url.PathEscape(subject), ".", "%2E")
	for _, part := range more {
		path += "/" + part
	}
	return path
}

// do sends a request to one server after the other until one answers, and decodes the
// answer. Every request may be sent twice: registering a schema again changes nothing.
func (c *Client) do(ctx context.Context, method, path string, body, answer any) error {
	var payload []byte
	if body != nil {
		var err error
		if payload, err = json.Marshal(body); err != nil {
			return err
		}
	}
	first := c.current.Load()
	var err error
	for i := range c.servers {
		index := (int(first) + i) % len(c.servers)
		if err = c.ask(ctx, c.servers[index], method, path, payload, answer); err == nil || !IsTemporary(err) {
			c.current.Store(uint32(index))
			return err
		}
		if ctx.Err() != nil {
			break
		}
	}
	return err
}

func (c *Client) ask(ctx context.Context, server *url.URL, method, path string, payload []byte, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(server.String(), "/")+path, bytes.NewReader(payload))
	if err != nil {
		return err
	}
	req.Header.Set("Accept", contentType+", application/vnd.schemaregistry+json, application/json")
	if payload != nil {
		req.Header.Set("Content-Type", contentType)
	}
	c.authorize(req)
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return &url.Error{Op: method, URL: server.String(), Err: err}
	}
	if resp.StatusCode/100 != 2 {
		return readError(resp.StatusCode, text)
	}
	if json.Unmarshal(text, answer) != nil {
		return errNoRegistry
	}
	return nil
}

// readError makes an Error of an answer, which a proxy may have given in place of a registry.
func readError(status int, text []byte) error {
	var body struct {
		Code    int    `json:"error_code"`
		Message string `json:"message"`
	}
	if json.Unmarshal(text, &body) != nil || body.Code == 0 {
		body.Code = status
	}
	if body.Message == "" {
		body.Message = strings.ToLower(http.StatusText(status))
	}
	return &Error{StatusCode: status, Code: body.Code, Message: body.Message}
}
