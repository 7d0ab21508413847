package relay

import (
	"encoding/hex"
	"fmt"
)

// parseUUID reads a UUID as Postgres prints it. Anything else, and the UUID of zeroes, is
// kept as text.
func parseUUID(text string) (id [16]byte, ok bool) {
	if len(text) != 36 || text[8] != '-' || text[13] != '-' || text[18] != '-' || text[23] != '-' {
		return id, false
	}
	digits := text[:8] + text[9:13] + text[14:18] + text[19:23] + text[24:]
	if _, err := hex.Decode(id[:], []byte(digits)); err != nil || formatUUID(id) != text {
		return [16]byte{}, false
	}
	return id, id != [16]byte{}
}

func formatUUID(id [16]byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
}
