package outbox

import (
	"encoding/hex"
	"strings"
	"time"
)

// columnLiterals are the parameters of insertMany as Postgres array literals: text is the
// one form of an array that every driver of database/sql can send.
func columnLiterals(rows []row) []any {
	var columns [10]arrayLiteral
	for i := range rows {
		r := &rows[i]
		columns[0].add(formatID(r.id))
		columns[1].add(r.aggregateType)
		columns[2].add(r.aggregateID)
		columns[3].add(r.eventType)
		columns[4].add(r.payload)
		columns[5].addBytes(r.payloadAvro)
		columns[6].addBytes(r.fingerprint)
		columns[7].add(r.headers)
		columns[8].add(r.topic)
		deadline := ""
		if !r.expiresAt.IsZero() {
			deadline = r.expiresAt.UTC().Format(time.RFC3339Nano)
		}
		columns[9].add(deadline)
	}
	args := make([]any, len(columns))
	for i := range columns {
		args[i] = columns[i].String()
	}
	return args
}

// arrayLiteral builds {"a","b",NULL}. An empty element is NULL: no column holds an empty
// string.
type arrayLiteral struct{ b strings.Builder }

var escapeElement = strings.NewReplacer(`\`, `\\`, `"`, `\"`)

func (a *arrayLiteral) add(s string) {
	a.separate()
	if s == "" {
		a.b.WriteString("NULL")
		return
	}
	a.b.WriteByte('"')
	a.b.WriteString(escapeElement.Replace(s))
	a.b.WriteByte('"')
}

func (a *arrayLiteral) addBytes(p []byte) {
	if p == nil {
		a.add("")
		return
	}
	a.add(`\x` + hex.EncodeToString(p))
}

func (a *arrayLiteral) separate() {
	if a.b.Len() == 0 {
		a.b.WriteByte('{')
	} else {
		a.b.WriteByte(',')
	}
}

func (a *arrayLiteral) String() string { return a.b.String() + "}" }
