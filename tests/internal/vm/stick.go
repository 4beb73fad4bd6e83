package vm

import (
	"fmt"
	"net"
	"os"

	"github.com/serialspan/serialspan/tests/internal/usbip"
	"github.com/serialspan/serialspan/tests/internal/usbip/chip"
)

// stick is a usb-serial device of a machine. Its socket stays connected while
// it is unplugged.
type stick struct {
	Stick
	end      *StickEnd
	listener *net.UnixListener
}

func (s *stick) close() {
	if s.listener != nil {
		_ = s.listener.Close()
	}
	if s.end.Conn != nil {
		_ = s.end.Close()
	}
}

// StickEnd is the far end of a stick's serial line: the test reads what was
// written to the port, and writes what the stick says. Bytes that it says while
// it is unplugged come after the next Plug. The connection ends with the
// machine.
type StickEnd struct {
	net.Conn

	recordings []string // files, one per plug
}

// Stick returns the far end of the stick with this ID, which has to exist.
func (v *VM) Stick(id string) *StickEnd { return v.stick(id).end }

func (v *VM) stick(id string) *stick {
	s := v.sticks[id]
	if s == nil {
		panic(fmt.Sprintf("vm: no stick %q", id))
	}
	return s
}

// Plug plugs a stick in, at the port "1" to "8"; "": a free one.
func (v *VM) Plug(id, port string) {
	v.tb.Helper()
	s := v.stick(id)
	s.Port = port
	arguments := v.deviceOf(s)
	if err := v.qmp.do("device_add", arguments); err != nil {
		v.tb.Fatal(err)
	}
}

// Unplug pulls a stick out and returns when it is gone from the bus.
func (v *VM) Unplug(id string) {
	v.tb.Helper()
	err := v.qmp.do("device_del", map[string]any{"id": v.stick(id).ID})
	if err == nil {
		err = v.qmp.await("DEVICE_DELETED", id)
	}
	if err != nil {
		v.tb.Fatal(err)
	}
}

// deviceOf returns the device as QEMU wants it, with a new recording.
func (v *VM) deviceOf(s *stick) map[string]any {
	recording := v.path(fmt.Sprintf("%s.%d.pcap", s.ID, len(s.end.recordings)))
	s.end.recordings = append(s.end.recordings, recording)
	d := map[string]any{
		"driver": "usb-serial", "id": s.ID, "chardev": "stick-" + s.ID, "bus": "usb.0",
		"always-plugged": true, "pcap": recording, "serial": s.Serial, // empty: none; not given: one of QEMU's
	}
	if s.Port != "" {
		d["port"] = s.Port
	}
	return d
}

// stickArgs makes the sticks and returns QEMU's arguments for them.
func (v *VM) stickArgs() ([]string, error) {
	if len(v.config.Sticks) == 0 {
		return nil, nil
	}
	args := []string{"-device", "qemu-xhci,id=usb,p2=8,p3=8"}
	for _, config := range v.config.Sticks {
		s := &stick{Stick: config, end: &StickEnd{}}
		v.sticks[s.ID] = s
		var err error
		if s.listener, err = v.listen("stick-" + s.ID); err != nil {
			return nil, err
		}
		args = append(args, "-chardev", fmt.Sprintf("socket,id=stick-%s,path=%s", s.ID, v.path("stick-"+s.ID)))
		if s.Unplugged {
			continue
		}
		d := v.deviceOf(s)
		value := fmt.Sprint(d["driver"])
		for _, key := range []string{"id", "chardev", "bus", "port", "serial", "pcap"} {
			if text, ok := d[key]; ok {
				value += fmt.Sprintf(",%s=%s", key, text)
			}
		}
		args = append(args, "-device", value+",always-plugged=on")
	}
	return args, nil
}

// acceptSticks takes QEMU's connections.
func (v *VM) acceptSticks() error {
	for _, s := range v.sticks {
		conn, err := s.listener.Accept()
		if err != nil {
			return fmt.Errorf("wait for the stick %s: %w", s.ID, err)
		}
		s.end.Conn = conn
		_ = s.listener.Close()
	}
	return nil
}

// State returns what the driver has told the stick since it was last plugged
// in.
func (e *StickEnd) State() (chip.State, error) {
	history, err := e.History()
	if err != nil || len(history) == 0 {
		return chip.State{}, err
	}
	return history[len(history)-1].State, nil
}

// History returns every state since the start of the machine, oldest first; a
// plug begins with the zero State. Times are QEMU's, on the wall clock.
func (e *StickEnd) History() ([]usbip.Change, error) {
	var all []usbip.Change
	var total uint64
	for i := range e.recordings {
		state := chip.State{}
		all = append(all, usbip.Change{After: total})
		recorded, err := e.recorded(i)
		if err != nil {
			return nil, err
		}
		for _, t := range recorded {
			if !t.control {
				total += uint64(len(t.data))
				continue
			}
			if now := chip.FTDI(state, t.setup, nil); now != state {
				state = now
				all = append(all, usbip.Change{State: state, After: total, At: t.at})
			}
		}
	}
	return all, nil
}

// Transfers returns every control transfer since the stick was last plugged in,
// with times as of History.
func (e *StickEnd) Transfers() ([]usbip.Transfer, error) {
	if len(e.recordings) == 0 {
		return nil, nil
	}
	recorded, err := e.recorded(len(e.recordings) - 1)
	var all []usbip.Transfer
	for _, t := range recorded {
		if t.control {
			all = append(all, usbip.Transfer{Setup: t.setup, At: t.at})
		}
	}
	return all, err
}

// recorded returns the transfers of a plug.
func (e *StickEnd) recorded(plug int) ([]transfer, error) {
	recording, err := os.ReadFile(e.recordings[plug])
	if err != nil && !os.IsNotExist(err) {
		return nil, fmt.Errorf("read recording: %w", err)
	}
	return transfers(recording), nil
}
