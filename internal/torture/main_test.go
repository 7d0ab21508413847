package torture

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// servers are those of `make test`, shared by all tests of the package with the relay that
// was built for them.
var servers *Servers

func TestMain(m *testing.M) {
	servers = sharedServers()
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if servers != nil {
			servers.Close()
		}
		os.Exit(code)
	}))
}
