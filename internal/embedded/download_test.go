package embedded

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// jar packs testdata/postgres.txz, three programs that do nothing, as Maven Central has it.
func jar(t *testing.T) []byte {
	t.Helper()
	binaries, err := os.ReadFile("testdata/postgres.txz")
	if err != nil {
		t.Fatal(err)
	}
	var buffer bytes.Buffer
	archive := zip.NewWriter(&buffer)
	// Random-looking ballast beside it makes the download large enough to show progress.
	for name, content := range map[string][]byte{"postgres.txz": binaries, "ballast": bytes.Repeat(binaries, 400)} {
		file, err := archive.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Store})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := file.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	return buffer.Bytes()
}

// serveRepository serves the jar, and the checksum of sum, under any name.
func serveRepository(t *testing.T, jar, sum []byte) string {
	t.Helper()
	checksum := sha256.Sum256(sum)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, ".sha256") {
			_, _ = w.Write([]byte(hex.EncodeToString(checksum[:])))
			return
		}
		_, _ = w.Write(jar)
	}))
	t.Cleanup(func() { closeServer(server) })
	return server.URL
}

// closeServer also ends the idle connections of http.DefaultClient, which the library uses.
func closeServer(server *httptest.Server) {
	server.Close()
	http.DefaultClient.CloseIdleConnections()
}

func needsPublishedPlatform(t *testing.T) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("the programs of the fixture are shell scripts")
	}
}

func TestDownload_AppearsCompleteAndShowsProgress(t *testing.T) {
	needsPublishedPlatform(t)
	archive := jar(t)
	home := filepath.Join(t.TempDir(), "cache", "postgres")
	var progress bytes.Buffer
	if err := download(t.Context(), serveRepository(t, archive, archive), home, &progress); err != nil {
		t.Fatal(err)
	}
	if !isServer(filepath.Join(home, "bin")) || !exists(filepath.Join(home, "share", "timezone")) {
		t.Error("the server is not complete")
	}
	if got := strings.Count(progress.String(), "\n"); got != 1 || !strings.HasPrefix(progress.String(), "downloading ") {
		t.Errorf("progress is %q, want one line", progress.String())
	}
	leftovers, err := filepath.Glob(filepath.Join(filepath.Dir(home), "download-*"))
	if err != nil || len(leftovers) > 0 {
		t.Errorf("left over: %v, %v", leftovers, err)
	}
}

func TestDownload_LeavesNothingBehindWhenItFails(t *testing.T) {
	needsPublishedPlatform(t)
	archive := jar(t)
	cut := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000000")
		_, _ = w.Write(archive[:1000])
	}))
	defer closeServer(cut)
	empty := httptest.NewServer(http.NotFoundHandler())
	defer closeServer(empty)
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	canceled, cancel := context.WithCancel(t.Context())
	cancel()

	tests := []struct {
		name       string
		ctx        context.Context
		repository string
		want       string
	}{
		{"wrong checksum", t.Context(), serveRepository(t, archive, []byte("another")), "checksum"},
		{"no archive", t.Context(), serveRepository(t, []byte("zip?"), []byte("zip?")), "zip"},
		{"not published", t.Context(), empty.URL, "404 Not Found"},
		{"connection cut", t.Context(), cut.URL, "unexpected EOF"},
		{"no connection", t.Context(), "http://" + closed.Addr().String(), "refused: check the network"},
		{"canceled", canceled, serveRepository(t, archive, archive), "context canceled"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			temporary := t.TempDir()
			t.Setenv("TMPDIR", temporary)
			home := filepath.Join(t.TempDir(), "postgres")
			err := download(test.ctx, test.repository, home, nil)
			if err == nil || !strings.Contains(explain(err).Error(), test.want) {
				t.Errorf("got %v, want %q in it", err, test.want)
			}
			for _, dir := range []string{filepath.Dir(home), temporary} {
				entries, err := os.ReadDir(dir)
				if err != nil || len(entries) > 0 {
					t.Errorf("left over: %v, %v", entries, err)
				}
			}
		})
	}
}

func TestDownload_KnowsWhereTheLibraryDownloadsFrom(t *testing.T) {
	t.Parallel()
	from, err := repository()
	if err != nil || !strings.HasPrefix(from, "https://") {
		t.Errorf("%q, %v", from, err)
	}
}
