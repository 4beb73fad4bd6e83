package gossip

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"runtime/pprof"
	"time"

	"github.com/hashicorp/memberlist"
)

// memberlist starts goroutines and has no way to join them: Shutdown tells
// them to end, and a prober that waits for an answer goes on waiting, up to
// four probe intervals. So Run
//
//   - creates memberlist under a pprof label, which goroutines inherit from
//     their creators, to see when all of them are gone;
//   - forges the answers that goroutines may wait for. An answer is matched by a
//     sequence number only; a ping of our own, which never leaves, tells the
//     newest one. If memberlist changed so that this fails, Run would end
//     later, not wrongly.

const (
	// labelKey is the pprof label of memberlist's goroutines.
	labelKey = "serialspan-gossip"

	// quiesceName is the name of the member that the last ping goes to.
	quiesceName = "quiesce"

	// forgeBefore and forgeAfter bound the sequence numbers that may be waited
	// for: probes, and pings on behalf of others, live for seconds only.
	forgeBefore = 512
	forgeAfter  = 64

	pingMessage = 0 // memberlist's pingMsg
	ackMessage  = 2 // memberlist's ackRespMsg
)

func (g *Gossip) label() string { return hex.EncodeToString(g.run[:]) }

// create makes the memberlist, with the label on its goroutines.
func (g *Gossip) create() (list *memberlist.Memberlist, err error) {
	pprof.Do(context.Background(), pprof.Labels(labelKey, g.label()), func(context.Context) {
		list, err = memberlist.Create(g.memberlistConfig())
	})
	return list, err
}

// quiesce shuts memberlist down and joins its goroutines.
func (g *Gossip) quiesce() {
	_ = g.transport.Shutdown() // always nil; ends exchanges that Join waits for
	g.life.Lock()              // calls that began before are over
	if err := g.answerProbes(); err != nil {
		g.cfg.Logger.Debug("gossip ends slowly", "err", err)
	}
	_ = g.list.Shutdown() // always nil
	g.life.Unlock()
	for pause := time.Millisecond; g.goroutines(); pause = min(2*pause, 50*time.Millisecond) {
		time.Sleep(pause)
	}
}

// goroutines reports whether any of memberlist's goroutines lives.
func (g *Gossip) goroutines() bool {
	var text bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&text, 1); err != nil {
		return false
	}
	return bytes.Contains(text.Bytes(), fmt.Appendf(nil, "%q:%q", labelKey, g.label()))
}

// answerProbes wakes the goroutines that wait for the answer to a ping.
func (g *Gossip) answerProbes() error {
	// The transport keeps this ping and refuses to send it.
	_, _ = g.list.Ping(quiesceName, &net.UDPAddr{IP: g.cfg.Address(g.cfg.Self).AsSlice(), Port: port})
	g.transport.mu.Lock()
	packet := g.transport.captured
	g.transport.mu.Unlock()
	newest, err := g.sequenceOf(packet)
	if err != nil {
		return err
	}
	from := g.cfg.Addr(g.cfg.Self)
	for i := range uint32(forgeBefore + forgeAfter) {
		packet, err := g.forgeAck(newest - forgeBefore + i)
		if err != nil {
			return err
		}
		g.transport.packets <- &memberlist.Packet{Buf: packet, From: from, Timestamp: time.Now()}
	}
	// memberlist takes no more packets once it is shut down.
	for pause := time.Microsecond; len(g.transport.packets) > 0; pause = min(2*pause, 10*time.Millisecond) {
		time.Sleep(pause)
	}
	return nil
}

func (g *Gossip) aead() (cipher.AEAD, error) {
	block, err := aes.NewCipher(g.cfg.Key[:])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// sequenceOf reads the sequence number of a ping as memberlist sends it: label
// header, encryption version 1, nonce (12), sealed message; a message is its
// type and a msgpack map.
func (g *Gossip) sequenceOf(packet []byte) (uint32, error) {
	sealed, label, err := memberlist.RemoveLabelHeaderFromPacket(packet)
	if err != nil || len(sealed) < 13 {
		return 0, errors.New("read own ping: malformed")
	}
	aead, err := g.aead()
	if err != nil {
		return 0, err
	}
	plain, err := aead.Open(nil, sealed[1:13], sealed[13:], []byte(label))
	if err != nil {
		return 0, fmt.Errorf("read own ping: %w", err)
	}
	_, value, ok := bytes.Cut(plain, []byte("\xa5SeqNo"))
	value = append(value, 0, 0, 0, 0, 0)[:5]
	switch {
	case !ok:
		return 0, errors.New("read own ping: no sequence number")
	case value[0] < 0x80:
		return uint32(value[0]), nil
	case value[0] == 0xcc:
		return uint32(value[1]), nil
	case value[0] == 0xcd:
		return uint32(binary.BigEndian.Uint16(value[1:])), nil
	case value[0] == 0xce:
		return binary.BigEndian.Uint32(value[1:]), nil
	default:
		return 0, errors.New("read own ping: sequence number is no integer")
	}
}

// forgeAck makes the packet that answers the ping with a sequence number.
func (g *Gossip) forgeAck(sequence uint32) ([]byte, error) {
	plain := append([]byte{ackMessage, 0x82}, "\xa5SeqNo\xce"...)
	plain = binary.BigEndian.AppendUint32(plain, sequence)
	plain = append(plain, "\xa7Payload\xc0"...)
	aead, err := g.aead()
	if err != nil {
		return nil, err
	}
	sealed := make([]byte, 13, 13+len(plain)+aead.Overhead())
	sealed[0] = 1
	if _, err := rand.Read(sealed[1:]); err != nil {
		return nil, err
	}
	sealed = aead.Seal(sealed, sealed[1:13], plain, []byte(g.cfg.Label))
	return memberlist.AddLabelHeaderToPacket(sealed, g.cfg.Label)
}
