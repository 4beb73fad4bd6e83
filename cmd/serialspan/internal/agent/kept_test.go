package agent_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/serialspan/serialspan/bridge/client"
)

func (r *real) attach(request client.AttachRequest) client.Attachment {
	r.t.Helper()
	made, err := r.ctl.Attach(r.t.Context(), request)
	if err != nil {
		r.t.Fatal(err)
	}
	return made
}

// TestKeptOverRestart: attachments made by command are there after a restart
// unless they are ephemeral, TCP ports included.
func TestKeptOverRestart(t *testing.T) {
	r := newReal(t, base+"attachments: [{device: filed, pty: {link: $DIR/filed}}]\n")
	r.start()
	r.attach(client.AttachRequest{Device: "kept", PTY: &client.PTYSpec{Link: filepath.Join(r.dir, "kept"), Mode: 0o640}, Take: client.TakeForce})
	port := r.attach(client.AttachRequest{Device: "port", TCP: "127.0.0.1:0"}).Where
	r.attach(client.AttachRequest{Device: "brief", PTY: &client.PTYSpec{Link: filepath.Join(r.dir, "brief")}, Ephemeral: true})
	r.attach(client.AttachRequest{Device: "detached", PTY: &client.PTYSpec{Link: filepath.Join(r.dir, "detached")}})
	if _, err := r.ctl.Detach(t.Context(), "detached"); err != nil {
		t.Fatal(err)
	}
	r.attach(client.AttachRequest{Device: "turned", PTY: &client.PTYSpec{Link: filepath.Join(r.dir, "turned")}, Ephemeral: true})
	r.attach(client.AttachRequest{Device: "turned", PTY: &client.PTYSpec{Link: filepath.Join(r.dir, "turned")}})
	file := filepath.Join(r.dir, "state", "attachments.json")
	before, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	// The same again changes nothing, on disk neither.
	r.attach(client.AttachRequest{Device: "kept", PTY: &client.PTYSpec{Link: filepath.Join(r.dir, "kept"), Mode: 0o640}})
	if after, err := os.Stat(file); err != nil || !os.SameFile(before, after) {
		t.Errorf("written without a change: %v", err)
	}
	r.stop()
	if text, err := os.ReadFile(file); err != nil || strings.Contains(string(text), "force") {
		t.Errorf("the force of --take is kept: %s, %v", text, err)
	}
	r.start()
	var have []string
	for _, a := range r.Attachments() {
		have = append(have, a.Device+" "+string(a.Origin))
		if a.Device == "port" && a.Where != port {
			t.Errorf("port %s, before %s", a.Where, port)
		}
	}
	if want := []string{"filed file", "kept command", "port command", "turned command"}; !slices.Equal(have, want) {
		t.Errorf("have %v, want %v", have, want)
	}
	r.until("the link is there", func() bool {
		info, err := os.Stat(filepath.Join(r.dir, "kept"))
		return err == nil && info.Mode().Perm() == 0o640
	})
}

// TestKeptFileBroken: the agent goes on without, and the file is not lost.
func TestKeptFileBroken(t *testing.T) {
	r := newReal(t, base)
	state := filepath.Join(r.dir, "state")
	if err := errors.Join(os.Mkdir(state, 0o700), os.WriteFile(filepath.Join(state, "attachments.json"), []byte("{"), 0o600),
		os.WriteFile(filepath.Join(state, "claims.json"), []byte("{"), 0o600)); err != nil {
		t.Fatal(err)
	}
	r.start()
	if data, err := os.ReadFile(filepath.Join(state, "attachments.json.broken")); err != nil || string(data) != "{" {
		t.Errorf("%q, %v", data, err)
	}
	for _, want := range []string{"attachments made by command are lost", "claims on device names are lost"} {
		if !strings.Contains(r.log.String(), want) {
			t.Errorf("not in the log: %s\n%s", want, r.log)
		}
	}
}

// TestStateCannotBeWritten: with a disk that takes no writes the agent goes on,
// says so, and writes later.
func TestStateCannotBeWritten(t *testing.T) {
	r := newReal(t, base+"devices: {rules: [{match: {path: "+tty(t)+"}, name: one}]}\n")
	state := filepath.Join(r.dir, "state")
	// A folder that is not empty stands in for a full disk: root writes anywhere else.
	block := func(name string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Join(state, name, "x"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	block("claims.json")
	r.start()
	block("attachments.json")
	r.until("the device is published", func() bool { return slices.Equal(r.deviceNames(), []string{"one"}) })
	r.until("claims are said to be lost", r.showsProblem("names of devices may go to others", "claims.json"))
	made := r.attach(client.AttachRequest{Device: "one", PTY: &client.PTYSpec{Link: filepath.Join(r.dir, "x")}})
	if made.State == client.AttachmentFailed || !strings.Contains(made.Error, "will not be there after a restart") {
		t.Errorf("have %+v", made)
	}
	r.until("attachments are said to be lost", r.showsProblem("made by command will be lost at a restart"))
	r.attach(client.AttachRequest{Device: "one", TCP: "127.0.0.1:0", Ephemeral: true}) // needs no disk

	for _, name := range []string{"attachments.json", "claims.json"} {
		if err := os.RemoveAll(filepath.Join(state, name)); err != nil {
			t.Fatal(err)
		}
	}
	r.RetryNow()
	if p := r.problem("state directory"); p != "" {
		t.Errorf("still shown: %s", p)
	}
	for _, name := range []string{"attachments.json", "claims.json"} {
		if _, err := os.Stat(filepath.Join(state, name)); err != nil {
			t.Error(err)
		}
	}
}
