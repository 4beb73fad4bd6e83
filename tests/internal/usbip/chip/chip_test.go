package chip_test

import (
	"testing"

	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/tests/internal/usbip/chip"
)

// transfer is a setup packet and what follows it.
type transfer struct {
	setup [8]byte
	data  []byte
}

func TestDecode(t *testing.T) {
	for name, row := range map[string]struct {
		decode    chip.Decode
		transfers []transfer
		want      string // line settings
		modem     line.ModemLines
		broken    bool
	}{
		"ACM line coding": {
			decode: chip.ACM, want: "9600e72", modem: line.DTR,
			transfers: []transfer{
				{[8]byte{0x21, 0x20, 0, 0, 0, 0, 7, 0}, []byte{0x80, 0x25, 0, 0, 2, 2, 7}},
				{[8]byte{0x21, 0x22, 1, 0, 0, 0, 0, 0}, nil},
			},
		},
		"ACM break": {
			decode: chip.ACM, want: "115200n81", broken: true, modem: line.DTR | line.RTS,
			transfers: []transfer{
				{[8]byte{0x21, 0x20, 0, 0, 0, 0, 7, 0}, []byte{0, 0xc2, 1, 0, 0, 0, 8}},
				{[8]byte{0x21, 0x22, 3, 0, 0, 0, 0, 0}, nil},
				{[8]byte{0x21, 0x23, 0xff, 0xff, 0, 0, 0, 0}, nil},
			},
		},
		"CP210x": {
			decode: chip.CP210x, want: "250000o51.5", modem: line.RTS,
			transfers: []transfer{
				{[8]byte{0x41, 0x1e, 0, 0, 0, 0, 4, 0}, []byte{0x90, 0xd0, 3, 0}},
				{[8]byte{0x41, 0x03, 0x11, 5, 0, 0, 0, 0}, nil},
				{[8]byte{0x41, 0x07, 0x03, 3, 0, 0, 0, 0}, nil},
				{[8]byte{0x41, 0x07, 0x00, 1, 0, 0, 0, 0}, nil},
				{[8]byte{0x41, 0x05, 1, 0, 0, 0, 0, 0}, nil},
				{[8]byte{0x41, 0x05, 0, 0, 0, 0, 0, 0}, nil},
			},
		},
		"CP210x hardware flow control": {
			decode: chip.CP210x, want: "115200n81/rtscts", modem: line.DTR,
			transfers: []transfer{
				{[8]byte{0x41, 0x1e, 0, 0, 0, 0, 4, 0}, []byte{0, 0xc2, 1, 0}},
				{[8]byte{0x41, 0x03, 0, 8, 0, 0, 0, 0}, nil},
				{[8]byte{0x41, 0x13, 0, 0, 0, 0, 16, 0}, []byte{9, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}},
			},
		},
		"FTDI": { // as recorded from ftdi_sio
			decode: chip.FTDI, want: "57600e72", modem: line.DTR | line.RTS, broken: true,
			transfers: []transfer{
				{[8]byte{0x40, 3, 0x34, 0xc0, 0, 0, 0, 0}, nil},
				{[8]byte{0x40, 1, 3, 3, 0, 0, 0, 0}, nil},
				{[8]byte{0x40, 4, 0x07, 0x52, 0, 0, 0, 0}, nil},
			},
		},
		"FTDI 9600": {
			decode: chip.FTDI, want: "9600n81/rtscts",
			transfers: []transfer{
				{[8]byte{0x40, 3, 0x38, 0x41, 0, 0, 0, 0}, nil},
				{[8]byte{0x40, 1, 3, 3, 0, 0, 0, 0}, nil},
				{[8]byte{0x40, 1, 0, 3, 0, 0, 0, 0}, nil},
				{[8]byte{0x40, 4, 0x08, 0, 0, 0, 0, 0}, nil},
				{[8]byte{0x40, 2, 0, 0, 0, 1, 0, 0}, nil},
			},
		},
		"reading says nothing": {
			decode: chip.FTDI, transfers: []transfer{{[8]byte{0xc0, 5, 3, 3, 0, 0, 2, 0}, nil}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var got chip.State
			for _, tr := range row.transfers {
				got = row.decode(got, chip.ParseSetup(tr.setup), tr.data)
			}
			var want chip.State
			if row.want != "" {
				var err error
				if want.Line, err = line.Parse(row.want); err != nil {
					t.Fatal(err)
				}
			}
			want.Modem, want.Break = row.modem, row.broken
			if got != want {
				t.Errorf("state is %+v, want %+v", got, want)
			}
		})
	}
}
