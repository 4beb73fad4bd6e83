package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/serialspan/serialspan/tests/internal/lab"
	"github.com/serialspan/serialspan/tests/internal/vm/wire"
)

const (
	// bootTime is how long a machine may take until its init answers: ten times
	// what it needs where nothing else runs.
	bootTime = 40 * time.Second
	// emulator is the program.
	emulator = "qemu-system-x86_64"
	// commandLine is the kernel's. The rest saves time: no messages, no tests
	// of the ciphers, no mitigations of a CPU that is emulated anyway.
	commandLine = "console=ttyS0 quiet panic=-1 cryptomgr.notests mitigations=off"
	// diskSize of NewDisk, in bytes.
	diskSize = 16 << 20
)

// VM is a running machine.
type VM struct {
	tb      testing.TB
	config  Config
	dir     string
	cmd     *exec.Cmd
	stderr  bytes.Buffer
	qmp     *qmp
	control *control
	sticks  map[string]*stick

	joined sync.WaitGroup // control.run, forwarded connections
	off    sync.Once
	mu     sync.Mutex
	closes []func() // listeners of Forward; stopped with the machine
}

// Need skips the test where no machine can run: not on amd64, without QEMU, or
// without Debian's kernel in the cache or by apt-get.
func Need(tb testing.TB) {
	tb.Helper()
	if runtime.GOARCH != "amd64" {
		lab.Skip(tb, "virtual machines are amd64 and run programs of this machine, which is "+runtime.GOARCH)
	}
	lab.NeedTools(tb, emulator, "mkfs.ext4", "xz")
	if _, err := openKernel(); err != nil {
		lab.Skip(tb, err.Error())
	}
}

// NewDisk makes an empty disk for Config.Disk. One machine at a time has it.
func NewDisk(tb testing.TB) string {
	tb.Helper()
	Need(tb)
	path := filepath.Join(tb.TempDir(), "disk")
	if err := emptyDisk(path, diskSize); err != nil {
		tb.Fatalf("make a disk: %v", err)
	}
	return path
}

// Start boots a machine and returns when its init answers. It skips the test
// where Need does, or where one of Config.Programs is not installed.
func Start(tb testing.TB, config Config) *VM {
	tb.Helper()
	Need(tb)
	lab.NeedTools(tb, config.Programs...)
	if config.Name == "" {
		config.Name = "guest"
	}
	if config.Memory == 0 {
		config.Memory = 256
	}
	began := time.Now()
	v := &VM{tb: tb, config: config, sticks: map[string]*stick{}}
	dir, err := os.MkdirTemp("", "sspvm") // short: sockets are in it
	if err != nil {
		tb.Fatal(err)
	}
	v.dir = dir
	tb.Cleanup(func() {
		v.Kill()
		if tb.Failed() {
			tb.Logf("console of %s:\n%s%s", config.Name, v.Console(), v.stderr.Bytes())
		}
		_ = os.RemoveAll(dir)
	})
	if err := v.start(); err != nil {
		v.Kill()
		tb.Fatalf("start machine %s: %v\n%s%s", config.Name, err, v.Console(), v.stderr.Bytes())
	}
	tb.Logf("machine %s booted in %v", config.Name, time.Since(began).Round(10*time.Millisecond))
	return v
}

func (v *VM) start() error {
	kernel, err := openKernel()
	if err != nil {
		return err
	}
	if err := v.writeInitrd(kernel); err != nil {
		return fmt.Errorf("write initrd: %w", err)
	}
	args := []string{
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-accel", "tcg", "-cpu", "max", "-M", "q35",
		"-m", fmt.Sprint(v.config.Memory), "-kernel", kernel.vmlinux(), "-initrd", v.path("initrd"), "-append", commandLine,
		"-chardev", "file,id=console,path=" + v.path("console"), "-serial", "chardev:console",
		"-chardev", "socket,id=qmp,path=" + v.path("qmp"), "-mon", "chardev=qmp,mode=control",
		"-chardev", "socket,id=control,path=" + v.path("control"),
		"-device", "virtio-serial-pci", "-device", "virtserialport,chardev=control,name=" + wire.Port,
	}
	if !v.config.Time.IsZero() {
		args = append(args, "-rtc", "base="+v.config.Time.UTC().Format("2006-01-02T15:04:05"))
	}
	if v.config.Disk != "" {
		args = append(args, "-drive", "if=none,id=disk,format=raw,file="+v.config.Disk, "-device", "virtio-blk-pci,drive=disk")
	}
	var host *lab.Host
	for i, n := range v.config.NICs {
		args = append(args, "-netdev", fmt.Sprintf("%s,id=net%d", n.backend, i),
			"-device", fmt.Sprintf("virtio-net-pci,netdev=net%d,id=%s,mac=%s", i, nicID(i), mac(i, n)))
		if n.host != nil {
			host = n.host
		}
	}
	more, err := v.stickArgs()
	if err != nil {
		return err
	}
	return v.launch(host, append(args, more...))
}

