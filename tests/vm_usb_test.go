package tests

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/serialspan/serialspan/bridge/client"
	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/tests/internal/lab"
	"github.com/serialspan/serialspan/tests/internal/usbip"
	"github.com/serialspan/serialspan/tests/internal/usbip/chip"
	"github.com/serialspan/serialspan/tests/internal/vm"
)

// usbStick is a device in the guest, seen from its far end.
type usbStick struct {
	device   string // name that it is published by
	hardware client.Hardware
	modem    line.ModemLines // DTR and RTS as the rule says
	end      lab.End
	state    func() (chip.State, error)
	unplug   func()
	plug     func() // where it was
}

// TestUSBSticks publishes real USB serial drivers' devices: two FTDI adapters,
// one of which has no serial number, and a Z-Wave stick that no rule mentions.
// What the agent sets is seen at the devices. The edge needs no root here: it is
// behind the NAT of QEMU.
func TestUSBSticks(t *testing.T) {
	secret := lab.NewSecret(t)
	consumer, join := startConsumer(t, secret)
	v := vm.Start(t, vm.Config{
		Name: "garage", Files: guestFiles(t, secret), NICs: []vm.NIC{vm.UserNet()}, USBIP: true, Disk: vm.NewDisk(t),
		Sticks: []vm.Stick{{ID: "a", Serial: "LAB-A", Port: "1"}, {ID: "b", Port: "2"}},
	})
	sticks := plugSticks(t, v)
	edge := startGuestAgent(t, v, "garage", lab.Settings{
		"cluster": join,
		"devices": lab.Settings{"publish": "known", "rules": []lab.Settings{
			{"match": lab.Settings{"vid": "0403", "pid": "6001", "serial": "LAB-A"}, "name": "{{.Node}}-meter", "dtr": "off", "rts": "off"},
			{"match": lab.Settings{"vid": "0403", "port": "1-2"}, "name": "furnace", "dtr": "on", "rts": "off"},
		}},
	})

	for _, s := range sticks {
		t.Run(s.device, func(t *testing.T) { useStick(t, consumer, s) })
	}
	edge.stop(t)
	// Closing a port with HUPCL would have dropped DTR and RTS.
	for _, s := range sticks {
		wantState(t, s)
	}
}

// plugSticks plugs the Z-Wave stick in beside the two that are there.
func plugSticks(t *testing.T, v *vm.VM) []*usbStick {
	t.Helper()
	uzb := usbip.New(usbip.Config{VID: 0x0658, PID: 0x0200, Product: "UZB"})
	zwave := &usbStick{
		device: "garage-zwave", hardware: client.Hardware{VID: "0658", PID: "0200", Interface: "00"}, modem: line.DTR | line.RTS,
		end: uzb, state: func() (chip.State, error) { return uzb.State(), nil },
	}
	zwave.plug = func() { zwave.unplug = v.PlugUSB(uzb) }
	zwave.unplug = v.PlugUSB(uzb)
	meter, furnace := v.Stick("a"), v.Stick("b")
	return []*usbStick{
		{
			device: "garage-meter", hardware: client.Hardware{VID: "0403", PID: "6001", Serial: "LAB-A", Interface: "00", Port: "1-1"},
			end: meter, state: meter.State,
			unplug: func() { v.Unplug("a") }, plug: func() { v.Plug("a", "1") },
		},
		{
			device: "furnace", hardware: client.Hardware{VID: "0403", PID: "6001", Interface: "00", Port: "1-2"}, modem: line.DTR,
			end: furnace, state: furnace.State,
			unplug: func() { v.Unplug("b") }, plug: func() { v.Plug("b", "2") },
		},
		zwave,
	}
}

// useStick attaches a device, carries bytes, unplugs it and plugs it in again.
func useStick(t *testing.T, consumer *lab.Agent, s *usbStick) {
	waitDeviceState(t, consumer.Client(), s.device, client.DeviceAvailable, 20*time.Second)
	d, err := deviceOf(t, consumer.Client(), s.device)
	if err != nil {
		t.Fatal(err)
	}
	want := s.hardware
	if want.Port == "" {
		want.Port = d.Hardware.Port // the virtual controller's bus has any number
	}
	if d.Node != "garage" || d.Hardware != want || d.Hardware.Port == "" {
		t.Errorf("device is %+v, want one of garage with hardware %+v", d, want)
	}
	link := filepath.Join(consumer.Dir, s.device)
	consumer.MustRun("attach", s.device, "--pty", link)
	app := lab.OpenTTY(t, link)
	consumer.WaitAttachment(link, client.AttachmentConnected, 10*time.Second)
	wantState(t, s)
	trips, worst := talk(t, app, s.end, time.Second)
	t.Logf("%d round trips, the longest %v", trips, worst.Round(time.Millisecond))
	lab.Exchange(t, app, s.end, 8<<10)

	s.unplug()
	took := waitDeviceState(t, consumer.Client(), s.device, client.DeviceAway, 10*time.Second)
	t.Logf("away %v after the plug was pulled", took.Round(time.Millisecond))
	start := time.Now()
	s.plug()
	consumer.WaitAttachment(link, client.AttachmentConnected, 20*time.Second)
	wantState(t, s)
	talk(t, app, s.end, time.Second)
	t.Logf("in use again by the same application %v after it was plugged in", time.Since(start).Round(time.Millisecond)-time.Second)
	_ = app.Close()
	consumer.MustRun("detach", link)
	waitDeviceState(t, consumer.Client(), s.device, client.DeviceAvailable, 10*time.Second)
}

// wantState waits until the chip stands as the agent has to set it.
func wantState(t *testing.T, s *usbStick) {
	t.Helper()
	want := chip.State{Line: line.Default(), Modem: s.modem}
	lab.WaitFor(t, "the settings at "+s.device, 5*time.Second, func() error {
		state, err := s.state()
		if err == nil && state != want {
			err = errors.New(fmt.Sprint(state, ", want ", want))
		}
		return err
	})
}
