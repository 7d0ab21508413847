package schemacheck

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// manyProblems is a report with every kind of problem and with texts that want escaping.
func manyProblems(t *testing.T) *Report {
	t.Helper()
	old := writeDir(t, map[string]string{
		"a.avsc": recordOf(`{"name":"x","type":"int"},{"name":"y","type":"int"}`), "gone %,:<&>.avsc": `{"type":"record","name":"gone","fields":[]}`,
		"none.avsc": `{"type":"record","name":"none","fields":[]}`,
	})
	now := writeDir(t, map[string]string{
		"a.avsc":   "{\"type\":\"record\",\"name\":\"r\",\"fields\":[\n\t{\"name\":\"x\",\"type\":\"string\",\"doc\":\"" + strings.Repeat("a long text ", 20) + "\"}, {\"name\":\"y\",\"type\":\n\"string\"},{\"name\":\"é\",\"type\":\"int\"}]}",
		"bad.avsc": `{"type":"rec`, "other.avdl": "protocol", "new.avsc": `{"type":"record","name":"new","fields":[]}`,
		"none.avsc": `{"type":"record","name":"none","fields":[]}`,
		ConfigName: "subjects: {none: {level: NONE}}\nwaivers:\n- {subject: r, rule: TYPE_MISMATCH, field: x, reason: '<100%\n\n&\"', expires: 2999-01-01}\n" +
			"- {subject: r, rule: TOO_COMPLEX, reason: never, expires: 2000-01-01}\n- {subject: r, rule: NAME_MISMATCH, reason: unused, expires: 2999-01-01}\n",
	})
	report, err := Run(t.Context(), Options{Dir: now, Against: "dir:" + old})
	if err != nil {
		t.Fatal(err)
	}
	report.Notes = append(report.Notes, "a note: 100% <of> it")
	if len(report.Problems) < 8 {
		t.Fatalf("%d problems only", len(report.Problems))
	}
	return report
}

func write(t *testing.T, r *Report, format string) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := r.Write(&out, WriteOptions{Format: format}); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// strictly decodes into a value that has exactly the fields of the format.
func strictly(t *testing.T, text []byte, into any) {
	t.Helper()
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
}

func TestWrite_TextStaysWithinTheWidth(t *testing.T) {
	t.Parallel()
	r := manyProblems(t)
	for _, p := range r.Problems {
		p.File = filepath.Base(p.File) // of the user's making, and not broken up
	}
	r.Against = "dir:old"
	for line := range strings.SplitSeq(string(write(t, r, "text")), "\n") {
		words := strings.Fields(line)
		if utf8.RuneCountInString(line) > 80 && !slices.ContainsFunc(words, func(w string) bool { return len(w) > 60 }) {
			t.Errorf("%d columns: %s", utf8.RuneCountInString(line), line)
		}
		if strings.Contains(line, "\x1b") {
			t.Errorf("colour without a terminal: %q", line)
		}
	}
	var out bytes.Buffer
	if err := r.Write(&out, WriteOptions{Format: "text", Color: true, Width: 60}); err != nil || !strings.Contains(out.String(), red+"error"+reset) {
		t.Errorf("no colour: %v", err)
	}
}

func TestWrite_MarksTheProblemUnderItsLine(t *testing.T) {
	t.Parallel()
	r := manyProblems(t)
	lines := strings.Split(string(write(t, r, "text")), "\n")
	marked := 0
	for i, line := range lines {
		if trimmed := strings.Trim(line, " "); trimmed == "" || strings.Trim(trimmed, "^") != "" {
			continue
		}
		marked++
		column := strings.Index(line, "^")
		above := []rune(lines[i-1])
		if got := string(above[column:min(column+strings.Count(line, "^"), len(above))]); got != `"string"` && !strings.HasPrefix(got, `{"name":"é"`) {
			t.Errorf("the mark is under %q", got)
		}
	}
	if marked != 3 {
		t.Errorf("%d marks, want 3", marked)
	}
}

