package relay

import (
	"log/slog"
	"net/url"
	"regexp"
	"strings"
)

// Secret is a value that is never printed.
type Secret string

const masked = "********"

// String implements fmt.Stringer.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return masked
}

// GoString implements fmt.GoStringer.
func (s Secret) GoString() string { return s.String() }

// LogValue implements slog.LogValuer.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText implements encoding.TextMarshaler.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// MarshalYAML implements yaml.Marshaler.
func (s Secret) MarshalYAML() (any, error) { return s.String(), nil }

// SecretURL is a URL or connection string whose password is never printed.
type SecretURL string

var keywordPassword = regexp.MustCompile(`(?i)(password|passfile|sslpassword)\s*=\s*('(?:[^'\\]|\\.)*(?:'|$)|\S+)`)

// String returns the URL with its password masked.
func (s SecretURL) String() string {
	u, err := url.Parse(string(s))
	if err != nil {
		return masked // an unreadable URL may hide a password anywhere
	}
	if _, err := url.ParseQuery(u.RawQuery); err != nil || u.Fragment != "" || u.User == nil && strings.Contains(string(s), "@") {
		return masked // a password with characters that should have been escaped
	}
	if u.Scheme == "" {
		return keywordPassword.ReplaceAllString(string(s), "$1="+masked)
	}
	if _, set := u.User.Password(); set {
		u.User = url.UserPassword(u.User.Username(), masked)
	}
	if q := u.Query(); q.Has("password") || q.Has("sslpassword") {
		for _, k := range []string{"password", "sslpassword"} {
			if q.Has(k) {
				q.Set(k, masked)
			}
		}
		u.RawQuery = q.Encode()
	}
	return strings.ReplaceAll(u.String(), url.QueryEscape(masked), masked)
}

// GoString implements fmt.GoStringer.
func (s SecretURL) GoString() string { return s.String() }

// LogValue implements slog.LogValuer.
func (s SecretURL) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText implements encoding.TextMarshaler.
func (s SecretURL) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// MarshalYAML implements yaml.Marshaler.
func (s SecretURL) MarshalYAML() (any, error) { return s.String(), nil }
