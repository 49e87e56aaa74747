package natsbroker

import (
	"encoding/binary"
	"time"

	"github.com/tidings-sse/tidings"
)

// Encode makes a message of records, as Append does with records without a key. Its time is that of the first one, if that has one.
func Encode(rs []tidings.Record) []byte {
	body := make([]byte, blockHead)
	for i := range rs {
		record := appendRecord(nil, &rs[i])
		if i == 0 && !rs[i].Time.IsZero() {
			record = appendTime(record, rs[i].Time)
		}
		body = append(binary.AppendUvarint(body, uint64(len(record))), record...)
	}
	return finishBlock(body, len(rs))
}

// Decode reads a message.
func Decode(b []byte, seq uint64, at time.Time) ([]tidings.Record, error) {
	return parseBlock(b, seq, at)
}

// Errors that Decode returns.
var (
	ErrBlockVersion = errBlockVersion
	ErrBlockTorn    = errBlockTorn
)

// MaxBlock is how large a message gets, where it holds more than one record.
const MaxBlock = maxBlock

// CheckVersion says whether a NATS server of a version will do.
func CheckVersion(version string) error { return checkVersion(version) }

// Drop closes the connection to NATS for good, as nats.go does where it can't go on.
func (b *Broker) Drop() { b.nc.Close() }

// Published returns how many messages were handed over to NATS.
func (b *Broker) Published() uint64 { return b.nc.Stats().OutMsgs }

// Deliver has what a node appended, in a message with the sequence, delivered as its own, and then brings the other message
// with that sequence, as a consumer does. It returns what of the first was delivered, and whether the second is known.
func Deliver(seq uint64, appended, brought []tidings.Record) (got []tidings.Record, known bool, _ error) {
	o := newOwn()
	o.begin(seq)
	o.offer(seq, appended[0].Time, appended)
	m, _ := o.take()
	o.delivered(seq)
	known, err := o.prove(arrival{seq: seq, body: Encode(brought)})
	return m.records, known, err
}
