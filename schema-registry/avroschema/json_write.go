package avroschema

import (
	"math"
	"strconv"
	"strings"
)

// formatDouble writes f as Java's Double.toString does. What JSON has no number for is a string.
func formatDouble(f float64) string {
	switch {
	case math.IsNaN(f):
		return `"NaN"`
	case math.IsInf(f, 1):
		return `"Infinity"`
	case math.IsInf(f, -1):
		return `"-Infinity"`
	}
	if abs := math.Abs(f); abs == 0 || abs >= 1e-3 && abs < 1e7 {
		s := strconv.FormatFloat(f, 'f', -1, 64)
		if !strings.Contains(s, ".") {
			s += ".0"
		}
		return s
	}
	mantissa, exponent, _ := strings.Cut(strconv.FormatFloat(f, 'e', -1, 64), "e")
	if !strings.Contains(mantissa, ".") {
		// Java writes two digits at least, the nearest ones: 4.9E-324, not 5.0E-324.
		mantissa, _, _ = strings.Cut(strconv.FormatFloat(f, 'e', 1, 64), "e")
	}
	e, _ := strconv.Atoi(exponent)
	return mantissa + "E" + strconv.Itoa(e)
}

// appendJSON writes n compactly, attributes in their order.
func appendJSON(b []byte, n *node) []byte {
	switch n.kind {
	case kindString:
		return appendString(b, n.text)
	case kindArray:
		b = append(b, '[')
		for i, elem := range n.elems {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendJSON(b, elem)
		}
		return append(b, ']')
	case kindObject:
		b = append(b, '{')
		for i, elem := range n.elems {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(appendString(b, n.keys[i]), ':')
			b = appendJSON(b, elem)
		}
		return append(b, '}')
	default:
		return append(b, n.text...)
	}
}

// appendString writes a JSON string with the escapes, and only those, that Java's writer uses.
func appendString(b []byte, s string) []byte {
	const hex = "0123456789ABCDEF"
	b = append(b, '"')
	for i := 0; i < len(s); i++ {
		c := s[i]
		if j := strings.IndexByte("\"\\\b\f\n\r\t", c); j >= 0 {
			b = append(b, '\\', `"\bfnrt`[j])
		} else if c < ' ' {
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		} else {
			b = append(b, c)
		}
	}
	return append(b, '"')
}
