package relay

import (
	"errors"
	"fmt"
)

// HaltCode names a state that cannot pass by itself: the relay stands still, the slot does
// not move, and a person has something to do.
type HaltCode string

// The named halts.
const (
	SlotMissing        HaltCode = "SLOT_MISSING"
	SlotLost           HaltCode = "SLOT_LOST"
	SlotAhead          HaltCode = "SLOT_AHEAD"
	PublicationMissing HaltCode = "PUBLICATION_MISSING"
	PublicationDrift   HaltCode = "PUBLICATION_DRIFT"
	TableMismatch      HaltCode = "TABLE_MISMATCH"
	SystemChanged      HaltCode = "SYSTEM_CHANGED"
	SchemaMissing      HaltCode = "SCHEMA_MISSING"
	SchemaIncompatible HaltCode = "SCHEMA_INCOMPATIBLE"
	PoisonEvent        HaltCode = "POISON_EVENT"
	RecordTooLarge     HaltCode = "RECORD_TOO_LARGE"
	TopicMissing       HaltCode = "TOPIC_MISSING"
	AuthPostgres       HaltCode = "AUTH_POSTGRES"
	AuthKafka          HaltCode = "AUTH_KAFKA"
	AuthRegistry       HaltCode = "AUTH_REGISTRY"
)

// HaltCodes lists every code, for metrics and documentation.
var HaltCodes = []HaltCode{
	SlotMissing, SlotLost, SlotAhead, PublicationMissing, PublicationDrift, TableMismatch, SystemChanged,
	SchemaMissing, SchemaIncompatible, PoisonEvent, RecordTooLarge, TopicMissing, AuthPostgres, AuthKafka, AuthRegistry,
}

// HaltError is the reason of a halt, with what to do about it.
type HaltError struct {
	Code HaltCode
	// Err is what went wrong, with the facts that an operator needs. It holds no secret.
	Err error
	// Hint says what to do.
	Hint string

	final bool     // on_poison cannot help: the dead letter itself was refused
	at    Position // of the record that the brokers refused
}

func (e *HaltError) Error() string {
	if e.Hint == "" {
		return fmt.Sprintf("%s: %v", e.Code, e.Err)
	}
	return fmt.Sprintf("%s: %v; %s", e.Code, e.Err, e.Hint)
}

func (e *HaltError) Unwrap() error { return e.Err }

func halt(code HaltCode, hint, format string, args ...any) *HaltError {
	return &HaltError{Code: code, Err: fmt.Errorf(format, args...), Hint: hint}
}

// asHalt returns the halt in err's chain, or nil.
func asHalt(err error) *HaltError {
	var h *HaltError
	if errors.As(err, &h) {
		return h
	}
	return nil
}

// onEvent reports whether the halt concerns one event, so that on_poison decides about it.
func (e *HaltError) onEvent() bool {
	if e.final {
		return false
	}
	switch e.Code {
	case PoisonEvent, SchemaMissing, SchemaIncompatible, RecordTooLarge:
		return true
	}
	return false
}
