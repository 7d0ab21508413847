package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/postrider/postrider/relay"
)

func TestStatus_SaysWhatIsWrongAndExitsWithIt(t *testing.T) {
	t.Parallel()
	loss := int64(7200)
	for name, tc := range map[string]struct {
		report relay.StatusReport
		code   int
		want   []string
	}{
		"ready": {relay.StatusReport{Name: "orders", Phase: relay.PhaseStreaming, Ready: true, Published: 7}, 0,
			[]string{"relay orders: streaming", "7 published"}},
		"with parked keys": {relay.StatusReport{Name: "orders", Phase: relay.PhaseStreaming, Ready: true,
			Parked: &relay.ParkedReport{Keys: 2, Events: 7, Examples: []relay.ParkedKey{{Topic: "orders", Key: "42", Events: 1, Code: relay.PoisonEvent}}}}, 0,
			[]string{"7 events of 2 keys", `orders "42": 1 event since `, "POISON_EVENT"}},
		"halted": {relay.StatusReport{Name: "orders", Phase: relay.PhaseStreaming, Reason: "halted",
			Lag:      &relay.Lag{RetainedBytes: 1_500_000_000, SecondsToLoss: &loss},
			Troubles: []relay.Trouble{{Component: "event", Code: relay.PoisonEvent, Message: "at 0/1/0: $.x", Hint: "mend it"}}}, exitNo,
			[]string{"HALTED POISON_EVENT", "at 0/1/0: $.x", "→ mend it", "1.5 GB (the slot is lost in about 2h0m0s"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				_ = json.NewEncoder(w).Encode(tc.report)
			}))
			defer server.Close()
			var out bytes.Buffer
			cmd := newStatusCommand()
			cmd.SetOut(&out)
			cmd.SilenceErrors, cmd.SilenceUsage = true, true
			cmd.SetArgs([]string{"--url", server.URL})
			code := 0
			var coded *exitError
			if err := cmd.ExecuteContext(t.Context()); errors.As(err, &coded) {
				code = coded.code
			}
			if code != tc.code {
				t.Errorf("exit %d, want %d", code, tc.code)
			}
			for _, want := range tc.want {
				if !strings.Contains(out.String(), want) {
					t.Errorf("output lacks %q:\n%s", want, out.String())
				}
			}
		})
	}
}

func TestStatus_UnreachableRelayIsExit3(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	for _, url := range []string{"http://127.0.0.1:1", server.URL} {
		cmd := newStatusCommand()
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		cmd.SetArgs([]string{"--url", url})
		var coded *exitError
		if err := cmd.ExecuteContext(t.Context()); !errors.As(err, &coded) || coded.code != exitUnreachable {
			t.Errorf("%s: %v, want exit %d", url, err, exitUnreachable)
		}
	}
}
