package access

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	"golang.org/x/crypto/bcrypt"
)

// Anonymous is the name, in the rights of a policy, of those who give no credentials.
const Anonymous = "anonymous"

// certPrefix marks a name in the rights as the common name of a client's certificate.
const certPrefix = "cert:"

// Policy says who is known and what they may do. It does not change once it is read.
type Policy struct {
	passwords map[string][]byte           // bcrypt by user
	costliest int                         // of the passwords' bcrypt costs
	tokens    map[[digestSize]byte]string // name by SHA-256
	rights    map[string][]grant          // by name
	verified  *passwordCache
}

// grant is a right of one name.
type grant struct {
	subjects []pattern
	actions  Action
}

// policyFile is the form of the file.
type policyFile struct {
	// Users are names and their passwords as bcrypt.
	Users map[string]string `yaml:"users"`
	// Htpasswd is a file of more of them, lines of name:bcrypt, relative to this one.
	Htpasswd string `yaml:"htpasswd"`
	// Tokens are names and sha256:HEX of a token, or several, so that one can follow another.
	Tokens map[string]stringOrList `yaml:"tokens"`
	Rights []struct {
		Who      []string `yaml:"who"`
		Subjects []string `yaml:"subjects"`
		Actions  []Action `yaml:"actions"`
	} `yaml:"rights"`
}

type stringOrList []string

// UnmarshalYAML implements yaml.Unmarshaler.
func (l *stringOrList) UnmarshalYAML(node *yaml.Node) error {
	if node.Kind == yaml.ScalarNode {
		*l = []string{node.Value}
		return nil
	}
	return node.Decode((*[]string)(l))
}

// LoadPolicy reads a policy from a YAML file and the htpasswd file that it names. Its error
// has every problem, one a line. It holds no password and no token.
func LoadPolicy(path string) (*Policy, error) {
	policy, _, err := loadPolicy(path)
	return policy, err
}

// loadPolicy returns the files that it looked at too, so that they can be watched.
func loadPolicy(path string) (*Policy, fileSet, error) {
	var files fileSet
	text, err := files.read(path)
	if err != nil {
		return nil, files, fmt.Errorf("access file: %w", err)
	}
	file, err := parsePolicyFile(text)
	if err != nil {
		return nil, files, fmt.Errorf("access file %s: %w", path, err)
	}
	var htpasswd []byte
	if file.Htpasswd != "" {
		name := file.Htpasswd
		if !filepath.IsAbs(name) {
			name = filepath.Join(filepath.Dir(path), name)
		}
		if htpasswd, err = files.read(name); err != nil {
			return nil, files, fmt.Errorf("access file %s: htpasswd: %w", path, err)
		}
	}
	policy, err := newPolicy(file, htpasswd)
	if err != nil {
		return nil, files, fmt.Errorf("access file %s has problems:\n%w", path, err)
	}
	return policy, files, nil
}

func parsePolicyFile(text []byte) (policyFile, error) {
	var file policyFile
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(&file); err != nil && !errors.Is(err, io.EOF) {
		return file, err
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return file, errors.New("there is a second document behind ---, which would not be read")
	}
	return file, nil
}

func newPolicy(file policyFile, htpasswd []byte) (*Policy, error) {
	p := &Policy{
		passwords: make(map[string][]byte),
		tokens:    make(map[[digestSize]byte]string),
		rights:    make(map[string][]grant),
		verified:  newPasswordCache(),
	}
	var problems []error
	problem := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }

	for _, user := range slices.Sorted(maps.Keys(file.Users)) {
		if err := p.addUser(user, file.Users[user]); err != nil {
			problem("users: %w", err)
		}
	}
	lines := bufio.NewScanner(bytes.NewReader(htpasswd))
	for number := 1; lines.Scan(); number++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		user, hash, _ := strings.Cut(line, ":")
		if err := p.addUser(user, hash); err != nil {
			problem("htpasswd line %d: %w", number, err)
		}
	}
	if err := lines.Err(); err != nil {
		problem("htpasswd: %w", err)
	}
	for _, holder := range slices.Sorted(maps.Keys(file.Tokens)) {
		if err := p.addTokens(holder, file.Tokens[holder]); err != nil {
			problem("tokens: %w", err)
		}
	}

	for i, right := range file.Rights {
		g := grant{}
		for _, text := range right.Subjects {
			pattern, err := readPattern(text)
			if err != nil {
				problem("rights[%d]: %w", i, err)
			}
			g.subjects = append(g.subjects, pattern)
		}
		for _, action := range right.Actions {
			g.actions |= action
		}
		if len(right.Who) == 0 || len(g.subjects) == 0 || g.actions == 0 {
			problem("rights[%d]: who, subjects and actions are all needed", i)
		}
		for _, who := range right.Who {
			if who != Anonymous && !p.names(who) && (!strings.HasPrefix(who, certPrefix) || who == certPrefix) {
				problem("rights[%d]: %q is neither a user nor a token, nor %s, nor like %sCOMMON-NAME", i, who, Anonymous, certPrefix)
			}
			p.rights[who] = append(p.rights[who], g)
		}
	}
	if len(p.rights) == 0 {
		problem("there are no rights, so nobody could do anything")
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	return p, nil
}

