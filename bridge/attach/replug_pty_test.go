package attach_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/serialspan/serialspan/bridge/attach"
	"github.com/serialspan/serialspan/bridge/internal/bridgetest"
	"github.com/serialspan/serialspan/bridge/publish"
	"github.com/serialspan/serialspan/bridge/rule"
	"github.com/serialspan/serialspan/bridge/use"
	"github.com/serialspan/serialspan/mesh/identity"
)

// TestReplugPTY: a real tty vanishes under a session and comes back as another.
func TestReplugPTY(t *testing.T) {
	link := filepath.Join(t.TempDir(), "stick")
	plug := func() io.ReadWriteCloser {
		stick, path, err := publish.OpenSimulatedPTY()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(path, link); err != nil {
			t.Fatal(err)
		}
		return stick
	}
	stick := plug()
	publisher := publish.New(publish.Config{
		Rules:    []rule.Rule{{Match: rule.Match{Path: link}, Name: "lab"}},
		Discover: func() ([]rule.Candidate, error) { return nil, nil },
	})
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	attacher := attach.New(attach.Config{
		Resolve: func(string) (use.Target, error) { return use.Target{Owner: bridgetest.Owner, Device: "lab"}, nil },
		Dial: func(context.Context, identity.NodeID) (net.Conn, error) {
			x, y := bridgetest.NewStreams(65536)
			running.Go(func() { _ = publisher.Serve(ctx, y, bridgetest.Owner) })
			return x, nil
		},
	})
	running.Go(func() { _ = publisher.Run(ctx) })
	running.Go(func() { _ = attacher.Run(ctx) })
	var r io.ReadWriteCloser
	for err := error(io.EOF); err != nil; {
		if r, err = attacher.OpenRaw(ctx, "lab", use.TakeNormal); errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
	}
	exchange := func(down, up string) {
		t.Helper()
		if _, err := stick.Write([]byte(up)); err != nil {
			t.Fatal(err)
		}
		for _, x := range []struct {
			from io.Reader
			want string
		}{{stick, down}, {r, up}} {
			if have, err := bridgetest.ReadExactly(x.from, len(x.want)); err != nil || string(have) != x.want {
				t.Fatalf("%q, %v; want %q", have, err, x.want)
			}
		}
	}
	if _, err := r.Write([]byte("one")); err != nil {
		t.Fatal(err)
	}
	exchange("one", "uno")
	before := publisher.Sessions()
	if err := errors.Join(os.Remove(link), stick.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Write([]byte("two")); err != nil {
		t.Fatal(err)
	}
	stick = plug()
	defer func() { _ = stick.Close() }()
	if have, err := bridgetest.ReadExactly(stick, 3); err != nil || string(have) != "two" {
		t.Fatalf("%q, %v", have, err)
	}
	exchange("", "dos")
	// What was written moments before the loss may not have arrived, for all the owner knows.
	if after := publisher.Sessions(); len(before) != 1 || len(after) != 1 || after[0].ID != before[0].ID || after[0].Resumed != 0 || after[0].Lost > 3 {
		t.Errorf("before %+v, after %+v", before, after)
	}
	_ = r.Close()
}
