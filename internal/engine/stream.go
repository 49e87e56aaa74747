package engine

import (
	"errors"
	"os"
	"sync"
	"syscall"
	"time"
)

// Owner is whom a stream asks and tells. Its methods are called without any lock held.
type Owner interface {
	// Beat returns what to write on a stream that has nothing queued and whose last numbered frame was last.
	// silent says that nothing was written for the heartbeat interval; without it, nil writes nothing.
	Beat(last uint64, silent bool) *Frame
	// Ended is called once, after the last write, when the connection is closed or about to be.
	Ended(Reason, error)
}

// Stream is one connection: its outbox and its state. Frames may be posted before it is served; they wait. Its methods
// may be called concurrently, but ServeConn or ServeResponse is called once.
type Stream struct {
	engine *Engine
	owner  Owner

	pumps sync.WaitGroup // 1 while a goroutine of a conn writer pumps

	mu     sync.Mutex // guards what follows
	phase  phase
	writer writer // nil until it is served
	outbox outbox
	busy   bool          // a pump is under way or was asked for
	since  time.Time     // when the write under way began; zero when none is
	turns  int           // that senders have waited for it since its outbox was half full
	room   chan struct{} // closed when the outbox is within its bounds again; nil when nobody waits
	timer  *time.Timer   // silence while live; the bound on ending after that
	asked  bool          // the owner's Beat is due
	last   time.Time     // the end of the last write
	notice *Frame        // what is written before the end; nil when written, or none
	reason Reason        // of the end
	err    error
	usage  Usage
}

// Usage is what a stream has carried.
type Usage struct {
	Last   uint64 // number of the last numbered frame that was written
	Events uint64 // numbered frames written
	Bytes  uint64
	Queued int // frames in the outbox
}

type phase uint8

const (
	waiting phase = iota // not served yet
	live
	ending // writes what is queued, then the notice, then lingers
	ended
)

// A writer carries a stream's frames to where they go. It adds no rules of its own.
type writer interface {
	// start has s.pump run, soon, unless one is running. It is called with s.mu held and doesn't block.
	start()
	// write writes the batch, whole. It blocks, at most for the timeout.
	write(batch []*Frame) error
	// close ends the connection, truncated. abort says that what was written need not arrive, and that a write under
	// way must fail now. It is called once, with s.mu held, and doesn't block.
	close(abort bool)
}

// NewStream returns a stream that counts last as the last frame it has written.
func (e *Engine) NewStream(owner Owner, last uint64) *Stream {
	return &Stream{engine: e, owner: owner, last: time.Now(), usage: Usage{Last: last}}
}

// Post queues a frame. It reports whether the outbox is now over its bounds: the caller must then call [Stream.Relieve]
// before it posts more. A stream that is ending takes no more.
func (s *Stream) Post(f *Frame) (over bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.phase >= ending {
		return false
	}
	s.outbox.push(f)
	s.pumpLocked()
	return s.overLocked()
}

// overLocked reports whether the outbox is over its bounds, after making what room can be made.
func (s *Stream) overLocked() bool {
	over := func() bool {
		n := s.outbox.len()
		return n > s.engine.cfg.MaxEvents || n > 1 && s.outbox.bytes > s.engine.cfg.MaxBytes
	}
	if over() {
		s.outbox.dropStale(time.Now())
	}
	return over()
}

// Relieve returns when the outbox is within its bounds again. If the writer is stuck, it ends the stream as slow.
//
// How long a write has been stuck is counted in turns on the processor: where that is busy, a healthy peer gets its own
// turn late, and so does this.
func (s *Stream) Relieve() {
	s.mu.Lock()
	defer s.mu.Unlock()
	var since time.Time
	for turns := 0; s.phase < ending && s.overLocked(); turns++ {
		if s.since.IsZero() || s.since != since {
			since, turns = s.since, 0 // another write: there was progress
		}
		if s.turns++; turns == stallTurns || s.turns > maxStallTurns || s.stuckLocked(stallAfter) {
			s.finishLocked(Slow, errOutboxFull)
			return
		}
		if s.room == nil {
			s.room = make(chan struct{})
		}
		room, timer := s.room, time.NewTimer(stallTurn)
		s.mu.Unlock()
		select {
		case <-room:
		case <-timer.C:
		}
		timer.Stop()
		s.mu.Lock()
	}
}

