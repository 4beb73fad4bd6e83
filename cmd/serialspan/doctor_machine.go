package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/serialspan/serialspan/mesh"
)

// built is the date of the commit in RFC 3339, set by the linker: -X main.built=…
var built string

// written is a date before which no program with this text was built; used
// where nothing else is known.
const written = "2026-11-01T00:00:00Z"

// look sees what can be seen of this machine without the agent. What cannot be
// read is left out.
func look() machine {
	m := machine{early: tooEarly(time.Now())}
	if _, err := net.InterfaceByName("kubespan"); err == nil {
		m.kubeSpan = true
	}
	for _, path := range []string{"/proc/self/net/udp", "/proc/self/net/udp6"} {
		if f, err := os.Open(path); err == nil {
			m.sockets = append(m.sockets, readSockets(f)...)
			f.Close()
		}
	}
	for i, s := range m.sockets {
		if s.port == kubeSpanPort {
			m.sockets[i].holder = holderOf("/proc", "/sys", s.inode)
		}
	}
	m.clock = lookAtHardwareClock("/sys", "/proc")
	if text, err := os.ReadFile("/proc/self/uid_map"); err == nil {
		m.userNamespace = inUserNamespace(string(text))
	}
	m.noNodes = ttysWithoutNode("/sys", "/dev")
	return m
}

// tooEarly returns how long now is before this program can have been made, 0 if
// it is not.
func tooEarly(now time.Time) time.Duration {
	date := built
	if info, ok := debug.ReadBuildInfo(); ok && date == "" {
		for _, setting := range info.Settings {
			if setting.Key == "vcs.time" {
				date = setting.Value
			}
		}
	}
	made, err := time.Parse(time.RFC3339, date)
	if err != nil {
		if made, err = time.Parse(time.RFC3339, written); err != nil {
			return 0
		}
	}
	return max(0, made.Sub(now))
}

// inodeField is where a row of /proc/net/udp has the socket's number.
const inodeField = 9

// readSockets reads the format of /proc/net/udp, proc_pid_net(5): the second
// field is ADDRESS:PORT in hexadecimal, the last the drops. Rows of another
// form are left out.
func readSockets(r io.Reader) []udpSocket {
	var all []udpSocket
	for rows := bufio.NewScanner(r); rows.Scan(); {
		fields := strings.Fields(rows.Text())
		if len(fields) < 3 {
			continue
		}
		_, hex, _ := strings.Cut(fields[1], ":")
		port, err := strconv.ParseUint(hex, 16, 16)
		if err != nil {
			continue
		}
		drops, err := strconv.ParseUint(fields[len(fields)-1], 10, 64)
		if err != nil {
			continue
		}
		s := udpSocket{port: uint16(port), drops: drops}
		if len(fields) > inodeField {
			s.inode, _ = strconv.ParseUint(fields[inodeField], 10, 64)
		}
		all = append(all, s)
	}
	return all
}

// tryListen opens the UDP port and closes it again.
func tryListen(address string) error {
	socket, err := mesh.ListenUDP(address)
	if err != nil {
		return err
	}
	return socket.Close()
}

// tryState makes a file in the state directory and removes it. A directory that
// is not there yet is none of doctor's business: the agent makes it.
func tryState(dir string) error {
	if _, err := os.Stat(dir); os.IsNotExist(err) {
		return nil
	}
	f, err := os.CreateTemp(dir, ".doctor.*")
	if err != nil {
		return fmt.Errorf("write to state directory: %w", err)
	}
	f.Close()
	return os.Remove(f.Name())
}
