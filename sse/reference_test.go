package sse_test

import (
	"math/big"
	"strings"
	"time"

	"github.com/tidings-sse/tidings/sse"
)

// reference reads a whole stream the slow way: each step below is a sentence of
// WHATWG HTML, section 9.2.6, in its order. The fuzz tests hold the decoder
// against it.
func reference(stream string) outcome {
	var out outcome
	out.retry = -1

	// "Streams must be decoded using the UTF-8 decode algorithm", which "strips
	// one leading UTF-8 Byte Order Mark (BOM), if any".
	text := referenceDecode([]byte(strings.TrimPrefix(stream, "\xEF\xBB\xBF")))

	// "The stream must then be parsed by reading everything line by line". What
	// is left after the last line's end is no line.
	var lines []string
	var line []rune
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == '\r' && i+1 < len(text) && text[i+1] == '\n':
			i++
			fallthrough
		case text[i] == '\r', text[i] == '\n':
			lines = append(lines, string(line))
			line = nil
		default:
			line = append(line, text[i])
		}
	}

	// "a data buffer, an event type buffer, and a last event ID buffer must be
	// associated with it. They must be initialized to the empty string".
	var dataBuffer, typeBuffer, idBuffer string
	var ownID bool // not in the standard: whether the block had an id

	for _, line := range lines {
		name, value, colon := strings.Cut(line, ":")
		switch {
		case line == "": // "Dispatch the event, as defined below."
			out.lastID = idBuffer
			own := ownID
			ownID = false
			if dataBuffer == "" {
				typeBuffer = ""
				continue
			}
			dataBuffer = strings.TrimSuffix(dataBuffer, "\n")
			event := sse.Event{Type: "message", Data: dataBuffer}
			if typeBuffer != "" {
				event.Type = typeBuffer
			}
			if own {
				event.ID, event.ResetID = idBuffer, idBuffer == ""
			}
			dataBuffer, typeBuffer = "", ""
			out.events = append(out.events, event)
			out.lastIDs = append(out.lastIDs, out.lastID)
			continue
		case colon && name == "": // "Ignore the line."
			out.comments = append(out.comments, strings.TrimPrefix(value, " "))
			continue
		case colon: // "If value starts with a U+0020 SPACE character, remove it from value."
			value = strings.TrimPrefix(value, " ")
		}

		switch name {
		case "event":
			typeBuffer = value
		case "data":
			dataBuffer += value
			dataBuffer += "\n"
		case "id":
			if !strings.ContainsRune(value, 0) {
				idBuffer = value
				ownID = true
			}
		case "retry":
			if value != "" && strings.Trim(value, "0123456789") == "" {
				ms, _ := new(big.Int).SetString(value, 10)
				const most = int64((1<<63 - 1) / time.Millisecond)
				if !ms.IsInt64() || ms.Int64() > most {
					ms.SetInt64(most)
				}
				out.retry = time.Duration(ms.Int64()) * time.Millisecond
			}
		}
	}
	return out
}

// referenceDecode is the WHATWG Encoding Standard's "UTF-8 decoder", section
// 8.1.1, with its variables.
func referenceDecode(bytes []byte) []rune {
	var out []rune
	var codePoint rune
	var needed, seen int
	lower, upper := byte(0x80), byte(0xBF)
	for i := 0; i < len(bytes); i++ {
		b := bytes[i]
		if needed == 0 {
			switch {
			case b <= 0x7F:
				out = append(out, rune(b))
			case b >= 0xC2 && b <= 0xDF:
				needed, codePoint = 1, rune(b&0x1F)
			case b >= 0xE0 && b <= 0xEF:
				if b == 0xE0 {
					lower = 0xA0
				}
				if b == 0xED {
					upper = 0x9F
				}
				needed, codePoint = 2, rune(b&0xF)
			case b >= 0xF0 && b <= 0xF4:
				if b == 0xF0 {
					lower = 0x90
				}
				if b == 0xF4 {
					upper = 0x8F
				}
				needed, codePoint = 3, rune(b&0x7)
			default:
				out = append(out, 0xFFFD)
			}
			continue
		}
		if b < lower || b > upper {
			codePoint, needed, seen = 0, 0, 0
			lower, upper = 0x80, 0xBF
			i-- // "Restore byte to ioQueue."
			out = append(out, 0xFFFD)
			continue
		}
		lower, upper = 0x80, 0xBF
		codePoint = codePoint<<6 | rune(b&0x3F)
		seen++
		if seen == needed {
			out = append(out, codePoint)
			codePoint, needed, seen = 0, 0, 0
		}
	}
	if needed != 0 {
		out = append(out, 0xFFFD)
	}
	return out
}
