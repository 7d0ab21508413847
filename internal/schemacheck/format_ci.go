package schemacheck

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"strings"
)

// github writes workflow commands, which GitHub shows as annotations of the changed lines.
func (r *Report) github() []byte {
	escape := strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")
	property := strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C")
	var out strings.Builder
	for _, p := range r.Problems {
		command := map[string]string{"error": "error", "warning": "warning", "note": "notice"}[p.severity()]
		fmt.Fprintf(&out, "::%s file=%s", command, property.Replace(fromRepository(p.File)))
		if p.Line > 0 {
			fmt.Fprintf(&out, ",line=%d,col=%d", p.Line, p.Column)
			if p.EndLine > 0 {
				fmt.Fprintf(&out, ",endLine=%d", p.EndLine)
			}
			if p.EndLine == p.Line {
				fmt.Fprintf(&out, ",endColumn=%d", p.EndColumn)
			}
		}
		fmt.Fprintf(&out, ",title=%s::%s\n", property.Replace(p.Rule), escape.Replace(p.sentence()))
	}
	for _, note := range r.Notes {
		fmt.Fprintf(&out, "::notice title=schema check::%s\n", escape.Replace(note))
	}
	out.WriteString(r.summary(&page{}) + "\n")
	return []byte(out.String())
}

// codeQuality is an issue of GitLab's Code Quality report, a subset of Code Climate's format.
type codeQuality struct {
	Description string              `json:"description"`
	CheckName   string              `json:"check_name"`
	Fingerprint string              `json:"fingerprint"`
	Severity    string              `json:"severity"`
	Location    codeQualityLocation `json:"location"`
}

type codeQualityLocation struct {
	Path  string `json:"path"`
	Lines struct {
		Begin int `json:"begin"`
	} `json:"lines"`
}

func (r *Report) gitlab() []codeQuality {
	issues := []codeQuality{}
	for _, p := range r.Problems {
		issue := codeQuality{
			Description: p.sentence(), CheckName: p.Rule, Fingerprint: p.fingerprint(),
			Severity: map[string]string{"error": "critical", "warning": "minor", "note": "info"}[p.severity()],
		}
		issue.Location.Path = fromRepository(p.File)
		issue.Location.Lines.Begin = max(p.Line, 1)
		issues = append(issues, issue)
	}
	return issues
}

// fingerprint stays the same while a problem moves within its file.
func (p *Problem) fingerprint() string {
	sum := sha256.Sum256([]byte(strings.Join([]string{p.File, p.Subject, p.Rule, p.Direction, p.Field, p.Message}, "\x00")))
	return hex.EncodeToString(sum[:16])
}

// The elements of a JUnit report that its readers agree on.
type (
	junitSuites struct {
		XMLName  xml.Name `xml:"testsuites"`
		Tests    int      `xml:"tests,attr"`
		Failures int      `xml:"failures,attr"`
		Suites   []junitSuite
	}
	junitSuite struct {
		XMLName  xml.Name `xml:"testsuite"`
		Name     string   `xml:"name,attr"`
		Tests    int      `xml:"tests,attr"`
		Failures int      `xml:"failures,attr"`
		Errors   int      `xml:"errors,attr"`
		Skipped  int      `xml:"skipped,attr"`
		Cases    []*junitCase
		Output   string `xml:"system-out,omitempty"`
	}
	junitCase struct {
		XMLName   xml.Name       `xml:"testcase"`
		Name      string         `xml:"name,attr"`
		ClassName string         `xml:"classname,attr"`
		File      string         `xml:"file,attr"`
		Failures  []junitFailure `xml:"failure"`
		Skipped   *junitSkipped  `xml:"skipped"`
		Output    string         `xml:"system-out,omitempty"`
	}
	junitFailure struct {
		Type    string `xml:"type,attr"`
		Message string `xml:"message,attr"`
		Text    string `xml:",chardata"`
	}
	junitSkipped struct {
		Message string `xml:"message,attr"`
	}
)

// junit makes a test case of each subject, and of each file that has a problem of its own.
func (r *Report) junit() ([]byte, error) {
	suite := junitSuite{Name: "postrider schema check against " + r.Against}
	cases := make(map[string]*junitCase)
	add := func(name, file string) *junitCase {
		c := &junitCase{Name: name, ClassName: "schema", File: fromRepository(file)}
		cases[name] = c
		suite.Cases = append(suite.Cases, c)
		return c
	}
	for _, s := range r.Schemas {
		c := add(s.Subject, s.File)
		if s.Status == StatusUnchecked {
			c.Skipped = &junitSkipped{"level NONE"}
		}
	}
	for _, p := range r.Problems {
		c := cases[p.Subject]
		if c == nil {
			if c = cases[p.File]; c == nil {
				c = add(p.File, p.File)
			}
		}
		if p.Fails() {
			c.Failures = append(c.Failures, junitFailure{p.Rule, p.Message, strings.Replace(p.String(), p.Message, p.sentence(), 1)})
		} else {
			c.Output += fmt.Sprintf("%s: %s\n", p.severity(), strings.Replace(p.String(), p.Message, p.sentence(), 1))
		}
	}
	for _, c := range suite.Cases {
		if len(c.Failures) > 0 {
			suite.Failures++
			c.Skipped = nil
		}
		if c.Skipped != nil {
			suite.Skipped++
		}
	}
	suite.Tests = len(suite.Cases)
	suite.Output = strings.Join(append(r.Notes, r.summary(&page{})), "\n")
	text, err := xml.MarshalIndent(junitSuites{Tests: suite.Tests, Failures: suite.Failures, Suites: []junitSuite{suite}}, "", "  ")
	return append([]byte(xml.Header), append(text, '\n')...), err
}
