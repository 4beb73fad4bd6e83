package link

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"github.com/serialspan/serialspan/bridge/session"
)

// Sink is the local side of a session as the session writes to it: a port, a
// PTY, a TCP client, a console. TryWrite takes what fits now without
// blocking; Write blocks until it has taken everything or the deadline of
// SetWriteDeadline passes. The calls of one outlet never overlap, but for
// SetWriteDeadline.
type Sink interface {
	io.Writer
	TryWrite(p []byte) (int, error)
	SetWriteDeadline(t time.Time) error
	// Apply does what a control asks; it may block until the device has sent
	// what was written before, or ctx is done.
	Apply(ctx context.Context, c session.Control)
	// Purge drops what the local side buffers, as session's purge bits say.
	// It does not block.
	Purge(bits uint64)
}

// Hearer is a sink that is told of controls when they come in, which may be
// long before their place in the data. It does not block.
type Hearer interface {
	Hear(c session.Control)
}

// drainChunk is how much the drainer hands to a blocking Write at once: what
// a purge or a kick cannot take back any more.
const drainChunk = 4096

// outlet hands what a session receives to its local side, in order. While the
// local side keeps up, deliver writes directly, without another goroutine.
// What does not fit waits in a queue, bounded by the session's window, for a
// drainer: a goroutine that exists only while there is something to drain.
// stop ends and joins it.
type outlet struct {
	to Sink
	// done is told, without a lock held, how many bytes and controls were
	// handed over.
	done func(n int)
	// applied is done for a control that was applied in its turn.
	applied func(n int)

	mu       sync.Mutex
	bytes    []byte // queued; head were handed over already
	head     int
	pushed   uint64   // bytes ever queued
	ends     []uint64 // values of pushed at which the peer's writes end, ascending, not all
	whole    bool     // what was taken last ended a write
	controls []queuedControl
	places   int // of controls that were not applied
	draining bool
	stopped  bool
	writing  bool // the drainer has bytes in hand
	cut      bool // which a purge has dropped
	parked   bool // no more bytes are handed over, see park
	failed   bool // the local side takes nothing any more
	drained  sync.WaitGroup

	interrupt context.CancelFunc // of the present drainer
}

// queuedControl is a control that stands before the byte with this number.
type queuedControl struct {
	at     uint64
	places int // that it stands for
	c      session.Control
}

// deliver hands over p, one frame, which it does not keep. It never blocks.
func (o *outlet) deliver(p []byte) {
	o.mu.Lock()
	if o.stopped || o.failed {
		o.mu.Unlock()
		return
	}
	n := 0
	if !o.draining {
		var err error
		n, err = o.to.TryWrite(p)
		if err != nil {
			o.failed = true // the local side's reader learns it too, and acts
		}
	}
	if n < len(p) && !o.failed {
		o.push(p[n:])
		o.drain()
	}
	o.mu.Unlock()
	if n > 0 {
		o.done(n)
	}
}

// control applies c after what was delivered before it. It never blocks.
func (o *outlet) control(c session.Control) {
	if c.Kind == session.KindPurge {
		o.purge(c)
		return
	}
	o.queue(c, 1)
}

// skip applies a gap of n bytes that the other side has given up, as control
// does.
func (o *outlet) skip(n int) {
	o.queue(session.Control{Kind: session.KindGap, Lost: uint64(n)}, n)
}

func (o *outlet) queue(c session.Control, places int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.stopped || o.failed {
		return
	}
	o.controls = append(o.controls, queuedControl{o.pushed, places, c})
	o.places += places
	o.drain()
}

// purge is done at once: it overtakes the bytes that it drops. Line settings
// and the like that stand among them stay.
func (o *outlet) purge(c session.Control) {
	if c.Bits&session.PurgeTransmit != 0 {
		o.discard()
	}
	o.mu.Lock()
	if o.writing && !o.stopped && c.Bits&session.PurgeTransmit != 0 {
		o.cut = true
		_ = o.to.SetWriteDeadline(time.Unix(1, 0)) // long ago: Write returns at once
	}
	if !o.stopped {
		o.to.Purge(c.Bits)
	}
	o.mu.Unlock()
	o.done(1)
}

