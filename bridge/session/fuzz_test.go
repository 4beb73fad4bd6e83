package session_test

import (
	"bytes"
	"errors"
	"reflect"
	"testing"

	"github.com/serialspan/serialspan/bridge/session"
)

// FuzzDecode: no panic, no progress without a frame, no frame beyond the
// bytes, and an End survives whatever it is fed.
func FuzzDecode(f *testing.F) {
	for _, frame := range frames(f) {
		f.Add(frame)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		end := session.NewEnd(1000)
		if err := end.Connect(0, 0, 1000); err != nil {
			t.Fatal(err)
		}
		end.Write(0, make([]byte, 100))
		end.Output(0, nil)
		for {
			frame, n, err := session.Decode(b)
			if err != nil || n == 0 {
				if n != 0 {
					t.Fatal("size with an error")
				}
				return
			}
			if n != session.HeaderSize+len(frame.Payload) || n > len(b) || n > session.MaxFrame {
				t.Fatalf("frame of %d bytes, payload %d, of %d", n, len(frame.Payload), len(b))
			}
			event, err := end.Input(0, frame)
			if err != nil {
				if !errors.Is(err, session.ErrProtocol) {
					t.Fatal(err)
				}
				return
			}
			end.Delivered(0, len(event.Data)+event.Skipped)
			if event.Control.Kind != 0 {
				end.Delivered(0, 1)
			}
			if end.Undelivered() != 0 {
				t.Fatalf("%d bytes got lost", end.Undelivered())
			}
			b = b[n:]
		}
	})
}

// payloads seeds a fuzz target with the golden frames' payloads.
func payloads(f *testing.F) {
	for _, frame := range frames(f) {
		f.Add(frame[session.HeaderSize:])
	}
}

func FuzzOpen(f *testing.F) {
	payloads(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := session.ParseOpen(b)
		if err != nil {
			return
		}
		again, err := session.AppendOpen(nil, o)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := session.ParseOpen(again[session.HeaderSize:]); err != nil || !reflect.DeepEqual(back, o) {
			t.Fatalf("%+v became %+v, %v", o, back, err)
		}
	})
}

func FuzzAccept(f *testing.F) {
	payloads(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := session.ParseAccept(b)
		if err != nil {
			return
		}
		first, err := session.AppendAccept(nil, a)
		if err != nil {
			t.Fatal(err)
		}
		back, err := session.ParseAccept(first[session.HeaderSize:])
		if err != nil {
			t.Fatal(err)
		}
		if second, err := session.AppendAccept(nil, back); err != nil || !bytes.Equal(first, second) {
			t.Fatalf("%x became %x, %v", first, second, err)
		}
	})
}

func FuzzClose(f *testing.F) {
	payloads(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := session.ParseClose(b)
		if err != nil {
			return
		}
		again := session.AppendClose(nil, *c)
		if back, err := session.ParseClose(again[session.HeaderSize:]); err != nil || *back != *c {
			t.Fatalf("%+v became %+v, %v", c, back, err)
		}
	})
}

func FuzzControl(f *testing.F) {
	payloads(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		_, c, err := session.ParseControl(b)
		if err != nil {
			return
		}
		end := session.NewEnd(0)
		if err := end.Connect(0, 0, 100); err != nil {
			t.Fatal(err)
		}
		if ok, err := end.Control(c); !ok || err != nil {
			t.Fatalf("%+v: %v, %v", c, ok, err)
		}
		again := end.Output(0, nil)
		if offset, back, err := session.ParseControl(again[session.HeaderSize:]); err != nil || back != c || offset != 0 {
			t.Fatalf("%+v became %+v at %d, %v", c, back, offset, err)
		}
	})
}
