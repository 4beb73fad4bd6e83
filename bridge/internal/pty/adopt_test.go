package pty_test

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/serialspan/serialspan/bridge/internal/pty"
)

// another returns a descriptor of the master that outlives the PTY.
func another(t *testing.T, p *pty.PTY) *os.File {
	t.Helper()
	raw, err := p.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var fd int
	if closed := raw.Control(func(old uintptr) { fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) }); closed != nil || err != nil {
		t.Fatal(closed, err)
	}
	return os.NewFile(uintptr(fd), "master")
}

func suspend(t *testing.T, p *pty.PTY) pty.State {
	t.Helper()
	s, err := p.Suspend()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// What was read for the sake of order, and not told, is told by the next.
func TestAdoptWithState(t *testing.T) {
	config := pty.Config{Link: filepath.Join(t.TempDir(), "tty")}
	p, err := pty.Open(config)
	if err != nil {
		t.Fatal(err)
	}
	f := app(t, p.Path())
	write(t, f, []byte("first"))
	buf := make([]byte, 4096)
	if _, e, err := p.Read(buf); e.What != pty.Opened || err != nil {
		t.Fatalf("Read = %+v, %v", e, err)
	}
	if n, _, err := p.Read(buf); string(buf[:n]) != "first" || err != nil {
		t.Fatalf("Read = %q, %v", buf[:n], err)
	}
	write(t, f, []byte("second"))
	change(t, f, baud(unix.B19200, 19200))
	if n, _, err := p.Read(buf[:4]); string(buf[:n]) != "seco" || err != nil {
		t.Fatalf("Read = %q, %v", buf[:n], err)
	}
	p.Interrupt()
	master := another(t, p)
	state := suspend(t, p)
	if _, err := p.Suspend(); !errors.Is(err, pty.ErrClosed) {
		t.Errorf("second Suspend = %v, want ErrClosed", err)
	}
	if !state.Opened || string(state.Held) != "nd" || len(state.Changes) != 1 {
		t.Fatalf("state %+v", state)
	}
	write(t, f, []byte("third"))
	if p, err = pty.Adopt(config, master, &state); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = p.Close() }()
	if n, _, err := p.Read(buf); string(buf[:n]) != "nd" || err != nil {
		t.Fatalf("Read = %q, %v", buf[:n], err)
	}
	if _, e, err := p.Read(buf); e.What != pty.LineChanged || e.Line.Baud != 19200 || err != nil {
		t.Fatalf("Read = %+v, %v", e, err)
	}
	if n, _, err := p.Read(buf); string(buf[:n]) != "third" || err != nil {
		t.Fatalf("Read = %q, %v", buf[:n], err)
	}
	write(t, p, []byte("answer"))
	if n, err := f.Read(buf); string(buf[:n]) != "answer" || err != nil {
		t.Fatalf("the app reads %q, %v", buf[:n], err)
	}
	_ = f.Close()
	if _, e, err := p.Read(buf); e.What != pty.Closed || err != nil {
		t.Fatalf("Read = %+v, %v", e, err)
	}
}

// A service with a mount namespace takes its mounts along when it ends, and the
// next has others.
func TestAdoptFromAnotherMountNamespace(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root for a mount namespace")
	}
	config := pty.Config{Link: filepath.Join(t.TempDir(), "tty")}
	type left struct {
		master *os.File
		err    error
	}
	done := make(chan left)
	go func() {
		runtime.LockOSThread() // for ever: the thread ends with the goroutine, and its namespace with it
		err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS)
		if err == nil {
			err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
		}
		var p *pty.PTY
		if err == nil {
			p, err = pty.Open(config)
		}
		if err != nil {
			done <- left{err: err}
			return
		}
		master := another(t, p)
		_, err = p.Suspend()
		done <- left{master, err}
	}()
	l := <-done
	if errors.Is(l.err, syscall.EPERM) {
		t.Skip("may not make mount namespaces here")
	}
	if l.err != nil {
		t.Fatal(l.err)
	}
	p, err := pty.Adopt(config, l.master, nil)
	if err != nil {
		t.Fatal(err)
	}
	r := follow(t, p)
	f := r.openApp()
	write(t, f, []byte("hello"))
	r.wantBytes([]byte("hello"))
	write(t, p, []byte("unread"))
	_ = f.Close()
	r.want(pty.Closed)
	f = r.openApp()
	write(t, p, []byte("fresh"))
	buf := make([]byte, 100)
	if n, err := f.Read(buf); string(buf[:n]) != "fresh" || err != nil {
		t.Fatalf("the next app reads %q, %v", buf[:n], err)
	}
}
