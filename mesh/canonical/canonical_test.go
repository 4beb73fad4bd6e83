package canonical_test

import (
	"bytes"
	"testing"

	"github.com/serialspan/serialspan/mesh/canonical"
)

func TestDecoderRefuses(t *testing.T) {
	d := canonical.Decoder(canonical.Limits{Levels: 4, Elements: 16, Pairs: 16})
	for name, wire := range map[string][]byte{
		"a key twice":         {0xa2, 1, 1, 1, 2},
		"an indefinite array": {0x9f, 1, 0xff},
		"a tag":               {0xc0, 0x61, 'x'},
		"17 elements":         append([]byte{0x91}, make([]byte, 17)...),
		"17 pairs":            append([]byte{0xb1}, pairs(17)...),
		"five levels":         {0x81, 0x81, 0x81, 0x81, 0x81, 0x80},
	} {
		var v any
		if err := d.Unmarshal(wire, &v); err == nil {
			t.Errorf("%s is taken: %v", name, v)
		}
	}
	for name, wire := range map[string][]byte{
		"16 elements": append([]byte{0x90}, make([]byte, 16)...),
		"16 pairs":    append([]byte{0xb0}, pairs(16)...),
	} {
		var v any
		if err := d.Unmarshal(wire, &v); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func pairs(n byte) (b []byte) {
	for i := range n {
		b = append(b, i, 0)
	}
	return b
}

func TestEncoderSortsKeys(t *testing.T) {
	got, err := canonical.Encoder().Marshal(map[int]int{3: 1, 1: 1, 2: 1})
	if want := []byte{0xa3, 1, 1, 2, 1, 3, 1}; err != nil || !bytes.Equal(got, want) {
		t.Errorf("% x, %v; want % x", got, err, want)
	}
}

// FuzzDecoder: what is taken can be encoded, and that form is taken and stays.
func FuzzDecoder(f *testing.F) {
	f.Add([]byte{0xa2, 1, 0x61, 'x', 2, 0x82, 1, 2})
	encoder, decoder := canonical.Encoder(), canonical.Decoder(canonical.Limits{Levels: 4, Elements: 16, Pairs: 16})
	f.Fuzz(func(t *testing.T, wire []byte) {
		var v any
		if decoder.Unmarshal(wire, &v) != nil {
			return
		}
		once, err := encoder.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		var again any
		if err := decoder.Unmarshal(once, &again); err != nil {
			t.Fatalf("% x: %v", once, err)
		}
		if twice, err := encoder.Marshal(again); err != nil || !bytes.Equal(once, twice) {
			t.Errorf("% x became % x, %v", once, twice, err)
		}
	})
}
