package tidings

import (
	"bytes"
	"iter"
)

// members yields the members of a JSON object, in order: each name as it is written, in quotes, and its value. The object
// must be valid, and without white space around it. It is here because a json.Decoder costs several times what the rest
// of reading an event does, and parts of b are all that is needed.
func members(object []byte) iter.Seq2[[]byte, []byte] {
	const between = " \t\r\n,:"
	return func(yield func(name, value []byte) bool) {
		for b := bytes.TrimLeft(object[1:], between); b[0] != '}'; b = bytes.TrimLeft(b, between) {
			name := b[:stringEnd(b)]
			b = bytes.TrimLeft(b[len(name):], between)
			value := b[:valueEnd(b)]
			b = b[len(value):]
			if !yield(name, value) {
				return
			}
		}
	}
}

// compactValid returns JSON, which must be valid, without the white space between its tokens. It is here because json.Compact
// finds out once more whether it is valid, which costs as much as finding it out at first.
func compactValid(raw []byte) []byte {
	out := make([]byte, 0, len(raw))
	for len(raw) > 0 {
		n := 1
		switch raw[0] {
		case ' ', '\t', '\r', '\n':
			raw = raw[1:]
			continue
		case '"':
			n = stringEnd(raw)
		}
		out, raw = append(out, raw[:n]...), raw[n:]
	}
	return out
}

// stringEnd returns the length of the string that b begins with.
func stringEnd(b []byte) int {
	i := 1
	for b[i] != '"' {
		if b[i] == '\\' {
			i++ // what is escaped
		}
		i++
	}
	return i + 1
}

// valueEnd returns the length of the value that b begins with.
func valueEnd(b []byte) int {
	switch b[0] {
	case '"':
		return stringEnd(b)
	case '{', '[':
		depth := 0
		for i := 0; ; i++ {
			switch b[i] {
			case '"':
				i += stringEnd(b[i:]) - 1
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return i + 1
				}
			}
		}
	}
	return bytes.IndexAny(b, " \t\r\n,}") // a number, or a word
}
