package agent_test

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/serialspan/serialspan/bridge/client"
	"github.com/serialspan/serialspan/configs"
	"github.com/serialspan/serialspan/mesh"
)

// TestLinkOfOthers: what stands where a link shall be and is not ours is left
// as it is, and the agent says so; by command it is refused.
func TestLinkOfOthers(t *testing.T) {
	r := newReal(t, base+"attachments: [{device: one, pty: {link: $DIR/file}}, {device: two, pty: {link: $DIR/link}}, {device: three, pty: {link: $DIR/old}}]\n")
	file, link, old := filepath.Join(r.dir, "file"), filepath.Join(r.dir, "link"), filepath.Join(r.dir, "old")
	if err := errors.Join(os.WriteFile(file, []byte("mine"), 0o600), os.Symlink("/etc/hostname", link), os.Symlink("/dev/pts/99999", old)); err != nil {
		t.Fatal(err)
	}
	r.start()
	r.until("the file is a problem", r.showsProblem("serialspan.yaml:4: attachments[0]: ", "$DIR/file", "move it away or choose another path"))
	r.until("the link is a problem", r.showsProblem("serialspan.yaml:4: attachments[1]: ", "$DIR/link", "/etc/hostname"))
	r.until("the link of an earlier run is replaced", func() bool {
		target, err := os.Readlink(old)
		return err == nil && target != "/dev/pts/99999" && strings.HasPrefix(target, "/dev/pts/")
	})
	_, err := r.ctl.Attach(t.Context(), client.AttachRequest{Device: "four", PTY: &client.PTYSpec{Link: file + "2"}})
	if err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(filepath.Join(r.dir, "other"), []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := r.ctl.Attach(t.Context(), client.AttachRequest{Device: "four", PTY: &client.PTYSpec{Link: filepath.Join(r.dir, "other")}}); err == nil || !strings.Contains(err.Error(), "choose another path") {
		t.Errorf("by command: %v", err)
	}
	r.stop()
	if data, err := os.ReadFile(file); err != nil || string(data) != "mine" {
		t.Errorf("the file: %q, %v", data, err)
	}
	if target, err := os.Readlink(link); err != nil || target != "/etc/hostname" {
		t.Errorf("the link: %q, %v", target, err)
	}
	if _, err := os.Lstat(old); err == nil {
		t.Error("our link is left")
	}
}

func TestTwoAgentsOneStateDirectory(t *testing.T) {
	r := newReal(t, base)
	r.start()
	second := *r
	err := second.make("this machine")
	if !errors.Is(err, mesh.ErrStoreInUse) || !strings.Contains(err.Error(), r.expand("$DIR/state")) || !strings.Contains(err.Error(), "give this one another node.state_dir") {
		t.Errorf("have %v", err)
	}
	if _, err := r.ctl.Status(t.Context()); err != nil {
		t.Errorf("the first agent: %v", err)
	}
}

// TestCopiedStateDirectory: on another machine it makes a new identity.
func TestCopiedStateDirectory(t *testing.T) {
	r := newReal(t, base)
	r.start()
	id := r.Status().ID
	if p := r.problem("identity"); p != "" {
		t.Errorf("on the first machine: %s", p)
	}
	r.stop()
	if err := r.make("another machine"); err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if now := r.Status().ID; now == id {
		t.Error("the copy has the identity of the original")
	}
	if r.problem("the state directory came from another machine", r.Status().ID.String()) == "" || !strings.Contains(r.log.String(), "copied from another machine") {
		t.Errorf("not said: %v\n%s", r.Status().Problems, r.log)
	}
}

func TestPortTaken(t *testing.T) {
	taken, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	r := newReal(t, strings.Replace(base, "127.0.0.1:0", taken.LocalAddr().String(), 1))
	err = r.make("")
	if err == nil || !strings.Contains(err.Error(), taken.LocalAddr().String()) || !strings.Contains(err.Error(), "set mesh.listen to a free one") {
		t.Errorf("have %v", err)
	}
	// The state directory was not touched: a restart loop would wear the boot counter.
	if _, err := os.Lstat(filepath.Join(r.dir, "state")); err == nil {
		t.Error("the state directory was opened before the port")
	}
	// Nothing is left open: the state directory can be had.
	r.write(base)
	if err := r.make(""); err != nil {
		t.Fatal(err)
	}
	r.Close()
}

func TestSocketPathTooLong(t *testing.T) {
	r := newReal(t, strings.Replace(base, "$DIR/s}", "$DIR/"+strings.Repeat("x", 100)+"}", 1))
	err := r.make("")
	problem, ok := errors.AsType[*configs.Problem](err)
	if !ok || problem.Key != "control.socket" || problem.Line != 3 || !strings.Contains(problem.Text, "leaves 96 (sun_path") {
		t.Errorf("have %v", err)
	}
}

// TestDevicePaths: a path that is not there, a plain file and a tty that fails
// to open are shown with the place of the rule, until they are right.
func TestDevicePaths(t *testing.T) {
	r := newReal(t, base+"devices:\n  rules:\n    - {match: {path: $DIR/missing}, name: one}\n    - {match: {path: $DIR/plain}, name: two}\n    - {match: {path: /dev/null}, name: three}\n    - {match: {path: $DIR}, name: four}\n")
	if err := os.WriteFile(filepath.Join(r.dir, "plain"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r.start()
	for _, want := range [][]string{
		{"serialspan.yaml:6: devices.rules[0].match.path: ", `"$DIR/missing" is not there; plug the device in`},
		{"serialspan.yaml:7: devices.rules[1].match.path: ", `"$DIR/plain" is a file and no tty`},
		{"serialspan.yaml:9: devices.rules[3].match.path: ", `"$DIR" is a directory`},
		{"device three: ", "/dev/null"},
	} {
		r.until("the problem is shown: "+want[1], r.showsProblem(want...))
	}
	if err := os.Symlink(tty(t), filepath.Join(r.dir, "missing")); err != nil {
		t.Fatal(err)
	}
	r.until("the problem is gone", func() bool { return r.problem("devices.rules[0]") == "" })
}

// TestTwins: two members with one name, and two devices with one name, are
// shown on both; both devices can be reached.
func TestTwins(t *testing.T) {
	rules := "devices: {rules: [{match: {path: TTY}, name: stick}]}\n"
	a := newReal(t, base+strings.Replace(rules, "TTY", tty(t), 1))
	a.start()
	b := newReal(t, base+strings.Replace(rules, "TTY", tty(t), 1)+"cluster: {join: ['"+a.Status().Listen+"']}\n")
	secret, err := os.ReadFile(filepath.Join(a.dir, "cluster.secret"))
	if err == nil {
		err = os.WriteFile(filepath.Join(b.dir, "cluster.secret"), secret, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	b.start()
	for _, r := range []*real{a, b} {
		r.until("the twin nodes are shown", r.showsProblem(`node name "garage": both`, "set node.name on one"))
		r.until("the twin devices are shown", r.showsProblem(`device name "stick"`, "name one differently"))
		for _, node := range []*real{a, b} {
			name := "stick@" + node.Status().ID.String()
			r.until(name+" is found", func() bool {
				found, err := r.Resolve(name)
				return err == nil && found.Device.NodeID == node.Status().ID
			})
		}
	}
	// A ping by their name would mean either; by NodeID it works.
	if _, err := a.ctl.Ping(t.Context(), "garage"); !errors.Is(err, client.Ambiguous) {
		t.Errorf("ping by name: %v", err)
	}
	if _, err := a.ctl.Ping(t.Context(), "nobody"); !errors.Is(err, client.NotFound) {
		t.Errorf("ping of nobody: %v", err)
	}
	pong, err := a.ctl.Ping(t.Context(), b.Status().ID.String())
	if err != nil || pong.ID != b.Status().ID || pong.RTT <= 0 || pong.Path != "direct" {
		t.Errorf("ping: %+v, %v", pong, err)
	}
	paths, err := a.ctl.PathSizes(t.Context())
	if err != nil || len(paths) != 1 || paths[0].ID != b.Status().ID || paths[0].There != paths[0].Full || paths[0].Back != paths[0].Full || paths[0].Translated {
		t.Errorf("sizes on the loopback: %+v, %v; want one path on which all get through", paths, err)
	}
}
