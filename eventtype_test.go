package tidings_test

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/tidings-sse/tidings"
)

// A typedRecorder is a Sender that keeps what it is given.
type typedRecorder struct{ events []tidings.Event }

func (r *typedRecorder) Send(_ context.Context, e tidings.Event) (tidings.Receipt, error) {
	r.events = append(r.events, e)
	return tidings.Receipt{ID: "1"}, nil
}

type letter struct {
	Text string `json:"text"`
}

func TestATypedEventIsSentUnderItsOneName(t *testing.T) {
	newLetter := tidings.MustEventType[letter]("new-letter")
	if newLetter.Name() != "new-letter" {
		t.Errorf("its name is %q", newLetter.Name())
	}
	var to typedRecorder
	ctx, data := t.Context(), letter{"hi"}
	calls := []func() (tidings.Receipt, error){
		func() (tidings.Receipt, error) { return newLetter.NotifyClient(ctx, &to, "a", data) },
		func() (tidings.Receipt, error) { return newLetter.NotifyUser(ctx, &to, "a", data) },
		func() (tidings.Receipt, error) { return newLetter.NotifySession(ctx, &to, "a", data) },
		func() (tidings.Receipt, error) { return newLetter.NotifyTopic(ctx, &to, "a", data) },
		func() (tidings.Receipt, error) { return newLetter.Broadcast(ctx, &to, data) },
	}
	want := []tidings.Event{
		{Target: tidings.Target{ClientID: "a"}}, {Target: tidings.Target{UserID: "a"}}, {Target: tidings.Target{SessionID: "a"}},
		{Target: tidings.Target{Topic: "a"}}, {Everyone: true},
	}
	for i, call := range calls {
		if r, err := call(); err != nil || r.ID != "1" {
			t.Errorf("call %d: %+v, %v", i, r, err)
		}
		got := to.events[i]
		if got.Type != "new-letter" || got.Data != data || got.Target != want[i].Target || got.Everyone != want[i].Everyone {
			t.Errorf("call %d sends %+v", i, got)
		}
	}
	if e := newLetter.Event(data); e.Type != "new-letter" || e.Data != data || e.Everyone {
		t.Errorf("Event returns %+v", e)
	}
}

func TestATypedEventIsDecodedAsWhatWasSent(t *testing.T) {
	newLetter := tidings.MustEventType[letter]("new-letter")
	b, err := json.Marshal(letter{"<hi>"})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := newLetter.Decode(b); err != nil || got != (letter{"<hi>"}) {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := newLetter.Decode([]byte("[]")); err == nil {
		t.Error("a list is decoded as a letter")
	}
}

func TestAnEventTypeThatNoEventCanHaveIsRefusedWhereItIsMade(t *testing.T) {
	for _, name := range []string{"", "error", "tidings.gap", "a\nb"} {
		if _, err := tidings.NewEventType[int](name); err == nil {
			t.Errorf("%q is accepted", name)
		}
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("MustEventType(%q) does not panic", name)
				}
			}()
			tidings.MustEventType[int](name)
		}()
	}
}
