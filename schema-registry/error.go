package schemaregistry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
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
	CodeIncompatible          = 409
	CodeInvalidSchema         = 42201
	CodeInvalidVersion        = 42202
	CodeInvalidLevel          = 42203
	CodeNotPermitted          = 42205
	CodeInvalidSubject        = 42208
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
// where the caller's context was canceled.
func IsTemporary(err error) bool {
	var answer *Error
	if errors.As(err, &answer) {
		return answer.StatusCode >= 500 || answer.StatusCode == http.StatusTooManyRequests || answer.StatusCode == http.StatusRequestTimeout
	}
	if errors.Is(err, context.Canceled) {
		return false
	}
	var transport *url.Error
	return errors.As(err, &transport) || errors.Is(err, context.DeadlineExceeded)
}
