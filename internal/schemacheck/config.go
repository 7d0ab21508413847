package schemacheck

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	schemaregistry "github.com/postrider/postrider/schema-registry"
	"github.com/postrider/postrider/schema-registry/avroschema"
)

// ConfigName is the file beside the schemas that says what their names cannot.
const ConfigName = "schemas.yaml"

// DefaultSubject is the template of the subject: the record's full name.
const DefaultSubject = "{full_name}"

// Config is what a schemas.yaml says. The zero value is that of no file.
type Config struct {
	// Path is where it was read from, "" for nowhere.
	Path string `yaml:"-"`
	// Subject is the template of subjects, of {full_name}, {namespace} and {name}.
	// Defaults to DefaultSubject.
	Subject string `yaml:"subject"`
	// Level holds for subjects that have none of their own. Defaults to what the registry
	// says where one is asked, else to schemaregistry.DefaultLevel.
	Level schemaregistry.Level `yaml:"level"`
	// Subjects are those about which there is more to say.
	Subjects map[string]SubjectConfig `yaml:"subjects"`
	Waivers  []Waiver                 `yaml:"waivers"`
}

// SubjectConfig is about one subject.
type SubjectConfig struct {
	// File is the schema's path below the directory. Defaults to the file whose record makes
	// the subject by the template.
	File string `yaml:"file"`
	// Level defaults to that of the whole.
	Level schemaregistry.Level `yaml:"level"`
}

// Waiver lets a known problem pass until a day.
type Waiver struct {
	Subject string `yaml:"subject"`
	Rule    string `yaml:"rule"`
	Field   string `yaml:"field"` // as problems name it, e.g. lines[].sku; "" is every place in the schema
	Reason  string `yaml:"reason"`
	Expires string `yaml:"expires"` // the last day on which it holds, in UTC

	line, column int
	lastDay      time.Time
	used         bool
}

// ReadConfig reads a schemas.yaml. Its error has every problem, one a line, by key.
func ReadConfig(path string) (*Config, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	c := &Config{Path: path}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(c); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s is not usable: %s", path, plainly(err))
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s is not usable: it has several documents, of which only the first would count", path)
	}
	var tree yaml.Node
	if err := yaml.Unmarshal(text, &tree); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if err := c.locate(&tree); err != nil {
		return nil, fmt.Errorf("%s is not usable: %w", path, err)
	}
	if err := c.validate(); err != nil {
		return nil, fmt.Errorf("%s is not usable:\n%w", path, err)
	}
	return c, nil
}

// plainly words an error of the YAML library for who does not know this program's types.
func plainly(err error) string {
	text := strings.TrimPrefix(strings.TrimPrefix(err.Error(), "yaml: "), "unmarshal errors:\n  ")
	return unknownKey.ReplaceAllString(text, "there is no key $1")
}

var unknownKey = regexp.MustCompile(`field (\S+) not found in type \S+`)

// locate notes where each waiver stands.
func (c *Config) locate(tree *yaml.Node) error {
	if len(tree.Content) == 0 {
		return nil
	}
	top := tree.Content[0].Content
	for i := 0; i+1 < len(top); i += 2 {
		if top[i].Value != "waivers" {
			continue
		}
		if len(top[i+1].Content) != len(c.Waivers) {
			return fmt.Errorf("line %d: a waiver says nothing", top[i+1].Line)
		}
		for j, node := range top[i+1].Content {
			c.Waivers[j].line, c.Waivers[j].column = node.Line, node.Column
		}
	}
	return nil
}

func (c *Config) validate() error {
	var problems []error
	bad := func(key, format string, args ...any) {
		problems = append(problems, fmt.Errorf("%s: %s", key, fmt.Sprintf(format, args...)))
	}
	level := func(key string, l *schemaregistry.Level) {
		parsed, ok := schemaregistry.ParseLevel(string(*l))
		if *l != "" && !ok {
			bad(key, "%q is no level, want one of %s", *l, strings.Join(Levels, ", "))
		}
		*l = parsed
	}
	if c.Subject != "" {
		if _, err := subjectOf(c.Subject, &avroschema.Schema{Name: "space.name"}); err != nil {
			bad("subject", "%v", err)
		}
	}
	level("level", &c.Level)
	for name, s := range c.Subjects {
		level("subjects."+name+".level", &s.Level)
		c.Subjects[name] = s
		if s == (SubjectConfig{}) {
			bad("subjects."+name, "says nothing, give it a file or a level")
		}
	}
	for i := range c.Waivers {
		w := &c.Waivers[i]
		key := fmt.Sprintf("waivers[%d]", i)
		if w.Subject == "" {
			bad(key+".subject", "is missing")
		}
		if !slices.Contains(waivable, w.Rule) {
			bad(key+".rule", "%q is none of %s", w.Rule, strings.Join(waivable, ", "))
		}
		if strings.TrimSpace(w.Reason) == "" {
			bad(key+".reason", "is missing: say why the problem may pass")
		}
		var err error
		if w.Expires == "" {
			bad(key+".expires", "is missing: say the last day on which it holds, such as 2027-01-31")
		} else if w.lastDay, err = time.Parse(time.DateOnly, w.Expires); err != nil {
			bad(key+".expires", "%q is no day such as 2027-01-31", w.Expires)
		}
	}
	slices.SortFunc(problems, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(problems...)
}

// expired tells whether the waiver's last day is over.
func (w *Waiver) expired(now time.Time) bool { return !now.Before(w.lastDay.AddDate(0, 0, 1)) }

// covers tells whether the waiver is about a problem.
func (w *Waiver) covers(p *Problem) bool {
	return w.Subject == p.Subject && w.Rule == p.Rule && (w.Field == "" || w.Field == p.Field)
}

// subjectOf makes the subject of a schema by a template.
func subjectOf(template string, schema *avroschema.Schema) (string, error) {
	if schema.Name == "" {
		return "", fmt.Errorf("a schema of type %s has no name to make a subject of: say its subject in %s, or wrap it in a record", schema.Type, ConfigName)
	}
	dot := strings.LastIndexByte(schema.Name, '.')
	subject := strings.NewReplacer("{full_name}", schema.Name, "{namespace}", schema.Name[:max(dot, 0)], "{name}", schema.Name[dot+1:]).Replace(template)
	if subject == "" || strings.ContainsAny(subject, "{}") {
		return "", fmt.Errorf("the subject %q is not usable: fields are {full_name}, {namespace} and {name}", template)
	}
	return subject, nil
}