// nicID is what QEMU and SetLink call an interface.
func nicID(i int) string { return fmt.Sprintf("eth%d", i) }

func (v *VM) path(name string) string { return filepath.Join(v.dir, name) }

func (v *VM) writeInitrd(k *kernel) error {
	modules, err := k.resolve(v.config.modules())
	if err != nil {
		return err
	}
	f, err := os.Create(v.path("initrd"))
	if err != nil {
		return err
	}
	return errors.Join(writeInitrd(f, v.config, v.config.boot(), modules), f.Close())
}

// launch starts QEMU on the host and waits for the guest's init. QEMU connects
// to our sockets when it starts.
func (v *VM) launch(host *lab.Host, args []string) error {
	monitor, err := v.listen("qmp")
	if err != nil {
		return err
	}
	defer monitor.Close()
	port, err := v.listen("control")
	if err != nil {
		return err
	}
	defer port.Close()
	if v.cmd = exec.Command(emulator, args...); host != nil {
		v.cmd = host.Command(context.Background(), emulator, args...)
	}
	v.cmd.Stderr = &v.stderr
	if err := v.cmd.Start(); err != nil {
		v.cmd = nil
		return err
	}
	conn, err := port.Accept()
	if err != nil {
		return fmt.Errorf("wait for QEMU: %w", err)
	}
	v.control = newControl(conn)
	v.joined.Go(v.control.run)
	if conn, err = monitor.Accept(); err != nil {
		return fmt.Errorf("wait for QEMU: %w", err)
	}
	if v.qmp, err = newQMP(conn); err != nil {
		return err
	}
	if err := v.acceptSticks(); err != nil {
		return err
	}
	timer := time.NewTimer(bootTime)
	defer timer.Stop()
	select {
	case <-v.control.ready:
		if v.control.isOff() {
			return errors.New("it turned itself off")
		}
		return nil
	case <-timer.C:
		return fmt.Errorf("its init has not answered in %v", bootTime)
	}
}

// listen waits for QEMU to connect to a socket of that name, not for ever.
func (v *VM) listen(name string) (*net.UnixListener, error) {
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: v.path(name), Net: "unix"})
	if err != nil {
		return nil, err
	}
	return listener, listener.SetDeadline(time.Now().Add(qmpTime))
}

// Kill ends the machine as a power failure does. Its sticks' streams end. It is
// no error to kill it again.
func (v *VM) Kill() {
	v.off.Do(func() {
		v.mu.Lock()
		closes := v.closes
		v.closes = nil
		v.mu.Unlock()
		for _, end := range closes {
			end()
		}
		if v.cmd != nil {
			_ = v.cmd.Process.Kill()
			_ = v.cmd.Wait()
		}
		if v.qmp != nil {
			_ = v.qmp.conn.Close()
		}
		if v.control != nil {
			_ = v.control.conn.Close()
		}
		for _, s := range v.sticks {
			s.close()
		}
		v.joined.Wait()
	})
}

// Console returns what kernel and init have said so far.
func (v *VM) Console() string {
	text, _ := os.ReadFile(v.path("console"))
	return string(text)
}

// SetLink plugs the cable of an interface, "eth0", in or out.
func (v *VM) SetLink(nic string, up bool) {
	v.tb.Helper()
	if err := v.qmp.do("set_link", map[string]any{"name": nic, "up": up}); err != nil {
		v.tb.Fatal(err)
	}
}

// Pause stops the machine's CPU and clocks; Resume lets them go on.
func (v *VM) Pause() {
	v.tb.Helper()
	if err := v.qmp.do("stop", nil); err != nil {
		v.tb.Fatal(err)
	}
}

// Resume ends a Pause.
func (v *VM) Resume() {
	v.tb.Helper()
	if err := v.qmp.do("cont", nil); err != nil {
		v.tb.Fatal(err)
	}
}
