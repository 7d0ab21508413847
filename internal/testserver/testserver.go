package testserver

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// UniqueName returns a name that no other test has: lower-case letters, digits and
// underscores, at most 40 bytes, so that it can name a slot, a database or a topic.
func UniqueName(t testing.TB) string {
	t.Helper()
	var suffix [6]byte
	if _, err := rand.Read(suffix[:]); err != nil {
		t.Fatalf("make a unique name: %v", err)
	}
	name := strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', '0' <= r && r <= '9':
			return r
		case 'A' <= r && r <= 'Z':
			return r - 'A' + 'a'
		default:
			return '_'
		}
	}, t.Name())
	if len(name) > 26 {
		name = name[:26]
	}
	return "t" + name + "_" + hex.EncodeToString(suffix[:])
}

// lookup returns an environment variable that names a shared server. Without it the
// test ends.
func lookup(t testing.TB, variable string) string {
	t.Helper()
	value := os.Getenv(variable)
	if value == "" {
		Absent(t, variable+" is not set; `make test` starts the servers and sets it")
	}
	return value
}

var announced sync.Map

// Absent ends a test that cannot have what it needs: CI must not pass without it, while at
// a desk it is enough to say so on standard error too, where -v is not needed to see it.
func Absent(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("REQUIRE_INTEGRATION") == "1" {
		t.Fatal(why)
	}
	if _, said := announced.LoadOrStore(why, true); !said {
		fmt.Fprintln(os.Stderr, "SKIPPED: tests that need a server:", why)
	}
	t.Skip(why)
}

// script returns the path of a script in testdata/servers.
func script(t testing.TB, name string) string {
	t.Helper()
	// Tests run in their package's directory, so the module's root is some way up.
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		path := filepath.Join(dir, "testdata", "servers", name)
		if _, err := os.Stat(path); err == nil {
			return path
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			t.Fatalf("testdata/servers/%s not found above the working directory", name)
		}
		dir = parent
	}
}
