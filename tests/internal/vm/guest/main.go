// Command guest is the init of the virtual machines of package vm: process 1 of
// a kernel without a distribution. It mounts what programs expect, loads
// modules, sets the network up as the initrd's boot file says, and then does
// what the test asks over a virtio-serial port. When the test is gone, it turns
// the machine off.
//
// It is of no use, and does nothing, as any other process than the first.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/serialspan/serialspan/tests/internal/vm/wire"
)

// deviceTime is how long a device may take to show itself after its driver was
// loaded.
const deviceTime = 20 * time.Second

func main() {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "guest: this is the init of a virtual machine and runs nowhere else")
		os.Exit(2)
	}
	fmt.Println("guest:", run()) // to the console, which the test prints
	powerOff()
}

func powerOff() {
	unix.Sync()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

// run does all that is to be done and returns why it cannot go on.
func run() error {
	boot, err := readBoot()
	if err != nil {
		return err
	}
	if err := mountAll(); err != nil {
		return err
	}
	if err := errors.Join(os.Setenv("PATH", "/bin:/sbin:/usr/bin:/usr/sbin"), os.Setenv("HOME", "/root")); err != nil {
		return err
	}
	for _, m := range boot.Modules {
		if err := load(m); err != nil {
			return err
		}
	}
	if err := unix.Sethostname([]byte(boot.Hostname)); err != nil {
		return fmt.Errorf("set host name: %w", err)
	}
	if err := setUpNetwork(boot.Interfaces); err != nil {
		return err
	}
	if boot.Disk {
		if err := mountDisk(); err != nil {
			return err
		}
	}
	port, err := openPort(wire.Port)
	if err != nil {
		return err
	}
	return newServer(port).run()
}

func readBoot() (wire.Boot, error) {
	var boot wire.Boot
	text, err := os.ReadFile(wire.BootFile)
	if err == nil {
		err = json.Unmarshal(text, &boot)
	}
	return boot, err
}

func mountAll() error {
	for _, m := range []struct{ kind, at, data string }{
		{"proc", "/proc", ""}, {"sysfs", "/sys", ""}, {"devtmpfs", "/dev", ""}, {"devpts", "/dev/pts", "mode=0620,ptmxmode=0666"},
		{"tmpfs", "/run", "mode=0755"}, {"tmpfs", "/tmp", "mode=1777"}, {"tmpfs", "/dev/shm", "mode=1777"},
	} {
		err := os.MkdirAll(m.at, 0o755)
		if err == nil {
			err = unix.Mount(m.kind, m.at, m.kind, 0, m.data)
		}
		if err != nil {
			return fmt.Errorf("mount %s: %w", m.at, err)
		}
	}
	return nil
}

func mountDisk() error {
	err := waitFor("the disk", func() error {
		_, err := os.Stat("/dev/vda")
		return err
	})
	if err == nil {
		err = os.MkdirAll(wire.DiskDir, 0o755)
	}
	if err == nil {
		err = unix.Mount("/dev/vda", wire.DiskDir, "ext4", 0, "")
	}
	if err != nil {
		return fmt.Errorf("mount the disk: %w", err)
	}
	return nil
}

func load(m wire.Module) error {
	f, err := os.Open(m.Path)
	if err != nil {
		return fmt.Errorf("load module: %w", err)
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), m.Parameters, 0); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("load module %s: %w", filepath.Base(m.Path), err)
	}
	return nil
}

// waitFor asks holds until it returns nil or deviceTime has passed.
func waitFor(what string, holds func() error) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	start := time.Now()
	for {
		err := holds()
		if err == nil {
			return nil
		}
		if time.Since(start) > deviceTime {
			return fmt.Errorf("wait for %s: %w", what, err)
		}
		<-tick.C
	}
}

// openPort opens the virtio-serial port of that name.
func openPort(name string) (*os.File, error) {
	var path string
	err := waitFor("the port "+name, func() error {
		names, err := filepath.Glob("/sys/class/virtio-ports/*/name")
		for _, file := range names {
			if text, err := os.ReadFile(file); err == nil && strings.TrimSpace(string(text)) == name {
				path = "/dev/" + filepath.Base(filepath.Dir(file))
				_, err := os.Stat(path)
				return err
			}
		}
		return errors.Join(err, errors.New("no port has this name"))
	})
	if err != nil {
		return nil, err
	}
	return os.OpenFile(path, os.O_RDWR, 0)
}
