package relay

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/postrider/postrider/internal/nearest"
)

// decodeConfig reads the YAML text of the file called name into c. Everything that does not
// fit is reported, each by its line and key: the library would say it in the words of Go.
func decodeConfig(name string, text io.Reader, c *Config) error {
	var document yaml.Node
	if err := yaml.NewDecoder(text).Decode(&document); errors.Is(err, io.EOF) {
		return nil // it is empty
	} else if err != nil {
		return fmt.Errorf("configuration %s: this is no YAML: %s", name, strings.TrimPrefix(err.Error(), "yaml: "))
	}
	check := fileCheck{name: name, merged: make(map[*yaml.Node]bool)}
	check.value(document.Content[0], reflect.TypeFor[Config](), "")
	if len(check.problems) > 0 {
		return errors.Join(check.problems...)
	}
	if err := document.Decode(c); err != nil { // such as an alias within itself
		return fmt.Errorf("configuration %s: %w", name, err)
	}
	return nil
}

// fileCheck compares a file with the type that it is to fill.
type fileCheck struct {
	name     string
	merged   map[*yaml.Node]bool // what `<<` brings in, which may be itself
	problems []error
}

func (f *fileCheck) add(node *yaml.Node, key, format string, args ...any) {
	if key == "" {
		key = "the file"
	}
	f.problems = append(f.problems, fmt.Errorf("%s:%d: %s: %s", f.name, node.Line, key, fmt.Sprintf(format, args...)))
}

// value checks the value of a dotted key.
func (f *fileCheck) value(node *yaml.Node, t reflect.Type, key string) {
	if node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	switch {
	case node.ShortTag() == "!!null": // takes the default
	case t.Kind() != reflect.Struct:
		if node.Decode(reflect.New(t).Interface()) != nil {
			f.add(node, key, "want %s%s", expected(t), insteadOf(node, t))
		}
	case node.Kind != yaml.MappingNode:
		f.add(node, key, "want keys with values%s", insteadOf(node, t))
	default:
		f.mapping(node, t, key)
	}
}

func (f *fileCheck) mapping(node *yaml.Node, t reflect.Type, prefix string) {
	fields := make(map[string]reflect.Type)
	for i := range t.NumField() {
		fields[t.Field(i).Tag.Get("yaml")] = t.Field(i).Type
	}
	if prefix != "" {
		prefix += "."
	}
	seen := make(map[string]int)
	for i := 0; i+1 < len(node.Content); i += 2 {
		name, value := node.Content[i], node.Content[i+1]
		if name.ShortTag() == "!!merge" {
			f.merge(value, t, strings.TrimSuffix(prefix, "."))
			continue
		}
		key := prefix + name.Value
		field, known := fields[name.Value]
		line, again := seen[name.Value]
		switch {
		case !known:
			f.add(name, key, "%s", unknownKey(key, append(nested(t, prefix), configKeys()...)))
		case again:
			f.add(name, key, "is in line %d already", line)
		default:
			seen[name.Value] = name.Line
			f.value(value, field, key)
		}
	}
}

// merge checks what `<<` brings in: a mapping, or a list of them.
func (f *fileCheck) merge(node *yaml.Node, t reflect.Type, key string) {
	if node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	if f.merged[node] {
		return
	}
	f.merged[node] = true
	if node.Kind == yaml.SequenceNode {
		for _, item := range node.Content {
			f.merge(item, t, key)
		}
		return
	}
	f.value(node, t, key)
}

// nested returns the keys of a struct with their prefix.
func nested(t reflect.Type, prefix string) []string {
	var keys []string
	for i := range t.NumField() {
		keys = append(keys, prefix+t.Field(i).Tag.Get("yaml"))
	}
	return keys
}

// configKeys returns every key that has a value, sorted.
func configKeys() []string {
	leaves := make(map[string]reflect.Value)
	collectLeaves(reflect.ValueOf(new(Config)).Elem(), "", leaves)
	return slices.Sorted(maps.Keys(leaves))
}

// unknownKey says that there is no such key, and which may be meant: one that is written much
// the same, or one of this name in another place.
func unknownKey(key string, known []string) string {
	near := nearest.Of(key, known)
	if near == "" {
		last := key[strings.LastIndex(key, ".")+1:]
		for _, k := range known {
			if k[strings.LastIndex(k, ".")+1:] == last {
				near = k
				break
			}
		}
	}
	if near == "" {
		return "there is no such key"
	}
	return fmt.Sprintf("there is no such key; is %s meant?", near)
}

// expected says in words what a value of a type is.
func expected(t reflect.Type) string {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case t == reflect.TypeFor[time.Duration]():
		return "a duration such as 30s or 168h"
	case t.Kind() == reflect.Bool:
		return "true or false"
	case t.Kind() == reflect.Slice:
		return "a list such as [a, b]"
	case t.Kind() == reflect.String:
		return "one text"
	}
	return "a whole number"
}

// insteadOf shows what stands where something of a type should be. What may be a secret is not
// shown.
func insteadOf(node *yaml.Node, t reflect.Type) string {
	switch {
	case node.Kind == yaml.MappingNode:
		return ", not keys with values"
	case node.Kind == yaml.SequenceNode:
		return ", not a list"
	case t.Kind() == reflect.String || t.Kind() == reflect.Struct:
		return ", not a single value"
	}
	return fmt.Sprintf(", not %q", node.Value)
}
