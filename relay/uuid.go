package relay

import (
	"encoding/binary"
	"encoding/hex"
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

func formatUUID(id [16]byte) string { return string(appendUUID(nil, id[:])) }

// appendUUID appends the text of a UUID.
func appendUUID(dst, id []byte) []byte {
	first, second := hexDigits(id), hexDigits(id[4:])
	third, last := hexDigits(id[8:]), hexDigits(id[12:])
	text := binary.BigEndian
	dst = append(text.AppendUint64(dst, first), '-')
	dst = append(text.AppendUint32(dst, uint32(second>>32)), '-')
	dst = append(text.AppendUint32(dst, uint32(second)), '-')
	dst = append(text.AppendUint32(dst, uint32(third>>32)), '-')
	return text.AppendUint64(text.AppendUint32(dst, uint32(third)), last)
}

// hexDigits returns the eight hexadecimal digits of the first four bytes, all at once: each
// half of a byte is moved into a byte of its own, and those above 9 leap from '9' to 'a'.
func hexDigits(b []byte) uint64 {
	v := uint64(binary.BigEndian.Uint32(b))
	v = v<<16&0x0000FFFF_00000000 | v&0x0000FFFF
	v = v<<8&0x00FF0000_00FF0000 | v&0x000000FF_000000FF
	v = v<<4&0x0F000F00_0F000F00 | v&0x000F000F_000F000F
	const each = 0x01010101_01010101
	above := (v + 6*each) >> 4 & each // 1 where it is
	return v + '0'*each + above*('a'-'9'-1)
}