// discard drops the bytes that are queued; they count as handed over.
func (o *outlet) discard() {
	o.mu.Lock()
	dropped := len(o.bytes) - o.head
	o.bytes, o.head, o.ends = o.bytes[:0], 0, o.ends[:0]
	o.pushed -= uint64(dropped)
	for i := range o.controls {
		o.controls[i].at = min(o.controls[i].at, o.pushed)
	}
	o.mu.Unlock()
	if dropped > 0 {
		o.done(dropped)
	}
}

func (o *outlet) push(p []byte) {
	if o.head > 0 && len(o.bytes)+len(p) > cap(o.bytes) {
		o.bytes = o.bytes[:copy(o.bytes, o.bytes[o.head:])]
		o.head = 0
	}
	start := o.pushed - uint64(len(o.bytes)-o.head)
	o.bytes = append(o.bytes, p...)
	o.pushed += uint64(len(p))
	if i := len(o.ends) - 1; i >= 0 {
		if i > 0 {
			start = o.ends[i-1]
		}
		if o.pushed-start <= drainChunk { // small writes go together
			o.ends[i] = o.pushed
			return
		}
	}
	o.ends = append(o.ends, o.pushed)
}

// drain starts the drainer if there is none. mu is held.
func (o *outlet) drain() {
	if !o.draining {
		o.draining = true
		ctx, cancel := context.WithCancel(context.Background())
		o.interrupt = cancel
		o.drained.Go(func() {
			defer cancel()
			o.run(ctx)
		})
	}
}

func (o *outlet) run(ctx context.Context) {
	chunk := make([]byte, drainChunk)
	for {
		n, c, ok := o.take(chunk)
		if !ok {
			return
		}
		if n == 0 {
			o.to.Apply(ctx, c.c)
			o.mu.Lock()
			o.places -= c.places
			o.mu.Unlock()
			o.applied(c.places)
			continue
		}
		wanted := n
		n, err := o.to.Write(chunk[:n])
		o.mu.Lock()
		o.writing = false
		if o.cut {
			o.cut = false
			if !o.stopped && !o.parked {
				_ = o.to.SetWriteDeadline(time.Time{})
			}
			if errors.Is(err, os.ErrDeadlineExceeded) {
				n, err = wanted, nil
			}
		}
		if err != nil && !o.stopped {
			o.failed = true
		}
		o.mu.Unlock()
		if n > 0 {
			o.done(n)
		}
	}
}

// take moves the next bytes to chunk and returns their number, or returns the
// next control and 0; false when there is nothing left and the drainer ends.
func (o *outlet) take(chunk []byte) (int, queuedControl, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	waiting := len(o.bytes) - o.head
	bytesFirst := waiting > 0 && (len(o.controls) == 0 || o.controls[0].at > o.pushed-uint64(waiting))
	if o.stopped || o.failed || o.parked && bytesFirst || waiting == 0 && len(o.controls) == 0 {
		o.draining = false
		o.bytes, o.head, o.controls, o.ends = nil, 0, nil, nil
		return 0, queuedControl{}, false
	}
	if len(o.controls) > 0 {
		until := int(o.controls[0].at - (o.pushed - uint64(waiting)))
		if until == 0 {
			c := o.controls[0]
			o.controls = o.controls[1:]
			return 0, c, true
		}
		waiting = min(waiting, until)
	}
	from := o.pushed - uint64(len(o.bytes)-o.head)
	o.whole = false
	most := from + uint64(min(waiting, len(chunk)))
	for len(o.ends) > 0 && o.ends[0] <= most {
		o.whole = true
		waiting = int(o.ends[0] - from)
		o.ends = o.ends[1:]
	}
	n := copy(chunk, o.bytes[o.head:o.head+waiting])
	o.head += n
	o.writing = true
	return n, queuedControl{}, true
}

// IsWhole reports whether what was handed over ends where a write of the peer
// does.
func (o *outlet) isWhole() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.whole || len(o.bytes) == o.head
}

// stop drops what is queued and joins the drainer; nothing is written to the
// local side once it returned.
func (o *outlet) stop() {
	o.mu.Lock()
	o.stopped = true
	waiting := o.draining
	o.mu.Unlock()
	if waiting {
		o.interrupt()
		_ = o.to.SetWriteDeadline(time.Unix(1, 0)) // long ago: Write returns at once
		o.drained.Wait()
		_ = o.to.SetWriteDeadline(time.Time{})
	}
}

// waiting is how many bytes are queued.
func (o *outlet) waiting() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.bytes) - o.head
}
