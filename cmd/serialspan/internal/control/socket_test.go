package control_test

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/serialspan/serialspan/bridge/client"
	"github.com/serialspan/serialspan/cmd/serialspan/internal/control"
)

func TestSocketMode(t *testing.T) {
	socket := serve(t, newAgent())
	info, err := os.Stat(socket)
	if err != nil || info.Mode() != fs.ModeSocket|0o660 {
		t.Errorf("socket: %v, %v", info.Mode(), err)
	}
	info, err = os.Stat(filepath.Dir(socket))
	want := fs.FileMode(0o700)
	if os.Geteuid() == 0 {
		want = 0o755
	}
	if err != nil || info.Mode().Perm() != want {
		t.Errorf("directory: %v, want %v, %v", info.Mode(), want, err)
	}
}

func TestSocketModeAndGroup(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "run", "agent.sock")
	run(t, control.Config{Agent: newAgent(), Socket: socket, Mode: 0o606, Group: strconv.Itoa(os.Getegid())})
	info, err := os.Stat(socket)
	if err != nil || info.Mode().Perm() != 0o606 {
		t.Errorf("socket: %v, %v", info.Mode(), err)
	}
	if os.Geteuid() == 0 {
		socket := filepath.Join(t.TempDir(), "agent.sock")
		run(t, control.Config{Agent: newAgent(), Socket: socket, Group: "12345"})
		info, err := os.Stat(socket)
		if err != nil || info.Sys().(*syscall.Stat_t).Gid != 12345 {
			t.Errorf("socket: %+v, %v", info.Sys(), err)
		}
	}
	err = control.Run(context.Background(), control.Config{Agent: newAgent(), Socket: filepath.Join(t.TempDir(), "s"), Group: "no-such-group"})
	if err == nil || !strings.Contains(err.Error(), `group "no-such-group" is not known; create it, or set control.group to another`) {
		t.Errorf("have %v", err)
	}
}

func TestSocketGone(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "agent.sock")
	stop := run(t, control.Config{Agent: newAgent(), Socket: socket})
	if err := stop(); err != nil {
		t.Error(err)
	}
	if entries, _ := os.ReadDir(filepath.Dir(socket)); len(entries) != 0 {
		t.Errorf("left behind: %v", entries)
	}
	_, err := client.New(client.Config{Socket: socket}).Status(t.Context())
	if !errors.Is(err, client.ErrNoAgent) || err.Error() != "no agent at "+socket+`: start it with "serialspan agent"` {
		t.Errorf("have %v", err)
	}
}

func TestStaleSocketReplaced(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "agent.sock")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close()
	c := client.New(client.Config{Socket: socket})
	if _, err := c.Status(t.Context()); !errors.Is(err, client.ErrNoAgent) {
		t.Errorf("with a stale socket: %v", err)
	}
	run(t, control.Config{Agent: newAgent(), Socket: socket})
	if _, err := c.Status(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestSocketRefused(t *testing.T) {
	live := serve(t, newAgent())
	file := filepath.Join(t.TempDir(), "agent.sock")
	if err := os.WriteFile(file, []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	long := filepath.Join(t.TempDir(), strings.Repeat("x", 120))
	for socket, want := range map[string]string{live: "another agent answers there", file: "something else is there", long: "the kernel takes 107"} {
		err := control.Run(context.Background(), control.Config{Agent: newAgent(), Socket: socket})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", socket, err, want)
		}
	}
	if data, err := os.ReadFile(file); err != nil || string(data) != "mine" {
		t.Errorf("the file that was there: %q, %v", data, err)
	}
	if _, err := client.New(client.Config{Socket: live}).Status(t.Context()); err != nil {
		t.Errorf("the live agent: %v", err)
	}
}

func TestSocketDirOfOthers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to make a directory of another user")
	}
	dir := filepath.Join(t.TempDir(), "run")
	if err := errors.Join(os.Mkdir(dir, 0o777), os.Chown(dir, 12345, 12345)); err != nil {
		t.Fatal(err)
	}
	err := control.Run(context.Background(), control.Config{Agent: newAgent(), Socket: filepath.Join(dir, "agent.sock")})
	if err == nil || !strings.Contains(err.Error(), "belongs to user 12345") {
		t.Errorf("have %v", err)
	}
}
