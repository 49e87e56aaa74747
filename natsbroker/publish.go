package natsbroker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"

	"github.com/tidings-sse/tidings"
)

// Publishing, with one message or batch in flight. nats.go's JetStream context publishes again by itself where nobody
// answers; what was acknowledged late would then be stored twice, or out of order. So messages are published as plain
// requests here, and what is not known is said.

// ack is JetStream's answer to a message.
type ack struct {
	Sequence  uint64    `json:"seq"` // of the last message, for a batch
	Duplicate bool      `json:"duplicate"`
	Batch     string    `json:"batch"`
	Count     int       `json:"count"` // of the batch
	Error     *ackError `json:"error"`
}

type ackError struct {
	Code        int    `json:"code"`
	ErrCode     int    `json:"err_code"`
	Description string `json:"description"`
}

func (e *ackError) Error() string { return fmt.Sprintf("NATS: %s (%d)", e.Description, e.ErrCode) }

// What JetStream says that is not simply a refusal (nats-server's errors.json).
const (
	codeNotAvailable    = 10008 // JSClusterNotAvailErr
	codeNotLeader       = 10009 // JSClusterNotLeaderErr
	codeNoResources     = 10023 // JSInsufficientResourcesErr
	codeStorage         = 10047 // JSStorageResourcesExceededErr
	codeStore           = 10077 // JSStreamStoreFailedF: it may have been stored elsewhere
	codeInProcess       = 10158 // JSStreamDuplicateMessageConflict: the first one with this id is not stored yet
	codeBatchDisabled   = 10174 // JSAtomicPublishDisabledErr
	codeBatchIncomplete = 10176 // JSAtomicPublishIncompleteBatchErr
	codeBatchHeader     = 10177 // JSAtomicPublishUnsupportedHeaderBatchErr
	codeBatchDuplicate  = 10201 // JSAtomicPublishContainsDuplicateMessageErr
	codeBatchesInFlight = 10210 // JSAtomicPublishTooManyInflight
)

const (
	headerMsgID       = "Nats-Msg-Id"
	headerBatch       = "Nats-Batch-Id"
	headerBatchSeq    = "Nats-Batch-Sequence"
	headerBatchCommit = "Nats-Batch-Commit"
)

// errOneByOne says that the messages can't be stored as one, and that none was.
var errOneByOne = errors.New("the messages can't be stored as one")

func (b *Broker) message(p part) *nats.Msg {
	m := &nats.Msg{Subject: b.want.Subjects[0], Data: p.body}
	if p.id != "" {
		m.Header = nats.Header{headerMsgID: {p.id}}
	}
	return m
}

// publishOne publishes a message. While an earlier one with its key is being stored, it waits for that; one that is not
// stored in time leaves the outcome open, because it may be this very event.
func (b *Broker) publishOne(ctx context.Context, p part) (ack, error) {
	ctx, cancel := context.WithTimeout(ctx, b.opts.AppendTimeout)
	defer cancel()
	for {
		a, err := b.request(ctx, b.message(p))
		if e, ok := errors.AsType[*ackError](err); ok && e.ErrCode == codeInProcess {
			if pause(ctx, retryPause) {
				continue
			}
			return ack{}, unavailable(fmt.Errorf("an event with this idempotency key is still being stored: %w", e))
		}
		return a, err
	}
}

// publishTogether publishes the messages as one: all are stored, side by side, or none. It returns the last one's sequence.
func (b *Broker) publishTogether(ctx context.Context, parts []part) (last uint64, _ error) {
	ctx, cancel := context.WithTimeout(ctx, b.opts.AppendTimeout)
	defer cancel()
	id := nuid.Next()
	for i, p := range parts {
		m := b.message(p)
		if m.Header == nil {
			m.Header = make(nats.Header, 3)
		}
		m.Header[headerBatch] = []string{id}
		m.Header[headerBatchSeq] = []string{strconv.Itoa(i + 1)}
		if i < len(parts)-1 {
			if err := b.nc.PublishMsg(m); err != nil {
				return 0, notStored(unavailable(err)) // without its end, nothing of a batch is stored
			}
			continue
		}
		m.Header[headerBatchCommit] = []string{"1"}
		a, err := b.request(ctx, m)
		if e, ok := errors.AsType[*ackError](err); ok {
			switch e.ErrCode {
			case codeBatchDisabled, codeBatchHeader:
				b.atomic = false // until the program is started again
				return 0, errOneByOne
			case codeBatchDuplicate, codeInProcess, codeBatchesInFlight:
				return 0, errOneByOne
			}
		}
		if err == nil && a.Count != len(parts) {
			err = fmt.Errorf("NATS stored %d messages of %d", a.Count, len(parts))
		}
		return a.Sequence, err
	}
	return 0, errOneByOne
}

// request publishes a message and returns its acknowledgement.
func (b *Broker) request(ctx context.Context, m *nats.Msg) (ack, error) {
	closed := b.nc.IsClosed()
	res, err := b.nc.RequestMsgWithContext(ctx, m)
	if err != nil {
		return ack{}, requestError(ctx, err, closed)
	}
	var a ack
	if err := json.Unmarshal(res.Data, &a); err != nil {
		return ack{}, fmt.Errorf("NATS acknowledged with %q", res.Data)
	}
	if a.Error != nil {
		return ack{}, refused(a.Error)
	}
	if a.Sequence == 0 {
		return ack{}, fmt.Errorf("NATS acknowledged with %q", res.Data)
	}
	return a, nil
}

// requestError says what a request without an answer means. Where nothing was handed over, nothing was stored. A connection
// that is closed later ends, with the same error as one that was closed before, requests that were handed over.
func requestError(ctx context.Context, err error, closed bool) error {
	for _, before := range []error{
		nats.ErrNoResponders, nats.ErrReconnectBufExceeded, nats.ErrConnectionClosed, nats.ErrConnectionDraining,
		nats.ErrInvalidConnection, nats.ErrHeadersNotSupported, nats.ErrMaxPayload,
	} {
		if !errors.Is(err, before) || errors.Is(err, nats.ErrConnectionClosed) && !closed {
			continue
		}
		if errors.Is(context.Cause(ctx), tidings.ErrClosed) {
			return notStored(tidings.ErrClosed)
		}
		return notStored(unavailable(fmt.Errorf("NATS: %w", err)))
	}
	if c := context.Cause(ctx); c != nil && !errors.Is(c, context.DeadlineExceeded) {
		return c
	}
	return unavailable(fmt.Errorf("NATS did not acknowledge in time: %w", err))
}

// refused says what a refusal means.
func refused(e *ackError) error {
	switch e.ErrCode {
	case codeStore:
		return unavailable(e)
	case codeNoResources, codeStorage:
		return notStored(fmt.Errorf("%w: %w", tidings.ErrStorageFull, e))
	case codeBatchDuplicate, codeBatchDisabled, codeBatchHeader, codeBatchesInFlight, codeInProcess, codeBatchIncomplete, codeNotAvailable, codeNotLeader:
		return notStored(unavailable(e))
	}
	if e.Code >= 500 || e.Code == 429 {
		return notStored(unavailable(e))
	}
	return notStored(e)
}
