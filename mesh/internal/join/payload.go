package join

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/serialspan/serialspan/mesh/canonical"
)

// protocolVersion is the version of the payloads that this package speaks.
const protocolVersion = 1

// payload is the CBOR map of all three messages; doc.go has the table.
type payload struct {
	Version uint64  `cbor:"1,keyasint,omitempty"`
	Record  []byte  `cbor:"2,keyasint,omitempty"`
	SeenAs  []byte  `cbor:"3,keyasint,omitempty"`
	Held    []byte  `cbor:"4,keyasint,omitempty"`
	Refusal refusal `cbor:"5,keyasint,omitempty"`
	Newest  uint32  `cbor:"6,keyasint,omitempty"`
}

var (
	encoder = canonical.Encoder()
	decoder = canonical.Decoder(canonical.Limits{Levels: 4, Elements: 64, Pairs: 64})
)

// encode returns the CBOR form of p.
func (p *payload) encode() ([]byte, error) {
	out, err := encoder.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("encode join payload: %w", err)
	}
	return out, nil
}

// decodePayload reads one CBOR map followed by nothing but zero bytes.
func decodePayload(data []byte) (payload, error) {
	var p payload
	padding, err := decoder.UnmarshalFirst(data, &p)
	if err != nil {
		return payload{}, fmt.Errorf("decode join payload: %w", err)
	}
	for _, b := range padding {
		if b != 0 {
			return payload{}, errors.New("decode join payload: bytes after the map")
		}
	}
	return p, nil
}

// decodeVersioned is decodePayload for messages 1 and 2. All that is sure of
// another version's payload is that it begins with a map and has the version
// and perhaps a refusal in it; so only those are set then.
func decodeVersioned(data []byte) (payload, error) {
	var head struct {
		Version uint64  `cbor:"1,keyasint"`
		Refusal refusal `cbor:"5,keyasint"`
	}
	if _, err := decoder.UnmarshalFirst(data, &head); err != nil {
		return payload{}, fmt.Errorf("decode join payload: %w", err)
	}
	if head.Version != protocolVersion {
		return payload{Version: head.Version, Refusal: head.Refusal}, nil
	}
	return decodePayload(data)
}

// encodeAddr returns address ‖ port (big endian), 6 or 18 bytes; a zone is
// left out, as it means something to this host only.
func encodeAddr(a netip.AddrPort) []byte {
	return binary.BigEndian.AppendUint16(a.Addr().Unmap().AsSlice(), a.Port())
}

// decodeAddr returns the zero AddrPort for what is no address and port.
func decodeAddr(b []byte) netip.AddrPort {
	if len(b) != 4+2 && len(b) != 16+2 {
		return netip.AddrPort{}
	}
	addr, _ := netip.AddrFromSlice(b[:len(b)-2])
	return netip.AddrPortFrom(addr.Unmap(), binary.BigEndian.Uint16(b[len(b)-2:]))
}
