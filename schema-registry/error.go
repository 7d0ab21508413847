package schemaregistry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
)

// Codes of the API, which say more than the HTTP status they come with.
const (
	CodeSubjectNotFound       = 40401
	CodeVersionNotFound       = 40402
	CodeSchemaNotFound        = 40403
	CodeSubjectSoftDeleted    = 40404
	CodeSubjectNotSoftDeleted = 40405
	CodeVersionSoftDeleted    = 40406
	CodeVersionNotSoftDeleted = 40407
	CodeLevelNotConfigured    = 40408
	CodeModeNotConfigured     = 40409
	CodeIncompatible          = 409
	CodeIncompatibleSchema    = 40901 // instead of CodeIncompatible, as newer servers say it
	CodeInvalidSchema         = 42201
	CodeInvalidVersion        = 42202
	CodeInvalidLevel          = 42203
	CodeInvalidMode           = 42204
	CodeNotPermitted          = 42205
	CodeReferenceExists       = 42206
	CodeIDMismatch            = 42207
	CodeInvalidSubject        = 42208
	CodeInvalidRules          = 42210
	CodeContextNotEmpty       = 42211
	CodeStore                 = 50001
)

// Error is an answer of a registry that says no.
type Error struct {
	StatusCode int    // of HTTP
	Code       int    // of the API, such as CodeSubjectNotFound; the HTTP status where there is none
	Message    string // as the registry put it
}

func (e *Error) Error() string {
	if e.Code == e.StatusCode {
		return fmt.Sprintf("%s (%d)", e.Message, e.StatusCode)
	}
	return fmt.Sprintf("%s (%d, code %d)", e.Message, e.StatusCode, e.Code)
}

// IsNotFound tells whether err is a registry's answer that the subject, version or schema
// does not exist. It is false for a path that the server does not know at all, which means
// that the URL leads to something else than a registry.
func IsNotFound(err error) bool {
	var e *Error
	return errors.As(err, &e) && (e.Code == CodeSubjectNotFound || e.Code == CodeVersionNotFound || e.Code == CodeSchemaNotFound)
}

// IsIncompatible tells whether err is a registry's answer that a schema is not compatible
// with earlier versions of its subject.
func IsIncompatible(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.StatusCode == http.StatusConflict
}

// IsUnauthorized tells whether err is a registry's answer that the credentials are wrong or
// do not suffice.
func IsUnauthorized(err error) bool {
	var e *Error
	return errors.As(err, &e) && (e.StatusCode == http.StatusUnauthorized || e.StatusCode == http.StatusForbidden)
}

// IsTemporary tells whether the same request may succeed later without a change: the
// registry was not reached, did not answer in time, or had trouble of its own. It is false
// where the caller's context was canceled, and where one side does not trust the other's
// certificate, which only a change of the configuration mends.
func IsTemporary(err error) bool {
	var answer *Error
	if errors.As(err, &answer) {
		return answer.StatusCode >= 500 || answer.StatusCode == http.StatusTooManyRequests || answer.StatusCode == http.StatusRequestTimeout
	}
	if errors.Is(err, context.Canceled) || isCertificate(err) {
		return false
	}
	var transport *url.Error
	return errors.As(err, &transport) || errors.Is(err, context.DeadlineExceeded)
}

// isCertificate tells whether TLS failed for a certificate, ours or the server's, or because
// the other side does not speak TLS at all.
func isCertificate(err error) bool {
	var verification *tls.CertificateVerificationError
	var authority x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	var record tls.RecordHeaderError
	var alert tls.AlertError
	return errors.As(err, &verification) || errors.As(err, &authority) || errors.As(err, &name) ||
		errors.As(err, &invalid) || errors.As(err, &record) || errors.Is(err, http.ErrSchemeMismatch) ||
		errors.As(err, &alert) && slices.Contains(certificateAlerts, uint8(alert))
}

// certificateAlerts are the alerts of RFC 8446, section 6, by which a server refuses our
// certificate: bad, unsupported, revoked, expired, unknown, unknown_ca, access_denied,
// certificate_required.
var certificateAlerts = []uint8{42, 43, 44, 45, 46, 48, 49, 116}

// The refusals below word their messages as Confluent's registry does: clients match them.

func notFound(code int, message string) error {
	return &Error{http.StatusNotFound, code, message}
}

func unprocessable(code int, message string) error {
	return &Error{http.StatusUnprocessableEntity, code, message}
}

func subjectNotFound(subject string) error {
	return notFound(CodeSubjectNotFound, fmt.Sprintf("Subject '%s' not found.", subject))
}

func versionNotFound(version int) error {
	return notFound(CodeVersionNotFound, fmt.Sprintf("Version %d not found.", version))
}

func schemaNotFound() error { return notFound(CodeSchemaNotFound, "Schema not found") }

func invalidSubject(subject string) error {
	return unprocessable(CodeInvalidSubject, fmt.Sprintf("The specified subject '%.1100s' is not a valid.", subject))
}

func invalidSchema(format string, args ...any) error {
	return unprocessable(CodeInvalidSchema, fmt.Sprintf(format, args...))
}

func notPermitted(format string, args ...any) error {
	return unprocessable(CodeNotPermitted, fmt.Sprintf(format, args...))
}

func referenceExists(subject string, version int) error {
	return unprocessable(CodeReferenceExists, fmt.Sprintf(
		"One or more references exist to the schema {magic=1,keytype=SCHEMA,subject=%s,version=%d}.", subject, version))
}

func isCode(err error, code int) bool {
	var e *Error
	return errors.As(err, &e) && e.Code == code
}
