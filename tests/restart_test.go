package tests

import (
	"bufio"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/serialspan/serialspan/bridge/client"
	"github.com/serialspan/serialspan/tests/internal/lab"
)

// TestRestart restarts the consumer's agent under traffic, by a service manager
// that keeps files. The application has the PTY open all the time and must not
// notice.
func TestRestart(t *testing.T) { testRestart(t, lab.NewManager(t)) }

// TestRestartBySystemd is TestRestart with systemd itself and the service of
// deploy/systemd.
func TestRestartBySystemd(t *testing.T) {
	systemd := lab.NewSystemd(t)
	testRestart(t, systemd)
	if kept := systemd.Property("NFileDescriptorStore"); kept != "2" {
		t.Errorf("systemd keeps %s files, want a master and a record", kept)
	}
}

func testRestart(t *testing.T, manager lab.ServiceManager) {
	s := newRestarted(t, manager)
	there, back := s.traffic()
	var silent []time.Duration
	for range 5 {
		silent = append(silent, s.restart(s.consumer.Restart))
	}
	s.finish()
	for _, f := range []*numbers{there, back} {
		if f.missing() != 0 || f.doubled != 0 || f.reordered != 0 || f.torn != 0 {
			t.Errorf("%s: %s, want none", f.way, f)
		}
		t.Logf("%s: %s", f.way, f)
	}
	slices.Sort(silent)
	t.Logf("time without data over a restart: %v", silent)
	a := s.attachment()
	if a.Gaps != 0 || a.Lost != 0 || a.Resumed != len(silent) {
		t.Errorf("attachment has %d gaps, %d bytes lost, %d resumes; want %d resumes and nothing lost", a.Gaps, a.Lost, a.Resumed, len(silent))
	}
	if a.Sent != there.bytes.Load() || a.Received != back.bytes.Load() {
		t.Errorf("attachment sent %d and received %d bytes, want %d and %d", a.Sent, a.Received, there.bytes.Load(), back.bytes.Load())
	}
}

// TestRestartAfterKill is TestRestart with an agent that crashes: what was on
// its way is lost and counted, nothing comes twice, and the PTY stays.
func TestRestartAfterKill(t *testing.T) { testRestartAfterKill(t, lab.NewManager(t)) }

// TestRestartAfterKillBySystemd is TestRestartAfterKill with systemd itself.
func TestRestartAfterKillBySystemd(t *testing.T) { testRestartAfterKill(t, lab.NewSystemd(t)) }

func testRestartAfterKill(t *testing.T, manager lab.ServiceManager) {
	s := newRestarted(t, manager)
	there, back := s.traffic()
	for range 5 {
		t.Logf("time without data: %v", s.restart(s.consumer.KillAndRestart))
	}
	s.finish()
	for _, f := range []*numbers{there, back} {
		if f.doubled != 0 || f.reordered != 0 {
			t.Errorf("%s: %s, want none doubled or reordered", f.way, f)
		}
		t.Logf("%s: %s", f.way, f)
	}
	if there.missing()+back.missing()+there.torn+back.torn == 0 {
		t.Error("nothing was lost: the traffic is too thin to prove anything")
	}
	// Each agent knows of the kill before it; the last of the last.
	if a := s.attachment(); a.Gaps == 0 {
		t.Errorf("attachment %+v has no gap", a)
	}
	if n := strings.Count(s.consumer.Log(), "terminal taken over from an agent that was killed"); n != 5 {
		t.Errorf("the consumer tells of %d kills, want 5", n)
	}
	if n := strings.Count(s.edge.Log(), "consumer lost bytes for the device"); n != 5 {
		t.Errorf("the owner tells of %d gaps, want 5", n)
	}
}

