package engine

import (
	"errors"
	"os"
	"runtime"
	"syscall"
	"time"
)

// A loop owns its streams: only it looks at their outboxes and has their writers write. It takes what was posted to it,
// queues it for whom it is, and has the streams written that have something queued, a slice of them at a time; then it
// looks at what was posted meanwhile. The longer a round takes, the more frames wait for each stream, and go out in one
// write: the busier it is, the less a frame costs.
type loop struct {
	engine *Engine
	index  int // in the engine's loops, and of its members in every group
	inbox  inbox
	timer  *time.Timer

	now     time.Duration // of the engine's clock, when the round began
	items   []item        // taken from the inbox; those before at are done
	at      int
	walk    int // members of the group in items[at] that are still to be looked at, plus one; 0 is not begun
	matched int // of items[at], so far
	ops     []func()

	urgent readyList // streams that have got what few get
	ready  readyList // the others that have something queued
	full   []fullStream
	turn   time.Duration // when streams that are full were last judged

	wheel   wheel
	linger  timeline // streams that have written all and are to end
	bounds  timeline // streams that have to have ended
	poller  poller
	shelf   shelf
	counts  Counts // of its streams; read by anyone
	batch   batch
	stopped Reason // set once the engine has stopped

	stale      uint64 // below it, a cursor gets the checkpoint
	checkpoint *Frame
}

// What a loop does between two looks at what else there is to do.
const (
	postSlice  = 4096                    // streams that frames are queued for
	writeSlice = postSlice / batchEvents // streams that are written: under a burst, each gets a batch until its turn comes
)

func newLoop(e *Engine, index int) *loop {
	l := &loop{
		engine: e, index: index, wheel: newWheel(e.cfg.Heartbeat),
		urgent: readyList{kind: onUrgent}, ready: readyList{kind: onReady},
	}
	l.inbox.wake = make(chan struct{}, 1)
	l.timer = time.NewTimer(time.Hour)
	return l
}

func (l *loop) run() {
	defer l.timer.Stop()
	for l.at < len(l.items) || !l.inbox.isOver() {
		l.now = l.engine.clock()
		l.operate()
		l.times()
		l.judge()
		if len(l.full) == 0 {
			l.deliver()
		}
		busy := l.urgent.len() > 0
		l.flushSome(&l.urgent)
		busy = busy || l.ready.len() > 0
		l.flushSome(&l.ready)
		if busy || len(l.full) == 0 && l.at < len(l.items) {
			runtime.Gosched() // others, who publish say, are not to wait for all of a long round
			continue
		}
		l.sleep()
	}
	l.poller.close()
}

// operate calls what others want called.
func (l *loop) operate() {
	l.ops = l.inbox.takeOps(l.ops[:0])
	for i, f := range l.ops {
		f()
		l.ops[i] = nil
	}
}

// sleep waits until something is posted or due.
func (l *loop) sleep() {
	due, timed := l.due()
	if !l.inbox.sleeps(len(l.full) > 0) {
		return
	}
	if !timed {
		<-l.inbox.wake
		return
	}
	if wait := due - l.engine.clock(); wait > 0 {
		l.timer.Reset(wait)
		select {
		case <-l.inbox.wake:
		case <-l.timer.C:
		}
	}
	l.inbox.awake()
}

// due returns when there is something to do though nothing is posted.
func (l *loop) due() (at time.Duration, ok bool) {
	at, ok = l.wheel.next()
	sooner := func(d time.Duration) {
		if !ok || d < at {
			at, ok = d, true
		}
	}
	for _, t := range [...]*timeline{&l.linger, &l.bounds} {
		if d, some := t.next(); some {
			sooner(d)
		}
	}
	if len(l.full) > 0 {
		sooner(l.turn + stallTurn)
	}
	return at, ok
}

// times does what is due.
func (l *loop) times() {
	l.linger.expire(l.now, func(s *Stream) { l.finish(s, Stopped, nil) }) // it has its own reason
	l.bounds.expire(l.now, func(s *Stream) { l.finish(s, Stopped, nil) })
	l.wheel.turn(l.now, l.look)
}

// deliver queues the frames of the items that were posted, until it has queued so many that it is time to write.
func (l *loop) deliver() {
	if l.at == len(l.items) {
		clear(l.items)
		l.items, l.at = l.inbox.takeItems(l.items[:0]), 0
	}
	budget := postSlice
	for budget > 0 && l.at < len(l.items) && len(l.full) == 0 {
		it := &l.items[l.at]
		switch {
		case it.join:
			l.join(it.stream, it.group)
			budget--
		case it.end != "":
			l.end(it.stream, it.end, it.frame)
			budget--
		case it.stream != nil:
			l.offer(it, it.stream, &l.urgent)
			budget--
		case it.checkpoint:
			l.stale, l.checkpoint = it.stale, it.frame
			if it.walk {
				budget = l.walkGroup(l.engine.everyone, budget, l.checkpointIdle)
			}
		default:
			budget = l.walkGroup(it.group, budget, func(s *Stream) { l.offer(it, s, &l.ready) })
		}
		if l.walk > 0 {
			return
		}
		if it.tally != nil {
			it.tally.add(l.matched)
		}
		l.matched = 0
		l.at++
	}
}

// walkGroup has members of the group visited, and returns what is left of the budget. It goes from the last one to the
// first, because one that ends meanwhile has its place taken by the last one, which was visited. Where the budget runs
// out, it goes on from there the next time.
func (l *loop) walkGroup(g *Group, budget int, visit func(*Stream)) int {
	list := &g.lists[l.index]
	if l.walk == 0 {
		l.walk = len(list.members) + 1
	}
	l.walk = min(l.walk, len(list.members)+1)
	for l.walk > 1 {
		if budget <= 0 {
			return budget
		}
		budget--
		l.walk--
		if l.walk <= len(list.members) {
			visit(list.members[l.walk-1].stream)
		}
	}
	l.walk = 0
	return budget
}

