package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/serialspan/serialspan/cmd/serialspan/internal/control/controltest"
	"github.com/serialspan/serialspan/cmd/serialspan/internal/simstick"
)

// TestDemoOnce runs the whole program: three agents, UDP on loopback, PTYs.
func TestDemoOnce(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	var out, errOut buffer
	a := &app{in: strings.NewReader(""), out: &out, err: &errOut, newAgent: newAgent, openStick: openStick}
	code := a.run(t.Context(), []string{"demo", "--once"})
	for _, want := range []string{"edge", "cloud", "consumer", demoDevice, "picocom -c ", "round trip through the PTY", "round trip through the TCP"} {
		if code != 0 || !strings.Contains(out.String(), want) {
			t.Fatalf("exit %d, want %q\n%s%s", code, want, out.String(), errOut.String())
		}
	}
	if left, _ := os.ReadDir(os.TempDir()); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// memoryStick is the demo's stick without a PTY.
func memoryStick() (io.ReadWriteCloser, string, error) {
	here, there := net.Pipe()
	there.Close()
	return here, "/dev/null", nil
}

func TestDemoTellsFailure(t *testing.T) {
	broken := errors.New("broken")
	for _, test := range []struct {
		name  string
		stick func() (io.ReadWriteCloser, string, error)
		agent func(agentOptions) (runner, error)
		want  string
	}{
		{"no PTY", func() (io.ReadWriteCloser, string, error) { return nil, "", broken }, nil, "make simulated stick: broken"},
		{"no agent", memoryStick, func(agentOptions) (runner, error) { return nil, broken }, "broken"},
		{"agent ends", memoryStick, func(o agentOptions) (runner, error) {
			if o.Config.Node.Name == "edge" {
				return &fakeRunner{end: broken}, nil
			}
			return &fakeRunner{}, nil
		}, "run node edge: broken"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Setenv("TMPDIR", t.TempDir())
			a := &app{out: io.Discard, err: io.Discard, newAgent: test.agent, openStick: test.stick}
			err := a.demo(t.Context(), slog.New(slog.DiscardHandler), true)
			if err == nil || err.Error() != test.want {
				t.Errorf("have %v, want %q", err, test.want)
			}
			if left, _ := os.ReadDir(os.TempDir()); len(left) != 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// TestDemoConfigurations: what the demo tells its agents is valid, stays on
// this machine, and keeps them apart.
func TestDemoConfigurations(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	var all []agentOptions
	a := &app{out: io.Discard, err: io.Discard, openStick: memoryStick, newAgent: func(o agentOptions) (runner, error) {
		all = append(all, o)
		if len(all) == 3 {
			cancel()
		}
		return &fakeRunner{}, nil
	}}
	if err := a.demo(ctx, slog.New(slog.DiscardHandler), false); err != nil {
		t.Errorf("ended by the user: %v", err)
	}
	if len(all) != 3 {
		t.Fatalf("%d agents", len(all))
	}
	sockets, states := map[string]bool{}, map[string]bool{}
	for i, o := range all {
		c := o.Config
		if err := c.Validate(); err != nil {
			t.Errorf("%s: %v", c.Node.Name, err)
		}
		if c.Mesh.Listen != "127.0.0.1:0" || (len(c.Cluster.Join) == 1) != (i > 0) {
			t.Errorf("%s: %+v %+v", c.Node.Name, c.Mesh, c.Cluster)
		}
		sockets[c.Control.Socket], states[c.Node.StateDir] = true, true
		for _, path := range []string{c.Control.Socket, c.Node.StateDir, c.Cluster.SecretFile} {
			if !strings.HasPrefix(path, filepath.Clean(os.TempDir())+"/") {
				t.Errorf("%s uses %s", c.Node.Name, path)
			}
		}
	}
	if len(sockets) != 3 || len(states) != 3 || len(all[2].Config.Attachments) != 2 || len(all[1].Config.Devices.Rules) != 1 {
		t.Errorf("sockets %v, states %v", sockets, states)
	}
}

// fakeRunner runs until its context ends, or ends at once with an error.
type fakeRunner struct {
	controltest.Agent
	end error
}

func (f *fakeRunner) Run(ctx context.Context) error {
	if f.end != nil {
		return f.end
	}
	<-ctx.Done()
	return nil
}

func TestRoundTrips(t *testing.T) {
	host, stick := net.Pipe()
	defer host.Close()
	served := make(chan error, 1)
	go func() { served <- simstick.Serve(t.Context(), stick) }()
	times, err := roundTrips(host, time.Now())
	if err != nil || len(times) != proofRounds {
		t.Errorf("%d round trips, %v", len(times), err)
	}
	host.Close()
	<-served

	host, other := net.Pipe()
	defer host.Close()
	go func() {
		buf := make([]byte, 100)
		other.Read(buf)
		io.WriteString(other, "PONG 7\n")
		other.Close()
	}()
	if _, err := roundTrips(host, time.Now()); err == nil || !strings.Contains(err.Error(), `want "PONG 0", have "PONG 7"`) {
		t.Errorf("a wrong answer: %v", err)
	}
}

func TestSinceAndSize(t *testing.T) {
	for d, want := range map[time.Duration]string{0: "0s", 59 * time.Second: "59s", time.Minute: "1m", 185 * time.Minute: "3h05m", 55 * time.Hour: "2d07h"} {
		if have := since(d); have != want {
			t.Errorf("%v: %s, want %s", d, have, want)
		}
	}
	for n, want := range map[uint64]string{0: "0 B", 999: "999 B", 1000: "1.0 kB", 9949: "9.9 kB", 999_499: "999 kB", 999_500: "1.0 MB", 20_000_000: "20 MB", 1 << 63: "9.2 EB"} {
		if have := size(n); have != want {
			t.Errorf("%d: %s, want %s", n, have, want)
		}
	}
}
