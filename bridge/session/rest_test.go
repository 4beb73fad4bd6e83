package session_test

import (
	"bytes"
	"encoding/hex"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/serialspan/serialspan/bridge/session"
)

// resting is an End that has everything an End can have at rest.
func resting(t testing.TB) *session.End {
	end := session.NewEnd(1000)
	end.SetMaxStale(time.Second)
	write := func(now time.Duration, text string) {
		t.Helper()
		if n := end.Write(now, []byte(text)); n != len(text) {
			t.Fatalf("%d of %d bytes taken", n, len(text))
		}
	}
	write(0, "acknowledged")
	if err := end.Connect(0, 0, 1000); err != nil {
		t.Fatal(err)
	}
	end.Output(0, nil)
	for _, text := range []string{
		"04 0008 000000000000000c",            // ACK 12
		"03 000d 0000000000000000 68656c6c6f", // DATA at 0
		"03 000b 0000000000000005 21 21 21",   // DATA at 5
	} {
		raw, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		f, n, err := session.Decode(raw)
		if err != nil || n != len(raw) {
			t.Fatal(n, err)
		}
		if _, err := end.Input(0, f); err != nil {
			t.Fatal(err)
		}
	}
	end.Delivered(0, 5)
	write(time.Millisecond, "stale")
	if _, err := end.Control(session.Control{Kind: session.KindLine, Line: "9600n81"}); err != nil {
		t.Fatal(err)
	}
	end.Disconnect()
	if err := end.Connect(2*time.Second, 12, 1000); err != nil {
		t.Fatal(err)
	}
	write(2*time.Second, "fresh")
	end.Disconnect()
	return end
}

// TestRestGolden holds the form still in which an agent leaves a session to the
// next, which may be a newer one.
func TestRestGolden(t *testing.T) {
	const path = "testdata/rest.hex"
	saved := resting(t).Save()
	if *update {
		if err := os.WriteFile(path, []byte(hex.EncodeToString(saved)+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || !bytes.Equal(saved, want) {
		t.Fatalf("have %x\nwant %x (%v)", saved, want, err)
	}
	end, err := session.Restore(1000, want)
	if err != nil {
		t.Fatal(err)
	}
	if end.Next() != 5 || end.Acknowledged() != 12 || end.Sent() != 12+5+1+5 || end.Dropped() != 5 || end.Undelivered() != 0 {
		t.Errorf("next %d, acknowledged %d, sent %d, dropped %d, undelivered %d", end.Next(), end.Acknowledged(), end.Sent(), end.Dropped(), end.Undelivered())
	}
	if err := end.Connect(3*time.Second, 12, 1000); err != nil {
		t.Fatal(err)
	}
	var types []session.Type
	for {
		out := end.Output(3*time.Second, nil)
		if len(out) == 0 {
			break
		}
		for len(out) > 0 {
			f, n, err := session.Decode(out)
			if err != nil {
				t.Fatal(err)
			}
			types, out = append(types, f.Type), out[n:]
		}
	}
	if len(types) != 4 || types[0] != session.TypeAck || types[1] != session.TypeSkip || types[2] != session.TypeControl || types[3] != session.TypeData {
		t.Errorf("goes on with %v, want the ACK, the gap, the control, the data", types)
	}
}

// TestRestoreExpects: what is written before the next stream is there keeps to
// the window that the peer had on the last one.
func TestRestoreExpects(t *testing.T) {
	end := session.NewEnd(1000)
	if err := end.Connect(0, 0, 100); err != nil {
		t.Fatal(err)
	}
	end.Write(0, make([]byte, 30))
	end, err := session.Restore(1000, end.Save())
	if err != nil {
		t.Fatal(err)
	}
	if n := end.Write(0, make([]byte, 500)); n != 70 || end.Room() != 0 {
		t.Errorf("%d bytes taken, want 70; room for %d", n, end.Room())
	}
}

func TestRestoreRefuses(t *testing.T) {
	good := resting(t).Save()
	for _, bad := range [][]byte{nil, {0xa0, 0}, good[:len(good)-1], append(bytes.Clone(good), 0), []byte("\xa1\x01\x20")} {
		if _, err := session.Restore(1000, bad); err == nil {
			t.Errorf("restored from %x", bad)
		}
	}
}

// FuzzRestore: no panic, and what is restored works and can be saved again.
func FuzzRestore(f *testing.F) {
	f.Add(resting(f).Save())
	f.Add(session.NewEnd(0).Save())
	f.Fuzz(func(t *testing.T, saved []byte) {
		end, err := session.Restore(1000, saved)
		if err != nil {
			return
		}
		again, err := session.Restore(1000, end.Save())
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(end.Save(), again.Save()) {
			t.Fatalf("%x became %x", end.Save(), again.Save())
		}
		if err := end.Connect(time.Hour, end.Acknowledged(), 1000); err != nil {
			t.Fatal(err)
		}
		for range 100000 {
			out := end.Output(time.Hour, nil)
			if len(out) == 0 {
				return
			}
			for len(out) > 0 {
				frame, n, err := session.Decode(out)
				if err != nil || n == 0 {
					t.Fatalf("puts %x on the stream: %v", out, err)
				}
				if frame.Type == session.TypeData && len(frame.Payload) <= 8 {
					t.Fatal("sends no data")
				}
				out = out[n:]
			}
		}
		t.Fatal("never stops to send")
	})
}
