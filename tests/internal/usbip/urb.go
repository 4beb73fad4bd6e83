package usbip

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/tests/internal/usbip/chip"
)

// Commands of USB/IP.
const (
	submit       = 1
	unlink       = 2
	submitAnswer = 3
	unlinkAnswer = 4
)

const (
	headerLen   = 48
	maxTransfer = 1 << 20 // bytes; a kernel's serial drivers send pages

	stalled    = -32  // EPIPE
	reset      = -104 // ECONNRESET: the request was taken back
	inEnd      = 1
	outEnd     = 2
	notifyEnd  = 3
	maxControl = 4096
)

// ErrProtocol is what Serve returns for what no vhci_hcd sends.
var ErrProtocol = errors.New("not USB/IP")

// header is the 48 bytes in front of every message; all in network byte order.
type header struct {
	Command, Sequence, Device, ToHost, Endpoint uint32
	Flags                                       uint32 // of unlink: the sequence number meant
	Length                                      uint32
	_                                           [3]uint32 // isochronous transfers only
	Setup                                       [8]byte
}

// request is a transfer that the host has submitted.
type request struct {
	sequence uint32
	length   int
	data     []byte // to the device
}

// Serve plugs the device in at the other end of the stream and answers it until
// the stream ends, which is to unplug it. It returns nil for an end between two
// messages. A device is plugged in once at a time.
func (d *Device) Serve(stream io.ReadWriter) error {
	if err := d.plug(stream); err != nil {
		return err
	}
	defer d.unplug()
	for {
		var raw [headerLen]byte
		if _, err := io.ReadFull(stream, raw[:]); err != nil {
			if err == io.EOF {
				return nil
			}
			return fmt.Errorf("read USB/IP: %w", err)
		}
		var h header
		if _, err := binary.Decode(raw[:], binary.BigEndian, &h); err != nil {
			return err
		}
		if h.Command != submit && h.Command != unlink || h.Length > maxTransfer {
			return fmt.Errorf("%w: command %d with %d bytes", ErrProtocol, h.Command, h.Length)
		}
		r := request{sequence: h.Sequence, length: int(h.Length)}
		if h.Command == submit && h.ToHost == 0 {
			r.data = make([]byte, h.Length)
			if _, err := io.ReadFull(stream, r.data); err != nil {
				return fmt.Errorf("read USB/IP: %w", err)
			}
		}
		d.handle(h, r)
	}
}

func (d *Device) plug(stream io.Writer) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.host != nil {
		return errors.New("plug in device: it is plugged in already")
	}
	d.host, d.said, d.heard = stream, nil, nil
	d.ftdi.reset()
	d.set(chip.State{})
	return nil
}

func (d *Device) unplug() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.host, d.in, d.out, d.notify = nil, nil, nil, nil
	d.ftdi.stop()
	d.changed.Broadcast()
}

func (d *Device) handle(h header, r request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case h.Command == unlink:
		d.takeBack(h)
	case h.Endpoint == 0:
		d.control(chip.ParseSetup(h.Setup), r)
	case h.Endpoint == inEnd && h.ToHost == 1:
		d.in = append(d.in, r)
		d.answerReads()
	case h.Endpoint == outEnd && h.ToHost == 0:
		d.out = append(d.out, r)
		d.answerWrites()
	case h.Endpoint == notifyEnd && h.ToHost == 1:
		d.notify = append(d.notify, r)
		d.answerNotify()
	default:
		d.answer(r, stalled, nil, 0)
	}
}

// answer ends a transfer. A stream that takes nothing any more is seen by Serve.
func (d *Device) answer(r request, status int32, data []byte, actual int) {
	d.send(header{Command: submitAnswer, Sequence: r.sequence, Flags: uint32(status), Length: uint32(actual)}, data)
}

func (d *Device) send(h header, data []byte) {
	if d.host == nil {
		return
	}
	message, err := binary.Append(make([]byte, 0, headerLen+len(data)), binary.BigEndian, h)
	if err == nil {
		_, _ = d.host.Write(append(message, data...))
	}
}

// takeBack ends a transfer that the host wants back, unless it has ended.
func (d *Device) takeBack(h header) {
	var status int32
	for _, waiting := range []*[]request{&d.in, &d.out, &d.notify} {
		for i, r := range *waiting {
			if r.sequence == h.Flags {
				*waiting = append((*waiting)[:i:i], (*waiting)[i+1:]...)
				status = reset
				break
			}
		}
	}
	d.send(header{Command: unlinkAnswer, Sequence: h.Sequence, Flags: uint32(status)}, nil)
}

func (d *Device) answerReads() {
	if d.config.Kind == FT232B {
		d.answerPackets()
		d.changed.Broadcast()
		return
	}
	for len(d.said) > 0 && len(d.in) > 0 {
		r := d.in[0]
		n := min(len(d.said), r.length)
		d.answer(r, 0, d.said[:n], n)
		d.in, d.said = d.in[1:], d.said[n:]
	}
	d.changed.Broadcast()
}

func (d *Device) answerWrites() {
	for len(d.out) > 0 && len(d.heard) < room {
		r := d.out[0]
		d.heard = append(d.heard, r.data...)
		d.total += uint64(len(r.data))
		d.answer(r, 0, nil, len(r.data))
		d.out = d.out[1:]
	}
	d.changed.Broadcast()
}

// answerNotify sends SERIAL_STATE (USB CDC PSTN 1.2, section 6.5.4).
func (d *Device) answerNotify() {
	if !d.news || len(d.notify) == 0 {
		return
	}
	var bits byte
	for i, of := range []line.ModemLines{line.DCD, line.DSR, 0, line.RI} {
		if of != 0 && d.inputs.Has(of) {
			bits |= 1 << i
		}
	}
	message := []byte{0xa1, 0x20, 0, 0, 0, 0, 2, 0, bits, 0}
	d.answer(d.notify[0], 0, message, len(message))
	d.notify, d.news = d.notify[1:], false
}
