package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// hardwareClock is the clock that runs while the machine is off.
type hardwareClock struct {
	known   bool          // sysfs is there to be asked
	present bool          // there is one
	virtual bool          // the machine is a virtual one: its host has the clock
	shows   time.Time     // zero: it could not be read
	early   time.Duration // how far that is before the date of this program; 0: it is not
}

// lookAtHardwareClock reads what the kernel shows below /sys/class/rtc.
func lookAtHardwareClock(sys, proc string) (c hardwareClock) {
	if _, err := os.Stat(filepath.Join(sys, "class")); err != nil {
		return c
	}
	c.known = true
	flags, _ := os.ReadFile(filepath.Join(proc, "cpuinfo"))
	c.virtual = strings.Contains(string(flags), " hypervisor")
	clocks, _ := filepath.Glob(filepath.Join(sys, "class/rtc/rtc*"))
	c.present = len(clocks) > 0
	for _, clock := range clocks {
		text, err := os.ReadFile(filepath.Join(clock, "since_epoch"))
		if err != nil {
			continue // its battery is so empty that it has no time at all
		}
		if seconds, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil {
			c.shows = time.Unix(seconds, 0).UTC()
			c.early = tooEarly(c.shows)
			break
		}
	}
	return c
}

func checkHardwareClock(p patient) []finding {
	const after = "the next start after a power failure begins in another year until NTP has answered; SerialSpan does not care, but TLS in other programs fails"
	c := p.machine.clock
	f := finding{What: "hardware clock", Hint: true}
	switch {
	case !c.known:
		return nil
	case !c.present && c.virtual:
		return nil
	case !c.present:
		f.Evidence, f.Do = "this machine has none: "+after, "let NTP be reachable without TLS and names, as by DHCP option 42; or add a clock module"
	case c.shows.IsZero():
		f.Evidence, f.Do = "it cannot be read: "+after, "set it (hwclock --systohc); replace its battery if that does not last"
	case c.early > 0:
		f.Evidence, f.Do = fmt.Sprintf("it shows %s: %s", c.shows.Format(time.DateOnly), after), "set it (hwclock --systohc); replace its battery if that does not last"
	default:
		return nil
	}
	return []finding{f}
}

// checkContainer looks for what an agent in a container lacks.
func checkContainer(p patient) []finding {
	var all []finding
	if p.machine.userNamespace {
		all = append(all, finding{
			What: "user namespace", Evidence: "root here is another user outside: the kernel's hot-plug events do not arrive, and NET_ADMIN counts for nothing on the machine's network",
			Do: "run the agent without one (in Kubernetes hostUsers: true); sticks are found meanwhile by looking now and then", Hint: true,
		})
	}
	if len(p.machine.noNodes) > 0 {
		all = append(all, finding{
			What: "device nodes", Evidence: fmt.Sprintf("the kernel has %s, and /dev here has not: a container that does not see the machine's", few(p.machine.noNodes)),
			Do: "mount the machine's /dev into the container (hostPath /dev) and run it privileged",
		})
	}
	return all
}

// inUserNamespace reads /proc/self/uid_map, user_namespaces(7): outside of one
// it has a single row that maps all numbers to themselves.
func inUserNamespace(text string) bool {
	fields := strings.Fields(text)
	return len(fields) != 3 || fields[0] != "0" || fields[1] != "0" || fields[2] != "4294967295"
}

// ttysWithoutNode returns the USB serial ports of the kernel that have no node
// in dev.
func ttysWithoutNode(sys, dev string) []string {
	var all []string
	for _, kind := range []string{"ttyUSB", "ttyACM"} {
		ports, _ := filepath.Glob(filepath.Join(sys, "class/tty", kind+"*"))
		for _, port := range ports {
			name := filepath.Base(port)
			if _, err := os.Stat(filepath.Join(dev, name)); errors.Is(err, fs.ErrNotExist) {
				all = append(all, name)
			}
		}
	}
	return all
}

// holder returns who has a UDP port, empty where it is not known.
func (m machine) holder(port string) string {
	for _, s := range m.sockets {
		if strconv.Itoa(int(s.port)) == port {
			return holderOf("/proc", "/sys", s.inode)
		}
	}
	return ""
}

// holderOf returns who has the socket with this inode number, in words; empty
// where it is not known. A process has it among its descriptors. One that no
// process has is the kernel's: a WireGuard interface. Without root the
// descriptors of other users' processes cannot be seen.
func holderOf(proc, sys string, inode uint64) string {
	if inode == 0 {
		return ""
	}
	target, all := fmt.Sprintf("socket:[%d]", inode), true
	processes, _ := filepath.Glob(filepath.Join(proc, "[0-9]*"))
	for _, process := range processes {
		descriptors, err := os.ReadDir(filepath.Join(process, "fd"))
		if err != nil {
			all = all && errors.Is(err, fs.ErrNotExist) // it has just ended
			continue
		}
		for _, d := range descriptors {
			if link, err := os.Readlink(filepath.Join(process, "fd", d.Name())); err == nil && link == target {
				name, _ := os.ReadFile(filepath.Join(process, "comm"))
				return fmt.Sprintf("taken by process %s, %s", filepath.Base(process), cmp.Or(strings.TrimSpace(string(name)), "without a name"))
			}
		}
	}
	if !all || len(processes) == 0 {
		return ""
	}
	if links := wireGuardLinks(sys); len(links) > 0 {
		return "taken by no process that is seen here: by a WireGuard interface, " + strings.Join(links, " or ")
	}
	return "taken by no process that is seen here: by the kernel or in another container"
}

// wireGuardLinks returns the names of the WireGuard interfaces.
func wireGuardLinks(sys string) []string {
	var names []string
	links, _ := filepath.Glob(filepath.Join(sys, "class/net/*/uevent"))
	for _, link := range links {
		if text, err := os.ReadFile(link); err == nil && strings.Contains(string(text), "DEVTYPE=wireguard") {
			names = append(names, filepath.Base(filepath.Dir(link)))
		}
	}
	return names
}
