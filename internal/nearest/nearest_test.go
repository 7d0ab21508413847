package nearest

import (
	"testing"

	"pgregory.net/rapid"
)

func TestOf_FindsWhatWasMeantAndNothingElse(t *testing.T) {
	t.Parallel()
	known := []string{"brokers", "compression", "client_id", "group_id", "tls", "sasl"}
	for word, want := range map[string]string{
		"broker": "brokers", "Brokers": "brokers", "brokres": "brokers", "compressions": "compression", "clientid": "client_id",
		"tsl": "", "tl": "tls", "timeout": "", "": "", "x": "",
	} {
		if got := Of(word, known); got != want {
			t.Errorf("%q: got %q, want %q", word, got, want)
		}
	}
}

func TestDistance_IsAMetric(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.StringMatching(`[a-cé]{0,8}`)
		a, b, c := word.Draw(t, "a"), word.Draw(t, "b"), word.Draw(t, "c")
		if d := distance(a, b); d != distance(b, a) || (d == 0) != (a == b) {
			t.Errorf("%q to %q: %d, back: %d", a, b, d, distance(b, a))
		}
		if distance(a, c) > distance(a, b)+distance(b, c) {
			t.Errorf("%q to %q is further than by %q", a, c, b)
		}
	})
}
