package transcode

import (
	"math"
	"strconv"
	"testing"

	"pgregory.net/rapid"
)

func TestShortDouble_IsTheNearestDoubleOrLeavesTheNumberToOthers(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`-?(0|[1-9][0-9]{0,16})(\.[0-9]{1,17}0{0,20})?([eE][+-]?[0-9]{1,3})?[ ,x.]?`).Draw(t, "text")
		f, length := shortDouble([]byte(text))
		if length == 0 {
			return
		}
		if want := scanNumber([]byte(text)); length != want {
			t.Fatalf("%q: read %d bytes, the number has %d", text, length, want)
		}
		want, err := strconv.ParseFloat(text[:length], 64)
		if err != nil {
			t.Fatal(err)
		}
		if math.Float64bits(f) != math.Float64bits(want) {
			t.Fatalf("%q is %v, want %v", text, f, want)
		}
	})
}

func TestShortDouble_ReadsWhatIsCommonAndNothingMalformed(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{
		"0": 1, "-0": 2, "12.50": 5, "99.99}": 5, "123456789.012345": 16, "0.000000000001": 14,
		"34.5600000000000000": 19, "-0.00000000000000000000": 23, "12345678901234.50000000": 23, "100000000000000": 15,
		"": 0, "-": 0, ".5": 0, "5.": 0, "01": 0, "-.1": 0, "1.e": 0, "1e5": 0, "1E5": 0, "1.5e3": 0, "1234567890123456": 0,
		"1000000000000000": 0, "1.00000000000000010000": 0, "12345678901234.56": 0, "1.00.0": 4,
	} {
		if _, got := shortDouble([]byte(text)); got != want {
			t.Errorf("%q: read %d bytes, want %d", text, got, want)
		}
	}
}
