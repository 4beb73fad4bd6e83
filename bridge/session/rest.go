package session

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/serialspan/serialspan/mesh/canonical"
)

// An End at rest is an End between two processes: what the one writes down at
// its end and the next goes on with. It is no part of the wire.
//
// Bytes that came from the peer and were not delivered are not in it: they were
// not acknowledged either, so the peer has them still and sends them again to
// whoever asks for the first that was not delivered.

// maxRest bounds what an End at rest may have kept, in bytes: far above every
// window, so that a damaged length does not take all memory.
const maxRest = 16 << 20

// restBody is an End at rest. Times are on the clock of the methods of End.
type restBody struct {
	Base      uint64        `cbor:"1,keyasint"`
	Kept      []byte        `cbor:"2,keyasint,omitempty"` // from Base on; a control has one byte of it
	Controls  []restControl `cbor:"3,keyasint,omitempty"`
	Bursts    []restBurst   `cbor:"4,keyasint,omitempty"`
	Skips     []restSpan    `cbor:"5,keyasint,omitempty"`
	Stale     int64         `cbor:"6,keyasint,omitempty"` // ns
	Dropped   uint64        `cbor:"7,keyasint,omitempty"`
	Delivered uint64        `cbor:"8,keyasint,omitempty"`
	Writes    []uint64      `cbor:"9,keyasint,omitempty"`  // where they end
	Limit     uint64        `cbor:"10,keyasint,omitempty"` // of what is kept, as both windows allow; 0: not known
}

type restControl struct {
	Offset uint64 `cbor:"1,keyasint"`
	Body   []byte `cbor:"2,keyasint"`
}

type restSpan struct {
	From  uint64 `cbor:"1,keyasint"`
	Until uint64 `cbor:"2,keyasint"`
}

type restBurst struct {
	restSpan
	First int64 `cbor:"3,keyasint"` // ns
	Last  int64 `cbor:"4,keyasint"`
}

// restDecoding bounds what Restore takes; the lists are as long as those of a
// sender can be.
var restDecoding = canonical.Decoder(canonical.Limits{Levels: 4, Elements: 4 * maxBursts, Pairs: 32})

// Save returns the End at rest: all that Restore needs to go on with the
// session. The End must not be used any more: whatever it did after this would
// be done twice.
func (e *End) Save() []byte {
	s := &e.out
	body := restBody{Base: s.base, Stale: int64(s.stale), Dropped: e.dropped, Delivered: e.in.delivered, Writes: s.writes, Limit: uint64(s.limit)}
	for at := s.base; at < s.end; {
		chunk := s.at(at, int(s.end-at))
		body.Kept = append(body.Kept, chunk...)
		at += uint64(len(chunk))
	}
	for _, c := range s.controls {
		body.Controls = append(body.Controls, restControl{c.offset, c.body})
		body.Kept[c.offset-s.base] = 0 // unused, and left over from another
	}
	for _, b := range s.bursts {
		body.Bursts = append(body.Bursts, restBurst{restSpan{b.from, b.until}, int64(b.first), int64(b.last)})
	}
	for _, k := range s.skips {
		body.Skips = append(body.Skips, restSpan{k.from, k.until})
	}
	raw, err := encoding.Marshal(body)
	if err != nil {
		panic(err) // numbers and bytes always encode
	}
	return raw
}

// Restore returns the End that Save wrote down, with a window as NewEnd takes
// it. It has no stream, and what it received and had not delivered it expects
// again: Next is less than it was. Its clock must go on from that of the End
// that was saved. The error says that saved is no End at rest.
func Restore(window int, saved []byte) (*End, error) {
	var body restBody
	if err := restDecoding.Unmarshal(saved, &body); err != nil {
		return nil, fmt.Errorf("restore session: %w", err)
	}
	if err := body.check(); err != nil {
		return nil, fmt.Errorf("restore session: %w", err)
	}
	e := NewEnd(window)
	if body.Limit > 0 {
		e.Expect(body.Limit)
	}
	s := &e.out
	s.base, s.next, s.end = body.Base, body.Base, body.Base
	s.grow(len(body.Kept))
	for rest := body.Kept; len(rest) > 0; {
		n := copy(s.at(s.end, len(rest)), rest)
		rest = rest[n:]
		s.end += uint64(n)
	}
	for _, c := range body.Controls {
		s.controls = append(s.controls, placed{c.Offset, c.Body})
	}
	for _, b := range body.Bursts {
		s.bursts = append(s.bursts, burst{span{b.From, b.Until}, time.Duration(b.First), time.Duration(b.Last)})
	}
	for _, k := range body.Skips {
		s.skips = append(s.skips, span{k.From, k.Until})
	}
	s.writes = body.Writes
	s.stale = time.Duration(body.Stale)
	e.dropped = body.Dropped
	e.in.acked, e.in.delivered, e.in.next = body.Delivered, body.Delivered, body.Delivered
	return e, nil
}

// check holds the body against the invariants of a sender.
func (b *restBody) check() error {
	end := b.Base + uint64(len(b.Kept))
	if len(b.Kept) > maxRest || b.Base > math.MaxInt64 || b.Delivered > math.MaxInt64 || b.Stale < 0 {
		return fmt.Errorf("%d bytes from %d on, %d delivered", len(b.Kept), b.Base, b.Delivered)
	}
	if len(b.Controls) > maxControls || len(b.Bursts) > maxBursts {
		return fmt.Errorf("%d controls, %d bursts", len(b.Controls), len(b.Bursts))
	}
	last := b.Base
	for _, at := range b.Writes {
		if at <= last || at > end {
			return fmt.Errorf("a write ends at %d of %d to %d", at, last, end)
		}
		last = at
	}
	at := b.Base
	for _, c := range b.Controls {
		if c.Offset < at || c.Offset >= end || len(c.Body) > maxBody {
			return fmt.Errorf("a control at %d of %d to %d", c.Offset, at, end)
		}
		if err := decoding.Wellformed(c.Body); err != nil {
			return fmt.Errorf("a control at %d: %w", c.Offset, err)
		}
		at = c.Offset + 1
	}
	spans := make([]restSpan, 0, len(b.Bursts))
	for _, burst := range b.Bursts {
		spans = append(spans, burst.restSpan)
	}
	for _, list := range [][]restSpan{spans, b.Skips} {
		last := uint64(0) // the first may have begun before what is kept
		for _, k := range list {
			if k.From < last || k.Until <= k.From || k.Until > end {
				return fmt.Errorf("bytes %d to %d of up to %d", k.From, k.Until, end)
			}
			last = k.Until
		}
	}
	if slices.ContainsFunc(b.Skips, func(k restSpan) bool { return k.Until-k.From > maxRest }) {
		return fmt.Errorf("a gap of more than %d bytes", maxRest)
	}
	return nil
}
