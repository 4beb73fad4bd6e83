package session_test

import (
	"testing"
	"time"

	"github.com/serialspan/serialspan/bridge/session"
)

// TestUrge: an ACK that may wait does not when it is urged, and none is made of
// nothing.
func TestUrge(t *testing.T) {
	connected := func() *peer {
		p := &peer{end: session.NewEnd(0)}
		if err := p.end.Connect(0, 0, session.DefaultWindow); err != nil {
			t.Fatal(err)
		}
		return p
	}
	a, b := connected(), connected()
	const now = 5 * time.Millisecond
	b.end.Urge(now)
	if b.end.Due(now) {
		t.Error("an ACK is due and nothing was received")
	}
	if ok, err := a.end.Control(session.Control{Kind: session.KindMark}); !ok || err != nil {
		t.Fatal(ok, err)
	}
	a.flush(now)
	if err := b.arrive(now, a, len(a.wire)); err != nil {
		t.Fatal(err)
	}
	b.end.Delivered(now, 1)
	if b.end.Due(now) {
		t.Error("the ACK does not wait for data to go along with")
	}
	b.end.Urge(now)
	if !b.end.Due(now) {
		t.Error("the ACK waits although it is urged")
	}
	b.flush(now)
	if err := a.arrive(now, b, len(b.wire)); err != nil || a.end.Unacknowledged() != 0 {
		t.Errorf("%d places are not acknowledged, %v", a.end.Unacknowledged(), err)
	}
}
