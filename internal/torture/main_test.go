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
	goleak.VerifyTestMain(m,
		// toxiproxy leaves the links behind whose connections it has poisoned.
		goleak.IgnoreAnyFunction("github.com/Shopify/toxiproxy/v2.(*ToxicLink).read"),
		goleak.IgnoreAnyFunction("github.com/Shopify/toxiproxy/v2.(*ToxicLink).write"),
		goleak.IgnoreAnyFunction("github.com/Shopify/toxiproxy/v2/toxics.(*ToxicStub).Run"),
		goleak.Cleanup(func(code int) {
			if servers != nil {
				servers.Close()
			}
			os.Exit(code)
		}))
}
