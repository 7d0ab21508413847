package demo

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestCleanup_TriesEachRemovalThoughOthersDoNotEnd(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		hurried bool
		want    time.Duration
	}{
		{"not hurried", false, 2 * removalTimeout},
		{"hurried", true, 2 * hurriedTimeout},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				hurry, cancel := context.WithCancel(t.Context())
				defer cancel()
				if test.hurried {
					cancel()
				}
				var c cleanup
				var order []string
				stuck := make(chan struct{})
				defer close(stuck)
				c.add("the first", func(ctx context.Context) error {
					order = append(order, "first")
					return ctx.Err()
				})
				c.close("a client", func() { <-stuck })
				c.add("topics", func(ctx context.Context) error {
					order = append(order, "last")
					<-ctx.Done()
					return errors.New("the broker is down")
				})
				began := time.Now()
				err := c.run(hurry)
				if err == nil || !strings.Contains(err.Error(), "left behind: topics") || strings.Contains(err.Error(), "client") {
					t.Errorf("left behind: %v, want the topics only", err)
				}
				if diff := cmp.Diff([]string{"last", "first"}, order); diff != "" {
					t.Error(diff)
				}
				if took := time.Since(began); took != test.want {
					t.Errorf("it took %v, want %v", took, test.want)
				}
			})
		})
	}
}
