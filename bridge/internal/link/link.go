package link

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/serialspan/serialspan/bridge/session"
)

var (
	// ErrClosed: the session ended while something waited for it.
	ErrClosed = fmt.Errorf("session: %w", net.ErrClosed)
	// ErrReplaced: a newer stream of the same session took over.
	ErrReplaced = errors.New("a newer stream resumes the session")
)

// RedialMost is the longest pause of a consumer between attempts to make a
// stream again: an owner that keeps a place for it waits longer.
const RedialMost = 2 * time.Second

// HandshakeTimeout bounds OPEN and ACCEPT at the owner: some round trips on a bad
// path.
const HandshakeTimeout = 5 * time.Second

// closeTimeout bounds the write of the last frame: a peer that takes nothing
// will find out by the stream's end.
const closeTimeout = time.Second

// overdue is when to look again for a silent peer while output is due and the
// writer is stuck.
const overdue = 500 * time.Millisecond

// Link is one side of one session: a session.End with its present stream and
// its local side. It lives from ACCEPT until Close, across streams.
//
// Four may write to the stream: whoever reads the local side (Send), who
// applies controls and tells what came of one (Flush), the timer for
// acknowledgements and pings (tick), and a short-lived goroutine started by the
// stream's reader (kick), which never writes itself: two readers that wait for
// each other to read would be a deadlock. turn orders them. Close ends and Wait joins them.
type Link struct {
	ID    session.ID // does not change
	log   *slog.Logger
	began time.Time // time.Since of it is the monotonic time of end
	out   outlet

	turn chan struct{} // held by the writer of the stream; guards buf
	buf  []byte
	// reading is held by Serve: on a resumed session the stream before must
	// have delivered its last frame before the new one delivers its first.
	reading chan struct{}

	mu      sync.Mutex
	changed *sync.Cond // of mu: room, acknowledgements, stream or closed
	end     *session.End
	conn    net.Conn // nil while there is no stream
	silent  bool     // conn was closed because the peer was silent
	closed  bool
	givenUp bool // Settled waits no longer
	kicked  bool // a kick is under way
	purges  int  // of what waits in Send
	timer   *time.Timer
	wake    time.Duration // what timer is set to; 0: not set
	stats   Stats
	tap     tapped
	workers sync.WaitGroup // kicks and ticks; Add under mu, unless closed
}

// Stats count since the session began; bytes of data only.
type Stats struct {
	Sent, Received uint64 // to and from the peer
	Resumed        int
	// Stale bytes for the peer were given up at resumes, StaleGaps times.
	Stale     uint64
	StaleGaps int
	// Trip is the round trip to the peer's session; 0: not measured yet.
	Trip time.Duration
}

// New returns a link without a stream, whose session keeps and accepts up to
// window bytes in each direction (0: session.DefaultWindow) and delivers to to.
// It starts nothing. Who made it calls Close or Park, and then Wait.
func New(id session.ID, window int, to Sink, log *slog.Logger) *Link {
	l := &Link{
		ID: id, log: log, began: time.Now(), end: session.NewEnd(window),
		turn: make(chan struct{}, 1), buf: make([]byte, 0, 2048),
		reading: make(chan struct{}, 1),
	}
	l.changed = sync.NewCond(&l.mu)
	l.out.to = to
	l.out.done = func(n int) { l.delivered(n, false) }
	l.out.applied = func(n int) { l.delivered(n, true) }
	return l
}

func (l *Link) now() time.Duration { return time.Since(l.began) }

// Connect makes conn the stream of the session, after OPEN and ACCEPT, and
// replays what the peer lacks. The stream before it is closed.
func (l *Link) Connect(conn net.Conn, next, window uint64) error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return ErrClosed
	}
	before := l.end.Dropped()
	if err := l.end.Connect(l.now(), next, window); err != nil {
		l.mu.Unlock()
		return err
	}
	stale := l.end.Dropped() - before
	if stale > 0 {
		l.stats.Stale += stale
		l.stats.StaleGaps++
	}
	l.end.Ping() // each stream's first round trip is measured
	old := l.conn
	l.conn, l.silent = conn, false
	l.setTimer()
	l.kickLocked()
	l.changed.Broadcast()
	l.mu.Unlock()
	if old != nil {
		_ = old.Close()
	}
	if stale > 0 {
		l.log.Warn("bytes for the other side were too old to be sent", "session", l.ID, "lost", stale)
	}
	return nil
}

// Disconnect forgets conn, if it is still the stream, and closes it. After
// Close it is farewell's to close: the last frame may not have been written.
func (l *Link) Disconnect(conn net.Conn) {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return
	}
	if l.conn == conn {
		l.conn = nil
		l.end.Disconnect()
		l.changed.Broadcast()
	}
	l.mu.Unlock()
	_ = conn.Close()
}

