package memtunnel

import (
	"bytes"
	"testing"

	"github.com/serialspan/serialspan/mesh/identity"
)

// FuzzDecode reads anything: it does not panic, and what it takes for data comes
// out of encode again.
func FuzzDecode(f *testing.F) {
	f.Add(encode(identity.NodeID{1}, 2, []byte("payload")))
	f.Add(keepalive(identity.NodeID{1}))
	f.Add(handshake(typeInitiation, identity.NodeID{1}))
	f.Fuzz(func(t *testing.T, d []byte) {
		from, kind, payload, ok := decode(d)
		if !ok || d[0] != typeData || len(d) == keepaliveLen {
			return
		}
		again, sameKind, same, ok := decode(encode(from, kind, payload))
		if !ok || again != from || sameKind != kind || !bytes.Equal(same, payload) {
			t.Errorf("%x is read as %v %d %x, and that as %v %d %x", d, from, kind, payload, again, sameKind, same)
		}
	})
}
