package roster_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"github.com/serialspan/serialspan/mesh/roster"
)

const header = "serialspan members 1\n"

// members returns a list of n records, our own (node 1) not among them.
func members(t testing.TB, n int) []byte {
	r := roster.New(sign(t, node(1), plain(1, 1, 1)))
	for i := range n {
		r.Merge(sign(t, node(uint32(i+2)), plain(1, 1, 1)))
	}
	return r.Marshal()
}

func TestMembersRoundTrip(t *testing.T) {
	for _, n := range []int{0, 1, 5} {
		data := members(t, n)
		records, err := roster.Unmarshal(cluster, data)
		if err != nil || len(records) != n {
			t.Fatalf("%d records: read %d, %v", n, len(records), err)
		}
		r := roster.New(roster.Signed{})
		for _, s := range records {
			if s.ID() == node(1).ID() {
				t.Error("our own record was persisted")
			}
			r.Merge(s)
		}
		if !bytes.Equal(r.Marshal(), data) {
			t.Error("another list after a round trip")
		}
	}
}

func TestUnmarshalDamaged(t *testing.T) {
	sound := members(t, 3)
	record := (len(sound) - len(header)) / 3 // all of one length
	altered := slices.Clone(sound)
	altered[len(header)+record+40] ^= 1
	length := slices.Clone(sound)
	binary.BigEndian.PutUint16(length[len(header)+record:], 60000)
	for _, row := range []struct {
		name string
		data []byte
		left int
	}{
		{"empty", nil, 0},
		{"part of the header", []byte(header[:5]), 0},
		{"another version", bytes.Replace(sound, []byte("members 1"), []byte("members 2"), 1), 0},
		{"one byte altered", altered, 2},
		{"length altered", length, 1},
		{"cut in a record", sound[:len(sound)-1], 2},
		{"cut in a length", sound[:len(header)+record+1], 1},
		{"far too long", make([]byte, roster.MaxMembers+1), 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			records, err := roster.Unmarshal(cluster, row.data)
			if !errors.Is(err, roster.ErrMembers) || len(records) != row.left {
				t.Errorf("%d records, %v; want %d and ErrMembers", len(records), err, row.left)
			}
		})
	}
	t.Run("another cluster", func(t *testing.T) {
		records, err := roster.Unmarshal([16]byte{7}, sound)
		if !errors.Is(err, roster.ErrMembers) || len(records) != 0 {
			t.Errorf("%d records, %v", len(records), err)
		}
	})
	t.Run("too many", func(t *testing.T) {
		junk := append([]byte(header), make([]byte, 2*(roster.MaxRecords+1))...) // records of length 0
		if _, err := roster.Unmarshal(cluster, junk); !errors.Is(err, roster.ErrMembers) {
			t.Errorf("%v, want ErrMembers", err)
		}
	})
}

func TestRosterIsBounded(t *testing.T) {
	r := roster.New(sign(t, node(1), plain(1, 1, 1)))
	var first roster.Signed
	for i := range roster.MaxRecords {
		s := sign(t, node(uint32(i+2)), plain(1, 1, 1))
		if i == 0 {
			first = s
		}
		if got := r.Merge(s); got != roster.Added {
			t.Fatalf("record %d: %s", i, got)
		}
	}
	if got := r.Merge(sign(t, node(1<<20), plain(1, 1, 1))); got != roster.Full {
		t.Errorf("one too many: %s, want full", got)
	}
	if got := r.Merge(sign(t, node(2), plain(1, 1, 2))); got != roster.Newer {
		t.Errorf("newer of a known node: %s, want newer", got)
	}
	if got := r.Merge(first); got != roster.Older {
		t.Errorf("older of a known node: %s, want older", got)
	}
	if n := len(r.Marshal()); n > roster.MaxMembers {
		t.Errorf("list of %d bytes", n)
	}
}
