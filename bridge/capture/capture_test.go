package capture_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"reflect"
	"testing"
	"time"

	"github.com/serialspan/serialspan/bridge/capture"
	"github.com/serialspan/serialspan/bridge/line"
)

var all = []capture.Event{
	{At: 1, Kind: capture.FromDevice, Data: []byte{0x01, 0x03, 0xff}},
	{At: time.Millisecond, Kind: capture.ToDevice, Data: []byte{0x06}},
	{At: time.Second, Kind: capture.Line, Text: "9600e71/rtscts"},
	{At: time.Second, Kind: capture.Modem, Mask: line.CTS | line.DSR, On: line.CTS},
	{At: 2 * time.Second, Kind: capture.Gap, Of: capture.FromDevice, Lost: 1 << 40, Unknown: true},
	{At: 3 * time.Second, Kind: capture.Purge, Bits: 3},
	{At: time.Hour, Kind: capture.Port, Text: "unplugged"},
	{At: time.Hour, Kind: capture.Port, Open: true},
	{At: 100 * time.Hour, Kind: capture.Note, Text: "hello"},
}

// TestGolden holds the format of files and records still.
func TestGolden(t *testing.T) {
	var file bytes.Buffer
	w, err := capture.NewWriter(&file)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		if err := w.Write(e); err != nil {
			t.Fatal(err)
		}
	}
	const path = "testdata/all.hex"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want, err := hex.DecodeString(string(bytes.TrimSpace(text)))
	if err != nil || !bytes.Equal(file.Bytes(), want) {
		t.Fatalf("have %x\nwant %x, %v", file.Bytes(), want, err)
	}
	r, err := capture.NewReader(bytes.NewReader(want))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		have, err := r.Read()
		if err != nil || !reflect.DeepEqual(have, e) {
			t.Errorf("%+v, %v, want %+v", have, err, e)
		}
	}
	if _, err := r.Read(); err != io.EOF {
		t.Errorf("after the last: %v", err)
	}
}

func TestReaderRefuses(t *testing.T) {
	if _, err := capture.NewReader(bytes.NewReader(make([]byte, 24))); !errors.Is(err, capture.ErrFormat) {
		t.Errorf("another file: %v", err)
	}
	var file bytes.Buffer
	w, err := capture.NewWriter(&file)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Write(all[0]); err != nil {
		t.Fatal(err)
	}
	cut := file.Bytes()[:file.Len()-1]
	r, err := capture.NewReader(bytes.NewReader(cut))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Read(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a file that was cut: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	for _, e := range all {
		f.Add(capture.Append(nil, e))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, size, err := capture.Decode(b)
		if err != nil {
			if !errors.Is(err, capture.ErrFormat) {
				t.Fatal(err)
			}
			return
		}
		if size == 0 || e.Kind == 0 || e.Kind > capture.Note {
			return
		}
		again, _, err := capture.Decode(capture.Append(nil, e))
		if err != nil || !reflect.DeepEqual(again, e) {
			t.Fatalf("%+v, %v, want %+v", again, err, e)
		}
	})
}
