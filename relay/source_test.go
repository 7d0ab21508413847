package relay

import (
	"errors"
	"testing"
	"time"
)

// A relay that was frozen, or whose machine was, still has in its sockets what came before.
// Published beside what the relay that has taken over publishes, it would be old news.
func TestSource_EndsWhenItStoodStillForLongerThanTheServerWaits(t *testing.T) {
	t.Parallel()
	thawed := time.Now()
	s := &Source{patience: time.Minute, lastStatus: thawed.Add(-61 * time.Second)}
	if err := s.statusIfDue(thawed); !errors.Is(err, errGivenUp) {
		t.Errorf("went on after 61 s without a word to a server that waits for 60: %v", err)
	}
}
