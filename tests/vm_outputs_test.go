package tests

import (
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/serialspan/serialspan/bridge/client"
	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/tests/internal/lab"
	"github.com/serialspan/serialspan/tests/internal/usbip"
)

// late is how much later than asked for an output may change at the device: an
// emulated machine's timers, its USB and the other tests.
const late = 50 * time.Millisecond

// recipe runs the way of an ESP board into its bootloader, from another node,
// and looks at the order and the times of what comes to the chip.
func (d *drivers) recipe(t *testing.T) {
	// configs/profiles/recipes.yaml; its first step is how the chip stands.
	steps := []struct {
		modem line.ModemLines
		wait  time.Duration // until the next
	}{{line.DTR | line.RTS, 0}, {line.RTS, 100 * time.Millisecond}, {line.DTR, 50 * time.Millisecond}, {0, 0}}
	const runs = 5
	for name, chip := range d.chips {
		d.consumer.MustRun("signal", name, "dtr=off", "rts=off")
		took := make([][]time.Duration, len(steps))
		for range runs {
			before := len(chip.History())
			d.consumer.MustRun("signal", name, "reset=bootloader")
			changes := chip.History()[before:]
			if len(changes) != len(steps) {
				t.Fatalf("%s saw %+v, want %d changes", name, changes, len(steps))
			}
			for i, c := range changes {
				if c.Modem != steps[i].modem {
					t.Errorf("%s: change %d made it %v, want %v", name, i, c.Modem, steps[i].modem)
				}
				if i > 0 {
					took[i-1] = append(took[i-1], c.At.Sub(changes[i-1].At))
				}
			}
		}
		for i, s := range steps[:len(steps)-1] {
			usual := median(took[i])
			t.Logf("%s: %v for %v (median of %d; asked for %v; shortest %v, longest %v)", name, s.modem, tenths(usual), runs, s.wait,
				tenths(slices.Min(took[i])), tenths(slices.Max(took[i])))
			if slices.Min(took[i]) < s.wait || usual > s.wait+late {
				t.Errorf("%s: %v for %v, want %v at least and %v at most as a rule", name, s.modem, took[i], s.wait, s.wait+late)
			}
		}
	}
}

func tenths(d time.Duration) time.Duration { return d.Round(100 * time.Microsecond) }

// breaks sends a break of a given length.
func (d *drivers) breaks(t *testing.T) {
	const length = 250 * time.Millisecond
	for name, chip := range d.chips {
		before := len(chip.History())
		d.consumer.MustRun("signal", name, "break=250ms")
		changes := chip.History()[before:]
		if len(changes) != 2 || !changes[0].Break || changes[1].Break {
			t.Errorf("%s saw %+v, want a break and its end", name, changes)
			continue
		}
		took := changes[1].At.Sub(changes[0].At)
		t.Logf("%s: a break of %v, asked for %v", name, took.Round(100*time.Microsecond), length)
		if took < length || took > length+late {
			t.Errorf("%s: a break of %v, want %v to %v", name, took, length, length+late)
		}
	}
}

// framing opens each device with line settings and looks at what its chip was
// told, and that the agents say what came out.
func (d *drivers) framing(t *testing.T) {
	const (
		ftdi, cp210x, ch9102 = "ftdi", "cp210x", "ch9102"
		// Linux has one bit for the longer stop bit, and its USB drivers say
		// "two" to the chip also with 5 data bits, where serial chips make 1.5.
		longer = "invalid(300,5,1,2,0)"
	)
	for _, row := range []struct {
		settings string
		told     map[string]string // of chips that are told something else
		said     map[string]string // by agents, where it is not what was asked for
	}{
		{settings: "250000n81"},
		{settings: "31250n81", told: map[string]string{cp210x: "38400n81"}, said: map[string]string{cp210x: "38400n81"}}, // its driver's table
		{settings: "9600e71"},
		{settings: "1200o82"},
		{settings: "4800m81"},
		{settings: "19200s72"},
		// FTDI chips have 7 and 8 data bits; the driver keeps what was set before.
		{settings: "38400n61", told: map[string]string{ftdi: "38400n71"}, said: map[string]string{ftdi: "38400n71"}},
		// For 5 that driver takes what the chip cannot do, for an odd card reader.
		{settings: "300o51.5", told: map[string]string{ftdi: "invalid(300,0,1,2,0)", cp210x: longer, ch9102: longer}},
		{settings: "115200n81/rtscts", told: map[string]string{ch9102: "115200n81"}}, // USB CDC has no flow control
		{settings: "57600n81/xonxoff", told: map[string]string{ch9102: "57600n81"}},
		{settings: "115200n81"},
	} {
		for name, chip := range d.chips {
			told, said := row.settings, row.settings
			if other := row.told[name]; other != "" {
				told = other
			}
			if other := row.said[name]; other != "" {
				said = other
			}
			t.Run(name+" "+row.settings, func(t *testing.T) { d.frame(t, name, chip, row.settings, told, said) })
		}
	}
}

func (d *drivers) frame(t *testing.T, name string, chip *usbip.Device, settings, told, said string) {
	c := d.consumer.Client()
	at, err := c.Attach(t.Context(), client.AttachRequest{Device: name, TCP: "127.0.0.1:0", Line: settings, Ephemeral: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if _, err := c.Detach(t.Context(), at.ID); err != nil {
			t.Error(err)
		}
	}()
	conn, err := net.Dial("tcp", at.Where)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	d.consumer.WaitAttachment(at.Where, client.AttachmentConnected, 10*time.Second)
	lab.WaitFor(t, "the settings", 5*time.Second, func() error {
		if have := chip.State().Line.String(); have != told {
			return fmt.Errorf("%s was told %s, want %s", name, have, told)
		}
		for _, agent := range []*client.Client{c, d.edge.Client} {
			if have := sessionOf(t, agent, name).Line; have != said {
				return fmt.Errorf("the session is said to have %s, want %s", have, said)
			}
		}
		return nil
	})
}
