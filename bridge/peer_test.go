package bridge_test

import (
	"net"
	"sync"
	"testing/synctest"
	"time"

	"github.com/serialspan/serialspan/bridge/session"
	"github.com/serialspan/serialspan/mesh/identity"
)

// peer is a consumer made of the wire format alone, which shows every frame.
type peer struct {
	w      *world
	conn   net.Conn
	accept session.Accept
	ended  chan error // why, once

	mu       sync.Mutex
	end      *session.End
	data     []byte
	controls []session.Control
	deaf     bool // acknowledges nothing
	began    time.Time
}

// dialOwner opens a session; it fails the test if there is none.
func (w *world) dialOwner(open session.Open) *peer {
	w.t.Helper()
	synctest.Wait()
	p, err := w.tryOwner(identity.NodeID{1}, open)
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

var peers byte

func (w *world) tryOwner(as identity.NodeID, open session.Open) (*peer, error) {
	conn, err := w.dial(w.ctx, as)
	if err != nil {
		return nil, err
	}
	p := &peer{w: w, conn: conn, ended: make(chan error, 1), end: session.NewEnd(0), began: time.Now()}
	if open.ID == (session.ID{}) {
		peers++
		open.ID = session.ID{as[0], peers}
	}
	open.Protocol, open.Window = session.Protocol, session.DefaultWindow
	frame, err := session.AppendOpen(nil, open)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Write(frame); err != nil {
		return nil, err
	}
	f, rest, err := p.frame(nil)
	if err != nil {
		return nil, err
	}
	if f.Type == session.TypeClose {
		closed, err := session.ParseClose(f.Payload)
		if err == nil {
			err = closed
		}
		return nil, err
	}
	if p.accept, err = session.ParseAccept(f.Payload); err != nil {
		return nil, err
	}
	if err := p.end.Connect(0, p.accept.Next, p.accept.Window); err != nil {
		return nil, err
	}
	w.running.Go(func() { p.ended <- p.read(rest) })
	return p, nil
}

// frame reads one frame; rest is what came behind it.
func (p *peer) frame(have []byte) (session.Frame, []byte, error) {
	buf := make([]byte, 4096)
	for {
		f, n, err := session.Decode(have)
		if n > 0 || err != nil {
			return f, have[n:], err
		}
		n, err = p.conn.Read(buf)
		if err != nil {
			return f, nil, err
		}
		have = append(have, buf[:n]...)
	}
}

func (p *peer) read(rest []byte) error {
	for {
		f, more, err := p.frame(rest)
		if err != nil {
			return err
		}
		rest = more
		p.mu.Lock()
		now := time.Since(p.began)
		e, err := p.end.Input(now, f)
		if err != nil {
			p.mu.Unlock()
			return err
		}
		n := len(e.Data)
		p.data = append(p.data, e.Data...)
		if e.Control.Kind != 0 {
			p.controls = append(p.controls, e.Control)
			n = 1
		}
		if !p.deaf {
			p.end.Delivered(now, n)
		}
		p.mu.Unlock()
		if e.Close != nil {
			return e.Close
		}
		p.flush(time.Second)
	}
}

// flush sends what is due; ahead makes acknowledgements due earlier.
func (p *peer) flush(ahead time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if out := p.end.Output(time.Since(p.began)+ahead, nil); len(out) > 0 {
		_, _ = p.conn.Write(out) // its reader finds out
	}
}

func (p *peer) write(b []byte) {
	p.mu.Lock()
	p.end.Write(time.Since(p.began), b)
	p.mu.Unlock()
	p.flush(0)
}

func (p *peer) control(c session.Control) {
	p.mu.Lock()
	if _, err := p.end.Control(c); err != nil {
		p.w.t.Error(err)
	}
	p.mu.Unlock()
	p.flush(0)
}

func (p *peer) got() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return string(p.data)
}

// told returns the controls of one kind, in order.
func (p *peer) told(kind session.Kind) []session.Control {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []session.Control
	for _, c := range p.controls {
		if c.Kind == kind {
			all = append(all, c)
		}
	}
	return all
}

// close ends the session as an application does.
func (p *peer) close() {
	_, _ = p.conn.Write(session.AppendClose(nil, session.CloseError{Code: session.CodeNormal}))
	synctest.Wait()
	_ = p.conn.Close()
}
