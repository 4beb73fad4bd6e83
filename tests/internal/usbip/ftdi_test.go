package usbip_test

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/tests/internal/usbip"
)

// TestLatencyTimer: when an FT232B lets go what it says. The tables of FTDI
// AN232B-04 and a read of 64 bytes, or of 512 as the driver has it.
func TestLatencyTimer(t *testing.T) {
	const ms = time.Millisecond
	vendor := func(request, value, index byte) [8]byte { return [8]byte{0x40, request, value, index} }
	for name, row := range map[string]struct {
		setup [][8]byte // before
		said  []byte    // 3 ms after the plug; none: a modem line changes
		room  int       // of the read
		want  []byte
		after time.Duration // the plug
	}{
		"short, never set": {said: []byte("reply"), room: 512, want: []byte("\x01\x60reply"), after: 16 * ms},
		"short, 1 ms":      {setup: [][8]byte{vendor(9, 1, 0)}, said: []byte("reply"), room: 512, want: []byte("\x01\x60reply"), after: 4 * ms},
		"short, 40 ms":     {setup: [][8]byte{vendor(9, 40, 0)}, said: []byte("reply"), room: 512, want: []byte("\x01\x60reply"), after: 40 * ms},
		"a full packet":    {said: bytes.Repeat([]byte("x"), 63), room: 64, want: append([]byte("\x01\x60"), bytes.Repeat([]byte("x"), 62)...), after: 3 * ms},
		"full, read has room": {
			said: bytes.Repeat([]byte("x"), 62), room: 512,
			want: append(append([]byte("\x01\x60"), bytes.Repeat([]byte("x"), 62)...), 1, 0x60), after: 19 * ms, // the timer began anew at 3
		},
		"event character":     {setup: [][8]byte{vendor(6, 'y', 1)}, said: []byte("reply"), room: 512, want: []byte("\x01\x60reply"), after: 3 * ms},
		"event character off": {setup: [][8]byte{vendor(6, 'y', 1), vendor(6, 'y', 0)}, said: []byte("reply"), room: 512, want: []byte("\x01\x60reply"), after: 16 * ms},
		"modem line":          {room: 512, want: []byte{0xa1, 0x60}, after: 3 * ms},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := usbip.New(usbip.Config{Kind: usbip.FT232B})
				defer d.Close()
				h := plug(t, d)
				began := time.Now()
				for _, setup := range row.setup {
					if status, _ := h.control(setup, nil); status != 0 {
						t.Fatalf("control % x: status %d", setup, status)
					}
				}
				h.message(1, 1, 1, 0, row.room, [8]byte{}, nil)
				time.AfterFunc(3*ms, func() {
					if row.said == nil {
						d.SetModem(line.DSR | line.DCD)
					} else if _, err := d.Write(row.said); err != nil {
						t.Error(err)
					}
				})
				_, _, _, got := h.answer(true)
				if took := time.Since(began); !bytes.Equal(got, row.want) || took != row.after {
					t.Errorf("after %v came % x; want after %v % x", took, got, row.after, row.want)
				}
				_ = h.conn.Close()
				<-h.ended
			})
		})
	}
}

func TestFTDIAnswers(t *testing.T) {
	d := usbip.New(usbip.Config{Kind: usbip.FT232B})
	defer d.Close()
	h := plug(t, d)
	if _, timer := h.control([8]byte{0xc0, 10, 0, 0, 0, 0, 1, 0}, nil); !bytes.Equal(timer, []byte{16}) || d.Latency() != 16*time.Millisecond {
		t.Errorf("the latency timer is % x, %v; want 16 ms", timer, d.Latency())
	}
	if h.control([8]byte{0, 9, 1, 0, 0, 0, 0, 0}, nil); d.Latency() != 16*time.Millisecond {
		t.Errorf("SET_CONFIGURATION made the latency timer %v", d.Latency())
	}
	d.SetModem(line.CTS)
	if _, modem := h.control([8]byte{0xc0, 5, 0, 0, 0, 0, 2, 0}, nil); !bytes.Equal(modem, []byte{0x11, 0x60}) {
		t.Errorf("the modem status is % x", modem)
	}
	if status, _ := h.control([8]byte{0xc0, 0x90, 0, 0, 0, 0, 2, 0}, nil); status != -32 {
		t.Errorf("reading an EEPROM that it has not: status %d, want -32", status)
	}
	if all := d.Transfers(); len(all) != 4 || all[2].Request != 5 || all[1].At.Before(all[0].At) {
		t.Errorf("transfers are %+v", all)
	}
}
