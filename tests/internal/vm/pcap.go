package vm

import (
	"encoding/binary"
	"time"

	"github.com/serialspan/serialspan/tests/internal/usbip/chip"
)

// A recording is a pcap file of link type 220: each record is 16 bytes of pcap
// header, 64 bytes of struct usbmon_packet and the data
// (Documentation/usb/usbmon.rst). Numbers are this machine's.
const (
	pcapHead     = 24
	recordHead   = 16
	usbmonHead   = 64
	submitted    = 'S'
	controlKind  = 2
	bulkKind     = 3
	toHostBit    = 0x80
	setupPresent = 0
)

// transfer is a control transfer, or data to the device.
type transfer struct {
	control bool
	setup   chip.Setup
	data    []byte
	at      time.Time
}

// transfers returns those of a recording. A record that is not there as a whole
// yet is left out, as is a recording that has not begun.
func transfers(recording []byte) []transfer {
	var all []transfer
	for rest := recording[min(pcapHead, len(recording)):]; len(rest) >= recordHead+usbmonHead; {
		size := recordHead + int(binary.NativeEndian.Uint32(rest[8:]))
		if size < recordHead+usbmonHead || size > len(rest) {
			break
		}
		at := time.Unix(int64(binary.NativeEndian.Uint32(rest)), int64(binary.NativeEndian.Uint32(rest[4:]))*1000)
		packet, data := rest[recordHead:recordHead+usbmonHead], rest[recordHead+usbmonHead:size]
		rest = rest[size:]
		if packet[8] != submitted {
			continue
		}
		switch {
		case packet[9] == controlKind && packet[14] == setupPresent:
			all = append(all, transfer{control: true, setup: chip.ParseSetup([8]byte(packet[40:48])), at: at})
		case packet[9] == bulkKind && packet[10]&toHostBit == 0:
			all = append(all, transfer{data: data, at: at})
		}
	}
	return all
}
