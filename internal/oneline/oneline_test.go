package oneline

import (
	"errors"
	"fmt"
	"io"
	"testing"
)

func TestError_SaysEachThingOnceOnOneLine(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ message, want string }{
		{"one line", "one line"},
		{"failed to connect:\n\ta: refused\n\ta: refused", "failed to connect: a: refused"},
		{"failed to connect:\n\ta: refused\n\tb: timeout\n\ta: refused\n", "failed to connect: a: refused; b: timeout"},
		{"first\nsecond", "first; second"},
	} {
		if err := Error(errors.New(test.message)); err.Error() != test.want {
			t.Errorf("%q becomes %q, want %q", test.message, err, test.want)
		}
	}
	if err := Error(fmt.Errorf("a\nb: %w", io.EOF)); !errors.Is(err, io.EOF) || err.Error() != "a; b: EOF" {
		t.Errorf("%v", err)
	}
	if Error(nil) != nil {
		t.Error("nil is no error")
	}
}
