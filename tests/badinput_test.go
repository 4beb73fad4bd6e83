package tests

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/serialspan/serialspan/bridge/client"
	"github.com/serialspan/serialspan/tests/internal/lab"
)

// disk is a small file system that only processes begun with its prefix see: it
// is in a mount namespace of its own.
type disk struct {
	dir    string
	prefix []string // of a command line
}

// newDisk makes a disk of so many kilobytes, which lasts as long as the test.
func newDisk(t *testing.T, kilobytes int) disk {
	t.Helper()
	lab.NeedRoot(t)
	lab.NeedTools(t, "unshare", "nsenter", "mount")
	dir, err := os.MkdirTemp("", "sspdisk")
	if err != nil {
		t.Fatal(err)
	}
	// The shell keeps the namespace until its standard input ends.
	holder := exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-c",
		fmt.Sprintf("mount -t tmpfs -o size=%dk none %s && echo mounted && exec cat", kilobytes, dir))
	stdin, err := holder.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = holder.Wait()
		_ = os.RemoveAll(dir)
	})
	if _, err := io.ReadFull(stdout, make([]byte, len("mounted"))); err != nil {
		lab.Skip(t, "may not mount a tmpfs here")
	}
	return disk{dir, []string{"nsenter", "--target", fmt.Sprint(holder.Process.Pid), "--mount", "--"}}
}