// maxCost bounds the work of one password: each step more doubles it, and 16 takes seconds.
const maxCost = 15

func (p *Policy) addUser(user, hash string) error {
	if err := p.addName(user); err != nil {
		return err
	}
	cost, err := bcrypt.Cost([]byte(hash))
	switch {
	case err != nil:
		return fmt.Errorf("the password of %q is not bcrypt; make a line with: postrider registry password %s", user, user)
	case cost > maxCost:
		return fmt.Errorf("the password of %q has bcrypt cost %d, more than %d would take seconds for each check", user, cost, maxCost)
	}
	p.passwords[user] = []byte(hash)
	p.costliest = max(p.costliest, cost)
	return nil
}

func (p *Policy) addTokens(holder string, digests []string) error {
	if err := p.addName(holder); err != nil {
		return err
	}
	if len(digests) == 0 {
		return fmt.Errorf("%q has none", holder)
	}
	for _, text := range digests {
		var digest [digestSize]byte
		hexDigits, ok := strings.CutPrefix(text, tokenScheme)
		if n, err := hex.Decode(digest[:], []byte(fmt.Sprintf("%.*s", 2*digestSize, hexDigits))); !ok || err != nil || n != digestSize || len(hexDigits) != 2*digestSize {
			return fmt.Errorf("%q is not %s and 64 hexadecimal digits; make a token with: postrider registry token %s", holder, tokenScheme, holder)
		}
		if other, taken := p.tokens[digest]; taken {
			return fmt.Errorf("%q has the same token as %q", holder, other)
		}
		p.tokens[digest] = holder
	}
	return nil
}

// addName sees that a name stands for one user or token only: it is what the log says of
// who made a change.
func (p *Policy) addName(name string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	if p.names(name) {
		return fmt.Errorf("%q is there twice", name)
	}
	return nil
}

// CheckName tells why a text cannot be the name of a user or token.
func CheckName(name string) error {
	switch {
	case name == "" || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == 0x7f || r == ':' }):
		return fmt.Errorf("%q is no name: it has neither colons nor spaces", name)
	case name == Anonymous:
		return fmt.Errorf("%q stands for those who give no credentials", name)
	}
	return nil
}

func (p *Policy) names(who string) bool {
	if _, ok := p.passwords[who]; ok {
		return true
	}
	for _, holder := range p.tokens {
		if holder == who {
			return true
		}
	}
	return false
}

// allows tells whether somebody may do an action on a subject.
func (p *Policy) allows(who string, action Action, n name) bool {
	for _, g := range p.rights[who] {
		if g.actions&action == 0 {
			continue
		}
		for _, pattern := range g.subjects {
			if pattern.matches(n) {
				return true
			}
		}
	}
	return false
}

// allowsEverywhere tells whether somebody may do an action on every subject there can be.
func (p *Policy) allowsEverywhere(who string, action Action) bool {
	for _, g := range p.rights[who] {
		if g.actions&action != 0 && slices.Contains(g.subjects, pattern{"*", "*"}) {
			return true
		}
	}
	return false
}

// seesContext tells whether somebody may read a subject that a context could have.
func (p *Policy) seesContext(who, context string) bool {
	for _, g := range p.rights[who] {
		if g.actions&Read != 0 && slices.ContainsFunc(g.subjects, func(p pattern) bool { return p.inContext(context) }) {
			return true
		}
	}
	return false
}
