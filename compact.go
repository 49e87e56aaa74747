package tidings

import "bytes"

// Whether JSON stands already as it goes into data lines, as that of most senders does. encoding/json can say it, too, but takes
// four times as long, which is a seventh of what a send costs; it is asked about what isn't.

// maxCompactDepth is how deep a value may be nested for isCompact to follow.
const maxCompactDepth = 64

// isCompact reports whether b is one JSON value (RFC 8259) without white space between its parts. It may be wrong about what is
// nested deep, and leaves it to others whether strings are UTF-8.
func isCompact(b []byte) bool { return skipValue(b, 0, maxCompactDepth) == len(b) }

// skipValue returns where the value ends that begins at i: past the end of b if it isn't one.
func skipValue(b []byte, i, depth int) int {
	switch c := at(b, i); {
	case c == '"':
		return skipString(b, i)
	case c == '{' && at(b, i+1) == '}', c == '[' && at(b, i+1) == ']':
		return i + 2
	case c == '{' && depth > 0:
		for c = ','; c == ','; {
			i = skipString(b, i+1)
			if at(b, i) != ':' {
				return len(b) + 1
			}
			i = skipValue(b, i+1, depth-1)
			c = at(b, i)
		}
		if c == '}' {
			return i + 1
		}
	case c == '[' && depth > 0:
		for c = ','; c == ','; {
			i = skipValue(b, i+1, depth-1)
			c = at(b, i)
		}
		if c == ']' {
			return i + 1
		}
	case c == '-' || isDigit(c):
		return skipNumber(b, i)
	default:
		for _, word := range [...]string{"true", "false", "null"} {
			if bytes.HasPrefix(b[min(i, len(b)):], []byte(word)) {
				return i + len(word)
			}
		}
	}
	return len(b) + 1
}

func skipString(b []byte, i int) int {
	if at(b, i) != '"' {
		return len(b) + 1
	}
	for i++; i < len(b) && b[i] >= ' '; i++ {
		switch b[i] {
		case '"':
			return i + 1
		case '\\':
			i++
			switch at(b, i) {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			case 'u':
				for range 4 {
					if i++; !isHex(at(b, i)) {
						return len(b) + 1
					}
				}
			default:
				return len(b) + 1
			}
		}
	}
	return len(b) + 1
}

func skipNumber(b []byte, i int) int {
	if b[i] == '-' {
		i++
	}
	digits := func() bool {
		from := i
		for isDigit(at(b, i)) {
			i++
		}
		return i > from
	}
	if at(b, i) == '0' {
		i++
	} else if !digits() {
		return len(b) + 1
	}
	if at(b, i) == '.' {
		if i++; !digits() {
			return len(b) + 1
		}
	}
	if c := at(b, i); c == 'e' || c == 'E' {
		if i++; at(b, i) == '+' || at(b, i) == '-' {
			i++
		}
		if !digits() {
			return len(b) + 1
		}
	}
	return i
}

// at returns the byte at i, or 0, which no JSON has, where there is none.
func at(b []byte, i int) byte {
	if i < len(b) {
		return b[i]
	}
	return 0
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isHex(c byte) bool { return isDigit(c) || 'a' <= c|0x20 && c|0x20 <= 'f' }
