package portwire_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/bridge/portwire"
)

// frames is one of each, as the golden bytes have them.
func frames() []portwire.Frame {
	return []portwire.Frame{
		{Type: portwire.Data, Data: []byte("hello")},
		{Type: portwire.Window, Count: 65536},
		{Type: portwire.Request, ID: 1, Op: portwire.OpLine, Line: "9600e71"},
		{Type: portwire.Request, ID: 2, Op: portwire.OpPurge, Bits: 3},
		{Type: portwire.Request, ID: 3, Op: portwire.OpDrain},
		{Type: portwire.Request, ID: 4, Op: portwire.OpModem, Mask: line.ModemOutputs, On: line.RTS},
		{Type: portwire.Request, ID: 5, Op: portwire.OpBreak, Count: 250},
		{Type: portwire.Request, ID: 6, Op: portwire.OpReset, Text: "bootloader"},
		{Type: portwire.Answer, ID: 1},
		{Type: portwire.Answer, ID: 4, Code: 11, Text: "set modem lines: the device has none", Next: "see resolve"},
		{Type: portwire.State, Flags: portwire.HasModem, Mask: line.ModemOutputs | line.CTS, On: line.DTR | line.CTS, Line: "115200n81/rtscts", Text: "in use by attic too"},
		{Type: portwire.Gap, Direction: portwire.FromDevice, Lost: 7},
		{Type: portwire.Gap, Direction: portwire.ToDevice, Lost: 300, Unknown: true},
		{Type: portwire.End, Code: 8, Text: "read: attic took it", Next: "take it back"},
	}
}

func TestGolden(t *testing.T) {
	var have strings.Builder
	var all []byte
	for _, f := range frames() {
		b := portwire.Append(nil, f)
		have.WriteString(hex.EncodeToString(b) + "\n")
		all = append(all, b...)
	}
	want, err := os.ReadFile(filepath.Join("testdata", "frames.hex"))
	if err != nil || have.String() != string(want) {
		t.Errorf("%v; have\n%swant\n%s", err, have.String(), want)
	}
	for _, want := range frames() {
		f, size, err := portwire.Decode(all)
		if err != nil || !reflect.DeepEqual(f, want) {
			t.Fatalf("have %+v, %v; want %+v", f, err, want)
		}
		all = all[size:]
	}
	if len(all) != 0 {
		t.Errorf("%d bytes are left", len(all))
	}
}

func TestDecodePart(t *testing.T) {
	for _, f := range frames() {
		whole := portwire.Append(nil, f)
		for n := range whole {
			if _, size, err := portwire.Decode(whole[:n]); size != 0 || err != nil {
				t.Errorf("type %d, %d of %d bytes: size %d, %v", f.Type, n, len(whole), size, err)
			}
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	for _, test := range []struct {
		name string
		hex  string
	}{
		{"type 0", "000000"},
		{"unknown type", "080000"},
		{"data without data", "010000"},
		{"data too long", "014001"},
		{"window of three bytes", "020003000000"},
		{"request without op", "03000400000001"},
		{"purge without bits", "0300050000000102"},
		{"drain with argument", "030006000000010300"},
		{"line settings no text", "03000600000001" + "01ff"},
		{"answer with text beyond its end", "04000700000001" + "000001"},
		{"state with settings beyond its end", "050004" + "00000001"},
		{"gap of no direction", "06000a" + "03000000000000000001"},
		{"gap neither known nor unknown", "06000a" + "01020000000000000001"},
		{"end no text", "070004" + "080001ff"},
	} {
		b, err := hex.DecodeString(test.hex)
		if err != nil {
			t.Fatal(err)
		}
		if _, size, err := portwire.Decode(b); !errors.Is(err, portwire.ErrFormat) || size != 0 {
			t.Errorf("%s: size %d, %v", test.name, size, err)
		}
	}
	// What a newer peer may add.
	for _, text := range []string{"800000", "ff000100", "0300060000000109" + "77"} {
		b, _ := hex.DecodeString(text)
		if _, size, err := portwire.Decode(b); size != len(b) || err != nil {
			t.Errorf("%s: size %d, %v", text, size, err)
		}
	}
}

func TestAppendCuts(t *testing.T) {
	long := strings.Repeat("é", portwire.MaxText)
	f, _, err := portwire.Decode(portwire.Append(nil, portwire.Frame{Type: portwire.End, Code: 1, Text: long, Next: "x" + long}))
	if err != nil || len(f.Text) != portwire.MaxText || len(f.Next) != portwire.MaxText-1 {
		t.Errorf("%d and %d bytes, %v", len(f.Text), len(f.Next), err)
	}
	f, _, err = portwire.Decode(portwire.Append(nil, portwire.Frame{Type: portwire.Data, Data: make([]byte, portwire.MaxData+1)}))
	if err != nil || len(f.Data) != portwire.MaxData {
		t.Errorf("%d bytes, %v", len(f.Data), err)
	}
}

// FuzzDecode: no panic, and what is decoded encodes to the same bytes, but for
// what a reader does not know.
func FuzzDecode(f *testing.F) {
	for _, frame := range frames() {
		f.Add(portwire.Append(nil, frame))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		frame, size, err := portwire.Decode(b)
		if err != nil || size == 0 {
			return
		}
		if frame.Type >= 128 || frame.Type == portwire.Request && (frame.Op == 0 || frame.Op > portwire.OpReset) {
			return
		}
		if again := portwire.Append(nil, frame); !bytes.Equal(again, b[:size]) {
			t.Errorf("%x decodes to %+v, which is %x", b[:size], frame, again)
		}
	})
}
