package handover_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"hash/crc32"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/serialspan/serialspan/bridge/internal/handover"
	"github.com/serialspan/serialspan/bridge/session"
	"github.com/serialspan/serialspan/mesh/identity"
)

var update = flag.Bool("update", false, "write testdata")

// records have every field.
var records = map[string]handover.Record{
	"running": {
		Kind: handover.Running, Device: "garage-zwave", Link: "/run/serialspan/zwave", InUse: true, Kicked: true,
		Session: session.ID{1, 2, 3}, Initial: "115200n81", Wanted: "9600n81",
	},
	"rest": {
		Kind: handover.AtRest, Device: "garage-zwave", Link: "/run/serialspan/zwave", InUse: true, Kicked: true,
		Session: session.ID{1, 2, 3}, Initial: "115200n81", Wanted: "9600n81",
		Use: &handover.Use{
			End: []byte("end"), Owner: identity.NodeID{4, 5}, Name: "zwave", Hold: 14, Age: 6, Clock: 7, Line: "9600n81", LinesOff: true,
			Begun: true, Gap: 8, Unknown: true, Closing: true,
			Unsent: []handover.Step{{Bytes: []byte("bytes")}, {Control: session.Control{Kind: session.KindModem, Mask: 3, Bits: 1}}, {Line: "300n81", Frameless: true}},
		},
		Terminal: &handover.Terminal{
			Settings: handover.Settings{Line: "9600n81", HangUpOnClose: true, LinesOff: true}, Fresh: true, Opened: true, Held: []byte("held"),
			Changes: []handover.Change{{After: 3, Settings: handover.Settings{Line: "300n81"}}, {After: 1, Settings: handover.Settings{Line: "600n81"}}},
		},
		Totals: handover.Totals{Sent: 9, Received: 10, Resumed: 11, Gaps: 12, Lost: 13},
	},
}

func encoded(t testing.TB, r handover.Record) []byte {
	t.Helper()
	b, err := handover.Append(nil, r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestGolden holds the form still: an agent takes over from one of another
// version.
func TestGolden(t *testing.T) {
	for name, r := range records {
		t.Run(name, func(t *testing.T) {
			path, have := filepath.Join("testdata", name+".hex"), encoded(t, r)
			if *update {
				if err := os.WriteFile(path, []byte(hex.EncodeToString(have)+"\n"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			want, err := hex.DecodeString(strings.TrimSpace(string(text)))
			if err != nil || !bytes.Equal(have, want) {
				t.Fatalf("have %x\nwant %x (%v)", have, want, err)
			}
			if back, err := handover.Parse(want); err != nil || !reflect.DeepEqual(back, r) {
				t.Fatalf("read back as %+v, %v", back, err)
			}
		})
	}
}

func TestUnknown(t *testing.T) {
	good := encoded(t, records["rest"])
	edit := func(f func(b []byte) []byte) []byte { return f(bytes.Clone(good)) }
	for name, b := range map[string][]byte{
		"nothing":         nil,
		"something else":  []byte("#!/bin/sh\nexit 0\n# and more of it"),
		"newer version":   edit(func(b []byte) []byte { b[4]++; return b }),
		"unknown kind":    edit(func(b []byte) []byte { b[5] = 3; return b }),
		"other kind":      edit(func(b []byte) []byte { b[5] = byte(handover.Running); return b }),
		"cut short":       edit(func(b []byte) []byte { return b[:len(b)-1] }),
		"one bit changed": edit(func(b []byte) []byte { b[len(b)/2] ^= 1; return b }),
		"absurd length":   edit(func(b []byte) []byte { binary.BigEndian.PutUint32(b[6:], 1<<31); return b }),
		"torn: the head of one, the rest of another": append(bytes.Clone(encoded(t, records["running"])[:64]), good[64:]...),
	} {
		if r, err := handover.Parse(b); !errors.Is(err, handover.ErrUnknown) {
			t.Errorf("%s: %+v, %v, want ErrUnknown", name, r, err)
		}
	}
	if r, err := handover.Parse(append(bytes.Clone(good), "left over"...)); err != nil || !reflect.DeepEqual(r, records["rest"]) {
		t.Errorf("with bytes of a longer one behind it: %+v, %v", r, err)
	}
}

func TestAppendRefuses(t *testing.T) {
	for name, change := range map[string]func(*handover.Record){
		"no kind":               func(r *handover.Record) { r.Kind = 0 },
		"at work with a use":    func(r *handover.Record) { r.Kind, r.Terminal = handover.Running, nil },
		"no terminal":           func(r *handover.Record) { r.Terminal = nil },
		"a use of nobody":       func(r *handover.Record) { r.InUse = false },
		"a session without ID":  func(r *handover.Record) { r.Session = session.ID{} },
		"held before no change": func(r *handover.Record) { r.Terminal = &handover.Terminal{Held: []byte("x")} },
		"a change beyond what is": func(r *handover.Record) {
			r.Terminal = &handover.Terminal{Changes: []handover.Change{{After: 1}}}
		},
	} {
		r := records["rest"]
		change(&r)
		if b, err := handover.Append(nil, r); err == nil || len(b) != 0 {
			t.Errorf("%s: taken", name)
		}
	}
}

func TestFile(t *testing.T) {
	f, err := handover.Create("test")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if _, err := handover.Read(f); !errors.Is(err, handover.ErrUnknown) {
		t.Errorf("an empty file: %v", err)
	}
	for _, name := range []string{"running", "rest", "running"} {
		if err := handover.Write(f, records[name]); err != nil {
			t.Fatal(err)
		}
		if r, err := handover.Read(f); err != nil || !reflect.DeepEqual(r, records[name]) {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
		if info, err := f.Stat(); err != nil || info.Size() != int64(len(encoded(t, records[name]))) {
			t.Errorf("%s: the file has %d bytes, %v", name, info.Size(), err)
		}
	}
}

// FuzzParse: no panic, and what is read is written the same. The checksum
// would keep the fuzzer out, so it is mended.
func FuzzParse(f *testing.F) {
	for _, r := range records {
		f.Add(encoded(f, r))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		mend(b)
		r, err := handover.Parse(b)
		if err != nil {
			if !errors.Is(err, handover.ErrUnknown) {
				t.Fatal(err)
			}
			return
		}
		again := encoded(t, r)
		back, err := handover.Parse(again)
		if err != nil || !bytes.Equal(encoded(t, back), again) {
			t.Fatalf("%+v became %+v, %v", r, back, err)
		}
	})
}

// mend writes the length and the checksum that the body has.
func mend(b []byte) {
	const head = 14
	if len(b) < head {
		return
	}
	binary.BigEndian.PutUint32(b[6:], uint32(len(b)-head))
	binary.BigEndian.PutUint32(b[10:], crc32.Checksum(b[head:], crc32.MakeTable(crc32.Castagnoli)))
}
