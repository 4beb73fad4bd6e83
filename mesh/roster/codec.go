package roster

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"github.com/fxamacker/cbor/v2"

	"github.com/serialspan/serialspan/mesh/canonical"
	"github.com/serialspan/serialspan/mesh/identity"
)

// body is the CBOR form of a Record; doc.go has the table.
type body struct {
	Name      string   `cbor:"1,keyasint"`
	Key       []byte   `cbor:"2,keyasint"`
	WireGuard []byte   `cbor:"3,keyasint"`
	Start     []byte   `cbor:"4,keyasint"`
	Epoch     uint64   `cbor:"5,keyasint"`
	Sequence  uint64   `cbor:"6,keyasint"`
	KubeSpan  []byte   `cbor:"7,keyasint,omitempty"`
	Endpoints [][]byte `cbor:"8,keyasint,omitempty"`
	Version   string   `cbor:"9,keyasint,omitempty"`
	Relay     bool     `cbor:"10,keyasint,omitempty"`
	Through   []byte   `cbor:"11,keyasint,omitempty"`
}

// lastKnownKey is the largest key of body.
const lastKnownKey = 11

var (
	encoder = canonical.Encoder()
	decoder = canonical.Decoder(canonical.Limits{Levels: 4, Elements: 64, Pairs: 64})
)

// encodeBody returns the CBOR form of a checked record.
func encodeBody(r *Record) ([]byte, error) {
	b := body{
		Name: r.Name, Key: r.Key, WireGuard: r.WireGuard[:], Start: r.Start[:],
		Epoch: r.Epoch, Sequence: r.Sequence, Version: r.Version, Relay: r.Relay,
	}
	if r.KubeSpan.IsValid() {
		b.KubeSpan = r.KubeSpan.AsSlice()
	}
	for _, e := range r.Endpoints {
		b.Endpoints = append(b.Endpoints, binary.BigEndian.AppendUint16(e.Addr().AsSlice(), e.Port()))
	}
	for _, hint := range r.Through {
		b.Through = append(b.Through, hint[:]...)
	}
	return encoder.Marshal(b)
}

// decodeBody reads the CBOR form; the result shares no memory with data.
func decodeBody(data []byte) (Record, error) {
	var b body
	if err := decoder.Unmarshal(data, &b); err != nil {
		return Record{}, fmt.Errorf("%w: %v", ErrRecord, err)
	}
	if err := checkCanonical(data, &b); err != nil {
		return Record{}, err
	}
	r := Record{Name: b.Name, Key: b.Key, Epoch: b.Epoch, Sequence: b.Sequence, Version: b.Version, Relay: b.Relay}
	if len(b.WireGuard) != len(r.WireGuard) || len(b.Start) != len(r.Start) {
		return Record{}, fmt.Errorf("%w: a key or start of the wrong length", ErrRecord)
	}
	r.WireGuard = identity.WireGuardKey(b.WireGuard)
	r.Start = Start(b.Start)
	if b.KubeSpan != nil {
		if len(b.KubeSpan) != 16 {
			return Record{}, fmt.Errorf("%w: KubeSpan address of %d bytes", ErrRecord, len(b.KubeSpan))
		}
		r.KubeSpan = netip.AddrFrom16([16]byte(b.KubeSpan))
	}
	for _, e := range b.Endpoints {
		if len(e) != 4+2 && len(e) != 16+2 {
			return Record{}, fmt.Errorf("%w: endpoint of %d bytes", ErrRecord, len(e))
		}
		addr, _ := netip.AddrFromSlice(e[:len(e)-2])
		r.Endpoints = append(r.Endpoints, netip.AddrPortFrom(addr, binary.BigEndian.Uint16(e[len(e)-2:])))
	}
	if len(b.Through)%len(RelayHint{}) != 0 {
		return Record{}, fmt.Errorf("%w: hints at relays of %d bytes", ErrRecord, len(b.Through))
	}
	for hint := range slices.Chunk(b.Through, len(RelayHint{})) {
		r.Through = append(r.Through, RelayHint(hint))
	}
	return r, r.check()
}

// checkCanonical refuses a body with a second encoding of the same record:
// the map and every known value must stand as the encoder writes them. Values
// of unknown keys only have to be well-formed.
func checkCanonical(data []byte, b *body) error {
	var got, want map[uint64]cbor.RawMessage
	if err := decoder.Unmarshal(data, &got); err != nil {
		return fmt.Errorf("%w: %v", ErrRecord, err)
	}
	again, err := encoder.Marshal(got)
	if err != nil || !bytes.Equal(again, data) {
		return fmt.Errorf("%w: the encoding is not canonical", ErrRecord)
	}
	known, err := encoder.Marshal(b)
	if err != nil {
		return fmt.Errorf("%w: %v", ErrRecord, err)
	}
	if err := decoder.Unmarshal(known, &want); err != nil {
		return fmt.Errorf("%w: %v", ErrRecord, err)
	}
	for key := uint64(1); key <= lastKnownKey; key++ {
		if !bytes.Equal(got[key], want[key]) {
			return fmt.Errorf("%w: the encoding of key %d is not canonical", ErrRecord, key)
		}
	}
	return nil
}
