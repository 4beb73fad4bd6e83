package usbip

import (
	"bytes"
	"time"

	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/tests/internal/usbip/chip"
)

// FTDI's requests that are not of the line's state (ftdi_sio.h).
const (
	ftdiOut          = 0x40 // request types: vendor, device
	ftdiIn           = 0xc0
	ftdiReset        = 0
	ftdiGetModem     = 5
	ftdiSetEventChar = 6
	ftdiSetLatency   = 9
	ftdiGetLatency   = 10

	ftdiPurgeSent = 2     // value of ftdiReset that leaves what the device says
	ftdiEventOn   = 0x100 // of the value of ftdiSetEventChar
	ftdiPacket    = 64    // bytes on the bulk endpoints
	ftdiStatus    = 2     // of them in front: modem and line status
	ftdiLatency   = 16    // ms, of a chip that was told nothing
	ftdiIdle      = 0x60  // line status: everything is sent
	ftdiReserved  = 0x01  // modem status: its low half
)

// ftdi is what makes an FT232B slow with short answers (AN232B-04, section
// 3.3). A packet goes to the host when it is full, with 62 bytes; when it has
// the event character; when a modem line changes; else when the latency timer
// ends, which begins anew with each packet.
//
// A chip whose timer ends without a byte sends the two status bytes alone; this
// one does so only where they end a read that has bytes: the driver does
// nothing with the others, and a thousand a second are a load in an emulated
// machine. The timer runs on as if they had been sent.
type ftdi struct {
	latency  time.Duration
	event    int // character; -1: none
	packet   time.Time
	due      bool // the timer has ended on bytes that wait
	gathered []byte
	timer    *time.Timer // while bytes wait; nil: none do
}

func (f *ftdi) reset() {
	f.stop()
	*f = ftdi{latency: ftdiLatency * time.Millisecond, event: -1, packet: time.Now()}
}

func (f *ftdi) stop() {
	if f.timer != nil {
		f.timer.Stop()
		f.timer = nil
	}
}

// Latency returns the latency timer of an FT232B, as the driver set it.
func (d *Device) Latency() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ftdi.latency
}

func (d *Device) setFTDI(setup chip.Setup) {
	if setup.RequestType != ftdiOut {
		return
	}
	switch value := setup.Value; setup.Request {
	case ftdiReset:
		if value != ftdiPurgeSent {
			d.said, d.ftdi.due = nil, false
		}
	case ftdiSetEventChar:
		if d.ftdi.event = -1; value&ftdiEventOn != 0 {
			d.ftdi.event = int(value & 0xff)
		}
	case ftdiSetLatency:
		d.ftdi.latency = time.Duration(max(value&0xff, 1)) * time.Millisecond
		d.ftdi.stop()
		d.answerPackets()
	}
}

func (d *Device) tellFTDI(setup chip.Setup) ([]byte, bool) {
	switch setup.Request {
	case ftdiGetModem:
		status := d.ftdiStatus()
		return status[:], true
	case ftdiGetLatency:
		return []byte{byte(d.ftdi.latency.Milliseconds())}, true
	}
	return nil, false
}

func (d *Device) ftdiStatus() [ftdiStatus]byte {
	status := [ftdiStatus]byte{ftdiReserved, ftdiIdle}
	for i, of := range []line.ModemLines{line.CTS, line.DSR, line.RI, line.DCD} {
		if d.inputs.Has(of) {
			status[0] |= 0x10 << i
		}
	}
	return status
}

// answerPackets gives the reads that wait what the chip lets go. A read ends
// with a packet that is not full, or when it has room for no other.
func (d *Device) answerPackets() {
	f := &d.ftdi
	for len(d.in) > 0 {
		n := min(len(d.said), ftdiPacket-ftdiStatus)
		full := n == ftdiPacket-ftdiStatus
		if !full && !f.due && !d.news && (f.event < 0 || bytes.IndexByte(d.said[:n], byte(f.event)) < 0) {
			break
		}
		status := d.ftdiStatus()
		f.gathered = append(append(f.gathered, status[:]...), d.said[:n]...)
		d.said = d.said[n:]
		f.packet, f.due, d.news = time.Now(), false, false
		f.stop()
		if r := d.in[0]; !full || len(f.gathered)+ftdiPacket > r.length {
			d.answer(r, 0, f.gathered, len(f.gathered))
			d.in, f.gathered = d.in[1:], nil
		}
	}
	if len(d.said)+len(f.gathered) == 0 || f.due || f.timer != nil || d.host == nil {
		return
	}
	var timer *time.Timer
	timer = time.AfterFunc(f.latency-time.Since(f.packet)%f.latency, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if f.timer != timer {
			return // stopped too late
		}
		f.timer, f.due = nil, true
		d.answerReads()
	})
	f.timer = timer
}