// Serve reads the stream until it ends and says why: a *session.CloseError
// when the peer ended the session, ErrClosed when this side did,
// ErrReplaced, or what broke the stream. It blocks for the stream's life;
// closing conn unblocks it.
func (l *Link) Serve(conn net.Conn, frames *FrameReader) error {
	l.reading <- struct{}{}
	defer func() { <-l.reading }()
	defer l.Disconnect(conn)
	for {
		f, err := frames.Next()
		if err != nil {
			return l.protest(conn, l.reason(conn, err))
		}
		l.mu.Lock()
		if l.conn != conn {
			l.mu.Unlock()
			return l.reason(conn, ErrReplaced)
		}
		event, err := l.end.Input(l.now(), f)
		if err != nil {
			l.mu.Unlock()
			return l.protest(conn, err)
		}
		l.stats.Received += uint64(len(event.Data))
		if event.Acked {
			l.changed.Broadcast()
		}
		if l.end.Due(l.now()) {
			l.kickLocked()
		}
		l.setTimer()
		l.mu.Unlock()
		switch {
		case len(event.Data) > 0:
			l.out.deliver(event.Data)
		case event.Skipped > 0:
			l.out.skip(event.Skipped)
		case event.Control.Kind != 0:
			if h, ok := l.out.to.(Hearer); ok {
				h.Hear(event.Control)
			}
			l.out.control(event.Control)
		case event.Close != nil:
			return event.Close
		}
	}
}

// reason tells why reading conn failed with err.
func (l *Link) reason(conn net.Conn, err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return ErrClosed
	case l.conn != conn && l.conn != nil:
		return ErrReplaced
	case l.silent:
		return session.ErrSilent
	}
	return err
}

// Send takes all of p from the local side, waiting for room for the whole of it
// as the peer delivers, and writes it to the stream if there is one. Without a
// stream it takes what fits into the window. It returns how much was taken: less
// than all only with ErrClosed. What a purge overtakes counts as taken.
func (l *Link) Send(p []byte) (int, error) {
	sent := 0
	l.mu.Lock()
	purges := l.purges
	l.mu.Unlock()
	for sent < len(p) {
		piece := p[sent:min(sent+session.MaxData, len(p))]
		l.mu.Lock()
		for !l.end.Fits(len(piece)+l.reserveLocked()) && !l.closed && l.purges == purges {
			l.changed.Wait()
		}
		if l.closed {
			l.mu.Unlock()
			return sent, ErrClosed
		}
		if l.purges != purges {
			l.mu.Unlock()
			return len(p), nil
		}
		n := l.end.Write(l.now(), piece[:min(len(piece), l.roomLocked())])
		l.stats.Sent += uint64(n)
		l.mu.Unlock()
		sent += n
		l.Flush()
	}
	return sent, nil
}

// Control sends c after what was sent before it.
func (l *Link) Control(c session.Control) error {
	l.mu.Lock()
	for {
		if l.closed {
			l.mu.Unlock()
			return ErrClosed
		}
		ok, err := l.end.Control(c)
		if err != nil {
			l.mu.Unlock()
			return err
		}
		if ok {
			break
		}
		l.changed.Wait()
	}
	l.mu.Unlock()
	l.Flush()
	return nil
}

// delivered is the outlet's report; an urgent one is acknowledged at once.
func (l *Link) delivered(n int, urgent bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	l.end.Delivered(l.now(), n)
	if urgent {
		l.end.Urge(l.now())
	}
	if l.end.Due(l.now()) {
		l.kickLocked()
	}
	l.setTimer()
}

// Flush writes what is due. It blocks while the stream takes nothing.
func (l *Link) Flush() {
	l.turn <- struct{}{}
	defer func() { <-l.turn }()
	for {
		l.mu.Lock()
		conn := l.conn
		if conn == nil || l.closed {
			l.mu.Unlock()
			return
		}
		l.buf = l.end.Output(l.now(), l.buf[:0])
		l.setTimer()
		l.mu.Unlock()
		if len(l.buf) == 0 {
			return
		}
		if _, err := conn.Write(l.buf); err != nil {
			_ = conn.Close() // its reader finds out and tells
			return
		}
	}
}

// kickLocked flushes on another goroutine. mu is held.
func (l *Link) kickLocked() {
	if l.kicked || l.closed {
		return
	}
	l.kicked = true
	l.workers.Go(func() {
		l.mu.Lock()
		l.kicked = false
		l.mu.Unlock()
		l.Flush()
	})
}

// setTimer makes tick run when the End next wants to be asked. A later time
// than before leaves the timer alone: it fires once too early rather than
// being set with each frame. mu is held.
func (l *Link) setTimer() {
	if l.conn == nil || l.closed {
		return
	}
	at, now := l.end.Wake(), l.now()
	if at <= now {
		at = now + overdue
	}
	if l.wake != 0 && l.wake <= at {
		return
	}
	wait := at - now
	l.wake = at
	if l.timer == nil {
		l.timer = time.AfterFunc(wait, l.tick)
	} else {
		l.timer.Reset(wait)
	}
}

// tick runs on the timer's own goroutine.
func (l *Link) tick() {
	l.mu.Lock()
	l.wake = 0
	if l.closed || l.conn == nil {
		l.mu.Unlock()
		return
	}
	if l.end.Check(l.now()) != nil {
		conn := l.conn
		l.silent = true
		l.mu.Unlock()
		_ = conn.Close() // its reader finds out and tells
		return
	}
	if l.end.Due(l.now()) {
		l.kickLocked()
	}
	l.setTimer()
	l.mu.Unlock()
}
