package agent_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/serialspan/serialspan/bridge/client"
	"github.com/serialspan/serialspan/bridge/rule"
	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/registry"
)

func (r *real) deviceNames() []string {
	var names []string
	for _, d := range r.Devices() {
		names = append(names, d.Name)
	}
	return names
}

// TestReload changes the file under a running agent: rules and attachments
// follow, what was made by command stays, what takes a restart is said, and
// mistakes leave everything as it is.
func TestReload(t *testing.T) {
	first, second := tty(t), tty(t)
	r := newReal(t, base+"devices: {rules: [{match: {path: "+first+"}, name: one}]}\nattachments: [{device: one, pty: {link: $DIR/one}}, {device: gone, pty: {link: $DIR/gone}}]\n")
	r.start()
	r.until("the device is published", func() bool { return slices.Equal(r.deviceNames(), []string{"one"}) })
	if _, err := r.ctl.Attach(t.Context(), client.AttachRequest{Device: "one", PTY: &client.PTYSpec{Link: filepath.Join(r.dir, "byhand")}}); err != nil {
		t.Fatal(err)
	}
	r.until("the links are there", func() bool {
		for _, name := range []string{"one", "gone", "byhand"} {
			if _, err := os.Stat(filepath.Join(r.dir, name)); err != nil {
				return false
			}
		}
		return true
	})
	kept, err := os.Readlink(filepath.Join(r.dir, "one"))
	if err != nil {
		t.Fatal(err)
	}

	r.write(base + "devices: {rules: [{match: {path: " + first + "}, name: one}, {match: {path: " + second + "}, name: two}]}\n" +
		"attachments: [{device: two, pty: {link: $DIR/two}}, {device: one, pty: {link: $DIR/one}}]\n")
	want := []string{"two two file", "one one file", "one byhand command"}
	r.until("the attachments are those of the new file", func() bool { return slices.Equal(r.attachments(), want) })
	r.until("both devices are published", func() bool { return slices.Equal(r.deviceNames(), []string{"one", "two"}) })
	if now, _ := os.Readlink(filepath.Join(r.dir, "one")); now != kept {
		t.Errorf("the PTY that did not change is another: %s, before %s", now, kept)
	}
	if _, err := os.Lstat(filepath.Join(r.dir, "gone")); err == nil {
		t.Error("a link that is not wanted any more is left")
	}

	// A mistake changes nothing and is shown until it is mended.
	r.write(base + "devices: {rulez: []}\nattachments: []\n")
	r.until("the mistake is shown", r.showsProblem("$DIR/serialspan.yaml:4: devices.rulez: unknown key", "stays in force"))
	if have := r.attachments(); !slices.Equal(have, want) {
		t.Errorf("a wrong file changed the attachments: %v", have)
	}
	if err := os.Remove(r.file); err != nil {
		t.Fatal(err)
	}
	r.until("the missing file is shown", r.showsProblem("no configuration", "stays in force"))

	// Mended by a rename, with a change that takes a restart.
	next := filepath.Join(r.dir, "next")
	text := r.expand(strings.Replace(base, "127.0.0.1:0", "127.0.0.1:51999", 1) + "attachments: [{device: one, pty: {link: $DIR/one}}]\n")
	if err := os.WriteFile(next, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, r.file); err != nil {
		t.Fatal(err)
	}
	r.until("what takes a restart is said", r.showsProblem("$DIR/serialspan.yaml:2: mesh.listen: changed; restart the agent for it"))
	if p := r.problem("stays in force"); p != "" {
		t.Errorf("still shown: %s", p)
	}
	r.until("the devices are withdrawn", func() bool { return len(r.deviceNames()) == 0 })
	if have, want := r.attachments(), []string{"one one file", "one byhand command"}; !slices.Equal(have, want) {
		t.Errorf("have %v, want %v", have, want)
	}
	if !strings.Contains(r.log.String(), "takes a restart of the agent: mesh.listen") {
		t.Errorf("the log does not say it:\n%s", r.log)
	}
	r.write(base + "attachments: []\n")
	r.until("nothing takes a restart any more", func() bool { return r.problem("restart the agent") == "" && len(r.attachments()) == 1 })
}

