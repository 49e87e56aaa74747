package natsbroker_test

import (
	"errors"
	"testing"

	"github.com/tidings-sse/tidings"
	"github.com/tidings-sse/tidings/natsbroker"
)

// same returns the same record for the same number.
func same(n int) tidings.Record {
	r := record(n)
	r.Nonce = uint64(n)
	return r
}

// wantNext takes the message that is next, which must be this one at this place.
func wantNext(t *testing.T, o *natsbroker.Own, seq uint64, want tidings.Record) {
	t.Helper()
	got, ok := o.Next()
	if !ok || got.Nonce != want.Nonce || got.Position != (tidings.Position{Hi: seq}) {
		t.Fatalf("next is %s at %v (%v), want %s at %d", got.Data, got.Position, ok, want.Data, seq)
	}
}

func wantNone(t *testing.T, o *natsbroker.Own) {
	t.Helper()
	if got, ok := o.Next(); ok {
		t.Fatalf("%s at %v is delivered", got.Data, got.Position)
	}
}

// wantKnown has the consumer bring a message, which must be known or not.
func wantKnown(t *testing.T, o *natsbroker.Own, seq uint64, r tidings.Record, want bool) {
	t.Helper()
	if known, err := o.Brings(seq, r); known != want || err != nil {
		t.Fatalf("message %d is known: %v, %v, want %v", seq, known, err, want)
	}
}

func TestANodesOwnMessagesAreDeliveredInTheirPlaceAmongThoseOfOthers(t *testing.T) {
	o := natsbroker.FollowFrom(7)
	wantNone(t, o)
	o.Acknowledged(8, same(8))
	wantNone(t, o) // another node's is before it
	wantKnown(t, o, 7, same(7), false)
	wantNext(t, o, 8, same(8))
	o.Acknowledged(9, same(9))
	wantNext(t, o, 9, same(9))
	wantNone(t, o)
	wantKnown(t, o, 8, same(8), true)
	wantKnown(t, o, 9, same(9), true)
	wantKnown(t, o, 10, same(10), false)
	o.Acknowledged(10, same(10)) // the consumer was faster
	wantNone(t, o)
	o.Acknowledged(11, same(11))
	wantKnown(t, o, 11, same(11), false) // and again
	wantNone(t, o)
	wantKnown(t, o, 12, same(12), false)
}

func TestAMessageThatIsAnotherOneThanWasAcknowledgedIsAGap(t *testing.T) {
	// A log that was restored from a copy gives its next messages numbers that were used before.
	o := natsbroker.FollowFrom(7)
	o.Acknowledged(7, same(7))
	wantNext(t, o, 7, same(7))
	if known, err := o.Brings(7, same(8)); known || !errors.Is(err, tidings.ErrGap) {
		t.Errorf("another message is known: %v, %v", known, err)
	}
}

func TestATailThatIsBehindGetsItsNodesMessagesFromTheConsumer(t *testing.T) {
	o := natsbroker.FollowFrom(1)
	for seq := range uint64(natsbroker.MaxOwnWaiting + 5) {
		o.Acknowledged(seq+1, same(int(seq)+1))
	}
	for seq := range uint64(natsbroker.MaxOwnWaiting) {
		wantNext(t, o, seq+1, same(int(seq)+1))
	}
	wantNone(t, o)
	for seq := range uint64(natsbroker.MaxOwnWaiting) {
		wantKnown(t, o, seq+1, same(int(seq)+1), true)
	}
	wantKnown(t, o, natsbroker.MaxOwnWaiting+1, same(natsbroker.MaxOwnWaiting+1), false)
}

func TestWhatTheConsumerDoesNotBringIsNotDeliveredWithoutBound(t *testing.T) {
	o := natsbroker.FollowFrom(1)
	n := 0
	for seq := range uint64(2 * natsbroker.MaxOwnUnproven) {
		o.Acknowledged(seq+1, same(int(seq)+1))
		if _, ok := o.Next(); ok {
			n++
		}
	}
	if n != natsbroker.MaxOwnUnproven {
		t.Errorf("%d messages were delivered that the consumer did not bring, want %d", n, natsbroker.MaxOwnUnproven)
	}
}

func TestATailThatIsOverTakesNoMessages(t *testing.T) {
	o := natsbroker.FollowFrom(7)
	o.Acknowledged(7, same(7))
	o.End()
	wantNone(t, o)
	o.Acknowledged(8, same(8))
	wantNone(t, o)
}
