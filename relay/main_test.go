package relay

import (
	"flag"
	"testing"

	"go.uber.org/goleak"
)

// update rewrites the expected values of the scripts under testdata from what the code
// answers: go test ./relay -run Scripts -update. Read the difference before it is committed.
var update = flag.Bool("update", false, "rewrite the expected values under testdata")

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// sarama puts one meter of its fetch requests into the process-wide registry, whatever it
		// is configured to do; its ticker, once started, is the process's for good.
		goleak.IgnoreTopFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"))
}