// offer queues the item's frame for the stream, if it is for it.
func (l *loop) offer(it *item, s *Stream, on *readyList) {
	f := it.frame
	if s.phase >= closing || f.number > 0 && s.mark == f.number || it.only != nil && !it.only(s.owner) {
		return
	}
	if f.number > 0 {
		s.mark = f.number
	}
	l.matched++
	l.push(s, f, on)
}

// push queues a frame. A stream that has much queued and can be written is, at once: it must not become full because
// others are served first.
func (l *loop) push(s *Stream, f *Frame, on *readyList) {
	l.queue(s, f)
	cfg := &l.engine.cfg
	switch {
	case s.parked:
		if l.over(s) {
			l.wait(s)
		}
	case s.outbox.len() >= min(batchEvents, cfg.MaxEvents), s.outbox.bytes >= min(batchBytes, cfg.MaxBytes):
		l.flush(s)
	default:
		on.add(s)
	}
}

func (l *loop) queue(s *Stream, f *Frame) {
	if s.outbox == nil {
		s.outbox = l.shelf.take()
	}
	s.outbox.push(f)
	s.queued.Store(int32(s.outbox.len()))
}

// join makes the stream a member of the group.
func (l *loop) join(s *Stream, g *Group) {
	if s.phase == ended {
		return
	}
	s.join(g)
	if l.stopped != "" {
		l.finish(s, l.stopped, nil)
	}
}

// attach makes w the stream's writer and starts on what is queued.
func (l *loop) attach(s *Stream, w writer, chunked bool) {
	s.writer, s.chunked = w, chunked
	if s.phase == ended {
		w.close(true)
		l.engine.endings.add(s)
		return
	}
	s.parked, s.since, s.wrote = false, 0, l.now
	l.wheel.add(s, l.now+l.engine.cfg.Heartbeat)
	switch s.phase {
	case waiting:
		s.phase = live
	case closing:
		l.bounds.add(s, l.now+endWithin)
	}
	if l.stopped != "" {
		l.finish(s, l.stopped, nil)
		return
	}
	l.checkpointIdle(s)
	l.flush(s)
}

// checkpointIdle gives a stream that has nothing queued the checkpoint, if its cursor is old.
func (l *loop) checkpointIdle(s *Stream) {
	if s.phase == live && !s.parked && s.outbox.len() == 0 && s.last.Load() < l.stale {
		l.counts.Checkpoints.Add(1)
		l.push(s, l.checkpoint, &l.ready)
	}
}

// look gives a stream that was silent for the interval a heartbeat, and says when it is to be looked at again.
func (l *loop) look(s *Stream) {
	cfg := &l.engine.cfg
	next := l.now + cfg.Heartbeat
	switch silent := l.now - s.wrote; {
	case s.parked && l.now-s.since >= cfg.Timeout:
		l.finish(s, Slow, os.ErrDeadlineExceeded)
		return
	case s.parked:
		next = min(next, s.since+cfg.Timeout+l.wheel.step)
	case s.outbox.len() > 0 || s.phase != live:
	case silent+2*l.wheel.step < cfg.Heartbeat:
		next = s.wrote + cfg.Heartbeat
	case s.last.Load() < l.stale:
		l.checkpointIdle(s)
	default:
		l.counts.Beats.Add(1)
		l.push(s, cfg.Beat, &l.ready)
	}
	if s.phase != ended { // push may have written it
		l.wheel.add(s, next)
	}
}

// end has the stream write what is queued, then the notice, and end.
func (l *loop) end(s *Stream, r Reason, notice *Frame) {
	if s.phase >= closing {
		return
	}
	s.phase, s.end = closing, &ending{reason: r}
	if notice != nil {
		l.queue(s, notice)
	}
	if s.writer != nil { // else its time begins when it is served
		l.bounds.add(s, l.now+endWithin)
	}
	l.flush(s)
}

// lose ends the stream because of what the network said.
func (l *loop) lose(s *Stream, err error) {
	if peerClosed(err) {
		l.finish(s, Closed, nil)
		return
	}
	l.finish(s, l.reasonFor(s, err), err)
}

// reasonFor says what an error of the network means: the peer took nothing for too long, or it is lost. The kernel gives
// a connection up (ETIMEDOUT) in either case.
func (l *loop) reasonFor(s *Stream, err error) Reason {
	stuck := func(d time.Duration) bool { return s.parked && l.engine.clock()-s.since >= d }
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded), stuck(l.engine.cfg.Timeout),
		errors.Is(err, syscall.ETIMEDOUT) && stuck(stallTurns*stallTurn):
		return Slow
	}
	return Lost
}

// finish ends the stream now. The first reason counts, and that of end before any other.
func (l *loop) finish(s *Stream, r Reason, err error) {
	if s.phase == ended {
		return
	}
	// What is pending arrives when the end is an orderly one: the notice was written and had its time.
	orderly := s.phase == closing && s.outbox.len() == 0 && !s.parked
	if s.end == nil {
		s.end = &ending{r, err}
	}
	s.phase = ended
	s.outbox = nil
	s.queued.Store(0)
	s.leave()
	l.wheel.remove(s)
	if s.writer != nil {
		s.writer.close(!orderly)
		l.engine.endings.add(s)
	}
}

// stop ends every stream now.
func (l *loop) stop(r Reason) {
	l.stopped = r
	list := &l.engine.everyone.lists[l.index]
	for len(list.members) > 0 {
		l.finish(list.members[len(list.members)-1].stream, r, nil)
	}
}