var errOutboxFull = errors.New("its outbox is full and it does not read")

// Nudge asks the owner's Beat before the stream is silent for the heartbeat interval.
func (s *Stream) Nudge() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.phase < ending {
		s.asked = true
		s.pumpLocked()
	}
}

// End has the stream write what is queued and then the notice, and end a moment later. It returns at once. Of several
// calls, and of the peer's own end, the first counts.
func (s *Stream) End(r Reason, notice *Frame) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.phase >= ending {
		return
	}
	served := s.phase == live
	s.phase, s.reason, s.notice = ending, r, notice
	s.freeLocked()
	if served {
		s.boundEndLocked()
		s.pumpLocked()
	}
}

// boundEndLocked gives the end its time limit. The timer was that of silence.
func (s *Stream) boundEndLocked() {
	s.timer.Stop()
	s.timer = time.AfterFunc(endWithin, s.over)
}

// over ends a stream that is ending, and so has its reason.
func (s *Stream) over() { s.finish(Stopped, nil) }

// Abort ends the stream at once, even in the middle of a frame.
func (s *Stream) Abort(r Reason) { s.finish(r, nil) }

// Usage returns what the stream has carried so far.
func (s *Stream) Usage() Usage {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.usage
	u.Queued = s.outbox.len()
	return u
}

// serve makes w the stream's writer and starts on what is queued. It reports false when the stream has ended already.
func (s *Stream) serve(w writer) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writer = w
	switch s.phase {
	case ended:
		w.close(true)
		return false
	case waiting:
		s.phase = live
		s.timer = time.AfterFunc(s.engine.cfg.Heartbeat, s.tick)
		if s.outbox.len() > 0 || s.asked {
			s.pumpLocked()
		}
	case ending:
		s.timer = time.AfterFunc(endWithin, s.over)
		s.pumpLocked()
	}
	return true
}

// tick runs when the stream may have been silent for the heartbeat interval.
func (s *Stream) tick() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.phase != live {
		return
	}
	wait := s.engine.cfg.Heartbeat - time.Since(s.last)
	if wait <= 0 {
		wait = s.engine.cfg.Heartbeat
		s.asked = true
		s.pumpLocked()
	}
	s.timer.Reset(wait)
}

func (s *Stream) pumpLocked() {
	if !s.busy && s.writer != nil {
		s.busy = true
		s.writer.start()
	}
}

// pump writes until there is nothing left to write. The writer runs one at a time.
func (s *Stream) pump() {
	var one [8]*Frame
	batch := one[:0]
	for {
		var more, beat bool
		if batch, beat, more = s.next(batch[:0]); !more {
			return
		}
		err := s.writer.write(batch)
		s.wrote(batch, beat, err)
	}
}

// next takes what is to be written now. more is false when there is nothing, and the pump ends.
func (s *Stream) next(batch []*Frame) (_ []*Frame, beat, more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.phase != ended {
		now := time.Now()
		batch = s.outbox.take(batch, batchBytes, now)
		if len(batch) == 0 && s.phase == ending && s.notice != nil {
			batch, s.notice = append(batch, s.notice), nil
		}
		if len(batch) > 0 {
			s.since = now
			return batch, false, true
		}
		if s.phase == ending {
			s.timer.Stop()
			s.timer = time.AfterFunc(Linger, s.over)
			break
		}
		if !s.asked {
			break
		}
		s.asked = false
		if f := s.beatLocked(now); f != nil {
			s.since = now
			return append(batch, f), true, true
		}
	}
	s.busy = false
	return batch, false, false
}

