package session_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/serialspan/serialspan/bridge/session"
)

// update writes golden files that do not exist yet: go test -args -update.
var update = flag.Bool("update", false, "write missing golden files")

var id = session.ID{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}

var (
	openAll = session.Open{
		Protocol: 1, Device: "garage-zwave", ID: id, Resume: true, Next: 4711, Take: session.TakeNormal,
		Window: session.DefaultWindow, Line: "115200n81", Kind: "pty", ReadOnly: true,
	}
	openReplaces = session.Open{
		Protocol: 1, Device: "garage-zwave", ID: id, Window: session.DefaultWindow, Kind: "pty", Replaces: []session.ID{{1}, {2}}, Attempt: 3,
	}
	acceptAll = session.Accept{
		Protocol: 1, ID: id, Resumed: true, Next: 42, Window: session.DefaultWindow, Line: "115200n81",
		Capabilities: []string{"modem", "break"}, HoldMillis: 15000, StaleMillis: 1500,
	}
	closeAll = session.CloseError{Code: session.CodeBusy, Text: "held by server", Remote: true}
)

// frames returns one frame of each type, by the name of its golden file.
func frames(t testing.TB) map[string][]byte {
	open, err := session.AppendOpen(nil, openAll)
	if err != nil {
		t.Fatal(err)
	}
	replaces, err := session.AppendOpen(nil, openReplaces)
	if err != nil {
		t.Fatal(err)
	}
	accept, err := session.AppendAccept(nil, acceptAll)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]byte{
		"open": open, "open-replaces": replaces, "accept": accept, "close": session.AppendClose(nil, closeAll),
	}
	// An End writes the others: DATA and ACK, CONTROL, PING, PONG.
	a, b := session.NewEnd(0), session.NewEnd(0)
	if err := errors.Join(a.Connect(0, 0, 1<<18), b.Connect(0, 0, 1<<18)); err != nil {
		t.Fatal(err)
	}
	feed := func(to *session.End, wire []byte) {
		for len(wire) > 0 {
			f, n, err := session.Decode(wire)
			if err != nil || n == 0 {
				t.Fatal(n, err)
			}
			event, err := to.Input(0, f)
			if err != nil {
				t.Fatal(err)
			}
			if n := len(event.Data); n > 0 {
				to.Delivered(0, n)
			}
			wire = wire[n:]
		}
	}
	a.Write(0, []byte{0x01, 0x03, 0x00, 0x20, 0xdc})
	all["data"] = a.Output(0, nil)
	feed(b, all["data"])
	all["ack"] = b.Output(session.PingAfter/2, nil)
	for name, c := range map[string]session.Control{
		"control-line":  {Kind: session.KindLine, Line: "460800n81/rtscts"},
		"control-purge": {Kind: session.KindPurge, Bits: session.PurgeReceive | session.PurgeTransmit},
		"control-modem": {Kind: session.KindModem, Bits: 1, Mask: 3},
		"control-break": {Kind: session.KindBreak, Millis: 250},
		"control-gap":   {Kind: session.KindGap, Lost: 17, Unknown: true},
		"control-mark":  {Kind: session.KindMark},
	} {
		c1 := session.NewEnd(0)
		if err := c1.Connect(0, 0, 100); err != nil {
			t.Fatal(err)
		}
		if ok, err := c1.Control(c); !ok || err != nil {
			t.Fatal(ok, err)
		}
		all[name] = c1.Output(0, nil)
	}
	stale := session.NewEnd(0)
	stale.SetMaxStale(time.Second)
	stale.Write(0, make([]byte, 300))
	if err := stale.Connect(time.Minute, 0, 1000); err != nil {
		t.Fatal(err)
	}
	all["skip"] = stale.Output(time.Minute, nil)
	all["ping"] = a.Output(session.PingAfter, nil)
	feed(b, all["ping"])
	all["pong"] = b.Output(0, nil)
	return all
}

// TestGolden holds the wire format still. A difference here breaks clusters
// whose nodes are not updated at once.
func TestGolden(t *testing.T) {
	for name, frame := range frames(t) {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join("testdata", name+".hex")
			text, err := os.ReadFile(path)
			if os.IsNotExist(err) && *update {
				err = os.WriteFile(path, []byte(hex.EncodeToString(frame)+"\n"), 0o644)
				text = []byte(hex.EncodeToString(frame))
			}
			if err != nil {
				t.Fatal(err)
			}
			want, err := hex.DecodeString(strings.TrimSpace(string(text)))
			if err != nil || !bytes.Equal(frame, want) {
				t.Fatalf("have %x\nwant %x (%v)", frame, want, err)
			}
		})
	}
}

func TestBodies(t *testing.T) {
	all := frames(t)
	payload := func(name string) []byte {
		f, _, err := session.Decode(all[name])
		if err != nil {
			t.Fatal(err)
		}
		return f.Payload
	}
	if open, err := session.ParseOpen(payload("open")); err != nil || !reflect.DeepEqual(open, openAll) {
		t.Errorf("OPEN: %+v, %v", open, err)
	}
	if open, err := session.ParseOpen(payload("open-replaces")); err != nil || !reflect.DeepEqual(open, openReplaces) {
		t.Errorf("OPEN: %+v, %v", open, err)
	}
	if accept, err := session.ParseAccept(payload("accept")); err != nil || !reflect.DeepEqual(accept, acceptAll) {
		t.Errorf("ACCEPT: %+v, %v", accept, err)
	}
	if closed, err := session.ParseClose(payload("close")); err != nil || !reflect.DeepEqual(*closed, closeAll) {
		t.Errorf("CLOSE: %+v, %v", closed, err)
	}
	if _, c, err := session.ParseControl(payload("control-gap")); err != nil || c != (session.Control{Kind: session.KindGap, Lost: 17, Unknown: true}) {
		t.Errorf("CONTROL: %+v, %v", c, err)
	}
}

