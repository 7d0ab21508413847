package schemaregistry

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// Record is one thing that a store keeps, by its key: a schema, a version of a subject, a
// setting. A record without a value removes what was kept by the key.
type Record struct {
	Key   string
	Value []byte // JSON
}

// fact is a Record that a state can take in. Their kinds and keys:
//
//	schema/ID/CONTEXT        a schema
//	version/NUMBER/SUBJECT   a version of a subject, by its qualified name
//	context/CONTEXT          the highest ID that was given in a context
//	config/SCOPE, mode/SCOPE settings
type fact interface {
	key() string
	value() any // nil removes
}

type schemaFact struct {
	context string
	id      int
	schema  *schema // nil removes
}

type versionFact struct {
	subject string
	number  int
	version *versionValue // nil removes
}

// versionValue is what is kept of a version.
type versionValue struct {
	ID      int   `json:"id"`
	Deleted bool  `json:"deleted,omitempty"`
	Time    int64 `json:"time,omitempty"` // of its last change, in ms since 1970; 0 is not known
}

type contextFact struct {
	name string
	contextValue
}

type contextValue struct {
	LastID int  `json:"lastId"`
	Hidden bool `json:"hidden,omitempty"` // was deleted; the count of IDs goes on
}

type configFact struct {
	scope  string
	config *Config // nil removes
}

type modeFact struct {
	scope string
	mode  Mode // "" removes
}

func (f schemaFact) key() string  { return "schema/" + strconv.Itoa(f.id) + "/" + f.context }
func (f versionFact) key() string { return "version/" + strconv.Itoa(f.number) + "/" + f.subject }
func (f contextFact) key() string { return "context/" + f.name }
func (f configFact) key() string  { return "config/" + f.scope }
func (f modeFact) key() string    { return "mode/" + f.scope }

func (f schemaFact) value() any {
	if f.schema == nil {
		return nil
	}
	return &f.schema.content
}

func (f versionFact) value() any {
	if f.version == nil {
		return nil
	}
	return f.version
}

func (f contextFact) value() any { return f.contextValue }

func (f configFact) value() any {
	if f.config == nil {
		return nil
	}
	return f.config
}

func (f modeFact) value() any {
	if f.mode == "" {
		return nil
	}
	return modeValue{f.mode}
}

type modeValue struct {
	Mode Mode `json:"mode"`
}

// isSchemaKey tells whether a key is that of a schema, which stores that have no order of
// their own give to apply first.
func isSchemaKey(key string) bool { return strings.HasPrefix(key, "schema/") }

func encodeFact(f fact) (Record, error) {
	value := f.value()
	if value == nil {
		return Record{Key: f.key()}, nil
	}
	text, err := json.Marshal(value)
	return Record{f.key(), text}, err
}

func decodeRecord(r Record) (fact, error) {
	kind, name, _ := strings.Cut(r.Key, "/")
	into := func(value any) error {
		if err := json.Unmarshal(r.Value, value); err != nil {
			return fmt.Errorf("record %q: %w", r.Key, err)
		}
		return nil
	}
	gone := r.Value == nil
	switch kind {
	case "schema", "version":
		digits, name, _ := strings.Cut(name, "/")
		number, err := strconv.Atoi(digits)
		if err != nil {
			return nil, fmt.Errorf("record %q has no number", r.Key)
		}
		switch {
		case kind == "schema" && gone:
			return schemaFact{name, number, nil}, nil
		case kind == "schema":
			var c content
			err := into(&c)
			return schemaFact{name, number, newSchema(name, number, c)}, err
		case gone:
			return versionFact{name, number, nil}, nil
		}
		value := &versionValue{}
		return versionFact{name, number, value}, into(value)
	case "context":
		f := contextFact{name: name}
		return f, into(&f.contextValue)
	case "config":
		if gone {
			return configFact{name, nil}, nil
		}
		config := &Config{}
		return configFact{name, config}, into(config)
	case "mode":
		if gone {
			return modeFact{name, ""}, nil
		}
		var value modeValue
		err := into(&value)
		return modeFact{name, value.Mode}, err
	}
	return nil, fmt.Errorf("record %q is of an unknown kind: use the postrider that wrote it", r.Key)
}