// beatLocked asks the owner what to write. What it says holds only while nothing is queued.
func (s *Stream) beatLocked(now time.Time) *Frame {
	last, silent := s.usage.Last, now.Sub(s.last) >= s.engine.cfg.Heartbeat
	s.mu.Unlock()
	f := s.owner.Beat(last, silent)
	s.mu.Lock()
	if s.outbox.len() > 0 || s.phase != live {
		return nil
	}
	return f
}

// wrote accounts for a batch, and ends the stream if it could not be written.
func (s *Stream) wrote(batch []*Frame, beat bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		clear(batch)
		s.finishLocked(s.reasonLocked(err), err)
		return
	}
	s.since = time.Time{}
	s.last = time.Now()
	var events, bytes uint64
	for _, f := range batch {
		bytes += uint64(len(f.Block()))
		if f.number > 0 {
			s.usage.Last = f.number
			if !beat {
				events++
			}
		}
	}
	clear(batch)
	s.usage.Events += events
	s.usage.Bytes += bytes
	c := &s.engine.counts
	c.Writes.Add(1)
	c.Events.Add(events)
	c.Bytes.Add(bytes)
	if beat {
		c.Beats.Add(1)
	}
	if s.room != nil && !s.overLocked() {
		s.freeLocked()
	}
	if s.outbox.len() <= s.engine.cfg.MaxEvents/2 && s.outbox.bytes <= s.engine.cfg.MaxBytes/2 {
		s.turns = 0
	}
}

// freeLocked lets those go on who wait for room.
func (s *Stream) freeLocked() {
	if s.room != nil {
		close(s.room)
		s.room = nil
	}
}

// inPieces writes b. A large frame on a slow line makes progress, and its stream is not stuck.
func (s *Stream) inPieces(b []byte, write func([]byte) error) error {
	for len(b) > batchBytes+batchBytes/4 { // a batch and its chunks' heads are one piece
		if err := write(b[:batchBytes]); err != nil {
			return err
		}
		b = b[batchBytes:]
		s.mu.Lock()
		s.since = time.Now()
		s.mu.Unlock()
	}
	return write(b)
}

// writing reports whether a write is under way.
func (s *Stream) writing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.since.IsZero()
}

// stuck reports whether the write under way has used up its time.
func (s *Stream) stuck() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stuckLocked(s.engine.cfg.Timeout)
}

func (s *Stream) stuckLocked(d time.Duration) bool {
	return !s.since.IsZero() && time.Since(s.since) >= d
}

// lose ends the stream because of what the network said.
func (s *Stream) lose(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.finishLocked(s.reasonLocked(err), err)
}

// reasonLocked says what an error of the network means: the peer took nothing for too long, or it is lost. The kernel
// gives a connection up (ETIMEDOUT) in either case; HTTP/2 doesn't say that a deadline was the reason.
func (s *Stream) reasonLocked(err error) Reason {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded), s.stuckLocked(s.engine.cfg.Timeout),
		errors.Is(err, syscall.ETIMEDOUT) && s.stuckLocked(stallTurns*stallTurn):
		return Slow
	}
	return Lost
}

// finish ends the stream now. The first reason counts, and that of End before any other.
func (s *Stream) finish(r Reason, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.finishLocked(r, err)
}

func (s *Stream) finishLocked(r Reason, err error) {
	if s.phase == ended {
		return
	}
	// What is pending arrives when the end is an orderly one: the notice was written and had its time.
	orderly := s.phase == ending && s.outbox.len() == 0 && s.notice == nil && s.since.IsZero()
	if s.phase != ending {
		s.reason, s.err = r, err
	}
	s.phase = ended
	s.outbox = outbox{}
	s.freeLocked()
	if s.timer != nil {
		s.timer.Stop()
	}
	if s.writer != nil {
		s.writer.close(!orderly)
	}
}

// result returns the reason of the end, and the error behind it if there is one.
func (s *Stream) result() (Reason, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reason, s.err
}
