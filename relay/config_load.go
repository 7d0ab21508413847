package relay

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// LoadConfig reads the configuration: the YAML file at path ("" for none), over it the
// environment (POSTRIDER_KAFKA_BROKERS for kafka.brokers), over it set: key=value pairs
// such as kafka.brokers=a:9092,b:9092. ${NAME} in a value, wherever it was given, is
// replaced by that environment variable, and a value file:PATH by the file's content without
// the closing line break. An unknown key is an error, an unknown variable is not: see
// Variables. The result is not validated.
func LoadConfig(path string, environ []string, set []string) (Config, error) {
	var c Config
	env := make(map[string]string, len(environ))
	for _, kv := range environ {
		k, v, _ := strings.Cut(kv, "=")
		env[k] = v
	}
	if path != "" {
		text, err := os.ReadFile(path)
		if err != nil {
			return c, fmt.Errorf("configuration: %w", err)
		}
		if err := decodeConfig(path, bytes.NewReader(text), &c); err != nil {
			return c, err
		}
	}
	leaves := make(map[string]reflect.Value)
	collectLeaves(reflect.ValueOf(&c).Elem(), "", leaves)

	var failed []error
	for _, key := range slices.Sorted(maps.Keys(leaves)) {
		leaf := leaves[key]
		name := variable(key)
		if v, ok := env[name]; ok {
			if err := setLeaf(leaf, v); err != nil {
				failed = append(failed, fmt.Errorf("%s: %w", name, err))
			}
		}
	}
	for _, kv := range set {
		key, v, ok := strings.Cut(kv, "=")
		leaf, known := leaves[key]
		switch {
		case !ok:
			failed = append(failed, fmt.Errorf("--set %s: not of the form key=value", kv))
		case !known:
			failed = append(failed, fmt.Errorf("--set %s: %s", key, unknownKey(key, slices.Sorted(maps.Keys(leaves)))))
		default:
			if err := setLeaf(leaf, v); err != nil {
				failed = append(failed, fmt.Errorf("--set %s: %w", key, err))
			}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(leaves)) {
		leaf := leaves[key]
		if err := expandLeaf(leaf, env); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", key, err))
		}
	}
	return c, errors.Join(failed...)
}

// variable is the environment variable of a key.
func variable(key string) string {
	return "POSTRIDER_" + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

// Variables returns the environment variables that LoadConfig takes, sorted.
func Variables() []string {
	keys := configKeys()
	for i, key := range keys {
		keys[i] = variable(key)
	}
	slices.Sort(keys)
	return keys
}

// collectLeaves gathers the settable values of a struct by their dotted YAML key.
func collectLeaves(v reflect.Value, prefix string, leaves map[string]reflect.Value) {
	for i := range v.NumField() {
		key := prefix + v.Type().Field(i).Tag.Get("yaml")
		if f := v.Field(i); f.Kind() == reflect.Struct {
			collectLeaves(f, key+".", leaves)
		} else {
			leaves[key] = f
		}
	}
}

// setLeaf gives leaf the value that s has in YAML, so that numbers, durations and booleans
// read as they do in the file; a list may also be written a,b,c.
func setLeaf(leaf reflect.Value, s string) error {
	switch leaf.Kind() {
	case reflect.String:
		leaf.SetString(s)
		return nil
	case reflect.Slice:
		if !strings.HasPrefix(strings.TrimSpace(s), "[") {
			var items []string
			for item := range strings.SplitSeq(s, ",") {
				if item = strings.TrimSpace(item); item != "" {
					items = append(items, item)
				}
			}
			leaf.Set(reflect.ValueOf(items))
			return nil
		}
	}
	if yaml.Unmarshal([]byte(s), leaf.Addr().Interface()) != nil {
		return fmt.Errorf("want %s, not %q", expected(leaf.Type()), s)
	}
	return nil
}

var envReference = regexp.MustCompile(`\$\{([A-Za-z_][A-Za-z0-9_]*)\}`)

// expandLeaf replaces ${NAME} and file:PATH in a string or a list of strings.
func expandLeaf(leaf reflect.Value, env map[string]string) error {
	switch leaf.Kind() {
	case reflect.Slice:
		for i := range leaf.Len() {
			if err := expandLeaf(leaf.Index(i), env); err != nil {
				return err
			}
		}
	case reflect.String:
		s, err := expand(leaf.String(), env)
		if err != nil {
			return err
		}
		leaf.SetString(s)
	}
	return nil
}

func expand(s string, env map[string]string) (string, error) {
	var missing error
	s = envReference.ReplaceAllStringFunc(s, func(ref string) string {
		name := ref[2 : len(ref)-1]
		v, ok := env[name]
		if !ok {
			missing = fmt.Errorf("environment variable %s is not set", name)
		}
		return v
	})
	if missing != nil {
		return "", missing
	}
	if path, ok := strings.CutPrefix(s, "file:"); ok {
		content, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		return strings.TrimRight(string(content), "\r\n"), nil
	}
	return s, nil
}

// YAML returns the effective configuration, defaults filled in and secrets masked.
func (c Config) YAML() ([]byte, error) {
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if err := enc.Encode(c.withDefaults()); err != nil {
		return nil, err
	}
	return out.Bytes(), enc.Close()
}
