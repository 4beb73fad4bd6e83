package roster_test

import (
	"bytes"
	"testing"

	"github.com/serialspan/serialspan/mesh/roster"
)

// FuzzParse: whatever parses is within the limits and passes on unchanged. The
// body is signed here, so that the fuzzer gets behind the signature.
func FuzzParse(f *testing.F) {
	seed := func(r roster.Record) {
		wire := sign(f, node(1), r).Wire()
		f.Add(wire[:len(wire)-64])
	}
	seed(plain(1, 2, 3))
	seed(full())
	f.Add([]byte{})
	f.Add(canonical(f, map[uint64]any{1: "a", 20: []any{1, "x"}}))
	f.Fuzz(func(t *testing.T, body []byte) {
		if _, err := roster.Parse(cluster, body); err == nil {
			t.Fatal("a record without a signature was accepted")
		}
		wire := forge(t, node(1), body)
		s, err := roster.Parse(cluster, wire)
		if err != nil {
			return
		}
		r := s.Record()
		if !bytes.Equal(s.Wire(), wire) || len(wire) > roster.MaxWire || !roster.ValidName(r.Name) ||
			len(r.Endpoints) > roster.MaxEndpoints || s.ID() != node(1).ID() {
			t.Fatalf("accepted %+v", r)
		}
		again, err := roster.Sign(node(1), cluster, r)
		if err != nil {
			t.Fatalf("a parsed record cannot be signed: %v", err)
		}
		if len(again.Wire()) == len(wire) && !bytes.Equal(again.Wire(), wire) {
			t.Fatal("two encodings of one record")
		}
	})
}

// FuzzUnmarshal: no panic, bounded, and what is read can be written.
func FuzzUnmarshal(f *testing.F) {
	f.Add(members(f, 0))
	f.Add(members(f, 3))
	f.Add([]byte(header + "\x00\x00\x00\x01x"))
	f.Fuzz(func(t *testing.T, data []byte) {
		records, err := roster.Unmarshal(cluster, data)
		if len(records) > roster.MaxRecords || err == nil && !bytes.HasPrefix(data, []byte(header)) {
			t.Fatalf("%d records, %v", len(records), err)
		}
		r := roster.New(roster.Signed{})
		for _, s := range records {
			r.Merge(s)
		}
		if again, err := roster.Unmarshal(cluster, r.Marshal()); err != nil || len(again) > len(records) {
			t.Fatalf("written again: %d records, %v", len(again), err)
		}
	})
}
