package agent_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/serialspan/serialspan/bridge/client"
)

// nobody is a user of every Linux that is not root.
const nobody = 65534

// runAsNobody runs the test again in a process of that user, with more in its
// environment. By /proc: the directory of the test's program is root's.
func runAsNobody(t *testing.T, environment ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Dir, cmd.Env = "/", append(os.Environ(), environment...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("as another user: %v\n%s", err, out)
	}
}

// TestOwnerOfPTY: what an agent of root makes for another user by command, or for
// the one that the file names, that user can open, and nobody else.
func TestOwnerOfPTY(t *testing.T) {
	if dir := os.Getenv("SERIALSPAN_TEST_OTHER_USER"); dir != "" {
		otherUser(t, dir)
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root, to make something for another user")
	}
	r := newReal(t, strings.Replace(base, "socket: $DIR/s", "socket: $DIR/s, mode: '0666'", 1)+
		"attachments: [{device: x, pty: {link: $DIR/named, owner: nobody}}, {device: x, pty: {link: $DIR/plain}}]\n")
	theirs := filepath.Join(r.dir, "theirs")
	if err := os.Chmod(r.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(theirs, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(theirs, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	r.start()
	run := func() {
		t.Helper()
		runAsNobody(t, "SERIALSPAN_TEST_OTHER_USER="+r.dir)
	}
	run()
	owner := func(link string) int {
		t.Helper()
		r.until(link+" is made", func() bool {
			_, err := os.Stat(filepath.Join(r.dir, link))
			return err == nil
		})
		info, err := os.Stat(filepath.Join(r.dir, link))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", link, info.Mode())
		}
		return int(info.Sys().(*syscall.Stat_t).Uid)
	}
	if have := owner("theirs/tty"); have != nobody {
		t.Errorf("made by command, it belongs to user %d", have)
	}
	if have := owner("named"); have != nobody {
		t.Errorf("made for a user of the file, it belongs to user %d", have)
	}
	if have := owner("plain"); have != 0 {
		t.Errorf("made for nobody in particular, it belongs to user %d", have)
	}
	r.stop()
	r.start()
	run() // it is kept, and so is whose it is
	r.write(strings.ReplaceAll(base, "socket: $DIR/s", "socket: $DIR/s, mode: '0666'") + "attachments: [{device: x, pty: {link: $DIR/named}}]\n")
	r.until("the owner of the file is another", func() bool {
		info, err := os.Stat(filepath.Join(r.dir, "named"))
		return err == nil && info.Sys().(*syscall.Stat_t).Uid == 0
	})
}

// otherUser is the test in a process of another user.
func otherUser(t *testing.T, dir string) {
	link := filepath.Join(dir, "theirs", "tty")
	ctl := client.New(client.Config{Socket: filepath.Join(dir, "s")})
	if _, err := ctl.Attach(t.Context(), client.AttachRequest{Device: "x", PTY: &client.PTYSpec{Link: link}}); err != nil {
		t.Fatal(err)
	}
	tty, err := os.OpenFile(link, os.O_RDWR|syscall.O_NOCTTY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	_ = tty.Close()
}
