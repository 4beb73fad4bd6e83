package usbip

import (
	"encoding/binary"
	"time"
	"unicode/utf16"

	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/tests/internal/usbip/chip"
)

// Standard requests and descriptors (USB 2.0, section 9.4).
const (
	getStatus     = 0
	getDescriptor = 6

	standardIn        = 0x80
	deviceDescriptor  = 1
	configDescriptor  = 2
	stringDescriptor  = 3
	serialStringIndex = 3
)

// Requests that read from a chip.
const (
	acmIn          = 0xa1
	acmGetCoding   = 0x21
	cp210xIn       = 0xc1
	cp210xVendorIn = 0xc0
	cp210xGetModem = 0x08
	cp210xVendor   = 0xff
	cp210xPart     = 0x370b // of the vendor request: which chip it is
)

// control answers a transfer on endpoint 0.
func (d *Device) control(setup chip.Setup, r request) {
	d.asked = append(d.asked, Transfer{Setup: setup, At: time.Now()})
	if !setup.ToHost() {
		if d.config.Kind == FT232B {
			d.setFTDI(setup)
		}
		d.set(d.decode(d.state, setup, r.data))
		d.answer(r, 0, nil, len(r.data))
		return
	}
	data, known := d.tell(setup)
	if !known {
		d.answer(r, stalled, nil, 0)
		return
	}
	data = data[:min(len(data), int(setup.Length), r.length)]
	d.answer(r, 0, data, len(data))
}

// tell returns what the device answers to a control transfer to the host.
func (d *Device) tell(setup chip.Setup) ([]byte, bool) {
	switch {
	case setup.RequestType == standardIn && setup.Request == getDescriptor:
		return d.descriptor(setup.Value>>8, setup.Value&0xff)
	case setup.IsStandard() && setup.Request == getStatus:
		return []byte{0, 0}, true
	case d.config.Kind == ACM && setup.RequestType == acmIn && setup.Request == acmGetCoding:
		s := d.state.Line
		coding := binary.LittleEndian.AppendUint32(nil, s.Baud)
		return append(coding, byte(s.StopBits), byte(s.Parity), s.DataBits), true
	case d.config.Kind == CP2102 && setup.RequestType == cp210xVendorIn && setup.Request == cp210xVendor && setup.Value == cp210xPart:
		return []byte{2}, true
	case d.config.Kind == CP2102 && setup.RequestType == cp210xIn && setup.Request == cp210xGetModem:
		return []byte{d.modemStatus()}, true
	case d.config.Kind == CP2102 && setup.RequestType == cp210xIn:
		return make([]byte, min(int(setup.Length), maxControl)), true // nothing queued, no flow control
	case d.config.Kind == FT232B && setup.RequestType == ftdiIn:
		return d.tellFTDI(setup)
	}
	return nil, false
}

// modemStatus is the answer to GET_MDMSTS (AN571, table 8).
func (d *Device) modemStatus() byte {
	var bits byte
	for i, of := range []line.ModemLines{line.DTR, line.RTS, 0, 0, line.CTS, line.DSR, line.RI, line.DCD} {
		if of != 0 && (d.inputs | d.state.Modem).Has(of) {
			bits |= 1 << i
		}
	}
	return bits
}

func (d *Device) descriptor(kind, index uint16) ([]byte, bool) {
	switch kind {
	case deviceDescriptor:
		return d.deviceDescriptor(), true
	case configDescriptor:
		return d.configDescriptor(), true
	case stringDescriptor:
		texts := []string{"", d.config.Manufacturer, d.config.Product, d.config.Serial}
		if index == 0 {
			return []byte{4, stringDescriptor, 0x09, 0x04}, true // English
		}
		if int(index) < len(texts) && texts[index] != "" {
			return stringOf(texts[index]), true
		}
	}
	return nil, false
}

func stringOf(text string) []byte {
	units := utf16.Encode([]rune(text))
	b := []byte{byte(2 + 2*len(units)), stringDescriptor}
	for _, u := range units {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return b
}

func (d *Device) deviceDescriptor() []byte {
	c := d.config
	class, serial, release := byte(0), byte(serialStringIndex), byte(1)
	switch c.Kind {
	case ACM:
		class = 2 // communications
	case FT232B:
		release = 4 // by which the driver knows the chip
	}
	if c.Serial == "" {
		serial = 0
	}
	return []byte{
		18, deviceDescriptor, 0x00, 0x02, class, 0, 0, 64, // USB 2.0, 64 bytes on endpoint 0
		byte(c.VID), byte(c.VID >> 8), byte(c.PID), byte(c.PID >> 8), 0x00, release, 1, 2, serial, 1,
	}
}

func (d *Device) configDescriptor() []byte {
	var b []byte
	interfaces := byte(1)
	endpoint := func(address, kind, size, interval byte) {
		b = append(b, 7, 5, address, kind, size, 0, interval)
	}
	if d.config.Kind == ACM {
		interfaces = 2
		b = append(b,
			9, 4, 0, 0, 1, 2, 2, 1, 0, // interface 0: communications, abstract control model
			5, 0x24, 0, 0x10, 0x01, // header: CDC 1.1
			5, 0x24, 1, 0, 1, // call management: none, data interface 1
			4, 0x24, 2, 6, // ACM: line coding, line state and break
			5, 0x24, 6, 0, 1, // union: 0 controls 1
		)
		endpoint(0x80|notifyEnd, 3, 16, 10)
		b = append(b, 9, 4, 1, 0, 2, 10, 0, 0, 0) // interface 1: data
	} else {
		b = append(b, 9, 4, 0, 0, 2, 0xff, 0, 0, 0)
	}
	endpoint(outEnd, 2, 64, 0)
	endpoint(0x80|inEnd, 2, 64, 0)
	total := 9 + len(b)
	return append([]byte{9, configDescriptor, byte(total), byte(total >> 8), interfaces, 1, 0, 0x80, 50}, b...)
}
