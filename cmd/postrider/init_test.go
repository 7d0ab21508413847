package main

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/postrider/postrider/internal/testserver"
)

// TestInitScripts runs testdata/init/*.txtar. They have the commands of TestSchemaScripts.
func TestInitScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/init",
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			ci, err := filepath.Abs("../../deploy/ci")
			env.Setenv("CI_FILES", ci)
			return err
		},
		Condition: func(condition string) (bool, error) {
			if condition == "root" {
				return os.Geteuid() == 0, nil
			}
			return false, errors.New("no such condition")
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": scriptExits},
	})
}

// The steps that init prints are given to a shell as they are.
func TestInit_ItsStepsLeadFromAnEmptyRepositoryToAnEventInKafka(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("psql"); err != nil {
		testserver.Absent(t, "psql is not on the PATH")
	}
	url, brokers, topic, registry := testserver.Postgres(t), testserver.Kafka(t), testserver.Topic(t, 1), newRegistryServer(t)
	repo := t.TempDir()
	name := testserver.UniqueName(t)
	name = name[max(0, len(name)-40):]
	commands := filepath.Join(t.TempDir(), "bin")
	binary, err := os.Executable()
	if err := errors.Join(err, os.Mkdir(commands, 0o755), os.Symlink(binary, filepath.Join(commands, "postrider"))); err != nil {
		t.Fatal(err)
	}
	shell := func(command string) *exec.Cmd {
		cmd := exec.Command("sh", "-c", command)
		cmd.Dir = repo
		cmd.Env = append(os.Environ(), asCommand+"=1", "GORACE=atexit_sleep_ms=0", "PATH="+commands+":"+os.Getenv("PATH"),
			"POSTRIDER_POSTGRES_URL="+url, "POSTRIDER_KAFKA_BROKERS="+strings.Join(brokers, ","), "POSTRIDER_REGISTRY_URL="+registry,
			"POSTRIDER_HTTP_LISTEN=-", "POSTRIDER_OUTBOX_TOPIC="+topic)
		return cmd
	}
	do := func(command string) string {
		t.Helper()
		out, err := shell(command).Output()
		if err != nil {
			t.Fatalf("%s: %v\n%s", command, err, out)
		}
		return string(out)
	}
	var report repoReport
	if err := json.Unmarshal([]byte(do("postrider init --json --name "+name)), &report); err != nil {
		t.Fatal(err)
	}
	if len(report.Next) != 3 || len(report.Next[2].Commands) != 3 {
		t.Fatalf("steps: %+v", report.Next)
	}
	do(report.Next[0].Commands[0])
	do(report.Next[1].Commands[0])
	do(report.Next[2].Commands[0])
	relay := startCommand(t, shell("exec "+report.Next[2].Commands[1]))
	relay.awaitLog(streaming)
	do(report.Next[2].Commands[2])

	consumer, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer consumer.Close()
	fetches := consumer.PollRecords(t.Context(), 1)
	if err := fetches.Err(); err != nil {
		t.Fatal(err)
	}
	if record := fetches.Records()[0]; string(record.Key) != "order-1" || !strings.Contains(string(record.Value), "order-1") {
		t.Errorf("record %q: %q", record.Key, record.Value)
	}
	if code, _ := relay.terminate(); code != 0 {
		t.Errorf("the relay ended with %d", code)
	}
}

func TestWriteNewFile_LeavesOneThatIsThereAloneAndNothingBehind(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	if err := writeNewFile(path, "first"); err != nil {
		t.Fatal(err)
	}
	err := writeNewFile(path, "second")
	if !errors.Is(err, fs.ErrExist) || err.Error() != "write "+path+": file exists" {
		t.Errorf("over an existing file: %v", err)
	}
	dangling := filepath.Join(dir, "link")
	if err := os.Symlink("nowhere", dangling); err != nil {
		t.Fatal(err)
	}
	if err := writeNewFile(dangling, "third"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over a link to nothing: %v", err)
	}
	if got := readFile(t, path); got != "first" {
		t.Errorf("the file has %q now", got)
	}
	if names := listFiles(t, dir); len(names) != 2 {
		t.Errorf("files: %v", names)
	}
}
