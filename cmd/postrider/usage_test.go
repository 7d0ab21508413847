package main

import (
	"bytes"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
)

// everyCommand calls f for each command that users see. Texts of the shells' completion are
// cobra's. The demo's are its own.
func everyCommand(cmd *cobra.Command, f func(*cobra.Command)) {
	f(cmd)
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() && cmd.Name() != "completion" && sub.Name() != "demo" {
			everyCommand(sub, f)
		}
	}
}

// loneWord is a line of a flag with one word in the middle of a sentence: the break in the
// flag's text comes later than where the line is full.
var loneWord = regexp.MustCompile(`(?m)^ {16,}[^\s]+\n {16,}[^\s]+.*`)

func TestHelp_FitsInto80ColumnsAndHasExamples(t *testing.T) {
	t.Parallel()
	seen := 0
	everyCommand(newRootCommand(), func(cmd *cobra.Command) {
		seen++
		path := strings.Fields(cmd.CommandPath())[1:]
		out, code, err := run(t, append(slices.Clone(path), "--help")...)
		if code != 0 || err != nil {
			t.Errorf("%s --help: exit %d, %v", cmd.CommandPath(), code, err)
		}
		for line := range strings.SplitSeq(out, "\n") {
			if n := utf8.RuneCountInString(line); n > helpColumns && !strings.HasPrefix(line, "  demo ") {
				t.Errorf("%s --help: %d columns: %s", cmd.CommandPath(), n, line)
			}
		}
		if word := loneWord.FindString(out); word != "" {
			t.Errorf("%s --help: a line broken twice: %s", cmd.CommandPath(), word)
		}
		example := strings.Contains(out, "Examples:\n  "+cmd.CommandPath())
		if plain := []string{"version", "completion"}; !example && !cmd.HasAvailableSubCommands() && !slices.Contains(plain, cmd.Name()) {
			t.Errorf("%s --help has no example", cmd.CommandPath())
		}
	})
	if seen < 20 {
		t.Errorf("%d commands only", seen)
	}
}

func TestUsage_WrongUsageExitsWith2AndSaysWhatMayBeMeant(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ args, want string }{
		{"staus", "there is no command postrider staus; is postrider status meant?"},
		{"frobnicate", "there is no command postrider frobnicate; postrider --help lists the commands"},
		{"outbox sq", "there is no command postrider outbox sq; is postrider outbox sql meant?"},
		{"registry exprt", "there is no command postrider registry exprt; is postrider registry export meant?"},
		{"schema chek dir", "there is no command postrider schema chek; is postrider schema check meant?"},
		{"help staus", "there is no command postrider staus; is postrider status meant?"},
		{"help outbox sq", "there is no command postrider outbox sq; is postrider outbox sql meant?"},
		{"completion", "completion: say bash, zsh, fish or powershell (postrider completion --help)"},
		{"completion tcsh", "there is no command postrider completion tcsh; postrider completion --help lists the commands"},
		{"relay postrider.yaml", `relay: takes no argument such as "postrider.yaml" (postrider relay --help)`},
		{"relay --confg postrider.yaml", "relay: unknown flag: --confg; is --config meant?"},
		{"relay -x", "relay: unknown shorthand flag: 'x' in -x (postrider relay --help)"},
		{"relay --log-level", "relay: flag needs an argument: --log-level (postrider relay --help)"},
		{"--frobnicate", "unknown flag: --frobnicate (postrider --help)"},
		{"bench --events many", `bench: --events "many": want a whole number`},
		{"bench --rows-per-transaction 1,x", `bench: --rows-per-transaction "1,x": want whole numbers such as 1,100`},
		{"replay --timeout soon", `replay: --timeout "soon": want a duration such as 30s or 10m`},
		{"registry --rate-limit x", `registry: --rate-limit "x": want a number`},
		{"status --json=maybe", `status: --json "maybe": want true or false`},
	} {
		_, code, err := run(t, strings.Fields(test.args)...)
		if code != exitUsage || err.Error() != test.want {
			t.Errorf("postrider %s: exit %d, %v; want 2 and %q", test.args, code, err, test.want)
		}
	}
}

func TestUsage_HelpIsNoError(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{nil, {"help"}, {"help", "relay"}, {"help", "outbox", "sql"}, {"--help"}} {
		if out, code, err := run(t, args...); code != 0 || err != nil || out == "" {
			t.Errorf("postrider %v: exit %d, %v", args, code, err)
		}
	}
}

func TestUnknownVariables_NamesThemAndWhatMayBeMeant(t *testing.T) {
	t.Parallel()
	got := unknownVariables([]string{
		"POSTRIDER_KAFKA_BROKER=a:9092", "POSTRIDER_COLOUR=red", "KAFKA_BROKER=a", "HOME=/",
		"POSTRIDER_KAFKA_BROKERS=a:9092", "POSTRIDER_REGISTRY_STORE=memory", "POSTRIDER_REGISTRY_AUTH_TOKEN=t", "POSTRIDER_REGISTRY_FROM_URL=x",
		// Of a Kubernetes service that is called postrider, and of postrider-registry.
		"POSTRIDER_SERVICE_HOST=10.0.0.1", "POSTRIDER_SERVICE_PORT=8080", "POSTRIDER_SERVICE_PORT_HTTP=8080", "POSTRIDER_PORT=tcp://10.0.0.1:8080",
		"POSTRIDER_PORT_8080_TCP=tcp://10.0.0.1:8080", "POSTRIDER_PORT_8080_TCP_ADDR=10.0.0.1", "POSTRIDER_REGISTRY_SERVICE_HOST=10.0.0.1",
	})
	want := []string{
		"the environment variable POSTRIDER_COLOUR is not known and does nothing",
		"the environment variable POSTRIDER_KAFKA_BROKER is not known and does nothing; is POSTRIDER_KAFKA_BROKERS meant?",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestRelay_WarnsOfVariablesThatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	path := writeConfig(t, `
name: orders
postgres: {url: "postgres://relay@127.0.0.1:1/app"}
registry: {url: "http://127.0.0.1:1"}
`)
	const want = "the environment variable POSTRIDER_KAFKA_BROKER is not known and does nothing; is POSTRIDER_KAFKA_BROKERS meant?"
	for name, test := range map[string]struct {
		args []string
		code int
	}{
		"it is the cause of an error": {[]string{"relay", "-c", path}, exitUsage},
		"the configuration is right":  {[]string{"relay", "-c", path, "--check-config", "--set", "kafka.brokers=b:9092"}, 0},
		"doctor":                      {[]string{"doctor", "-c", path, "--set", "kafka.brokers=127.0.0.1:1"}, exitUnreachable},
	} {
		cmd := postriderCommand(t, test.args...)
		cmd.Env = append(cmd.Env, "POSTRIDER_KAFKA_BROKER=a:9092")
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		_ = cmd.Run() // its exit code is looked at
		if code := cmd.ProcessState.ExitCode(); code != test.code || strings.Count(stderr.String(), want) != 1 {
			t.Errorf("%s: exit %d, want %d and one warning in\n%s", name, code, test.code, stderr.String())
		}
	}
	cmd := postriderCommand(t, "relay", "-c", path, "--set", "kafka.brokers=127.0.0.1:1", "--set", "http.listen=-")
	cmd.Env = append(cmd.Env, "POSTRIDER_KAFKA_BROKER=a:9092")
	relay := startCommand(t, cmd)
	relay.awaitLog(`"level":"WARN","msg":"` + want)
	if code, _ := relay.terminate(); code != 0 {
		t.Errorf("exit %d: a variable ended the relay", code)
	}
}
