package port_test

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/serialspan/serialspan/bridge/internal/port"
	"github.com/serialspan/serialspan/bridge/line"
)

func TestDrives(t *testing.T) {
	for _, tt := range []struct {
		dtr, rts line.Drive
		mask, on line.ModemLines
	}{
		{line.DriveUnchanged, line.DriveUnchanged, 0, 0},
		{line.DriveOn, line.DriveUnchanged, line.DTR, line.DTR},
		{line.DriveOff, line.DriveUnchanged, line.DTR, 0},
		{line.DriveUnchanged, line.DriveOff, line.RTS, 0},
		{line.DriveOff, line.DriveOn, line.DTR | line.RTS, line.RTS},
		{line.DriveOn, line.DriveOff, line.DTR | line.RTS, line.DTR},
	} {
		if mask, on := port.Drives(tt.dtr, tt.rts); mask != tt.mask || on != tt.on {
			t.Errorf("dtr %v, rts %v: mask %v, on %v, want %v, %v", tt.dtr, tt.rts, mask, on, tt.mask, tt.on)
		}
	}
}

func TestWithOutputs(t *testing.T) {
	const inputs = unix.TIOCM_CTS | unix.TIOCM_CD
	for _, tt := range []struct {
		name     string
		bits     int
		mask, on line.ModemLines
		want     int
	}{
		{"nothing", inputs | unix.TIOCM_DTR, 0, line.ModemOutputs, inputs | unix.TIOCM_DTR},
		{"both on", inputs, line.ModemOutputs, line.ModemOutputs, inputs | unix.TIOCM_DTR | unix.TIOCM_RTS},
		{"both off", inputs | unix.TIOCM_DTR | unix.TIOCM_RTS, line.ModemOutputs, 0, inputs},
		{"change places", inputs | unix.TIOCM_DTR, line.ModemOutputs, line.RTS, inputs | unix.TIOCM_RTS},
		{"one of two", unix.TIOCM_DTR | unix.TIOCM_RTS, line.DTR, 0, unix.TIOCM_RTS},
		{"inputs cannot be set", 0, line.CTS | line.DCD, line.CTS | line.DCD, 0},
	} {
		if got := port.WithOutputs(tt.bits, tt.mask, tt.on); got != tt.want {
			t.Errorf("%s: %#x, want %#x", tt.name, got, tt.want)
		}
	}
	if got := port.LinesOf(inputs | unix.TIOCM_DSR | unix.TIOCM_RI | unix.TIOCM_RTS); got != line.CTS|line.DCD|line.DSR|line.RI|line.RTS {
		t.Errorf("LinesOf = %v", got)
	}
}

// TestOutputsAtOnce: no order of DTR and RTS shows between both on, as Linux leaves
// them, and what is wanted.
func TestOutputsAtOnce(t *testing.T) {
	const others = 0x2000 | 0x4000 | unix.TIOCM_CTS // OUT1, OUT2: asm-generic/termios.h
	const both = unix.TIOCM_DTR | unix.TIOCM_RTS
	for _, dtr := range []line.Drive{line.DriveUnchanged, line.DriveOn, line.DriveOff} {
		for _, rts := range []line.Drive{line.DriveUnchanged, line.DriveOn, line.DriveOff} {
			bits, seen := others|both, []int{}
			get := func() (int, error) { return bits, nil }
			set := func(now int) error {
				bits = now
				seen = append(seen, now)
				return nil
			}
			want := others
			if dtr != line.DriveOff {
				want |= unix.TIOCM_DTR
			}
			if rts != line.DriveOff {
				want |= unix.TIOCM_RTS
			}
			mask, on := port.Drives(dtr, rts)
			if err := port.SetOutputs(get, set, mask, on); err != nil || len(seen) != 1 || seen[0] != want {
				t.Errorf("dtr %v, rts %v: set %#x, %v, want %#x once", dtr, rts, seen, err, want)
			}
		}
	}
	if err := port.SetOutputs(func() (int, error) { return 0, unix.ENOTTY }, nil, line.DTR, 0); err != unix.ENOTTY {
		t.Errorf("a port without them: %v", err)
	}
}

// A PTY keeps no framing; a real driver does.
func TestSettingsOf(t *testing.T) {
	for _, tt := range []struct {
		cflag, iflag uint32
		want         string
	}{
		{unix.CS8, 0, "9600n81"},
		{unix.CS7 | unix.PARENB, 0, "9600e71"},
		{unix.CS7 | unix.PARENB | unix.PARODD, 0, "9600o71"},
		{unix.CS6 | unix.PARENB | unix.CMSPAR, 0, "9600s61"},
		{unix.CS8 | unix.PARENB | unix.PARODD | unix.CMSPAR, 0, "9600m81"},
		{unix.CS8 | unix.PARODD | unix.CMSPAR, 0, "9600n81"},
		{unix.CS5 | unix.CSTOPB, 0, "9600n51.5"},
		{unix.CS8 | unix.CSTOPB | unix.CRTSCTS, unix.IXON, "9600n82/rtscts"},
		{unix.CS8, unix.IXON | unix.IXOFF, "9600n81/xonxoff"},
	} {
		got := port.SettingsOf(&unix.Termios{Cflag: tt.cflag, Iflag: tt.iflag, Ospeed: 9600})
		if got.String() != tt.want {
			t.Errorf("cflag %#x: %v, want %s", tt.cflag, got, tt.want)
		}
	}
}
