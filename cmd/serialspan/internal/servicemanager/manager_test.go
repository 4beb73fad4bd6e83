package servicemanager_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/serialspan/serialspan/cmd/serialspan/internal/servicemanager"
)

// childVariable makes the test's own program a service, which says what it was
// handed.
const childVariable = "SERVICEMANAGER_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) == "" {
		os.Exit(m.Run())
	}
	manager, err := servicemanager.FromEnvironment()
	fmt.Printf("listens %v\nerr %v\n", manager.Listens(), err)
	for _, name := range manager.Names() {
		files := manager.Take(name)
		for _, f := range files {
			text, err := io.ReadAll(f)
			flags, _ := unix.FcntlInt(f.Fd(), unix.F_GETFD, 0)
			fmt.Printf("%q has %q, %v, close-on-exec %v\n", name, text, err, flags&unix.FD_CLOEXEC != 0)
		}
		fmt.Printf("%q again %d\n", name, len(manager.Take(name)))
	}
	for _, key := range []string{"NOTIFY_SOCKET", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		if value, ok := os.LookupEnv(key); ok {
			fmt.Printf("%s=%s is left\n", key, value)
		}
	}
}

// start runs the child with files and returns what it says. The variables have
// PID for its process ID.
func start(t *testing.T, files []*os.File, variables ...string) string {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", `export LISTEN_PID=${LISTEN_PID:+$(eval echo $LISTEN_PID)}; [ -n "$LISTEN_PID" ] || unset LISTEN_PID; exec "$0"`, os.Args[0])
	cmd.Env = append([]string{childVariable + "=1"}, variables...)
	cmd.ExtraFiles, cmd.Stderr = files, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// holding returns a file to read text from.
func holding(t *testing.T, text string) *os.File {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.WriteString(text); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	t.Cleanup(func() { _ = r.Close() })
	return r
}

func TestHandedOn(t *testing.T) {
	for _, tt := range []struct {
		name      string
		files     []string
		variables []string
		want      []string
	}{
		{"nothing", nil, nil, []string{"listens false", "err <nil>"}},
		{
			"two of one name and one of another", []string{"one", "two", "three"},
			[]string{"NOTIFY_SOCKET=/run/nowhere", "LISTEN_PID=$$", "LISTEN_FDS=3", "LISTEN_FDNAMES=a:b:a"},
			[]string{
				"listens true", "err <nil>", `"a" has "one", <nil>, close-on-exec true`, `"a" has "three", <nil>, close-on-exec true`, `"a" again 0`,
				`"b" has "two", <nil>, close-on-exec true`, `"b" again 0`,
			},
		},
		{
			"without names", []string{"one"}, []string{"NOTIFY_SOCKET=@abstract", "LISTEN_PID=$$", "LISTEN_FDS=1"},
			[]string{"listens true", "err <nil>", `"" has "one", <nil>, close-on-exec true`, `"" again 0`},
		},
		{"for another process", []string{"one"}, []string{"LISTEN_PID=1", "LISTEN_FDS=1", "LISTEN_FDNAMES=a"}, []string{"listens false", "err <nil>"}},
		{
			"no count", nil, []string{"LISTEN_PID=$$", "LISTEN_FDS=many"},
			[]string{"listens false", `err take over files: LISTEN_FDS="many" is no count`},
		},
		{
			"a socket of a virtual machine", nil, []string{"NOTIFY_SOCKET=vsock:2:1234"},
			[]string{"listens false", `err find service manager: NOTIFY_SOCKET="vsock:2:1234" is no path and no abstract name`},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var files []*os.File
			for _, text := range tt.files {
				files = append(files, holding(t, text))
			}
			have := strings.Split(strings.TrimSpace(start(t, files, tt.variables...)), "\n")
			if !slices.Equal(have, tt.want) {
				t.Errorf("the service says %q\nwant %q", have, tt.want)
			}
		})
	}
}

// message is what a manager gets, with the contents of the files.
func message(t *testing.T, socket *net.UnixConn) string {
	t.Helper()
	_ = socket.SetReadDeadline(time.Now().Add(5 * time.Second))
	text, rights := make([]byte, 4096), make([]byte, 4096)
	n, size, _, _, err := socket.ReadMsgUnix(text, rights)
	if err != nil {
		t.Fatal(err)
	}
	said := string(text[:n])
	messages, err := unix.ParseSocketControlMessage(rights[:size])
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			t.Fatal(err)
		}
		for _, fd := range fds {
			f := os.NewFile(uintptr(fd), "passed")
			contents, err := io.ReadAll(f)
			if err != nil {
				t.Fatal(err)
			}
			said += "+" + string(contents)
			_ = f.Close()
		}
	}
	return said
}

func TestMessages(t *testing.T) {
	abstract := fmt.Sprintf("@serialspan-test-%d", os.Getpid())
	for _, path := range []string{filepath.Join(t.TempDir(), "notify"), abstract} {
		socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = socket.Close() }()
		t.Setenv("NOTIFY_SOCKET", path)
		manager, err := servicemanager.FromEnvironment()
		if err != nil || !manager.Listens() {
			t.Fatal(manager, err)
		}
		for _, tt := range []struct {
			do   func() error
			want string
		}{
			{manager.Ready, "READY=1\n"},
			{func() error { return manager.Keep("pty-1", holding(t, "one"), holding(t, "two")) }, "FDSTORE=1\nFDNAME=pty-1\nFDPOLL=0\n+one+two"},
			{func() error { return manager.Drop("pty-1") }, "FDSTOREREMOVE=1\nFDNAME=pty-1\n"},
			{manager.Stopping, "STOPPING=1\n"},
		} {
			if err := tt.do(); err != nil {
				t.Error(err)
			} else if have := message(t, socket); have != tt.want {
				t.Errorf("told %q, want %q", have, tt.want)
			}
		}
	}
}

func TestErrors(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "nobody"))
	manager, err := servicemanager.FromEnvironment()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "a:b", "a\nb", "ä", strings.Repeat("x", 256)} {
		if err := manager.Keep(name, holding(t, "x")); !errors.Is(err, servicemanager.ErrName) {
			t.Errorf("Keep as %q = %v, want ErrName", name, err)
		}
		if err := manager.Drop(name); !errors.Is(err, servicemanager.ErrName) {
			t.Errorf("Drop of %q = %v, want ErrName", name, err)
		}
	}
	closed := holding(t, "x")
	_ = closed.Close()
	if err := manager.Keep("a", closed); err == nil {
		t.Error("Keep of a closed file works")
	}
	if err := manager.Ready(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Ready without a socket = %v", err)
	}
	t.Setenv("NOTIFY_SOCKET", "")
	if manager, err = servicemanager.FromEnvironment(); err != nil || manager.Listens() {
		t.Fatal(manager, err)
	}
	if err := errors.Join(manager.Ready(), manager.Keep("a", holding(t, "x")), manager.Drop("a"), manager.Stopping()); err != nil {
		t.Errorf("without a manager: %v", err)
	}
}
