package outbox

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	"github.com/postrider/postrider/internal/testserver"
)

func TestArrayLiteral_ReachesPostgresUnchanged(t *testing.T) {
	t.Parallel()
	conn, err := pgx.Connect(t.Context(), testserver.Postgres(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())

	text := rapid.OneOf(
		rapid.StringOfN(rapid.RuneFrom([]rune(`"\{},NUL n'%$`+"\n\t")), 0, 10, -1),
		rapid.String(),
	).Filter(func(s string) bool { return checkText(s) == nil })
	rapid.Check(t, func(r *rapid.T) {
		texts := rapid.SliceOfN(text, 1, 5).Draw(r, "texts")
		binary := rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(r, "binary")
		var literal, binaries arrayLiteral
		for _, s := range texts {
			literal.add(s)
		}
		binaries.addBytes(binary)
		binaries.addBytes(nil)

		var got []*string
		var gotBinaries [][]byte
		err := conn.QueryRow(t.Context(), "SELECT $1::text[], $2::bytea[]", literal.String(), binaries.String()).Scan(&got, &gotBinaries)
		if err != nil {
			r.Fatalf("%s: %v", literal.String(), err)
		}
		want := make([]*string, len(texts))
		for i := range texts {
			want[i] = orNull(&texts[i])
		}
		if diff := cmp.Diff(want, got); diff != "" {
			r.Fatalf("%s (-want +got):\n%s", literal.String(), diff)
		}
		if diff := cmp.Diff([][]byte{binary, nil}, gotBinaries); diff != "" {
			r.Fatalf("%s (-want +got):\n%s", binaries.String(), diff)
		}
	})
}
