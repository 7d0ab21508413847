package relay

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestPosition_IsPrintedAsPostgresPrintsAnLSN(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		position Position
		want     string
	}{
		{Position{}, "0/0/0"},
		{Position{LSN: 0x16_B374D848}, "16/B374D848/0"},
		{Position{LSN: 0x1_00000000, Index: 10}, "1/0/10"},
		{Position{LSN: 0xFFFFFFFF_FFFFFFFF, Index: 4294967295}, "FFFFFFFF/FFFFFFFF/4294967295"},
	} {
		if got := tc.position.String(); got != tc.want {
			t.Errorf("%d/%d is printed as %s, want %s", tc.position.LSN, tc.position.Index, got, tc.want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		p := drawPosition(t)
		if got, want := p.String(), fmt.Sprintf("%s/%d", p.LSN, p.Index); got != want {
			t.Fatalf("%s, want %s", got, want)
		}
		if got := string(p.append([]byte("x"))); got != "x"+p.String() {
			t.Fatalf("appended to x: %s", got)
		}
	})
}

func TestPosition_RisesByCommitAndThenByIndex(t *testing.T) {
	t.Parallel()
	rising := []Position{{0, 0}, {0, 1}, {1, 0}, {1, 4294967295}, {2, 0}, {0x1_00000000, 0}}
	for i, p := range rising {
		for j, q := range rising {
			if p.Less(q) != (i < j) {
				t.Errorf("%s before %s: %v", p, q, p.Less(q))
			}
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		positions := []Position{drawPosition(t), drawPosition(t), drawPosition(t)}
		slices.SortFunc(positions, func(p, q Position) int {
			if p.Less(q) {
				return -1
			}
			if q.Less(p) {
				return 1
			}
			return 0
		})
		for i := range 2 {
			if positions[i+1].Less(positions[i]) {
				t.Fatalf("%v are not in order", positions)
			}
		}
	})
}

func drawPosition(t *rapid.T) Position {
	return Position{
		LSN:   LSN(rapid.Uint64().Draw(t, "lsn")),
		Index: rapid.Uint32().Draw(t, "index"),
	}
}
