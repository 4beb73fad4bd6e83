package session_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/serialspan/serialspan/bridge/session"
)

// TestMaxStale: at resume whole bursts go, by their age, and what the receiver
// has begun stays.
func TestMaxStale(t *testing.T) {
	const old, limit = 100 * time.Second, 1500 * time.Millisecond
	ms := func(n int) time.Duration { return old + time.Duration(n)*time.Millisecond }
	type write struct {
		at   time.Duration
		text string // "!" is a control
	}
	tests := []struct {
		name   string
		writes []write
		arrive int // of the bytes, before the stream breaks
		resume time.Duration
		want   string
	}{
		{"nothing is old", []write{{ms(0), "abc"}, {ms(1000), "def"}}, 0, ms(1400), "abcdef"},
		{"the old burst goes", []write{{ms(0), "abc"}, {ms(1000), "def"}}, 0, ms(1600), "def"},
		{"all go", []write{{ms(0), "abc"}, {ms(1000), "def"}}, 0, ms(9000), ""},
		{"a burst in pieces is one", []write{{ms(0), "a"}, {ms(15), "b"}, {ms(30), "c"}, {ms(1000), "d"}}, 0, ms(1520), "abcd"},
		{"and goes as one", []write{{ms(0), "a"}, {ms(15), "b"}, {ms(30), "c"}, {ms(1000), "d"}}, 0, ms(1531), "d"},
		{"what has begun is completed", []write{{ms(0), "abc"}, {ms(100), "def"}}, 1, ms(9000), "abc"},
		{"controls stay", []write{{ms(0), "ab"}, {ms(0), "!"}, {ms(5), "cd"}, {ms(900), "!"}, {ms(1000), "ef"}}, 0, ms(1600), "!!ef"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			a, b := &peer{end: session.NewEnd(0)}, &peer{end: session.NewEnd(0)}
			a.end.SetMaxStale(limit)
			connect(t, old, a, b)
			arrived := false
			for _, w := range test.writes {
				if w.text == "!" {
					if ok, err := a.end.Control(session.Control{Kind: session.KindBreak, Millis: 1}); !ok || err != nil {
						t.Fatal(ok, err)
					}
				} else {
					a.end.Write(w.at, []byte(w.text))
					a.wrote = append(a.wrote, w.text...)
				}
				if !arrived && test.arrive > 0 {
					b.end.Delivered(w.at, receive(t, b.end, a.end.Output(w.at, nil), w.at, test.arrive))
					arrived = true
				}
			}
			var have bytes.Buffer
			have.WriteString(string(a.wrote[:test.arrive]))
			for range 2 { // and again, if the new stream brings nothing
				a.end.Disconnect()
				connect(t, test.resume, a, b)
			}
			lost := 0
			for wire := a.end.Output(test.resume, nil); len(wire) > 0; {
				f, size, err := session.Decode(wire)
				if err != nil {
					t.Fatal(err)
				}
				wire = wire[size:]
				event, err := b.end.Input(test.resume, f)
				if err != nil {
					t.Fatal(err)
				}
				have.Write(event.Data)
				if event.Control.Kind != 0 {
					have.WriteByte('!')
				}
				lost += event.Skipped
			}
			if have.String() != test.want {
				t.Errorf("the receiver has %q, want %q", have.String(), test.want)
			}
			got := len(bytes.ReplaceAll([]byte(test.want), []byte("!"), nil))
			if want := len(a.wrote) - got; lost != want || a.end.Dropped() != uint64(want) {
				t.Errorf("%d bytes skipped, %d given up, want %d", lost, a.end.Dropped(), want)
			}
		})
	}
}

// receive feeds the first n bytes of a DATA frame to end.
func receive(t *testing.T, end *session.End, wire []byte, now time.Duration, n int) int {
	t.Helper()
	f, _, err := session.Decode(wire)
	if err != nil {
		t.Fatal(err)
	}
	f.Payload = f.Payload[:8+n]
	event, err := end.Input(now, f)
	if err != nil {
		t.Fatal(err)
	}
	return len(event.Data)
}

// TestBusyIsNoticedSooner: a peer that owes us an ACK is given up after 2 s.
func TestBusyIsNoticedSooner(t *testing.T) {
	a, b := &peer{end: session.NewEnd(0)}, &peer{end: session.NewEnd(0)}
	connect(t, 0, a, b)
	const at = time.Second // silent so far
	a.end.Write(at, []byte("?"))
	a.flush(at)
	if wake, want := a.end.Wake(), at+session.BusyPingAfter; wake != want {
		t.Errorf("wake at %v, want %v", wake, want)
	}
	if err := a.end.Check(at + session.BusyDeadAfter - 1); err != nil {
		t.Errorf("given up too early: %v", err)
	}
	if a.end.Check(at+session.BusyDeadAfter) == nil {
		t.Error("a silent peer is not noticed")
	}
}

// TestRoundTrip: the answer to a PING that was asked for is timed.
func TestRoundTrip(t *testing.T) {
	a, b := &peer{end: session.NewEnd(0)}, &peer{end: session.NewEnd(0)}
	connect(t, 0, a, b)
	if a.end.Ping(); !a.end.Due(0) {
		t.Fatal("a PING is not due")
	}
	a.flush(time.Millisecond)
	if err := b.arrive(10*time.Millisecond, a, 100); err != nil {
		t.Fatal(err)
	}
	b.flush(10 * time.Millisecond)
	if err := a.arrive(31*time.Millisecond, b, 100); err != nil {
		t.Fatal(err)
	}
	if trip := a.end.RoundTrip(); trip != 30*time.Millisecond {
		t.Errorf("round trip %v", trip)
	}
}