// The properties that section 3 of SARIF 2.1.0 requires, and what GitHub asks for on top.
func TestWrite_SARIFHasTheShapeOfTheStandard(t *testing.T) {
	t.Parallel()
	r := manyProblems(t)
	var log struct {
		Schema  string `json:"$schema"`
		Version string
		Runs    []struct {
			Tool struct {
				Driver struct {
					Name, InformationURI string
					Rules                []struct {
						ID               string
						ShortDescription struct{ Text string }
					}
				}
			}
			Invocations []struct {
				ExecutionSuccessful        *bool
				ToolExecutionNotifications []struct {
					Level   string
					Message struct{ Text string }
				}
			}
			ColumnKind string
			Results    []struct {
				RuleID    string
				RuleIndex int
				Level     string
				Message   struct{ Text string }
				Locations []struct {
					PhysicalLocation struct {
						ArtifactLocation struct{ URI string }
						Region           *struct{ StartLine, StartColumn, EndLine, EndColumn int }
					}
				}
				PartialFingerprints map[string]string
				Suppressions        []struct{ Kind, Justification string }
				Properties          map[string]any
			}
		}
	}
	strictly(t, write(t, r, "sarif"), &log)
	if log.Version != "2.1.0" || len(log.Runs) != 1 || log.Schema == "" {
		t.Fatalf("version %s, %d runs", log.Version, len(log.Runs))
	}
	run := log.Runs[0]
	if run.Tool.Driver.Name == "" || !slices.Contains([]string{"utf16CodeUnits", "unicodeCodePoints"}, run.ColumnKind) || run.Invocations[0].ExecutionSuccessful == nil {
		t.Errorf("%+v", run.Tool)
	}
	if len(run.Results) != len(r.Problems) {
		t.Errorf("%d results of %d problems", len(run.Results), len(r.Problems))
	}
	uri := regexp.MustCompile(`^([A-Za-z0-9/._~!$&'()*+,;=:@-]|%[0-9A-F]{2})+$`)
	prints := make(map[string]bool)
	for _, result := range run.Results {
		if rules := run.Tool.Driver.Rules; result.RuleIndex >= len(rules) || rules[result.RuleIndex].ID != result.RuleID || rules[result.RuleIndex].ShortDescription.Text == "" {
			t.Errorf("%s is not the rule %d", result.RuleID, result.RuleIndex)
		}
		if !slices.Contains([]string{"error", "warning", "note", "none"}, result.Level) || result.Message.Text == "" || len(result.Locations) != 1 {
			t.Errorf("%+v", result)
		}
		place := result.Locations[0].PhysicalLocation
		if !uri.MatchString(place.ArtifactLocation.URI) {
			t.Errorf("%q is no URI", place.ArtifactLocation.URI)
		}
		if region := place.Region; region != nil {
			if region.StartLine < 1 || region.StartColumn < 1 || region.EndLine != 0 && (region.EndLine < region.StartLine || region.EndColumn < 1) {
				t.Errorf("region %+v", *region)
			}
		}
		for _, s := range result.Suppressions {
			if s.Kind != "external" && s.Kind != "inSource" {
				t.Errorf("suppression %+v", s)
			}
		}
		for _, print := range result.PartialFingerprints {
			if prints[print] {
				t.Errorf("the fingerprint %s is there twice", print)
			}
			prints[print] = true
		}
	}
}

func TestWrite_JUnitHasTheShapeThatReadersAgreeOn(t *testing.T) {
	t.Parallel()
	r := manyProblems(t)
	text := write(t, r, "junit")
	// What each element may hold, with its attributes.
	shape := map[string]struct{ parents, attributes []string }{
		"testsuites": {[]string{""}, []string{"tests", "failures"}},
		"testsuite":  {[]string{"testsuites"}, []string{"name", "tests", "failures", "errors", "skipped"}},
		"testcase":   {[]string{"testsuite"}, []string{"name", "classname", "file"}},
		"failure":    {[]string{"testcase"}, []string{"type", "message"}},
		"skipped":    {[]string{"testcase"}, []string{"message"}},
		"system-out": {[]string{"testcase", "testsuite"}, nil},
	}
	counts := make(map[string]int)
	path := []string{""}
	decoder := xml.NewDecoder(bytes.NewReader(text))
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		switch element := token.(type) {
		case xml.StartElement:
			name := element.Name.Local
			counts[name]++
			var attributes []string
			for _, a := range element.Attr {
				attributes = append(attributes, a.Name.Local)
			}
			if s, ok := shape[name]; !ok || !slices.Contains(s.parents, path[len(path)-1]) || !slices.Equal(s.attributes, attributes) {
				t.Errorf("%s with %v in %s", name, attributes, path[len(path)-1])
			}
			path = append(path, name)
		case xml.EndElement:
			path = path[:len(path)-1]
		}
	}
	if counts["testsuite"] != 1 || counts["failure"] == 0 || counts["skipped"] != 1 || counts["testcase"] < len(r.Schemas) {
		t.Errorf("%v", counts)
	}
}

func TestWrite_GitLabIssuesAreComplete(t *testing.T) {
	t.Parallel()
	r := manyProblems(t)
	var issues []struct {
		Description string
		CheckName   string `json:"check_name"`
		Fingerprint string
		Severity    string
		Location    struct {
			Path  string
			Lines struct{ Begin int }
		}
	}
	strictly(t, write(t, r, "gitlab"), &issues)
	prints := make(map[string]bool)
	for _, i := range issues {
		if i.Description == "" || i.CheckName == "" || i.Fingerprint == "" || prints[i.Fingerprint] || i.Location.Path == "" || i.Location.Lines.Begin < 1 ||
			!slices.Contains([]string{"info", "minor", "major", "critical", "blocker"}, i.Severity) {
			t.Errorf("%+v", i)
		}
		prints[i.Fingerprint] = true
	}
	if len(issues) != len(r.Problems) {
		t.Errorf("%d issues of %d problems", len(issues), len(r.Problems))
	}
	r.Problems = nil
	if got := string(write(t, r, "gitlab")); got != "[]\n" {
		t.Errorf("without problems: %s", got)
	}
}

func TestWrite_GitHubCommandsAreOneLineEach(t *testing.T) {
	t.Parallel()
	r := manyProblems(t)
	lines := strings.Split(strings.TrimSuffix(string(write(t, r, "github")), "\n"), "\n")
	if len(lines) != len(r.Problems)+len(r.Notes)+1 {
		t.Errorf("%d lines of %d problems", len(lines), len(r.Problems))
	}
	command := regexp.MustCompile(`^::(error|warning|notice) (file|title)=([^:,]+)(,[a-zA-Z]+=[^:,]+)*::.+$`)
	for _, line := range lines[:len(lines)-1] {
		if !command.MatchString(line) {
			t.Errorf("no command: %s", line)
		}
	}
}

func TestWrite_UnknownFormat(t *testing.T) {
	t.Parallel()
	if err := new(Report).Write(io.Discard, WriteOptions{Format: "xml"}); err == nil {
		t.Error("no error")
	}
}
