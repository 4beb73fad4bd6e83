package main

import (
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// tree writes files below a new directory and returns it.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestHardwareClock(t *testing.T) {
	const year2016 = "1451606400\n"
	shows := time.Unix(1451606400, 0).UTC()
	proc := tree(t, map[string]string{"cpuinfo": "flags : fpu vme\n"})
	virtual := tree(t, map[string]string{"cpuinfo": "flags : fpu hypervisor lahf_lm\n"})
	for _, test := range []struct {
		name, proc string
		sys        map[string]string
		want       hardwareClock
	}{
		{"no sysfs", proc, nil, hardwareClock{}},
		{"none", proc, map[string]string{"class/tty/x": ""}, hardwareClock{known: true}},
		{"none in a virtual machine", virtual, map[string]string{"class/tty/x": ""}, hardwareClock{known: true, virtual: true}},
		{"unreadable", proc, map[string]string{"class/rtc/rtc0/name": "cmos"}, hardwareClock{known: true, present: true}},
		{"in 2016", proc, map[string]string{"class/rtc/rtc0/since_epoch": year2016}, hardwareClock{known: true, present: true, shows: shows}},
		{"the second", proc, map[string]string{"class/rtc/rtc0/name": "", "class/rtc/rtc1/since_epoch": year2016}, hardwareClock{known: true, present: true, shows: shows}},
	} {
		t.Run(test.name, func(t *testing.T) {
			have := lookAtHardwareClock(tree(t, test.sys), test.proc)
			if early := have.early > 0; early != !have.shows.IsZero() {
				t.Errorf("early by %v", have.early)
			}
			if have.early = 0; have != test.want {
				t.Errorf("have %+v, want %+v", have, test.want)
			}
		})
	}
}

func TestTTYsWithoutNode(t *testing.T) {
	sys := tree(t, map[string]string{"class/tty/ttyUSB0/dev": "", "class/tty/ttyACM0/dev": "", "class/tty/ttyS0/dev": ""})
	if have := ttysWithoutNode(sys, tree(t, map[string]string{"ttyACM0": ""})); !reflect.DeepEqual(have, []string{"ttyUSB0"}) {
		t.Errorf("have %q, want ttyUSB0", have)
	}
}

func TestInUserNamespace(t *testing.T) {
	for text, want := range map[string]bool{
		"         0          0 4294967295\n": false, "0 100000 65536\n": true, "0 0 1\n1 100000 65535\n": true, "": true,
	} {
		if have := inUserNamespace(text); have != want {
			t.Errorf("%q: %v, want %v", text, have, want)
		}
	}
}

// The holder of a port is found by its socket: here a socket of this process.
func TestHolderOf(t *testing.T) {
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, port, _ := net.SplitHostPort(conn.LocalAddr().String())
	if have := look().holder(port); !strings.HasPrefix(have, "taken by process ") {
		t.Errorf("port %s is %q; want this process", port, have)
	}
	if have := look().holder("0"); have != "" {
		t.Errorf("a port that nobody has is %q", have)
	}
	// A socket that no process has is the kernel's.
	proc := tree(t, map[string]string{"7/fd/0": "", "7/comm": "x\n"})
	wireguard := tree(t, map[string]string{"class/net/wg0/uevent": "DEVTYPE=wireguard\nINTERFACE=wg0\n", "class/net/eth0/uevent": "INTERFACE=eth0\n"})
	for _, test := range []struct{ sys, want string }{
		{wireguard, "taken by no process that is seen here: by a WireGuard interface, wg0"}, {t.TempDir(), "taken by no process that is seen here: by the kernel or in another container"},
	} {
		if have := holderOf(proc, test.sys, 12); have != test.want {
			t.Errorf("have %q, want %q", have, test.want)
		}
	}
}
