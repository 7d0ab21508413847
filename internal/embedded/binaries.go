package embedded

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strconv"
)

// debianBinaries is where Debian and Ubuntu keep the servers, outside of PATH and one
// directory per major version.
const debianBinaries = "/usr/lib/postgresql/*/bin"

// findBinaries returns the directory with initdb and postgres: of the installed server or,
// where there is none, of the one in the cache, which is filled if need be.
func findBinaries(ctx context.Context, cache string, progress io.Writer) (string, error) {
	if bin, ok := installedBinaries(debianBinaries); ok {
		return bin, nil
	}
	if cache == "" {
		dir, err := defaultCache()
		if err != nil {
			return "", err
		}
		cache = dir
	}
	return cachedBinaries(ctx, cache, progress)
}

// installedBinaries prefers PATH, which the user controls, to the newest of the versions
// that match pattern.
func installedBinaries(pattern string) (string, bool) {
	if initdb, err := exec.LookPath("initdb"); err == nil {
		// On PATH there may be a link to initdb alone.
		if initdb, err = filepath.EvalSymlinks(initdb); err == nil && isServer(filepath.Dir(initdb)) {
			return filepath.Dir(initdb), true
		}
	}
	dirs, _ := filepath.Glob(pattern) // the pattern is well-formed
	sort.Slice(dirs, func(i, j int) bool { return majorVersion(dirs[i]) > majorVersion(dirs[j]) })
	for _, dir := range dirs {
		if isServer(dir) {
			return dir, true
		}
	}
	return "", false
}

// majorVersion reads 17 from /usr/lib/postgresql/17/bin, and 0 from what has no number there.
func majorVersion(bin string) int {
	version, _ := strconv.Atoi(filepath.Base(filepath.Dir(bin)))
	return version
}

func isServer(bin string) bool {
	for _, name := range []string{"initdb", "postgres"} {
		info, err := os.Stat(filepath.Join(bin, name))
		if err != nil || !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
			return false
		}
	}
	return true
}

// defaultCache returns the directory for downloads. The server of root runs as another
// user, who cannot enter root's home.
func defaultCache() (string, error) {
	if os.Geteuid() == 0 {
		return "/var/cache/postrider", nil
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find a place for the download of Postgres: %w", err)
	}
	return filepath.Join(dir, "postrider"), nil
}
