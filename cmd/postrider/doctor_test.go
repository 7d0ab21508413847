package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/postrider/postrider/relay"
)

// doctor runs the command and returns its exit code and what it printed.
func doctor(t *testing.T, args ...string) (code int, printed string) {
	t.Helper()
	var out bytes.Buffer
	cmd := newDoctorCommand()
	cmd.SetOut(&out)
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(t.Context())
	var coded *exitError
	switch {
	case errors.As(err, &coded):
		code = coded.code
	case err != nil:
		t.Fatal(err)
	}
	return code, out.String()
}

func TestDoctor_ExitCodesTellWhatIsToDo(t *testing.T) {
	t.Parallel()
	w := newWorkplace(t)
	execSQL(t, connect(t, w.url), `SELECT outbox_emit('order', 'a', 'order.created', '{"seq": 1}')`)
	for name, tc := range map[string]struct {
		args []string
		code int
		want []string
	}{
		"fine":        {nil, 0, []string{"ok    postgres  reachable: database", "ok    registry  subject: \"order.created\""}},
		"no":          {[]string{"--set", "outbox.topic=nobody-made-this"}, exitNo, []string{"FAIL  kafka     topic nobody-made-this: TOPIC_MISSING", "→ create it"}},
		"usage":       {[]string{"--set", "outbox.topic={"}, exitUsage, nil},
		"unreachable": {[]string{"--set", "registry.url=http://127.0.0.1:1"}, exitUnreachable, []string{"FAIL  registry  reachable", "→ is it running"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code, printed := doctor(t, append([]string{"-c", w.config}, tc.args...)...)
			if code != tc.code {
				t.Errorf("exit %d, want %d:\n%s", code, tc.code, printed)
			}
			for _, want := range tc.want {
				if !strings.Contains(printed, want) {
					t.Errorf("output lacks %q:\n%s", want, printed)
				}
			}
		})
	}
	code, printed := doctor(t, "-c", w.config, "--json")
	var d relay.Diagnosis
	if err := json.Unmarshal([]byte(printed), &d); err != nil || code != 0 || d.Failed || len(d.Checks) < 10 {
		t.Errorf("--json: exit %d, %v:\n%s", code, err, printed)
	}
}
