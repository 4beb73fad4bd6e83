package session_test

import (
	"slices"
	"testing"

	"github.com/serialspan/serialspan/bridge/session"
)

// TestFramesEndWithWrites: what waits to be sent is cut into frames where writes
// end, small ones together.
func TestFramesEndWithWrites(t *testing.T) {
	for _, test := range []struct {
		name   string
		sent   int   // of a write that went before
		writes []int // 0: a control
		want   []int // lengths of DATA frames
	}{
		{"one", 0, []int{5}, []int{5}},
		{"small ones together", 0, []int{1000, 1000, 48, 1}, []int{2048, 1}},
		{"a long one alone", 0, []int{100, 5000, 100}, []int{100, 5000, 100}},
		{"the longest", 0, []int{1, session.MaxData, 1}, []int{1, session.MaxData, 1}},
		{"one that no frame holds", 0, []int{session.MaxData + 1, 5}, []int{session.MaxData, 1, 5}},
		{"a control between", 0, []int{10, 0, 20, 30}, []int{10, 50}},
		{"after one that went", 2000, []int{100, 2000}, []int{100, 2000}},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := session.NewEnd(0)
			if err := e.Connect(0, 0, session.DefaultWindow); err != nil {
				t.Fatal(err)
			}
			lengths := func() (all []int) {
				for {
					wire := e.Output(0, nil)
					if len(wire) == 0 {
						return all
					}
					for len(wire) > 0 {
						f, size, err := session.Decode(wire)
						if err != nil || size == 0 {
							t.Fatal(size, err)
						}
						if f.Type == session.TypeData {
							all = append(all, size-session.HeaderSize-8)
						}
						wire = wire[size:]
					}
				}
			}
			if test.sent > 0 {
				e.Write(0, make([]byte, test.sent))
				lengths()
			}
			for _, n := range test.writes {
				if n > 0 && (!e.Fits(n) || e.Write(0, make([]byte, n)) != n) {
					t.Fatal("no room")
				}
				if n == 0 {
					if ok, err := e.Control(session.Control{Kind: session.KindUsers}); !ok || err != nil {
						t.Fatal(ok, err)
					}
				}
			}
			if have := lengths(); !slices.Equal(have, test.want) {
				t.Errorf("frames of %v bytes, want %v", have, test.want)
			}
		})
	}
}
