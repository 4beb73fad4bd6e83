package attach_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/serialspan/serialspan/bridge/attach"
	"github.com/serialspan/serialspan/bridge/use"
	"github.com/serialspan/serialspan/registry"
)

func TestAttach(t *testing.T) {
	b := newBench(t, 0)
	dir := t.TempDir()
	ours, file := filepath.Join(dir, "ours"), filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	first := attach.Spec{ID: "one", Device: "lab", PTY: &attach.PTYSpec{Link: ours}}
	for range 2 { // the same again changes nothing
		if s, err := b.attacher.Attach(first); err != nil || s.ID != "one" || s.State != use.Waiting {
			t.Fatalf("%+v, %v", s, err)
		}
	}
	tests := []struct {
		name string
		spec attach.Spec
		want error // nil: any
	}{
		{"no device", attach.Spec{TCP: "127.0.0.1:0"}, nil},
		{"neither PTY nor TCP", attach.Spec{Device: "lab"}, nil},
		{"both", attach.Spec{Device: "lab", TCP: "127.0.0.1:0", PTY: &attach.PTYSpec{Link: ours}}, nil},
		{"no link", attach.Spec{Device: "lab", PTY: &attach.PTYSpec{}}, nil},
		{"our own link", attach.Spec{Device: "other", PTY: &attach.PTYSpec{Link: ours}}, attach.ErrPlaceTaken},
		{"our own ID", attach.Spec{ID: "one", Device: "lab", TCP: "127.0.0.1:0"}, attach.ErrPlaceTaken},
		{"somebody's file", attach.Spec{Device: "lab", PTY: &attach.PTYSpec{Link: file}}, nil},
		{"no directory", attach.Spec{Device: "lab", PTY: &attach.PTYSpec{Link: filepath.Join(dir, "no", "tty")}}, os.ErrNotExist},
		{"no group", attach.Spec{Device: "lab", PTY: &attach.PTYSpec{Link: ours + "2", Group: "no such group"}}, nil},
		{"no user", attach.Spec{Device: "lab", PTY: &attach.PTYSpec{Link: ours + "2", Owner: "no such user"}}, nil},
		{"an address in use", attach.Spec{Device: "lab", TCP: taken.Addr().String()}, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s, err := b.attacher.Attach(test.spec)
			if err == nil || test.want != nil && !errors.Is(err, test.want) {
				t.Errorf("%+v, %v, want %v", s, err, test.want)
			}
			if n := len(b.attacher.Statuses()); n != 1 {
				t.Errorf("%d attachments", n)
			}
		})
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "precious" {
		t.Errorf("the file has %q, %v", text, err)
	}
	if err := b.attacher.Detach("two"); !errors.Is(err, attach.ErrNoAttachment) {
		t.Errorf("%v", err)
	}
	if err := b.attacher.Detach("one"); err != nil {
		t.Error(err)
	}
}

// TestAttachBeforeRun: what the configuration file lists is made by Run.
func TestAttachBeforeRun(t *testing.T) {
	a := attach.New(attach.Config{})
	link := filepath.Join(t.TempDir(), "tty")
	for _, s := range []attach.Spec{
		{ID: "a", Device: "lab", PTY: &attach.PTYSpec{Link: link}},
		{ID: "b", Device: "lab", PTY: &attach.PTYSpec{Link: link + "/impossible"}},
	} {
		if s, err := a.Attach(s); err != nil || s.State != use.Waiting {
			t.Fatalf("%+v, %v", s, err)
		}
	}
	if _, err := a.OpenRaw(context.Background(), "lab", use.TakeNormal); !errors.Is(err, attach.ErrNotRunning) {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- a.Run(ctx) }()
	b := &bench{t: t, states: make(chan registry.State)}
	b.eventually("link stands, and the other has failed", func() bool {
		_, err := os.Lstat(link)
		return err == nil && a.Statuses()[1].State == use.Failed
	})
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(link); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the link outlives Run: %v", err)
	}
}