// TestReloadPolicy: what is published, labels and one's own profiles follow the
// file; a session on a device that stays goes on.
func TestReloadPolicy(t *testing.T) {
	meter := `profiles: [{name: my-meter, title: Meter, match: [{vid: "ffff", pid: "0001"}], kind: KIND, sources: ["here"]}]`
	text := strings.Replace(base, "name: garage,", "name: garage, labels: {zone: ZONE},", 1) + "devices: {publish: PUBLISH, profiles_dir: $DIR/profiles}\n"
	r := newReal(t, "")
	put := func(zone, publish, kind string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(r.dir, "profiles", "meter.yaml"), []byte(strings.Replace(meter, "KIND", kind, 1)), 0o644); err != nil {
			t.Fatal(err)
		}
		r.write(strings.NewReplacer("ZONE", zone, "PUBLISH", publish).Replace(text))
	}
	if err := os.Mkdir(filepath.Join(r.dir, "profiles"), 0o755); err != nil {
		t.Fatal(err)
	}
	put("garage", "all", "meter")
	r.ttys = []rule.Candidate{
		{Path: tty(t), Hardware: registry.Hardware{VID: "0658", PID: "0200", Port: "1-1"}},
		{Path: tty(t), Hardware: registry.Hardware{VID: "ffff", PID: "0001", Port: "1-2"}},
		{Path: tty(t), Hardware: registry.Hardware{VID: "ffff", PID: "0002", Port: "1-3"}},
	}
	r.start()
	r.until("all are published", func() bool {
		return slices.Equal(r.deviceNames(), []string{"garage-meter", "garage-serial", "garage-zwave"})
	})
	r.until("its port is open", r.available("garage-zwave"))
	raw, err := r.ctl.OpenRaw(t.Context(), "zone=garage,kind=zwave", client.TakeNormal)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	same := func() bool {
		all := r.Sessions()
		return len(all) > 0 && all[0].Resumed == 0 && all[0].Gaps == 0
	}

	put("shed", "known", "clock")
	r.until("the device that nothing knows is withdrawn, and a profile is another", func() bool {
		return slices.Equal(r.deviceNames(), []string{"garage-clock", "garage-zwave"})
	})
	r.until("the labels are others", func() bool {
		d, err := r.Resolve("zone=shed,kind=zwave")
		return err == nil && d.Device.Name == "garage-zwave"
	})
	if !same() {
		t.Errorf("the session was disturbed: %+v", r.Sessions())
	}
	put("shed", "listed", "clock")
	r.until("nothing is listed", func() bool { return len(r.deviceNames()) == 0 })
	put("shed", "known", "clock")
	r.until("they are back", func() bool { return len(r.deviceNames()) == 2 })
	// Of a changed profile only the file's reader knows: the configuration is as before.
	put("shed", "known", "meter")
	r.until("the profile alone has changed", func() bool { return slices.Contains(r.deviceNames(), "garage-meter") })
	if p := r.problem("restart the agent"); p != "" {
		t.Error(p)
	}
}