// TestRestartWithoutAttachment has the next agent find another configuration.
func TestRestartWithoutAttachment(t *testing.T) {
	manager := lab.NewManager(t)
	s := newRestarted(t, manager)
	if kept := manager.Kept(); len(kept) != 2 {
		t.Fatalf("kept are %v, want a master and a record", kept)
	}
	s.consumer.Stop()
	if target, err := os.Readlink(s.link); err != nil || target != s.node {
		t.Errorf("while no agent runs the link points to %q, %v, want %s", target, err, s.node)
	}
	if err := os.Remove(filepath.Join(s.consumer.Dir, "state", "attachments.json")); err != nil {
		t.Fatal(err)
	}
	s.consumer.Start()
	lab.WaitFor(t, "the terminal to be released", 10*time.Second, func() error {
		if kept := manager.Kept(); len(kept) > 0 {
			return fmt.Errorf("kept are %v", kept)
		}
		return nil
	})
	_ = s.app.SetReadDeadline(time.Now().Add(5 * time.Second))
	if n, err := s.app.Read(make([]byte, 1)); err == nil || os.IsTimeout(err) {
		t.Errorf("the application reads %d bytes, %v, want to be hung up", n, err)
	}
	if _, err := os.Lstat(s.link); !os.IsNotExist(err) {
		t.Errorf("the link is still there: %v", err)
	}
}

// restarted is an application that uses a device of another agent, and the
// consumer's agent under a service manager.
type restarted struct {
	t              *testing.T
	edge, consumer *lab.Agent
	device         *lab.TTY
	app            *os.File
	link, node     string
	there, back    *numbers
	running        sync.WaitGroup
	stop           chan struct{}
}

func newRestarted(t *testing.T, manager lab.ServiceManager) *restarted {
	t.Helper()
	s := &restarted{t: t, device: lab.NewTTY(t), stop: make(chan struct{})}
	secret, first, second := lab.NewSecret(t), freeUDP(t), freeUDP(t)
	s.edge = lab.StartAgent(t, nil, "edge", secret, lab.Settings{
		"mesh": lab.Settings{"listen": first}, "devices": lab.Device("stick", s.device.Path),
	})
	s.consumer = lab.StartManagedAgent(t, manager, "consumer", secret, lab.Settings{
		"mesh": lab.Settings{"listen": second}, "cluster": lab.Settings{"join": []string{first}},
	})
	s.consumer.WaitDevice("stick", 15*time.Second)
	s.link = filepath.Join(s.consumer.Dir, "tty")
	s.consumer.MustRun("attach", "stick", "--pty", s.link)
	s.app = lab.OpenTTY(t, s.link)
	s.consumer.WaitAttachment(s.link, client.AttachmentConnected, 10*time.Second)
	var err error
	if s.node, err = os.Readlink(s.link); err != nil {
		t.Fatal(err)
	}
	return s
}

// traffic begins to send both ways.
func (s *restarted) traffic() (there, back *numbers) {
	s.there, s.back = newNumbers("to the device"), newNumbers("to the application")
	for _, way := range []struct {
		*numbers
		from io.Writer
		to   io.Reader
	}{{s.there, s.app, s.device}, {s.back, s.device, s.app}} {
		s.running.Go(func() { way.send(s.t, way.from, s.stop) })
		s.running.Go(func() { way.receive(s.t, way.to) })
	}
	s.flows()
	return s.there, s.back
}

// flows waits until numbers sent after the call have come, both ways.
func (s *restarted) flows() {
	s.t.Helper()
	until := []int64{s.there.sent.Load() + 10, s.back.sent.Load() + 10}
	lab.WaitFor(s.t, "data both ways", 20*time.Second, func() error {
		for i, f := range []*numbers{s.there, s.back} {
			if n := f.last.Load(); n < until[i] {
				return fmt.Errorf("%s: number %d of %d", f.way, n, until[i])
			}
		}
		return nil
	})
}

// restart does so and returns how long the slower way was silent.
func (s *restarted) restart(how func()) time.Duration {
	s.t.Helper()
	s.there.longest.Store(0)
	s.back.longest.Store(0)
	how()
	s.flows()
	if target, err := os.Readlink(s.link); err != nil || target != s.node {
		s.t.Errorf("the link points to %q, %v, want %s", target, err, s.node)
	}
	return time.Duration(max(s.there.longest.Load(), s.back.longest.Load())).Round(time.Millisecond)
}

