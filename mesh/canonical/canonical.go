// Package canonical has the one form of CBOR in which everything is signed, sent
// and kept: the core deterministic encoding of RFC 8949 section 4.2.1, so that
// equal values have equal bytes, and decoders that allocate little for any
// input. It knows nothing of what is encoded.
package canonical

import "github.com/fxamacker/cbor/v2"

// Encoder returns the deterministic encoder.
func Encoder() cbor.EncMode {
	mode, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		panic("canonical: CBOR encoder: " + err.Error()) // constant options
	}
	return mode
}

// Limits bound what a decoder takes.
type Limits struct {
	Levels   int // of nesting, at least 4
	Elements int // of an array, at least 16
	Pairs    int // of a map, at least 16
}

// Decoder returns a decoder that refuses what a correct peer never sends: keys
// that stand twice, indefinite lengths, tags, and more than the limits. It
// panics if they are too small for the library.
func Decoder(l Limits) cbor.DecMode {
	mode, err := cbor.DecOptions{
		DupMapKey:        cbor.DupMapKeyEnforcedAPF,
		IndefLength:      cbor.IndefLengthForbidden,
		TagsMd:           cbor.TagsForbidden,
		MaxNestedLevels:  l.Levels,
		MaxArrayElements: l.Elements,
		MaxMapPairs:      l.Pairs,
	}.DecMode()
	if err != nil {
		panic("canonical: CBOR decoder: " + err.Error())
	}
	return mode
}
