package embedded

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// bar shows how far a download is. On a terminal it moves; elsewhere, as in a log of CI, one
// line says that the download began.
type bar struct{ moving *progressbar.ProgressBar }

// newBar shows the download of one response on w, which may be nil. Checksums and the like
// are too small to be shown.
func newBar(w io.Writer, response *http.Response) bar {
	const small = 1 << 16
	if w == nil || response.ContentLength >= 0 && response.ContentLength < small {
		return bar{}
	}
	name := path.Base(response.Request.URL.Path)
	if file, ok := w.(*os.File); !ok || !term.IsTerminal(int(file.Fd())) {
		fmt.Fprintf(w, "downloading %s (%d MB) from %s, once\n", name, response.ContentLength>>20, response.Request.URL.Host)
		return bar{}
	}
	return bar{progressbar.NewOptions64(response.ContentLength,
		progressbar.OptionSetWriter(w),
		progressbar.OptionSetDescription("downloading Postgres, once"),
		progressbar.OptionShowBytes(true),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionSetWidth(30),
		progressbar.OptionOnCompletion(func() { fmt.Fprintln(w) }),
	)}
}

func (b bar) add(bytes int) {
	if b.moving != nil {
		_ = b.moving.Add(bytes) // a terminal that cannot be written to is no reason to stop
	}
}
