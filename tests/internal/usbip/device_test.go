package usbip_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/tests/internal/usbip"
	"github.com/serialspan/serialspan/tests/internal/usbip/chip"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// host is a host controller with the device plugged in.
type host struct {
	t        *testing.T
	conn     net.Conn
	sequence uint32
	ended    chan error
}

func plug(t *testing.T, d *usbip.Device) *host {
	t.Helper()
	here, there := net.Pipe()
	h := &host{t: t, conn: here, ended: make(chan error, 1)}
	_ = here.SetDeadline(time.Now().Add(10 * time.Second))
	go func() { h.ended <- d.Serve(there); _ = there.Close() }()
	t.Cleanup(func() { _ = here.Close() })
	return h
}

// message sends a header and data; the answer is for answer to read.
func (h *host) message(command, toHost, endpoint, flags uint32, length int, setup [8]byte, data []byte) uint32 {
	h.t.Helper()
	h.sequence++
	b, err := binary.Append(nil, binary.BigEndian, []uint32{command, h.sequence, 0x10001, toHost, endpoint, flags, uint32(length), 0, 0, 0})
	if err != nil {
		h.t.Fatal(err)
	}
	if _, err := h.conn.Write(append(append(b, setup[:]...), data...)); err != nil {
		h.t.Fatal(err)
	}
	return h.sequence
}

// answer reads one answer with up to so many bytes of data.
func (h *host) answer(withData bool) (command, sequence uint32, status int32, data []byte) {
	h.t.Helper()
	head := make([]byte, 48)
	if _, err := io.ReadFull(h.conn, head); err != nil {
		h.t.Fatal(err)
	}
	at := func(i int) uint32 { return binary.BigEndian.Uint32(head[4*i:]) }
	if withData {
		data = make([]byte, at(6))
		if _, err := io.ReadFull(h.conn, data); err != nil {
			h.t.Fatal(err)
		}
	}
	return at(0), at(1), int32(at(5)), data
}

func (h *host) control(setup [8]byte, data []byte) (int32, []byte) {
	h.t.Helper()
	toHost, length := uint32(setup[0]>>7), int(binary.LittleEndian.Uint16(setup[6:]))
	h.message(1, toHost, 0, 0, length, setup, data)
	_, _, status, answer := h.answer(toHost == 1)
	return status, answer
}

func TestDescriptors(t *testing.T) {
	for name, row := range map[string]struct {
		config     usbip.Config
		ids        []byte
		serial     byte
		interfaces byte
	}{
		"ACM":    {usbip.Config{VID: 0x0658, PID: 0x0200}, []byte{0x58, 0x06, 0x00, 0x02}, 0, 2},
		"CP2102": {usbip.Config{Kind: usbip.CP2102, Serial: "0001"}, []byte{0xc4, 0x10, 0x60, 0xea}, 3, 1},
		"FT232B": {usbip.Config{Kind: usbip.FT232B}, []byte{0x03, 0x04, 0x01, 0x60}, 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			h := plug(t, usbip.New(row.config))
			_, device := h.control([8]byte{0x80, 6, 0, 1, 0, 0, 64, 0}, nil)
			if len(device) != 18 || !bytes.Equal(device[8:12], row.ids) || device[16] != row.serial {
				t.Errorf("device descriptor is % x", device)
			}
			_, head := h.control([8]byte{0x80, 6, 0, 2, 0, 0, 9, 0}, nil)
			total := int(binary.LittleEndian.Uint16(head[2:]))
			_, all := h.control([8]byte{0x80, 6, 0, 2, 0, 0, 255, 0}, nil)
			if len(all) != total || head[4] != row.interfaces {
				t.Errorf("configuration descriptor has %d bytes, says %d and %d interfaces", len(all), total, head[4])
			}
			for rest := all; len(rest) > 0; rest = rest[rest[0]:] {
				if int(rest[0]) > len(rest) || rest[0] < 2 {
					t.Fatalf("descriptor of length %d with %d bytes left", rest[0], len(rest))
				}
			}
			if status, _ := h.control([8]byte{0x80, 6, 9, 3, 9, 4, 64, 0}, nil); status != -32 {
				t.Errorf("a text that does not exist: status %d, want -32", status)
			}
		})
	}
}

