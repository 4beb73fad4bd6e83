package device

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/serialspan/serialspan/bridge/internal/link"
	"github.com/serialspan/serialspan/bridge/internal/slot"
	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/bridge/session"
	"github.com/serialspan/serialspan/mesh/identity"
)

// lease is one consumer's right to a device, with the session that uses it.
type lease struct {
	link   *link.Link
	writer *slot.Writer
	peer   identity.NodeID
	kind   string
	began  time.Time
	// over is closed when the lease ended or a newer stream serves it; a
	// resume replaces it. Guarded by Device.mu.
	over chan struct{}
	// readOnly leases read along: nothing that they send reaches the device.
	readOnly bool
	attempt  uint64      // of the OPEN that serves it; guarded by Device.gate
	gaps     int         // guarded by Device.mu
	lost     uint64      // in gaps of both directions; guarded by Device.mu
	others   string      // as last told of them; guarded by Device.telling
	missed   uint64      // what it did not read and was not told; of the port's reader
	opens    int         // Device.opens when it began, or was last told; of the port's reader
	breaking atomic.Bool // it began a break
	modem    int         // modem lines as last told, plus 1; guarded by Device.telling
}

// SessionStatus is one session on one of this node's devices.
type SessionStatus struct {
	ID     session.ID
	Device string
	Peer   identity.NodeID
	Kind   string        // "pty", "tcp", "console"
	Age    time.Duration // since it began
	// Connected is false while the session is held without a stream.
	Connected      bool
	Line           line.Settings // in force
	Sent, Received uint64        // bytes to and from the consumer
	Resumed        int           // how many times
	Gaps           int
	Lost           uint64        // bytes in the gaps, at most, of both directions
	RoundTrip      time.Duration // to the consumer; 0: not measured yet
	ReadOnly       bool          // it reads along
}

// Sessions returns the sessions on the device, in the order of their begin.
func (d *Device) Sessions() []SessionStatus {
	port := d.slot.Current()
	d.mu.Lock()
	defer d.mu.Unlock()
	all := make([]SessionStatus, 0, len(d.leases))
	for _, l := range d.leases {
		stats, connected := l.link.View()
		all = append(all, SessionStatus{
			ID: l.link.ID, Device: d.name, Peer: l.peer, Kind: l.kind, Age: time.Since(l.began),
			Connected: connected, Line: d.lineLocked(port), Sent: stats.Sent, Received: stats.Received,
			Resumed: stats.Resumed, Gaps: l.gaps + stats.StaleGaps, Lost: l.lost + stats.Stale,
			RoundTrip: stats.Trip, ReadOnly: l.readOnly,
		})
	}
	return all
}

// Serve runs a session stream whose OPEN was read from frames: it gives or refuses
// the device, and carries bytes until the stream ends; then it keeps the session
// for the hold time, unless another stream resumes it. It closes conn. The error
// says why the session or the stream ended; nil: the consumer closed it.
func (d *Device) Serve(ctx context.Context, conn net.Conn, frames *link.FrameReader, open session.Open, peer identity.NodeID) error {
	l, over, err := d.grant(ctx, conn, open, peer)
	if err != nil {
		var why *session.CloseError
		if !errors.As(err, &why) {
			return err
		}
		if why.Code == session.CodeRefused && d.isFirstRefusal(peer) {
			d.log.Warn("open refused, it is not allowed", "node", peer, "err", err)
		} else {
			d.log.Debug("open refused", "node", peer, "err", err)
		}
		return link.Refuse(conn, *why, err)
	}
	defer l.link.Wait()
	err = l.link.Serve(conn, frames)
	var closed *session.CloseError
	switch {
	case errors.Is(err, link.ErrReplaced), errors.Is(err, link.ErrClosed):
		return err
	case errors.As(err, &closed):
		d.end(l, session.CloseError{Code: closed.Code, Text: closed.Text})
		if closed.Code == session.CodeNormal {
			return nil
		}
		return err
	case errors.Is(err, session.ErrProtocol):
		d.end(l, session.CloseError{Code: session.CodeProtocol, Text: err.Error()})
		return err
	}
	hold := d.holdTime()
	d.log.Info("stream broke, session is held", "session", l.link.ID, "node", peer, "hold", hold, "err", err)
	timer := time.NewTimer(hold)
	defer timer.Stop()
	select {
	case <-over:
		return err
	case <-ctx.Done():
		d.end(l, session.CloseError{Code: session.CodeShuttingDown})
	case <-timer.C:
		d.log.Info("hold is over, device released", "session", l.link.ID, "node", peer)
		d.end(l, session.CloseError{Code: session.CodeCannotResume, Text: "hold is over"})
	}
	return err
}

// isFirstRefusal reports whether the peer was not refused yet under the present
// rule: applications try again and again, and one line is enough.
func (d *Device) isFirstRefusal(peer identity.NodeID) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.refused[peer] {
		return false
	}
	if d.refused == nil {
		d.refused = map[identity.NodeID]bool{}
	}
	d.refused[peer] = true
	return true
}

// grant gives the device to the peer, or says why not as a
// *session.CloseError, and answers with ACCEPT. The channel is closed when
// the lease is over or this stream was replaced.
func (d *Device) grant(ctx context.Context, conn net.Conn, open session.Open, peer identity.NodeID) (*lease, chan struct{}, error) {
	l, resumed, err := d.await(ctx, open, peer)
	if err != nil {
		return nil, nil, err
	}
	defer func() { <-d.gate }()
	d.mu.Lock()
	over := make(chan struct{})
	if l.over != nil {
		close(l.over)
	}
	l.over = over
	accept := session.Accept{
		Protocol: session.Protocol, ID: open.ID, Resumed: resumed, Next: l.link.Next(),
		Window: uint64(d.config.Window), HoldMillis: uint64(d.want.Rule.Hold.Milliseconds()),
		Capabilities: slices.Clone(d.can), StaleMillis: uint64(d.want.Rule.MaxStale.Milliseconds()),
	}
	d.mu.Unlock()
	if settings := d.lineInForce(); !settings.IsZero() {
		accept.Line = settings.String()
	}
	frame, err := session.AppendAccept(nil, accept)
	if err != nil {
		return nil, nil, err
	}
	_ = conn.SetWriteDeadline(time.Now().Add(link.HandshakeTimeout))
	_, err = conn.Write(frame)
	_ = conn.SetWriteDeadline(time.Time{})
	next := open.Next
	if !resumed {
		next = 0
	}
	if err == nil {
		err = l.link.Connect(conn, next, open.Window)
	}
	if err != nil && !errors.Is(err, session.CodeCannotResume) {
		_ = conn.Close() // the reader of this stream holds the session
	} else if err != nil {
		why := session.CloseError{Code: session.CodeCannotResume, Text: err.Error()}
		d.end(l, why)
		return nil, nil, &why
	}
	d.config.Changed()
	return l, over, nil
}

// EndPeer ends all sessions of a peer, monitors included. It returns when nothing
// of them reaches the device any more.
func (d *Device) EndPeer(peer identity.NodeID, why session.CloseError) {
	var ending sync.WaitGroup
	for _, l := range d.leasesOf(peer) {
		ending.Go(func() { d.end(l, why) })
	}
	ending.Wait()
}

func (d *Device) leasesOf(peer identity.NodeID) (its []*lease) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, l := range d.leases {
		if l.peer == peer {
			its = append(its, l)
		}
	}
	return its
}