// TestUnknownKey: a newer minor version may add keys.
func TestUnknownKey(t *testing.T) {
	body := []byte{0xa3, 0x01, 0x03, 0x02, 0x61, 'x', 0x18, 0x63, 0xf5} // {1: 3, 2: "x", 99: true}
	closed, err := session.ParseClose(body)
	if err != nil || closed.Code != session.CodeBusy || closed.Text != "x" {
		t.Fatalf("%+v, %v", closed, err)
	}
}

func TestDecodeRefuses(t *testing.T) {
	tests := []struct {
		name  string
		frame []byte
	}{
		{"type 0", []byte{0, 0, 0}},
		{"type 9", []byte{9, 0, 1}},
		{"type 127", []byte{127, 0, 1}},
		{"empty DATA", []byte{3, 0, 8}},
		{"DATA of 16385 bytes", []byte{3, 0x40, 0x09}},
		{"long ACK", []byte{4, 0, 9}},
		{"short PING", []byte{7, 0, 7}},
		{"empty OPEN", []byte{1, 0, 0}},
		{"OPEN of 1025 bytes", []byte{1, 4, 1}},
		{"CONTROL without body", []byte{5, 0, 8}},
		{"unknown and too long", []byte{200, 0xff, 0xff}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if _, _, err := session.Decode(test.frame); !errors.Is(err, session.ErrProtocol) {
				t.Fatalf("%v", err)
			}
		})
	}
}

func TestIgnorableType(t *testing.T) {
	f, n, err := session.Decode([]byte{128, 0, 2, 'a', 'b', 'c'})
	if err != nil || n != 5 {
		t.Fatal(n, err)
	}
	if event, err := session.NewEnd(0).Input(0, f); err != nil || !reflect.DeepEqual(event, session.Event{}) {
		t.Fatalf("%+v, %v", event, err)
	}
}

func TestInputRefuses(t *testing.T) {
	number := func(typ session.Type, n byte) session.Frame {
		return session.Frame{Type: typ, Payload: []byte{0, 0, 0, 0, 0, 0, 0, n}}
	}
	data := func(offset byte, length int) session.Frame {
		f := number(session.TypeData, offset)
		f.Payload = append(f.Payload, make([]byte, length)...)
		return f
	}
	tests := []struct {
		name  string
		frame session.Frame
	}{
		{"a hole", data(1, 1)},
		{"more than the window", data(0, 101)},
		{"offsets that wrap", session.Frame{Type: session.TypeData, Payload: bytes.Repeat([]byte{0xff}, 9)}},
		{"ACK of what was never sent", number(session.TypeAck, 1)},
		{"OPEN in a session", session.Frame{Type: session.TypeOpen, Payload: []byte{0xa0}}},
		{"CONTROL of kind 0", session.Frame{Type: session.TypeControl, Payload: append(make([]byte, 8), 0xa1, 1, 0)}},
		{"CONTROL after a hole", session.Frame{Type: session.TypeControl, Payload: append([]byte{0, 0, 0, 0, 0, 0, 0, 1}, 0xa1, 1, 9)}},
		{"CLOSE of code 0", session.Frame{Type: session.TypeClose, Payload: []byte{0xa1, 1, 0}}},
		{"CLOSE that is no CBOR", session.Frame{Type: session.TypeClose, Payload: []byte{0xff}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if _, err := session.NewEnd(100).Input(0, test.frame); !errors.Is(err, session.ErrProtocol) {
				t.Fatalf("%v", err)
			}
		})
	}
}

func TestOpenRefuses(t *testing.T) {
	tests := []struct {
		name   string
		change func(*session.Open)
	}{
		{"no version", func(o *session.Open) { o.Protocol = 0 }},
		{"no device", func(o *session.Open) { o.Device = "" }},
		{"long device", func(o *session.Open) { o.Device = strings.Repeat("x", session.MaxName+1) }},
		{"device that is no text", func(o *session.Open) { o.Device = "\xff" }},
		{"no session", func(o *session.Open) { o.ID = session.ID{} }},
		{"new, yet at an offset", func(o *session.Open) { o.Resume = false }},
		{"unknown take", func(o *session.Open) { o.Take = 3 }},
		{"no window", func(o *session.Open) { o.Window = 0 }},
		{"too many replaced", func(o *session.Open) { o.Replaces = make([]session.ID, session.MaxReplaces+1) }},
		{"long line settings", func(o *session.Open) { o.Line = strings.Repeat("9", 65) }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			o := openAll
			test.change(&o)
			if _, err := session.AppendOpen(nil, o); err == nil {
				t.Fatalf("%+v was encoded", o)
			}
		})
	}
}

func TestCodes(t *testing.T) {
	texts := map[string]bool{}
	for code := session.CodeNormal; code <= session.CodeCannotResume; code++ {
		frame := session.AppendClose(nil, session.CloseError{Code: code, Text: strings.Repeat("ü", 1000)})
		f, _, err := session.Decode(frame)
		if err != nil {
			t.Fatal(err)
		}
		closed, err := session.ParseClose(f.Payload)
		if err != nil {
			t.Fatal(err)
		}
		if !errors.Is(closed, code) || !closed.Remote || len(closed.Text) != session.MaxText {
			t.Errorf("code %d came back as %v, remote %v, %d bytes of text", code, closed.Code, closed.Remote, len(closed.Text))
		}
		texts[code.Error()] = true
	}
	if len(texts) != 9 || fmt.Sprint(session.Code(77)) != "closed with code 77" {
		t.Errorf("%d texts for 9 codes", len(texts))
	}
}