func TestBytesAndState(t *testing.T) {
	d := usbip.New(usbip.Config{})
	defer d.Close()
	if _, err := d.Write([]byte("x")); !errors.Is(err, usbip.ErrUnplugged) {
		t.Errorf("write while unplugged: %v", err)
	}
	h := plug(t, d)
	h.message(1, 0, 2, 0, 2, [8]byte{}, []byte("ab"))
	h.answer(false)
	h.control([8]byte{0x21, 0x20, 0, 0, 0, 0, 7, 0}, []byte{0x80, 0x25, 0, 0, 0, 0, 8})
	h.control([8]byte{0x21, 0x22, 3, 0, 0, 0, 0, 0}, nil)
	want := chip.State{Line: line.Settings{Baud: 9600, DataBits: 8}, Modem: line.DTR | line.RTS}
	if got := d.State(); got != want {
		t.Errorf("state is %+v, want %+v", got, want)
	}
	if all := d.History(); len(all) != 2 || all[0].After != 2 || all[1].State != want {
		t.Errorf("history is %+v", all)
	}
	buffer := make([]byte, 8)
	if n, err := d.Read(buffer); err != nil || string(buffer[:n]) != "ab" {
		t.Errorf("read %q, %v", buffer[:n], err)
	}
	if err := d.SetDeadline(time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Read(buffer); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read after the deadline: %v", err)
	}
	_ = d.SetDeadline(time.Time{})

	// A read that waits gets what the device says, one that is taken back does not.
	waits := h.message(1, 1, 1, 0, 64, [8]byte{}, nil)
	said := make(chan error, 1)
	go func() { _, err := d.Write([]byte("hello")); said <- err }()
	if _, sequence, _, data := h.answer(true); sequence != waits || string(data) != "hello" {
		t.Errorf("answer %d is %q", sequence, data)
	}
	if err := <-said; err != nil {
		t.Error(err)
	}
	waits = h.message(1, 1, 1, 0, 64, [8]byte{}, nil)
	h.message(2, 0, 0, waits, 0, [8]byte{}, nil)
	if command, _, status, _ := h.answer(false); command != 4 || status != -104 {
		t.Errorf("taken back: answer %d, status %d", command, status)
	}

	h.message(1, 1, 3, 0, 16, [8]byte{}, nil)
	go d.SetModem(line.DCD | line.RI)
	if _, _, _, data := h.answer(true); len(data) != 10 || data[8] != 0b1001 {
		t.Errorf("serial state is % x", data)
	}

	_ = h.conn.Close()
	if err := <-h.ended; err != nil && !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("serve ended with %v", err)
	}
	if _, err := d.Write([]byte("x")); !errors.Is(err, usbip.ErrUnplugged) {
		t.Errorf("write after the end: %v", err)
	}
}

// TestBackPressure fills the device: the next write of the host waits for a
// reader.
func TestBackPressure(t *testing.T) {
	d := usbip.New(usbip.Config{})
	defer d.Close()
	h := plug(t, d)
	full := make([]byte, 64<<10)
	h.message(1, 0, 2, 0, len(full), [8]byte{}, full)
	h.answer(false)
	waits := h.message(1, 0, 2, 0, 1, [8]byte{}, []byte{1})
	control := h.message(1, 1, 0, 0, 2, [8]byte{0x80, 0, 0, 0, 0, 0, 2, 0}, nil)
	if _, sequence, _, _ := h.answer(true); sequence != control {
		t.Errorf("answer is to %d, want to %d: %d has to wait", sequence, control, waits)
	}
	read := make(chan error, 1)
	go func() { _, err := d.Read(full[:100]); read <- err }()
	if _, sequence, _, _ := h.answer(false); sequence != waits {
		t.Errorf("answer is to %d, want to %d", sequence, waits)
	}
	if err := <-read; err != nil {
		t.Error(err)
	}
}

func TestNotUSBIP(t *testing.T) {
	h := plug(t, usbip.New(usbip.Config{}))
	h.message(7, 0, 0, 0, 0, [8]byte{}, nil)
	if err := <-h.ended; !errors.Is(err, usbip.ErrProtocol) {
		t.Errorf("serve ended with %v, want ErrProtocol", err)
	}
}
