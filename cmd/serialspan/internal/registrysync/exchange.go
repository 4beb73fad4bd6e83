package registrysync

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/registry"
)

// Frame types; append-only.
const (
	frameRoot    = 1
	frameSame    = 2
	frameDigest  = 3
	frameMessage = 4
	frameEnd     = 5
)

const (
	frameHeader = 1 + 4
	rootLen     = 32
	// maxMessages bounds what one side may send in one exchange: more than a
	// registry can hold (12,288 messages).
	maxMessages = 16 << 10
	// maxPassedOn is how many messages may be new in one exchange for them to
	// be broadcast. A few are the news that others missed as well, or the
	// devices of a node that has just started; many are the past, told to a
	// newcomer.
	maxPassedOn = 32
	// exchangeTimeout bounds a whole exchange: 12 MB at 1 Mbit/s.
	exchangeTimeout = 2 * time.Minute
)

var (
	errIdle  = errors.New("the other side is silent")
	errProto = errors.New("the other side breaks the protocol")
)

// frameLimit returns how many payload bytes a frame of a type may have, -1
// for an unknown type.
func frameLimit(kind byte) int {
	switch kind {
	case frameRoot:
		return rootLen
	case frameDigest:
		return registry.MaxDigest
	case frameMessage:
		return registry.MaxMessage
	case frameSame, frameEnd:
		return 0
	}
	return -1
}

// exchange is one stream in use.
type exchange struct {
	engine *Engine
	peer   identity.NodeID
	r      *bufio.Reader
	w      *bufio.Writer
	idle   *time.Timer
	buf    []byte
	news   []registry.Message // merged; at most maxPassedOn + 1
}

// exchange runs turn on conn, closes conn, and bounds both silence and time.
func (e *Engine) exchange(ctx context.Context, conn net.Conn, peer identity.NodeID, turn func(*exchange) error) error {
	ctx, cancel := context.WithTimeout(ctx, exchangeTimeout)
	defer cancel()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	defer conn.Close()
	unhook := context.AfterFunc(ctx, func() { conn.Close() })
	defer unhook()
	x := &exchange{
		engine: e, peer: peer,
		r: bufio.NewReader(conn), w: bufio.NewWriter(conn),
		idle: time.AfterFunc(e.cfg.IdleTimeout, func() { stop(errIdle) }),
	}
	defer x.idle.Stop()
	err := turn(x)
	x.passOn()
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return err
}

// initiate is the side that opened the stream.
func (x *exchange) initiate() error {
	root := x.engine.cfg.Registry.Root()
	if err := x.write(frameRoot, root[:]); err != nil {
		return err
	}
	if err := x.flush(); err != nil {
		return err
	}
	kind, payload, err := x.read()
	if err != nil {
		return err
	}
	switch kind {
	case frameSame:
		return nil
	case frameDigest:
	default:
		return fmt.Errorf("%w: frame type %d after the root", errProto, kind)
	}
	if err := x.answer(payload); err != nil {
		return err
	}
	if err := x.write(frameDigest, x.engine.cfg.Registry.Digest()); err != nil {
		return err
	}
	if err := x.flush(); err != nil {
		return err
	}
	_, err = x.mergeUntil(frameEnd)
	return err
}

// respond is the side that accepted the stream.
func (x *exchange) respond() error {
	kind, payload, err := x.read()
	if err != nil {
		return err
	}
	if kind != frameRoot || len(payload) != rootLen {
		return fmt.Errorf("%w: frame type %d of %d bytes, want the root", errProto, kind, len(payload))
	}
	if x.engine.cfg.Registry.Root() == [rootLen]byte(payload) {
		if err := x.write(frameSame, nil); err != nil {
			return err
		}
		return x.flush()
	}
	if err := x.write(frameDigest, x.engine.cfg.Registry.Digest()); err != nil {
		return err
	}
	if err := x.flush(); err != nil {
		return err
	}
	digest, err := x.mergeUntil(frameDigest)
	if err != nil {
		return err
	}
	if err := x.answer(digest); err != nil {
		return err
	}
	if err := x.write(frameEnd, nil); err != nil {
		return err
	}
	return x.flush()
}

// answer writes what the sender of a digest lacks.
func (x *exchange) answer(digest []byte) error {
	messages, err := x.engine.cfg.Registry.Answer(digest)
	if err != nil {
		return err
	}
	for _, m := range messages {
		if err := x.write(frameMessage, m); err != nil {
			return err
		}
	}
	return nil
}

// mergeUntil merges messages up to a frame of another type, which has to be
// last, and returns the payload of that, valid until the next read.
func (x *exchange) mergeUntil(last byte) ([]byte, error) {
	for range maxMessages {
		kind, payload, err := x.read()
		switch {
		case err != nil:
			return nil, err
		case kind == last:
			return payload, nil
		case kind != frameMessage:
			return nil, fmt.Errorf("%w: frame type %d among messages", errProto, kind)
		}
		merged, err := x.engine.cfg.Registry.Merge(x.engine.cfg.Now(), payload)
		switch {
		case errors.Is(err, registry.ErrMessage):
			return nil, err
		case err != nil:
			x.engine.log.Debug("registry message not taken", "node", x.peer, "err", err)
		case merged.Outcome == registry.Foreign:
			x.engine.warnForeign()
		case merged.Outcome == registry.Changed && len(x.news) <= maxPassedOn:
			x.news = append(x.news, registry.Message{Topic: merged.Topic, Wire: bytes.Clone(payload)})
		}
	}
	return nil, fmt.Errorf("%w: more than %d messages", errProto, maxMessages)
}

// passOn broadcasts what was merged, if that is little.
func (x *exchange) passOn() {
	if len(x.news) > maxPassedOn {
		return
	}
	for _, m := range x.news {
		if len(m.Wire) <= registry.MaxBroadcast {
			x.engine.cfg.Broadcast(m.Topic, m.Wire)
		}
	}
}

func (x *exchange) write(kind byte, payload []byte) error {
	x.idle.Reset(x.engine.cfg.IdleTimeout)
	var header [frameHeader]byte
	header[0] = kind
	binary.BigEndian.PutUint32(header[1:], uint32(len(payload)))
	if _, err := x.w.Write(header[:]); err != nil {
		return err
	}
	_, err := x.w.Write(payload)
	return err
}

func (x *exchange) flush() error {
	x.idle.Reset(x.engine.cfg.IdleTimeout)
	return x.w.Flush()
}

// read returns the next frame; the payload is valid until the next read.
func (x *exchange) read() (kind byte, payload []byte, err error) {
	x.idle.Reset(x.engine.cfg.IdleTimeout)
	var header [frameHeader]byte
	if _, err := io.ReadFull(x.r, header[:]); err != nil {
		return 0, nil, err
	}
	kind = header[0]
	size := binary.BigEndian.Uint32(header[1:])
	if limit := frameLimit(kind); limit < 0 || size > uint32(limit) {
		return 0, nil, fmt.Errorf("%w: frame type %d of %d bytes", errProto, kind, size)
	}
	if cap(x.buf) < int(size) {
		x.buf = make([]byte, size)
	}
	x.buf = x.buf[:size]
	if _, err := io.ReadFull(x.r, x.buf); err != nil {
		return 0, nil, err
	}
	return kind, x.buf, nil
}
