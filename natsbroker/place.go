package natsbroker

import "github.com/tidings-sse/tidings"

// Positions: the last record of the message with sequence s is at {s, 0}, and those before it in the same message at
// {s-1, 1}, {s-1, 2} and so on. So where the oldest message held is f, the newest record that was dropped is at {f-1, 0},
// whatever was in its block, and the newest record of a log whose last message is l is at {l, 0}.

// place returns the position of record i, from 0, of the n in the message with this sequence.
func place(seq uint64, i, n int) tidings.Position {
	if i == n-1 {
		return tidings.Position{Hi: seq}
	}
	return tidings.Position{Hi: seq - 1, Lo: uint64(i) + 1}
}

// messageOf returns the sequence of the message that the record at p is in.
func messageOf(p tidings.Position) uint64 {
	if p.Lo == 0 {
		return p.Hi
	}
	return p.Hi + 1
}

// after returns the records of a message that are after p.
func after(rs []tidings.Record, p tidings.Position) []tidings.Record {
	for len(rs) > 0 && rs[0].Position.Compare(p) <= 0 {
		rs = rs[1:]
	}
	return rs
}