// TestReloadSwappedLink changes the file as Kubernetes does with a ConfigMap:
// serialspan.yaml → ..data/serialspan.yaml, ..data → a folder, swapped.
func TestReloadSwappedLink(t *testing.T) {
	r := newReal(t, "")
	put := func(folder, text string) {
		t.Helper()
		if err := os.Mkdir(filepath.Join(r.dir, folder), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(r.dir, folder, "serialspan.yaml"), []byte(r.expand(base+text)), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(folder, filepath.Join(r.dir, "..data_tmp")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(r.dir, "..data_tmp"), filepath.Join(r.dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	put("..1", "cluster: {secret_file: $DIR/cluster.secret}\nattachments: [{device: a, pty: {link: $DIR/a}}]\n")
	if err := os.Remove(r.file); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("..data/serialspan.yaml", r.file); err != nil {
		t.Fatal(err)
	}
	r.start()
	for i, name := range []string{"b", "c"} {
		put([]string{"..2", "..3"}[i], "cluster: {secret_file: $DIR/cluster.secret}\nattachments: [{device: "+name+", pty: {link: $DIR/"+name+"}}]\n")
		r.until("attachment "+name+" is there", func() bool { return slices.Equal(r.attachments(), []string{name + " " + name + " file"}) })
	}
}

// TestFileAndCommandWantOnePlace: the one that was first has it, and the other
// is shown and made when the place is free.
func TestFileAndCommandWantOnePlace(t *testing.T) {
	r := newReal(t, base)
	r.start()
	link := filepath.Join(r.dir, "x")
	made, err := r.ctl.Attach(t.Context(), client.AttachRequest{Device: "one", PTY: &client.PTYSpec{Link: link}})
	if err != nil {
		t.Fatal(err)
	}
	r.write(base + "attachments: [{device: two, pty: {link: $DIR/x}}]\n")
	r.until("the conflict is shown", r.showsProblem("$DIR/serialspan.yaml:4: attachments[0]: ", `of "one", made by command`))
	if _, err := r.ctl.Detach(t.Context(), "one"); err != nil {
		t.Fatal(err)
	}
	if have, want := r.attachments(), []string{"two x file"}; !slices.Equal(have, want) {
		t.Errorf("after detach of %s: %v, want %v", made.ID, have, want)
	}
	if _, err := os.Readlink(link); err != nil {
		t.Error(err)
	}
	// Detached by command, one of the file stays away until its entry changes.
	if _, err := r.ctl.Detach(t.Context(), link); err != nil {
		t.Fatal(err)
	}
	r.write(base + "# only a comment\nattachments: [{device: two, pty: {link: $DIR/x}}, {device: three, pty: {link: $DIR/y}}]\n")
	r.until("the new one is there", func() bool { return slices.Equal(r.attachments(), []string{"three y file"}) })
}

// TestAllow: who may open a device is what the file says now.
func TestAllow(t *testing.T) {
	other := identity.FromSeed([32]byte{9}).ID().String()
	rule := "devices: {rules: [{match: {path: " + tty(t) + "}, name: one, allow: [WHO]}]}\n"
	r := newReal(t, base+"cluster: {nodes: {friend: "+other+"}}\n"+strings.Replace(rule, "WHO", "friend", 1))
	r.start()
	r.until("the device is published", func() bool { return slices.Equal(r.deviceNames(), []string{"one"}) })
	open := func() error {
		raw, err := r.ctl.OpenRaw(t.Context(), "one", client.TakeNormal)
		if err == nil {
			raw.Close()
		}
		return err
	}
	r.until("a stranger is refused", func() bool { return errors.Is(open(), client.Refused) })
	if _, err := r.ctl.Attach(t.Context(), client.AttachRequest{Device: "one", PTY: &client.PTYSpec{Link: filepath.Join(r.dir, "one")}}); err != nil {
		t.Fatal(err)
	}
	app, err := os.OpenFile(filepath.Join(r.dir, "one"), os.O_RDWR|syscall.O_NOCTTY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := app.Read(make([]byte, 1)); err == nil {
		t.Error("its application was not hung up")
	}
	_ = app.Close()
	r.until("the attachment says why", func() bool {
		all := r.Attachments()
		return len(all) == 1 && strings.Contains(all[0].Error, `"one" may not be opened by node `+r.Status().ID.String())
	})
	if !strings.Contains(r.log.String(), `level=WARN msg="open refused, it is not allowed" device=one`) {
		t.Errorf("the owner's log does not say it:\n%s", r.log)
	}
	r.write(base + strings.Replace(rule, "WHO", r.Status().ID.String(), 1))
	r.until("this node may open it now", func() bool { return open() == nil })
}
