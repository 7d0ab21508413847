package access

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/bcrypt"
)

const (
	digestSize  = sha256.Size
	tokenScheme = "sha256:"
	// tokenBytes make a token that cannot be guessed, so that a fast hash of it can be kept.
	tokenBytes = 32
	// passwordCost takes about a quarter of a second.
	passwordCost = 12
	// passwordTTL is how long a password that was right is taken without being hashed again,
	// or else a client could not ask more than a few times a second.
	passwordTTL = time.Minute
	// maxVerified bounds what is remembered; beyond it everything is hashed again.
	maxVerified = 10_000
)

// NewToken makes a token of 256 random bits, and the line that stands for it in the file.
// The token itself is kept nowhere.
func NewToken() (token, line string) {
	var random [tokenBytes]byte
	_, _ = rand.Read(random[:]) // never fails
	token = "prr_" + base64.RawURLEncoding.EncodeToString(random[:])
	digest := sha256.Sum256([]byte(token))
	return token, tokenScheme + hex.EncodeToString(digest[:])
}

// HashPassword makes what stands for a password in the file.
func HashPassword(password string) (string, error) {
	if password == "" {
		return "", errors.New("the password is empty")
	}
	hash, err := bcrypt.GenerateFromPassword([]byte(password), passwordCost)
	if errors.Is(err, bcrypt.ErrPasswordTooLong) {
		return "", errors.New("the password is longer than 72 bytes, of which bcrypt takes no more")
	}
	return string(hash), err
}

// errCredentials are credentials that are not known.
var errCredentials = errors.New("the credentials are not known")

// errTooManyPasswords is a password that was not looked at, since too many were.
var errTooManyPasswords = errors.New("too many passwords were tried")

// credentials are what a request says of its sender.
type credentials struct {
	user, password string // of basic authentication
	token          string // of a bearer token
	cert           string // common name of a verified certificate
}

// readCredentials takes them from a request; none is no error. A certificate counts where
// nothing else is given.
func readCredentials(r *http.Request) (credentials, error) {
	headers := r.Header.Values("Authorization")
	switch {
	case len(headers) > 1:
		return credentials{}, errCredentials
	case len(headers) == 1:
		scheme, value, _ := strings.Cut(headers[0], " ")
		if user, password, ok := r.BasicAuth(); ok && user != "" {
			return credentials{user: user, password: password}, nil
		}
		if value = strings.TrimSpace(value); strings.EqualFold(scheme, "Bearer") && value != "" {
			return credentials{token: value}, nil
		}
		return credentials{}, errCredentials
	case r.TLS != nil && len(r.TLS.VerifiedChains) > 0:
		return credentials{cert: r.TLS.VerifiedChains[0][0].Subject.CommonName}, nil
	}
	return credentials{}, nil
}

// authenticate returns the name that credentials stand for.
func (p *Policy) authenticate(ctx context.Context, c credentials, mayHash func() bool) (string, error) {
	switch {
	case c.token != "":
		// The digest is the key of a map: how long that takes depends on the digest, which
		// nobody can steer towards that of a token they do not have.
		if holder, ok := p.tokens[sha256.Sum256([]byte(c.token))]; ok {
			return holder, nil
		}
		return "", errCredentials
	case c.user != "":
		return p.verifyPassword(ctx, c.user, c.password, mayHash)
	case c.cert != "":
		return certPrefix + c.cert, nil
	}
	return Anonymous, nil
}

func (p *Policy) verifyPassword(ctx context.Context, user, password string, mayHash func() bool) (string, error) {
	key := p.verified.key(user, password)
	if p.verified.has(key) {
		return user, nil
	}
	if !mayHash() {
		return "", errTooManyPasswords
	}
	hash, known := p.passwords[user]
	if len(p.passwords) == 0 {
		return "", errCredentials
	}
	if !known {
		hash = hashOfNobody(p.costliest) // the time must not tell which users there are
	}
	if err := hashing.acquire(ctx); err != nil {
		return "", err
	}
	err := bcrypt.CompareHashAndPassword(hash, []byte(password))
	hashing.release()
	if !known || err != nil {
		return "", errCredentials
	}
	p.verified.add(key)
	return user, nil
}

// hashOfNobody looks like a password, so that checking one costs the same.
func hashOfNobody(cost int) []byte {
	const saltAndHash = 22 + 31
	return fmt.Appendf(nil, "$2a$%02d$%s", cost, strings.Repeat(".", saltAndHash))
}

// hashing leaves the other half of the processors to requests that need no hashing.
var hashing = make(semaphore, max(1, runtime.GOMAXPROCS(0)/2))

type semaphore chan struct{}

func (s semaphore) acquire(ctx context.Context) error {
	select {
	case s <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s semaphore) release() { <-s }

// passwordCache remembers passwords that were right, by a keyed digest. It belongs to one
// policy, so that nothing outlives a change of the file.
type passwordCache struct {
	secret [32]byte
	mu     sync.RWMutex
	until  map[[digestSize]byte]time.Time
}

func newPasswordCache() *passwordCache {
	c := &passwordCache{until: make(map[[digestSize]byte]time.Time)}
	_, _ = rand.Read(c.secret[:]) // never fails
	return c
}

func (c *passwordCache) key(user, password string) (key [digestSize]byte) {
	mac := hmac.New(sha256.New, c.secret[:])
	mac.Write(fmt.Appendf(nil, "%d:%s:%s", len(user), user, password))
	mac.Sum(key[:0])
	return key
}

func (c *passwordCache) has(key [digestSize]byte) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	until, ok := c.until[key]
	return ok && time.Now().Before(until)
}

func (c *passwordCache) add(key [digestSize]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.until) >= maxVerified {
		clear(c.until)
	}
	c.until[key] = time.Now().Add(passwordTTL)
}
