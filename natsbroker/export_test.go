package natsbroker

import (
	"context"
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

// DeliveredAsOwn returns how many messages were delivered when they were acknowledged.
func (b *Broker) DeliveredAsOwn() uint64 { return b.counts.own.Load() }

// What a tail takes of its node's messages at most.
const (
	MaxOwnWaiting  = maxOwnWaiting
	MaxOwnUnproven = maxOwnUnproven
)

// Own is what a tail knows of what its node appended.
type Own struct{ own own }

// FollowFrom returns what a tail knows that begins with the message.
func FollowFrom(seq uint64) *Own {
	o := &Own{newOwn()}
	o.own.begin(seq)
	return o
}

// Acknowledged says that this node appended a message of one record.
func (o *Own) Acknowledged(seq uint64, r tidings.Record) {
	o.own.offer(seq, r.Time, []tidings.Record{r})
}

// Next delivers the message that is next, if it is the node's own and waits.
func (o *Own) Next() (r tidings.Record, ok bool) {
	m, ok := o.own.take()
	if ok {
		r = m.records[0]
		o.own.done(m.records)
		o.own.delivered(m.seq)
	}
	return r, ok
}

// Brings reports whether a message that the consumer brings was delivered. If it was not, it is.
func (o *Own) Brings(seq uint64, r tidings.Record) (known bool, err error) {
	known, err = o.own.prove(arrival{seq: seq, body: Encode([]tidings.Record{r})})
	if !known && err == nil {
		o.own.delivered(seq)
	}
	return known, err
}

// End says that the log is not followed any more, and FollowFrom that it is again.
func (o *Own) End() { o.own.end() }

// Beside publishes a message of one record that the broker isn't told the place of.
func (b *Broker) Beside(r tidings.Record) error {
	_, err := b.nc.Request(b.want.Subjects[0], Encode([]tidings.Record{r}), requestTimeout)
	return err
}

// Consumers returns how many consumers the log has.
func (b *Broker) Consumers(ctx context.Context) (int, error) {
	info, err := b.info(ctx)
	if err != nil {
		return 0, err
	}
	return info.State.Consumers, nil
}
