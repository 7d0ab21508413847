package main

import (
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

var update = flag.Bool("update", false, "write what the scripts print into their golden files")

// TestSchemaScripts runs testdata/schema/*.txtar: whole stories of `postrider schema` on real
// repositories and a registry. They have two commands of their own:
//
//	exits CODE COMMAND...    runs a command that must end with this code
//	commit DATE              commits all that there is
func TestSchemaScripts(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("git"); err != nil {
		t.Fatal("these tests need git: install it")
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/schema",
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("REGISTRY", newRegistryServer(t))
			ci, err := filepath.Abs("../../deploy/ci")
			if err != nil {
				return err
			}
			env.Setenv("CI_FILES", ci)
			env.Setenv("GIT_CONFIG_GLOBAL", os.DevNull)
			env.Setenv("GIT_CONFIG_NOSYSTEM", "1")
			env.Setenv("GIT_CEILING_DIRECTORIES", filepath.Dir(env.WorkDir))
			for _, who := range []string{"AUTHOR", "COMMITTER"} {
				env.Setenv("GIT_"+who+"_NAME", "somebody")
				env.Setenv("GIT_"+who+"_EMAIL", "somebody@example.com")
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":  scriptExits,
			"commit": scriptCommit,
			"nogit":  scriptNoGit,
		},
	})
}

func scriptExits(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

func scriptCommit(ts *testscript.TestScript, _ bool, args []string) {
	for _, who := range []string{"AUTHOR", "COMMITTER"} {
		ts.Setenv("GIT_"+who+"_DATE", args[0]+"T12:00:00Z")
	}
	if _, err := os.Stat(ts.MkAbs(".git")); err != nil {
		ts.Check(ts.Exec("git", "init", "-q", "-b", "main", "."))
	}
	ts.Check(ts.Exec("git", "add", "-A", "."))
	ts.Check(ts.Exec("git", "commit", "-q", "-m", "as of "+args[0]))
}

// scriptNoGit leaves only postrider on the PATH.
func scriptNoGit(ts *testscript.TestScript, _ bool, _ []string) {
	for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
		if _, err := os.Stat(filepath.Join(dir, "postrider")); err == nil && strings.HasPrefix(filepath.Base(dir), "bin") {
			ts.Setenv("PATH", dir)
			return
		}
	}
	ts.Fatalf("postrider is not on the PATH")
}
