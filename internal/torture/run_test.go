package torture

import (
	mathrand "math/rand/v2"
	"testing"
	"time"
)

func TestArena_DrawsOnlyFaultsForWhichThereIsTime(t *testing.T) {
	t.Parallel()
	quick, slow := &Fault{Name: "quick"}, &Fault{Name: "slow", Slow: true}
	for _, c := range []struct {
		name           string
		faults         []*Fault
		duration, left time.Duration
		want           []*Fault // nil among them: none is begun
	}{
		{"all with much time", []*Fault{quick, slow}, time.Hour, time.Minute, []*Fault{quick, slow}},
		{"no slow one with little", []*Fault{quick, slow}, time.Hour, 20 * time.Second, []*Fault{quick}},
		{"a slow one where there is no other", []*Fault{slow}, time.Hour, 20 * time.Second, []*Fault{slow}},
		{"none at the end", []*Fault{quick, slow}, time.Hour, time.Second, []*Fault{nil}},
		{"none of none", nil, time.Hour, time.Minute, []*Fault{nil}},
		{"one in a run that is short altogether", []*Fault{quick}, 4 * time.Second, 3 * time.Second, []*Fault{quick}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a := &Arena{cfg: Config{Duration: c.duration}, rng: mathrand.New(mathrand.NewPCG(seed, 1)), until: time.Now().Add(c.left)}
			drawn := make(map[*Fault]bool)
			for range 100 {
				drawn[a.draw(c.faults)] = true
			}
			for _, f := range c.want {
				if !drawn[f] {
					t.Errorf("%v was never drawn", f)
				}
				delete(drawn, f)
			}
			for f := range drawn {
				t.Errorf("%v was drawn", f)
			}
		})
	}
}
