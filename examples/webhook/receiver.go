package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/tidings-sse/tidings"
)

// maxBody is the size of the largest webhook that is accepted, in bytes. Its event is smaller than
// [tidings.Options.MaxEventBytes].
const maxBody = 256 << 10

// webhook is the body of a webhook: that something of a type is done for a user, with a result.
type webhook struct {
	UserID string          `json:"userId"`
	Type   string          `json:"type"`
	Result json.RawMessage `json:"result"`
}

// processed is what the user's pages get.
type processed struct {
	Type   string          `json:"type"`
	Status string          `json:"status"`
	Data   json.RawMessage `json:"data"`
}

// webhookProcessed is the event type that pages listen to.
var webhookProcessed = tidings.MustEventType[processed]("webhook-processed")

// receiver turns webhooks into events. It answers 2xx only when the event is in the log: whatever else it answers, the
// sender tries again, and the webhook's id keeps the event from being sent twice.
type receiver struct {
	sender   tidings.Sender
	verifier *standardwebhooks.Webhook
	log      *slog.Logger
}

var (
	errSignature = errors.New("the webhook is not signed as it must be")
	errMalformed = errors.New("the webhook can't be used")
)

func (rc *receiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := r.Header.Get(standardwebhooks.HeaderWebhookID)
	receipt, err := rc.receive(id, w, r)
	if err != nil {
		status := statusOf(err)
		rc.log.Warn("webhook refused", "webhook", id, "status", status, "error", err)
		http.Error(w, err.Error(), status)
		return
	}
	rc.log.Info("webhook accepted", "webhook", id, "event", receipt.ID, "matched", receipt.Matched)
	w.WriteHeader(http.StatusNoContent)
}

// receive verifies the webhook's raw bytes before it looks into them, and sends the event.
func (rc *receiver) receive(id string, w http.ResponseWriter, r *http.Request) (tidings.Receipt, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return tidings.Receipt{}, fmt.Errorf("%w: read it: %w", errMalformed, err)
	}
	if err := rc.verifier.Verify(body, r.Header); err != nil {
		return tidings.Receipt{}, fmt.Errorf("%w: %w", errSignature, err)
	}
	var hook webhook
	if err := json.Unmarshal(body, &hook); err != nil {
		return tidings.Receipt{}, fmt.Errorf("%w: %w", errMalformed, err)
	}
	if hook.UserID == "" || hook.Type == "" {
		return tidings.Receipt{}, fmt.Errorf("%w: it needs a userId and a type", errMalformed)
	}
	event := webhookProcessed.Event(processed{Type: hook.Type, Status: "completed", Data: hook.Result})
	event.Target = tidings.Target{UserID: hook.UserID}
	event.IdempotencyKey = id
	receipt, err := rc.sender.Send(r.Context(), event)
	if err != nil {
		return tidings.Receipt{}, fmt.Errorf("notify the user: %w", err)
	}
	return receipt, nil
}

// statusOf says whose fault an error is: 4xx is the sender's, and 503 ours, which another try may cure.
func statusOf(err error) int {
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return http.StatusRequestEntityTooLarge
	}
	if _, ok := errors.AsType[*tidings.InvalidError](err); ok {
		return http.StatusBadRequest
	}
	switch {
	case errors.Is(err, errSignature):
		return http.StatusUnauthorized
	case errors.Is(err, errMalformed):
		return http.StatusBadRequest
	case errors.Is(err, tidings.ErrConflict):
		return http.StatusConflict
	}
	return http.StatusServiceUnavailable
}
