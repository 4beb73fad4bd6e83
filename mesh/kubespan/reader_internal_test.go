package kubespan

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/serialspan/serialspan/mesh/identity"
)

// fake is a source that a test edits.
type fake struct {
	mu      sync.Mutex
	found   bool
	l       link
	addrs   []netip.Prefix
	samples []sample
	err     error // of peers
	linkErr error
	changed chan<- struct{}
	looks   int
}

func newFake() *fake {
	return &fake{found: true, l: link{index: 9, name: "kubespan", kind: "wireguard", mtu: 1420},
		addrs: []netip.Prefix{netip.MustParsePrefix("fd7f:175a:b97c:5602::1/64")}}
}

// set changes what the fake says.
func (f *fake) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// edit changes what the fake says and tells of it.
func (f *fake) edit(change func()) {
	f.set(change)
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

func (f *fake) link(string) (link, bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.looks++
	return f.l, f.found, f.linkErr
}

func (f *fake) addresses(int) ([]netip.Prefix, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.addrs, nil
}

func (f *fake) peers(string) ([]sample, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]sample(nil), f.samples...), f.err
}

func (f *fake) watch(_ string, changed chan<- struct{}) error { f.changed = changed; return nil }
func (f *fake) rule() (bool, error)                           { return true, nil }
func (f *fake) route(netip.Addr, uint32) (int, error)         { return f.l.index, nil }
func (f *fake) tunnel(netip.Addr) (string, error)             { return "", nil }
func (f *fake) follow(int)                                    {}
func (f *fake) close()                                        {}