// run runs a command that sees the disk.
func (d disk) run(t *testing.T, args ...string) {
	t.Helper()
	all := append(append([]string{}, d.prefix...), args...)
	if out, err := exec.Command(all[0], all[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// fill leaves no byte free.
func (d disk) fill(t *testing.T) {
	t.Helper()
	d.run(t, "sh", "-c", "cat /dev/zero > "+d.dir+"/filler 2>/dev/null; true")
}

// free takes away what fill wrote.
func (d disk) free(t *testing.T) {
	t.Helper()
	d.run(t, "rm", d.dir+"/filler")
}

// soloAgent is an agent on its own, on a loopback port that nobody knows.
type soloAgent struct {
	*client.Client
	dir, config string
	prefix      []string
	cmd         *exec.Cmd
	output      *lockedBuffer
	gone        chan struct{}
	err         error // of the process; valid once gone is closed
}

// newSolo writes the configuration of an agent whose command line begins with
// prefix.
func newSolo(t *testing.T, prefix []string, more lab.Settings) *soloAgent {
	t.Helper()
	dir, err := os.MkdirTemp("", "sspsolo") // short: a socket is in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	a := &soloAgent{dir: dir, config: filepath.Join(dir, "serialspan.yaml"), prefix: prefix}
	socket := filepath.Join(dir, "agent.sock")
	text := agentConfig(t, "solo", lab.Settings{
		"node":    lab.Settings{"name": "solo", "state_dir": filepath.Join(dir, "state")},
		"cluster": lab.Settings{"secret_file": lab.NewSecret(t)},
		"mesh":    lab.Settings{"listen": "127.0.0.1:0", "lan": false},
		"control": lab.Settings{"socket": socket, "link_dirs": []string{dir}},
	}, more)
	if err := os.WriteFile(a.config, text, 0o600); err != nil {
		t.Fatal(err)
	}
	a.Client = client.New(client.Config{Socket: socket})
	return a
}

// begin starts the process.
func (a *soloAgent) begin(t *testing.T) {
	t.Helper()
	all := append(append([]string{}, a.prefix...), lab.Program(t), "agent", "--config", a.config)
	a.cmd, a.output, a.gone = exec.Command(all[0], all[1:]...), &lockedBuffer{}, make(chan struct{})
	a.cmd.Stdout, a.cmd.Stderr = a.output, a.output
	if err := a.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func(cmd *exec.Cmd, gone chan struct{}) {
		a.err = cmd.Wait()
		close(gone)
	}(a.cmd, a.gone)
	t.Cleanup(func() {
		a.stop(t)
		if t.Failed() {
			t.Logf("log of the agent:\n%s", withoutQuestions(a.output.String()))
		}
	})
}

// withoutQuestions returns a log without what was only asked.
func withoutQuestions(log string) string {
	var kept strings.Builder
	for line := range strings.Lines(log) {
		if !strings.Contains(line, `request="GET `) {
			kept.WriteString(line)
		}
	}
	return kept.String()
}

// start starts the agent and returns when its control socket answers.
func (a *soloAgent) start(t *testing.T) {
	t.Helper()
	a.begin(t)
	lab.WaitFor(t, "the control socket", 10*time.Second, func() error {
		select {
		case <-a.gone:
			t.Fatalf("the agent ended: %v", a.err)
		default:
		}
		_, err := a.Status(t.Context())
		return err
	})
}

// stop ends the agent with SIGTERM, which has to leave with status 0. Stopping
// it again does nothing.
func (a *soloAgent) stop(t *testing.T) {
	t.Helper()
	if a.cmd == nil {
		return
	}
	select {
	case <-a.gone: // by itself, which was the test's to judge
	default:
		_ = a.cmd.Process.Signal(unix.SIGTERM)
		if <-a.gone; a.err != nil {
			t.Errorf("the agent left with %v", a.err)
		}
	}
	a.cmd = nil
}

// wantProblem waits until status names a problem that has all the words.
func (a *soloAgent) wantProblem(t *testing.T, words ...string) {
	t.Helper()
	lab.WaitFor(t, fmt.Sprintf("a problem with %q", words), 10*time.Second, func() error {
		problems, err := a.problems(t)
		for _, p := range problems {
			if hasAll(p, words) {
				t.Log(p)
				return nil
			}
		}
		return fmt.Errorf("problems are %q, %v", problems, err)
	})
}

func (a *soloAgent) problems(t *testing.T) ([]string, error) {
	status, err := a.Status(t.Context())
	return status.Problems, err
}

func hasAll(text string, words []string) bool {
	for _, w := range words {
		if !strings.Contains(text, w) {
			return false
		}
	}
	return true
}

// TestFullDisk fills the file system of the state directory under a running
// agent, and starts one on a full one.
func TestFullDisk(t *testing.T) {
	disk := newDisk(t, 64)
	device := lab.NewTTY(t)
	a := newSolo(t, disk.prefix, lab.Settings{
		"node":    lab.Settings{"name": "solo", "state_dir": filepath.Join(disk.dir, "state")},
		"devices": lab.Device("solo-stick", device.Path),
	})
	a.start(t)
	waitDeviceState(t, a.Client, "solo-stick", client.DeviceAvailable, 10*time.Second)
	before, err := a.Status(t.Context())
	if err != nil || len(before.Problems) > 0 {
		t.Fatalf("problems are %q, %v", before.Problems, err)
	}

	disk.fill(t)
	link := filepath.Join(a.dir, "stick")
	if _, err := a.Attach(t.Context(), client.AttachRequest{Device: "solo-stick", PTY: &client.PTYSpec{Link: link}}); err != nil {
		t.Fatalf("attach on a full disk: %v", err)
	}
	a.wantProblem(t, "state directory", "lost at a restart", "no space left on device")
	app := lab.OpenTTY(t, link)
	waitAttachment(t, a.Client, link, client.AttachmentConnected)
	lab.Exchange(t, app, device, 4<<10)
	if err := app.Close(); err != nil {
		t.Fatal(err)
	}

	a.stop(t)
	a.start(t)
	a.wantProblem(t, "state directory", "epoch", "no space left on device")
	after, err := a.Status(t.Context())
	if err != nil || after.ID != before.ID {
		t.Errorf("identity is %v (%v), it was %v", after.ID, err, before.ID)
	}
	a.stop(t)

	disk.free(t)
	a.start(t)
	if problems, err := a.problems(t); err != nil || len(problems) > 0 {
		t.Errorf("with room again, problems are %q, %v", problems, err)
	}
}

// TestReadOnlyDisk starts an agent on a disk that has gone read-only, with its
// identity on it and without.
func TestReadOnlyDisk(t *testing.T) {
	disk := newDisk(t, 256)
	a := newSolo(t, disk.prefix, lab.Settings{"node": lab.Settings{"name": "solo", "state_dir": filepath.Join(disk.dir, "state")}})
	a.start(t)
	before, err := a.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	a.stop(t)
	disk.run(t, "mount", "-o", "remount,ro", disk.dir)
	a.start(t)
	a.wantProblem(t, "state directory", "epoch", "read-only file system")
	if after, err := a.Status(t.Context()); err != nil || after.ID != before.ID {
		t.Errorf("identity is %v (%v), it was %v", after.ID, err, before.ID)
	}
	a.stop(t)

	// Without an identity there is nothing to be.
	disk.run(t, "mount", "-o", "remount,rw", disk.dir)
	disk.run(t, "rm", "-r", filepath.Join(disk.dir, "state"))
	disk.run(t, "mount", "-o", "remount,ro", disk.dir)
	a.begin(t)
	a.wantEnd(t, "state directory", filepath.Join(disk.dir, "state"), "read-only file system")
}

// wantEnd waits until the agent has left with an error in one line that has all
// the words.
func (a *soloAgent) wantEnd(t *testing.T, words ...string) {
	t.Helper()
	timer := time.NewTimer(10 * time.Second)
	defer timer.Stop()
	select {
	case <-a.gone:
	case <-timer.C:
		_ = a.cmd.Process.Kill()
		<-a.gone
		t.Fatalf("the agent runs on, want an error with %q", words)
	}
	var exit *exec.ExitError
	if !errors.As(a.err, &exit) || exit.ExitCode() < 1 {
		t.Errorf("the agent left with %v", a.err)
	}
	text := strings.TrimSpace(a.output.String())
	last := text[strings.LastIndexByte(text, '\n')+1:]
	if t.Log(last); !hasAll(last, words) || strings.Contains(text, "goroutine ") {
		t.Errorf("its last line is %q, want %q in it", last, words)
	}
}

// TestCannotStart has what keeps an agent from starting: each is one line that
// says what to do.
func TestCannotStart(t *testing.T) {
	running := newSolo(t, nil, nil)
	running.start(t)
	status, err := running.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	long := filepath.Join("/run", strings.Repeat("x", 110), "agent.sock")
	for _, test := range []struct {
		name  string
		more  lab.Settings
		words []string
	}{
		{"UDP port taken", lab.Settings{"mesh": lab.Settings{"listen": status.Listen}}, []string{status.Listen, "already in use", "mesh.listen"}},
		{"state directory taken", lab.Settings{"node": lab.Settings{"name": "solo", "state_dir": filepath.Join(running.dir, "state")}},
			[]string{filepath.Join(running.dir, "state"), "another agent", "node.state_dir"}},
		{"socket path too long", lab.Settings{"control": lab.Settings{"socket": long}}, []string{"control.socket", "shorter"}},
		{"socket taken", lab.Settings{"control": lab.Settings{"socket": filepath.Join(running.dir, "agent.sock")}}, []string{filepath.Join(running.dir, "agent.sock"), "control.socket"}},
		{"state directory is a file", lab.Settings{"node": lab.Settings{"name": "solo", "state_dir": running.config}}, []string{"state directory", running.config, "not a directory"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := newSolo(t, nil, test.more)
			a.begin(t)
			a.wantEnd(t, test.words...)
		})
	}
	if _, err := running.Status(t.Context()); err != nil {
		t.Errorf("the agent that was there first: %v", err)
	}
}

// TestDeviceIsPlainFile: status names it; the file stays as it is.
func TestDeviceIsPlainFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ttyFile")
	if err := os.WriteFile(file, []byte("letters"), 0o600); err != nil {
		t.Fatal(err)
	}
	a := newSolo(t, nil, lab.Settings{"devices": lab.Device("solo-stick", file)})
	a.start(t)
	a.wantProblem(t, "serialspan.yaml:", "devices.rules", file, "no tty")
	if text, err := os.ReadFile(file); err != nil || string(text) != "letters" {
		t.Errorf("the file has %q, %v", text, err)
	}
}

// TestNoDescriptors takes all file descriptors from an agent that may have 40:
// what needs one fails and says why, what runs goes on, and all is well when
// there are some again.
func TestNoDescriptors(t *testing.T) {
	const limit = 40
	lab.NeedTools(t, "prlimit")
	device, more := lab.NewTTY(t), lab.NewTTY(t)
	rules := []lab.Settings{
		{"match": lab.Settings{"path": device.Path}, "name": "solo-stick", "line": "115200n81"},
		{"match": lab.Settings{"path": more.Path}, "name": "solo-more", "line": "115200n81"},
	}
	a := newSolo(t, []string{"prlimit", fmt.Sprintf("--nofile=%d:%d", limit, limit), "--"},
		lab.Settings{"devices": lab.Settings{"publish": "listed", "rules": rules}})
	a.start(t)
	waitDeviceState(t, a.Client, "solo-stick", client.DeviceAvailable, 10*time.Second)
	waitDeviceState(t, a.Client, "solo-more", client.DeviceAvailable, 10*time.Second)
	link, other := filepath.Join(a.dir, "stick"), filepath.Join(a.dir, "more")
	if _, err := a.Attach(t.Context(), client.AttachRequest{Device: "solo-stick", PTY: &client.PTYSpec{Link: link}}); err != nil {
		t.Fatal(err)
	}
	app := lab.OpenTTY(t, link)
	a.waitAttachment(t, link, client.AttachmentConnected, "")

	held := a.exhaust(t, limit)
	lab.Exchange(t, app, device, 4<<10) // a session needs none
	// One for a connection, too few for a PTY.
	_ = held[0].Close()
	var refused *client.Error
	status, err := a.Attach(t.Context(), client.AttachRequest{Device: "solo-more", PTY: &client.PTYSpec{Link: other}})
	switch {
	case errors.As(err, &refused):
		t.Log(err)
		if !strings.Contains(refused.Text, "too many open files") {
			t.Errorf("attach without a descriptor: %v", err)
		}
	case err != nil:
		t.Fatal(err)
	default:
		t.Log(status.State, status.Error)
		a.waitAttachment(t, other, client.AttachmentFailed, "too many open files")
	}
	lab.Exchange(t, app, device, 4<<10)

	for _, conn := range held {
		_ = conn.Close()
	}
	if err != nil { // the agent did not keep it
		lab.WaitFor(t, "an attachment when there are descriptors again", 5*time.Second, func() error { // it closes its ends in its time
			_, err := a.Attach(t.Context(), client.AttachRequest{Device: "solo-more", PTY: &client.PTYSpec{Link: other}})
			return err
		})
	}
	a.waitAttachment(t, other, client.AttachmentWaiting, "")
	second := lab.OpenTTY(t, other)
	a.waitAttachment(t, other, client.AttachmentConnected, "")
	lab.Exchange(t, second, more, 4<<10)
	lab.Exchange(t, app, device, 4<<10)
	if problems, err := a.problems(t); err != nil || len(problems) > 0 {
		t.Errorf("problems are %q, %v", problems, err)
	}
}

// exhaust holds connections to the control socket until the agent has no
// descriptor left.
func (a *soloAgent) exhaust(t *testing.T, limit int) (held []net.Conn) {
	t.Helper()
	t.Cleanup(func() {
		for _, conn := range held {
			_ = conn.Close()
		}
	})
	lab.WaitFor(t, "the descriptors to be used up", 10*time.Second, func() error {
		open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", a.cmd.Process.Pid))
		if err != nil || len(open) >= limit {
			return err
		}
		conn, err := net.Dial("unix", a.Socket())
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, conn)
		return fmt.Errorf("%d are open", len(open))
	})
	return held
}

// waitAttachment waits until the attachment at where is in the state, with an
// error that has the word.
func (a *soloAgent) waitAttachment(t *testing.T, where string, state client.AttachmentState, word string) {
	t.Helper()
	lab.WaitFor(t, fmt.Sprintf("%s to be %s", where, state), 40*time.Second, func() error {
		all, err := a.Attachments(t.Context())
		for _, at := range all {
			if at.Where == where && at.State == state && strings.Contains(at.Error, word) {
				return nil
			}
		}
		return fmt.Errorf("attachments are %+v, %v", all, err)
	})
}

// TestReplayAndOversize records the first join message of a node that holds the
// secret and sends it again and again; then datagrams larger than any of ours,
// whole and in fragments. Then all is as before.
func TestReplayAndOversize(t *testing.T) {
	network := lab.NewNetwork(t, "edge", "joiner", "stranger")
	edgeHost := network.Host("edge")
	device, secret := lab.NewTTY(t), lab.NewSecret(t)
	edge := lab.StartAgent(t, edgeHost, "edge", secret, lab.Settings{
		"mesh": lab.Settings{"lan": false}, "devices": lab.Device("garage-stick", device.Path),
	})
	stranger := listenUDP(t, network.Host("stranger"), meshPort)
	joiner := lab.StartAgent(t, network.Host("joiner"), "joiner", secret, lab.Settings{
		"mesh": lab.Settings{"lan": false}, "cluster": lab.Settings{"join": []string{network.Host("stranger").Addr.String()}},
	})
	_ = stranger.SetReadDeadline(time.Now().Add(15 * time.Second))
	buffer := make([]byte, 2048)
	n, _, err := stranger.ReadFromUDPAddrPort(buffer)
	if err != nil || n != joinFirstLen {
		t.Fatalf("first join message: %d bytes, %v", n, err)
	}
	first := bytes.Clone(buffer[:n])
	joiner.Kill() // what comes now is ours

	const again = 20
	before := uncarriedBy(t, edge)
	for range again {
		sendUDP(t, stranger, edgeHost, first)
	}
	waitUncarried(t, edge, before+again-1)
	if answers := answersFrom(t, stranger, edgeHost, joinFirstLen); answers > 1 {
		t.Errorf("a recorded message was answered %d times", answers)
	}

	sentBefore, memoryBefore := datagramsSent(t, edgeHost), residentMemory(t, edge)
	before = uncarriedBy(t, edge)
	sent := uint64(0)
	for kind := range 12 {
		for _, size := range []int{joinFirstLen + 1, 1473, 2049, 9000, 65_507} {
			datagram := make([]byte, size)
			copy(datagram, first)
			datagram[0] = byte(kind)
			sendUDP(t, stranger, edgeHost, datagram)
			sent++
			waitUncarried(t, edge, before+sent)
		}
	}
	wantSilence(t, edge, stranger, sentBefore)
	if grown := residentMemory(t, edge) - memoryBefore; grown > 4<<20 {
		t.Errorf("memory grew by %d bytes", grown)
	}
	consumer := lab.StartAgent(t, network.Host("joiner"), "consumer", secret, lab.Settings{
		"cluster": lab.Settings{"join": []string{edgeHost.Addr.String()}},
	})
	consumer.WaitDevice("garage-stick", 15*time.Second)
}

// answersFrom counts the datagrams that have come from the host; none may be
// longer than most.
func answersFrom(t *testing.T, conn *net.UDPConn, host *lab.Host, most int) (answers int) {
	t.Helper()
	buffer := make([]byte, 2048)
	for {
		_ = conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		n, from, err := conn.ReadFromUDPAddrPort(buffer)
		if err != nil {
			return answers
		}
		if from.Addr().Unmap() != host.Addr {
			continue
		}
		if answers++; n > most {
			t.Errorf("an answer of %d bytes to a message of %d", n, most)
		}
	}
}
