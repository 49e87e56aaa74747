package tidings

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math/rand/v2"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/tidings-sse/tidings/internal/engine"
	"github.com/tidings-sse/tidings/sse"
)

// The types of the events that Tidings sends itself.
const (
	typeConnected    = ReservedPrefix + "connected"
	typeGap          = ReservedPrefix + "gap"
	typeCheckpoint   = ReservedPrefix + "checkpoint"
	typeUnavailable  = ReservedPrefix + "unavailable"
	typeDisconnected = ReservedPrefix + "disconnected"
)

// A refusal is a stream that is not served for now: the client should come back.
type refusal struct {
	reason string // in the stream, the statistics and the log
	detail string // in a problem document
}

func (r *refusal) Error() string { return r.detail }

// The refusals.
var (
	errFull     = &refusal{"full", "this server has as many streams as it may have: come back later"}
	errUserFull = &refusal{"user-full", "this user has as many streams as one may have: close one, or come back later"}
	errIPFull   = &refusal{"ip-full", "your address has as many streams as one may have: close one, or come back later"}
	errTooOften = &refusal{"ip-rate", "your address opens streams more often than one may: come back later"}
	errDraining = &refusal{"draining", "this server is shutting down: come back, and another one will answer"}
	errStopped  = &refusal{"stopped", "this server has stopped: come back, and another one will answer"}
	errStarting = &refusal{"starting", "this server is still reading its log: come back in a moment"}
	errBehind   = &refusal{"behind", "this server has not read the log up to your cursor yet: come back in a moment"}
	errNoLog    = &refusal{"log", "the log can't be reached: come back in a moment"}
	errNoAuth   = &refusal{"authorizer", "it can't be decided at the moment whether you may do this: come back in a moment"}
	errNoState  = &refusal{"snapshot", "the state to begin with can't be had at the moment: come back in a moment"}
)

// refuse answers a stream that is not served for now. A request that accepts an event stream by name gets one that says
// so and ends truncated: any other answer makes a browser's EventSource give up for good.
func (h *Hub) refuse(w http.ResponseWriter, r *http.Request, ref *refusal) {
	h.counts.refused(ref.reason)
	h.log.LogAttrs(r.Context(), slog.LevelWarn, logRefused, slog.String(keyReason, ref.reason), slog.String(keyRemote, r.RemoteAddr))
	retry := h.retryAfter()
	streams := acceptsStream(r)
	// Over HTTP/2 it would come back on the same connection. A stream over HTTP/1.1 ends its connection by being
	// truncated, and must not announce that: Node.js takes a truncated body behind this header for a whole one.
	if r.ProtoMajor > 1 || !streams {
		w.Header().Set("Connection", "close")
	}
	if !streams {
		w.Header().Set("Retry-After", strconv.Itoa(max(1, int(retry.Seconds()))))
		writeProblem(w, &Problem{Type: problemUnavailable, Status: http.StatusServiceUnavailable, Detail: ref.detail, Hint: "try again after the Retry-After header's seconds"})
		return
	}
	writeStreamHeader(w)
	block := endBlock(typeUnavailable, ref.reason, retry)
	out := h.output(w)
	if out.write(block) == nil {
		h.lingerRefused(r.Context(), out)
	}
	panic(http.ErrAbortHandler) // ends the response without its end, which makes every client come back
}

// lingerRefused leaves the notice of a refused stream a moment to arrive, unless many others are at that. Each holds a
// connection and a goroutine for this time, so a flood of them must not cost what the served streams have. One that ends
// at once may not get to see why; its client comes back after the time that it was told before, or its own.
func (h *Hub) lingerRefused(ctx context.Context, out *output) {
	most := min(max(h.opts.MaxConnections/64, 16), 512)
	defer h.lingering.Add(-1)
	if h.lingering.Add(1) <= int64(most) {
		out.linger(ctx)
	}
}

// acceptsStream reports whether the request asks for an event stream by name.
func acceptsStream(r *http.Request) bool {
	for _, v := range r.Header.Values("Accept") {
		for _, part := range strings.Split(v, ",") {
			if t, _, err := mime.ParseMediaType(part); err == nil && t == sse.ContentType {
				return true
			}
		}
	}
	return false
}

// retryAfter returns how long a client is told to wait: jittered, so that not all come at once.
func (h *Hub) retryAfter() time.Duration {
	d := h.opts.RetryInterval/2 + rand.N(h.opts.RetryInterval)
	return max(d.Truncate(time.Millisecond), time.Millisecond) // what can be written, in retry and in retryMs
}

// farewell returns the last frame of a stream that ends on our side.
func (h *Hub) farewell(r Reason) *engine.Frame {
	block := endBlock(typeDisconnected, string(r), h.retryAfter())
	return engine.NewFrame(0, time.Time{}, engine.Encode(func(dst []byte) []byte { return append(dst, block...) }))
}

// endBlock says why a stream ends, and when to come back. It has no id: it acknowledges nothing.
func endBlock(typ, reason string, retry time.Duration) []byte {
	data := mustJSON(struct {
		Reason  string `json:"reason"`
		RetryMs int64  `json:"retryMs"`
	}{reason, retry.Milliseconds()})
	return sse.AppendBlock(sse.AppendRetry(nil, retry), typ, data, "")
}

// gapBlock tells a client that events were lost for it. The time to wait is jittered, so that a thousand tabs don't ask
// the back end at once.
func (h *Hub) gapBlock(reason, id string) []byte {
	h.counts.gap(reason)
	data := mustJSON(struct {
		Reason         string `json:"reason"`
		RefetchAfterMs int64  `json:"refetchAfterMs"`
	}{reason, rand.N(h.opts.RetryInterval).Milliseconds()})
	return sse.AppendBlock(nil, typeGap, data, id)
}

// mustJSON encodes a struct of strings and numbers.
func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("tidings: " + err.Error())
	}
	return b
}

// refusalOf returns the refusal in err.
func refusalOf(err error) (*refusal, bool) { return errors.AsType[*refusal](err) }