// run runs a Reader on a fake in a bubble of virtual time.
func run(t *testing.T, f *fake, test func(*Reader)) {
	synctest.Test(t, func(t *testing.T) {
		r := New(Config{})
		r.source = f
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- r.Run(ctx) }()
		synctest.Wait()
		test(r)
		stop()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

func changed(r *Reader) bool {
	select {
	case <-r.Changes():
		return true
	default:
		return false
	}
}

func TestEveryFieldHasADefault(t *testing.T) {
	v := reflect.ValueOf(Config{}.withDefaults())
	for i := range v.NumField() {
		if v.Field(i).IsZero() {
			t.Errorf("Config.%s has no default", v.Type().Field(i).Name)
		}
	}
}

func TestLivenessIsJudgedFromChanges(t *testing.T) {
	// A handshake in 2106, one in 1970 and one never: only its changing counts.
	for name, handshake := range map[string]int64{"future": 1 << 62, "past": 1, "never": 0} {
		t.Run(name, func(t *testing.T) {
			f := newFake()
			f.samples = []sample{{key: identity.WireGuardKey{1}, handshake: handshake, rx: 100}}
			run(t, f, func(r *Reader) {
				alive := func(want Liveness, when string) {
					t.Helper()
					synctest.Wait()
					if got := r.State().Peers[0].Alive; got != want {
						t.Errorf("%s: %v, want %v", when, got, want)
					}
				}
				alive(Unknown, "at first sight")
				time.Sleep(silentAfter - 10*time.Second)
				alive(Unknown, "before 275 s")
				time.Sleep(15 * time.Second)
				alive(Silent, "after 275 s without a change")
				f.set(func() { f.samples[0].rx++ })
				time.Sleep(defaultInterval)
				alive(Alive, "received a byte")
				time.Sleep(silentAfter - 10*time.Second)
				alive(Alive, "275 s less 10 s later")
				time.Sleep(15 * time.Second)
				alive(Silent, "275 s later")
				f.set(func() { f.samples[0].handshake = handshake - 1e9 }) // a clock that went back
				time.Sleep(defaultInterval)
				alive(Alive, "another handshake")
				f.set(func() { f.samples[0].rx, f.samples[0].handshake = 0, 0 })
				time.Sleep(defaultInterval)
				alive(Unknown, "set up again")
			})
		})
	}
}

func TestChangesTellOfMoreThanCounters(t *testing.T) {
	f := newFake()
	f.samples = []sample{{key: identity.WireGuardKey{1}, rx: 1}}
	run(t, f, func(r *Reader) {
		if !changed(r) {
			t.Fatal("no change at first sight")
		}
		f.set(func() { f.samples[0].rx = 2 })
		time.Sleep(defaultInterval + time.Second)
		if !changed(r) {
			t.Error("alive: no change told")
		}
		f.set(func() { f.samples[0].rx, f.samples[0].tx = 3, 4 })
		time.Sleep(defaultInterval)
		synctest.Wait()
		if changed(r) {
			t.Error("a change told for counters only")
		}
		if p := r.State().Peers[0]; p.RxBytes != 3 || p.TxBytes != 4 {
			t.Errorf("counters %+v", p)
		}
		for _, row := range []struct {
			name   string
			change func()
		}{
			{"endpoint", func() { f.samples[0].endpoint = netip.MustParseAddrPort("192.0.2.1:51820") }},
			{"MTU", func() { f.l.mtu = 1280 }},
			{"peer gone", func() { f.samples = nil }},
		} {
			f.edit(row.change)
			time.Sleep(settle + time.Millisecond)
			if !changed(r) {
				t.Errorf("%s: no change told", row.name)
			}
		}
	})
}

func TestAppearsChangesAndVanishes(t *testing.T) {
	f := newFake()
	f.found = false
	f.samples = []sample{{key: identity.WireGuardKey{1}, rx: 5, allowed: []netip.Prefix{
		netip.MustParsePrefix("2001:db8::7/128"), netip.MustParsePrefix("192.0.2.7/32"),
		netip.MustParsePrefix("fd7f:175a:b97c:5602::7/128")}}}
	run(t, f, func(r *Reader) {
		if s := r.State(); s.Present || s.Why != "no link named kubespan" || s.Link != 0 {
			t.Fatalf("%+v", s)
		}
		soon := func(change func()) State {
			f.edit(change)
			time.Sleep(settle + time.Millisecond)
			return r.State()
		}
		s := soon(func() { f.found = true })
		if !s.Present || !s.Privileged || !s.Rule || s.Why != "" || s.Address.String() != "fd7f:175a:b97c:5602::1" || s.Link != 9 || s.MTU != 1420 {
			t.Fatalf("%+v", s)
		}
		p := s.Peers[0]
		if p.Address.String() != "fd7f:175a:b97c:5602::7" || len(p.NodeAddresses) != 2 || p.NodeAddresses[0].String() != "192.0.2.7/32" || !s.InForcedSet(netip.MustParseAddr("192.0.2.7")) || s.InForcedSet(p.Address) {
			t.Errorf("peer %+v", p)
		}
		if s = soon(func() { f.addrs = []netip.Prefix{netip.MustParsePrefix("fd7f:175a:b97c:5602::2/64")} }); s.Address.String() != "fd7f:175a:b97c:5602::2" {
			t.Errorf("address changed: %+v", s)
		}
		if s = soon(func() { f.err = syscall.EPERM }); !s.Present || s.Privileged || s.Peers != nil || !strings.Contains(s.Why, "NET_ADMIN") {
			t.Errorf("without the capability: %+v", s)
		}
		if s = soon(func() { f.err = errAnswer }); !s.Present || s.Privileged || !strings.Contains(s.Why, errAnswer.Error()) {
			t.Errorf("unreadable: %+v", s)
		}
		if s = soon(func() { f.err = nil }); !s.Present || !s.Privileged || len(s.Peers) != 1 || s.Why != "" {
			t.Errorf("readable again: %+v", s)
		}
		if s = soon(func() { f.err = errAnswer }); !s.Privileged || len(s.Peers) != 1 || !strings.Contains(s.Why, errAnswer.Error()) {
			t.Errorf("unreadable for once: %+v, want what was read before", s)
		}
		f.set(func() { f.err = nil })
		if s = soon(func() { f.linkErr = syscall.EMFILE }); !s.Present || len(s.Peers) != 1 || !strings.Contains(s.Why, "read link kubespan") {
			t.Errorf("without sockets: %+v, want what was read before", s)
		}
		f.set(func() { f.linkErr = nil })
		if s = soon(func() { f.err, f.addrs = nil, nil }); s.Present || s.Peers != nil || s.Link != 9 {
			t.Errorf("without an address: %+v", s)
		}
		if s = soon(func() { f.found, f.l = false, link{} }); s.Present || s.Link != 0 {
			t.Errorf("without the link: %+v", s)
		}
	})
}

// TestStormOfNotifications: a busy host does not make the reader busy.
func TestStormOfNotifications(t *testing.T) {
	f := newFake()
	run(t, f, func(r *Reader) {
		var before, after int
		f.set(func() { before = f.looks })
		for range 1000 {
			f.edit(func() {})
			time.Sleep(time.Millisecond)
		}
		f.set(func() { after = f.looks })
		if looks := after - before; looks > 60 || looks < 40 {
			t.Errorf("%d looks in a second, want 50", looks)
		}
	})
}

func TestSealedErrorsKeepNoText(t *testing.T) {
	const secret = "private_key=0123456789abcdef"
	for name, row := range map[string]struct{ in, want error }{
		"text":   {errors.New("wguser: invalid key=value pair: " + secret), errAnswer},
		"errno":  {&os.SyscallError{Syscall: secret, Err: syscall.EPERM}, syscall.EPERM},
		"path":   {&os.PathError{Op: secret, Err: os.ErrNotExist}, os.ErrNotExist},
		"enoent": {&os.PathError{Op: "open", Path: secret, Err: syscall.ENOENT}, syscall.ENOENT},
	} {
		if got := sealed(row.in); got != row.want || strings.Contains(got.Error(), secret) {
			t.Errorf("%s: %v, want %v", name, got, row.want)
		}
	}
}

func TestLoggerOfChanges(t *testing.T) {
	f := newFake()
	var log bytes.Buffer
	synctest.Test(t, func(t *testing.T) {
		r := New(Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		r.source = f
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- r.Run(ctx) }()
		time.Sleep(time.Minute)
		f.edit(func() { f.found = false })
		time.Sleep(time.Minute)
		stop()
		<-done
	})
	if n := strings.Count(log.String(), "\n"); n != 2 || !strings.Contains(log.String(), "kubespan found") || !strings.Contains(log.String(), "kubespan gone") {
		t.Errorf("%d lines: %s", n, log.String())
	}
}