// finish stops the senders, and the receivers when all that can come has.
func (s *restarted) finish() {
	s.t.Helper()
	close(s.stop)
	lab.WaitFor(s.t, "the last numbers", 10*time.Second, func() error {
		for _, f := range []*numbers{s.there, s.back} {
			if f.last.Load() != f.sent.Load() || f.sending.Load() {
				return fmt.Errorf("%s: number %d of %d", f.way, f.last.Load(), f.sent.Load())
			}
		}
		return nil
	})
	past := time.Now()
	_ = s.app.SetReadDeadline(past)
	_ = s.device.SetDeadline(past)
	s.running.Wait()
}

func (s *restarted) attachment() client.Attachment {
	s.t.Helper()
	all, err := s.consumer.Client().Attachments(s.t.Context())
	if err != nil || len(all) != 1 {
		s.t.Fatalf("attachments are %+v, %v", all, err)
	}
	return all[0]
}

// numbers is one direction of traffic: lines with a number and its checksum, so
// that each is known whatever is lost before it.
type numbers struct {
	way     string
	sent    atomic.Int64 // the last that was written
	last    atomic.Int64 // the highest that came
	bytes   atomic.Uint64
	longest atomic.Int64 // pause between two that came, in ns
	sending atomic.Bool

	// Of the receiver, once it has ended.
	came, doubled, reordered, torn int
	seen                           map[int64]bool
}

func newNumbers(way string) *numbers { return &numbers{way: way, seen: map[int64]bool{}} }

// numberPause is between two lines: 10 kB/s.
const numberPause = 2 * time.Millisecond

func (f *numbers) line(n int64) string {
	text := fmt.Sprintf("%010d", n)
	return fmt.Sprintf("%s %08x\n", text, crc32.ChecksumIEEE([]byte(f.way+text)))
}

func (f *numbers) send(t *testing.T, w io.Writer, stop <-chan struct{}) {
	f.sending.Store(true)
	defer f.sending.Store(false)
	tick := time.NewTicker(numberPause)
	defer tick.Stop()
	for n := int64(1); ; n++ {
		size, err := io.WriteString(w, f.line(n))
		if err != nil {
			t.Errorf("%s: after %d lines: %v", f.way, n, err)
			return
		}
		f.bytes.Add(uint64(size))
		f.sent.Store(n)
		select {
		case <-stop:
			return
		case <-tick.C:
		}
	}
}

func (f *numbers) receive(t *testing.T, r io.Reader) {
	lines := bufio.NewReader(r)
	before := time.Now()
	for {
		text, err := lines.ReadString('\n')
		if err != nil {
			if !os.IsTimeout(err) {
				t.Errorf("%s: after number %d: %v", f.way, f.last.Load(), err)
			}
			return
		}
		if pause := time.Since(before); int64(pause) > f.longest.Load() {
			f.longest.Store(int64(pause))
		}
		before = time.Now()
		// A torn line ends with a whole one where the gap was in its middle.
		const size = len("0000000000 00000000\n")
		whole := text[max(0, len(text)-size):]
		var n int64
		if _, err := fmt.Sscanf(whole, "%d", &n); err != nil || f.line(n) != whole {
			f.torn++
			continue
		}
		if len(text) > size {
			f.torn++
		}
		f.came++
		switch {
		case f.seen[n]:
			f.doubled++
		case n < f.last.Load():
			f.reordered++
		}
		f.seen[n] = true
		f.last.Store(max(n, f.last.Load()))
	}
}

// missing is how many of those sent did not come.
func (f *numbers) missing() int { return int(f.sent.Load()) - len(f.seen) }

// String says what became of the numbers.
func (f *numbers) String() string {
	return fmt.Sprintf("%d sent, %d missing, %d doubled, %d reordered, %d torn", f.sent.Load(), f.missing(), f.doubled, f.reordered, f.torn)
}

// freeUDP returns a UDP address on loopback that nobody has now.
func freeUDP(t *testing.T) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	return conn.LocalAddr().String()
}
