package bridgetest

import (
	"net"
	"sync"
	"testing/synctest"
	"time"

	"github.com/serialspan/serialspan/bridge/session"
	"github.com/serialspan/serialspan/mesh/identity"
)

// Peer is a consumer made of the wire format alone, which shows every frame.
type Peer struct {
	w      *World
	conn   net.Conn
	Accept session.Accept
	Ended  chan error // why, once

	mu       sync.Mutex
	end      *session.End
	data     []byte
	controls []session.Control
	deaf     bool // acknowledges nothing
	began    time.Time
}

// DialOwner opens a session; it fails the test if there is none.
func (w *World) DialOwner(open session.Open) *Peer {
	w.T.Helper()
	synctest.Wait()
	p, err := w.TryOwner(identity.NodeID{1}, open)
	if err != nil {
		w.T.Fatal(err)
	}
	return p
}

var peers byte

// TryOwner opens a session as a node; the error is why there is none.
func (w *World) TryOwner(as identity.NodeID, open session.Open) (*Peer, error) {
	conn, err := w.dial(w.Ctx, as)
	if err != nil {
		return nil, err
	}
	p := &Peer{w: w, conn: conn, Ended: make(chan error, 1), end: session.NewEnd(0), began: time.Now()}
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
	if p.Accept, err = session.ParseAccept(f.Payload); err != nil {
		return nil, err
	}
	if err := p.end.Connect(0, p.Accept.Next, p.Accept.Window); err != nil {
		return nil, err
	}
	w.Running.Go(func() { p.Ended <- p.read(rest) })
	return p, nil
}

// frame reads one frame; rest is what came behind it.
func (p *Peer) frame(have []byte) (session.Frame, []byte, error) {
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

func (p *Peer) read(rest []byte) error {
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
func (p *Peer) flush(ahead time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if out := p.end.Output(time.Since(p.began)+ahead, nil); len(out) > 0 {
		_, _ = p.conn.Write(out) // its reader finds out
	}
}

// Write sends bytes for the device.
func (p *Peer) Write(b []byte) {
	p.mu.Lock()
	p.end.Write(time.Since(p.began), b)
	p.mu.Unlock()
	p.flush(0)
}

// Control sends c after what was sent before.
func (p *Peer) Control(c session.Control) {
	p.mu.Lock()
	if _, err := p.end.Control(c); err != nil {
		p.w.T.Error(err)
	}
	p.mu.Unlock()
	p.flush(0)
}

// Deafen makes the peer acknowledge nothing, until Listen.
func (p *Peer) Deafen() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.deaf = true
}

// Listen makes a deaf peer acknowledge what it had and what comes.
func (p *Peer) Listen() {
	p.mu.Lock()
	p.deaf = false
	p.end.Delivered(time.Since(p.began), p.end.Undelivered())
	p.mu.Unlock()
	p.flush(time.Second)
}

// Got returns all bytes of the device so far.
func (p *Peer) Got() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return string(p.data)
}

// Told returns the controls of one kind, in order.
func (p *Peer) Told(kind session.Kind) []session.Control {
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

// Close ends the session as an application does.
func (p *Peer) Close() {
	_, _ = p.conn.Write(session.AppendClose(nil, session.CloseError{Code: session.CodeNormal}))
	synctest.Wait()
	_ = p.conn.Close()
}

// As opens garage-zwave for a node.
func (w *World) As(n byte) *Peer {
	w.T.Helper()
	synctest.Wait()
	p, err := w.TryOwner(identity.NodeID{n}, session.Open{Device: "garage-zwave", Take: session.TakeNormal})
	if err != nil {
		w.T.Fatal(err)
	}
	return p
}
