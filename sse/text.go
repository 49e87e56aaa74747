package sse

import "unicode/utf8"

// toText decodes b by the WHATWG Encoding Standard's UTF-8 decoder: each maximal
// part of b that begins a character and does not complete it becomes one U+FFFD,
// and so does each byte that begins none. (Go's own conversions make one of each
// byte, or one of a whole run.)
//
// Decoding a field's value alone gives the same as decoding the whole stream:
// what ends it, CR or LF, also ends an incomplete character.
func toText(b []byte) string {
	if utf8.Valid(b) {
		return string(b)
	}
	text := make([]byte, 0, len(b)+len(b)/2)
	for len(b) > 0 {
		r, size := utf8.DecodeRune(b)
		if r == utf8.RuneError && size == 1 {
			size = incomplete(b)
		}
		text = utf8.AppendRune(text, r)
		b = b[size:]
	}
	return string(text)
}

// incomplete returns how many bytes of b, which begins with no whole character,
// one U+FFFD stands for. The bounds of a second byte keep out overlong forms,
// surrogates and what is above U+10FFFF.
func incomplete(b []byte) int {
	lower, upper := byte(0x80), byte(0xBF)
	var needed int
	switch lead := b[0]; {
	case 0xC2 <= lead && lead <= 0xDF:
		needed = 1
	case 0xE0 <= lead && lead <= 0xEF:
		needed = 2
		switch lead {
		case 0xE0:
			lower = 0xA0
		case 0xED:
			upper = 0x9F
		}
	case 0xF0 <= lead && lead <= 0xF4:
		needed = 3
		switch lead {
		case 0xF0:
			lower = 0x90
		case 0xF4:
			upper = 0x8F
		}
	}
	n := 1
	for n <= needed && n < len(b) && lower <= b[n] && b[n] <= upper {
		lower, upper = 0x80, 0xBF
		n++
	}
	return n
}
