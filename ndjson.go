package tidings

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

// Many events in one request: a line an event, and a line an answer, in the same order. The events are read ahead of
// their answers, so that the log is given them many at a time.

// linesAhead is how many events of one request wait for their answers.
const linesAhead = 4096

// lineStall is how long a client may neither send a line nor read an answer.
const lineStall = time.Minute

// After a line that ends the reading, the rest of the body is read in vain, for so long and so many bytes. Closed while
// its client still sends, the connection would be reset, and the client might never see the answers.
const (
	lineLinger      = 5 * time.Second
	lineLingerBytes = 16 << 20
)

// A lineAnswer is what a line is answered with: the send's result, or the error that it was refused with.
type lineAnswer struct {
	send *send
	err  error
}

// sendLines answers each line with its receipt or a problem. A line that is refused does not stop the others.
func (h *Hub) sendLines(w http.ResponseWriter, r *http.Request, by *Grant) {
	rc := http.NewResponseController(w)
	_ = rc.EnableFullDuplex() // HTTP/2 always is
	w.Header().Set("Content-Type", ndjsonType)
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no")

	answers := make(chan lineAnswer, linesAhead)
	read := make(chan lineEnd, 1) // why there are no more lines
	go func() {
		defer close(answers)
		read <- h.readLines(r, rc, by, answers)
	}()
	var closing sync.WaitGroup
	over := make(chan struct{})
	closing.Go(func() { // a hub that was closed waits for no more lines
		select {
		case <-h.ctx.Done():
			_ = rc.SetReadDeadline(time.Unix(1, 0))
		case <-over:
		}
	})
	if h.writeAnswers(w, r, rc, by, answers) != nil {
		_ = rc.SetReadDeadline(time.Unix(1, 0)) // the client is gone: end the reader
		for a := range answers {
			_ = h.answerLine(r, io.Discard, by, a)
		}
	}
	end := <-read
	close(over)
	closing.Wait()
	if end == lineTooLong {
		_ = rc.SetReadDeadline(time.Now().Add(lineLinger))
		if _, err := io.CopyN(io.Discard, r.Body, lineLingerBytes); errors.Is(err, io.EOF) {
			end = linesEnded
		}
	}
	if end != linesEnded {
		// net/http would read the rest of the body beside the next request: the connection can't be used again.
		panic(http.ErrAbortHandler)
	}
}

// lineEnd is why no more lines are read.
type lineEnd uint8

const (
	linesEnded  lineEnd = iota // the body has ended
	lineTooLong                // the client sends more, and must be let finish to see the answers
	lineBroken                 // the client is silent, or the hub was closed
)

// writeAnswers writes the answers in order until there are no more, or the client is gone.
func (h *Hub) writeAnswers(w io.Writer, r *http.Request, rc *http.ResponseController, by *Grant, answers <-chan lineAnswer) error {
	defer func() { _ = rc.SetWriteDeadline(time.Time{}) }()
	out := bufio.NewWriterSize(w, 16<<10)
	for a := range answers {
		if err := h.answerLine(r, out, by, a); err != nil {
			return err
		}
		if len(answers) > 0 {
			continue
		}
		_ = rc.SetWriteDeadline(time.Now().Add(lineStall))
		if err := out.Flush(); err != nil {
			return err
		}
		if err := rc.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) { // a middleware's, which answers late
			return err
		}
	}
	return nil
}

// readLines submits each line, until there are no more.
func (h *Hub) readLines(r *http.Request, rc *http.ResponseController, by *Grant, answers chan<- lineAnswer) lineEnd {
	lines := bufio.NewReaderSize(r.Body, 32<<10)
	for {
		_ = rc.SetReadDeadline(time.Now().Add(lineStall))
		if h.ctx.Err() != nil {
			return lineBroken
		}
		line, err := readLine(lines, h.opts.MaxEventBytes)
		switch {
		case errors.Is(err, ErrTooLarge):
			answers <- lineAnswer{err: err}
			return lineTooLong
		case err != nil && !errors.Is(err, io.EOF):
			answers <- lineAnswer{err: &InvalidError{Field: "body", Reason: "can't be read: " + err.Error(), Hint: "lines that have no answer were not sent: send them again"}}
			if errors.Is(err, io.ErrUnexpectedEOF) { // cut short: there is no more
				return linesEnded
			}
			return lineBroken
		}
		if len(bytes.TrimSpace(line)) > 0 {
			if !h.paced(r, by) {
				return lineBroken
			}
			a := h.submitLine(line, by)
			answers <- a
			if errors.Is(a.err, ErrClosed) {
				return lineBroken
			}
		}
		if err != nil {
			_ = rc.SetReadDeadline(time.Time{}) // what is still to be answered may take longer
			return linesEnded
		}
	}
}

// paced waits until the sender may send another line. It reports false when the client or the hub is gone.
func (h *Hub) paced(r *http.Request, by *Grant) bool {
	for {
		wait := h.sends.take(senderOf(r, by))
		if wait == 0 {
			return true
		}
		select {
		case <-time.After(wait):
		case <-r.Context().Done():
			return false
		case <-h.ctx.Done():
			return false
		}
	}
}

func (h *Hub) submitLine(line []byte, by *Grant) lineAnswer {
	if err := h.valid(by); err != nil { // a request may go on for longer than its credential
		return lineAnswer{err: err}
	}
	e, err := parseEvent(line)
	if err != nil {
		return lineAnswer{err: err}
	}
	s, err := h.submit(e, by)
	return lineAnswer{s, err}
}

// readLine returns the next line, without its end. At the end of the body it returns io.EOF with what is left.
func readLine(r *bufio.Reader, limit int) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		ended := !errors.Is(err, bufio.ErrBufferFull)
		if ended {
			line = bytes.TrimRight(line, "\r\n")
		}
		switch {
		case len(line) > limit+1, ended && len(line) > limit: // until it has ended, its last byte may be a CR
			return nil, notStored(fmt.Errorf("%w: at most %d bytes are allowed in a line; the lines after it were not sent", ErrTooLarge, limit))
		case ended:
			return line, err
		}
	}
}

// answerLine waits for a line's result and writes it.
func (h *Hub) answerLine(r *http.Request, w io.Writer, by *Grant, a lineAnswer) error {
	var answer any
	receipt, err := Receipt{}, a.err
	if err == nil {
		receipt, err = h.receive(r, a.send, by)
	}
	if err != nil {
		_ = h.sendFailed(err)
		answer = ProblemOf(err).titled()
	} else {
		answer = receipt.answer()
	}
	b, err := json.Marshal(answer)
	if err != nil {
		return err
	}
	_, err = w.Write(append(b, '\n'))
	return err
}
