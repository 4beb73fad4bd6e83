// Package usbip is a USB serial device made of Go: a CDC-ACM modem, a CP2102 or
// an FT232B with any IDs and serial number, which a Linux with vhci_hcd takes for plugged
// in. The test is the other end of its line: it reads what was written to the
// port, says bytes, and sees the line settings, DTR, RTS and break.
//
//	test ─ Read, Write, State ─ Device ─ URBs over a stream ─ vhci_hcd ─ cdc_acm, cp210x, ftdi_sio ─ /dev/tty…
//
// Device.Serve is one plug: the device is there while the stream is. The stream
// carries the URBs of USB/IP only; the handshake in front of them (OP_REQ_IMPORT)
// is for programs that find devices, and both ends here are ours. What the
// guest's kernel wants written to vhci_hcd's attach file is
// "port descriptor devid speed", with Speed.
//
// An FT232B here has the latency timer that QEMU's does not: what it says waits
// as in the chip (ftdi.go).
//
// Nothing here starts a goroutine but timers. It is no device for load: transfers are
// answered one after the other.
//
// References: Documentation/usb/usbip_protocol.rst; USB 2.0, chapter 9; FTDI
// AN232B-04, "Data Throughput, Latency and Handshaking".
package usbip
