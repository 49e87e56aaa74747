package load

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Storm drops streams at once, and lets them come back with their cursors.
type Storm struct {
	Share      float64 // of the streams that are open, above 0 and up to 1
	Reset      bool    // with RST instead of FIN; event loops only
	AfterRetry bool    // come back after the time that the server asked for, instead of at once
}

// storm is a shard's part of one.
type storm struct {
	began                          int64 // before the first was dropped, in nanoseconds since 1970
	last                           int64 // when one was back
	dropped, back, givenUp, failed int64
	times                          *hdrhistogram.Histogram // until they were back, in microseconds
}

func (s *storm) cameBack(now int64) {
	s.back++
	s.last = now
	_ = s.times.RecordValue(min((now-s.began)/int64(time.Microsecond), longest))
}

// Storm returns when all that were dropped are back, and have what the ledger counted at that time, or when ctx ends,
// which is its error; the report is valid with it. A nil ledger is not waited for. Streams that don't read are left out.
func (c *Client) Storm(ctx context.Context, how Storm, l *Ledger) (StormReport, error) {
	if !(how.Share > 0 && how.Share <= 1) {
		return StormReport{}, &ConfigError{"Share", "is not above 0 and up to 1"}
	}
	c.storming.Lock()
	defer c.storming.Unlock()
	var r StormReport
	gaps := c.total().gaps
	began := time.Now()
	ds := c.running()
	for _, d := range ds {
		d.do(func(s *shard) {
			s.storm = &storm{began: began.UnixNano(), times: newHistogram()}
			for i := range s.streams {
				st := &s.streams[i]
				n := float64(st.number)
				if st.phase == phaseOpen && st.pace != paceStop && int64((n+1)*how.Share) != int64(n*how.Share) {
					d.drop(st, how)
				}
			}
			r.Dropped += int(s.storm.dropped)
		})
	}
	var last int64
	times := newHistogram()
	err := poll(ctx, func() bool {
		var back, givenUp, failed int64
		for _, d := range ds {
			d.do(func(s *shard) {
				back, givenUp, failed = back+s.storm.back, givenUp+s.storm.givenUp, failed+s.storm.failed
				last = max(last, s.storm.last)
			})
		}
		r.Back, r.FailedAttempts = int(back), int(failed)
		return back+givenUp >= int64(r.Dropped)
	})
	for _, d := range ds {
		d.do(func(s *shard) { times.Merge(s.storm.times) })
	}
	r.P50BackMs = ms(times.ValueAtPercentile(50))
	if r.Back == r.Dropped && r.Back > 0 {
		r.AllBackMs = ms((last - began.UnixNano()) / int64(time.Microsecond))
	}
	switch {
	case err != nil:
		err = fmt.Errorf("%d of %d streams were back: %w", r.Back, r.Dropped, err)
	case l != nil:
		if err = c.Wait(ctx, l); err == nil {
			r.CaughtUpMs = ms(time.Since(began).Microseconds())
		} else {
			err = errors.Join(errors.New("not all streams have caught up"), err)
		}
	}
	r.Gaps = c.total().gaps - gaps
	c.mu.Lock()
	c.storms = append(c.storms, r)
	c.mu.Unlock()
	return r, err
}
