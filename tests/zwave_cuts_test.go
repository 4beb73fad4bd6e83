package tests

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/serialspan/serialspan/bridge/client"
	"github.com/serialspan/serialspan/tests/internal/lab"
)

// TestZWaveCuts cuts the stick's host off while the driver of TestZWave writes
// without a pause. What is counted is what the stick got.
//
// The driver waits 1.6 s for an ACK and sends a command three times. So a cut
// of which it may see nothing is one that is over, with its resume, in 1.6 s.
// After 4.8 s it takes the stick for hung and resets it, and if there is no
// answer to that either, it opens the port again. The device has the profile of
// a Z-Wave stick: bytes older than 1.5 s are not sent any more, since by then
// the driver is about to repeat them, and so is the stick.
//
// Two things are logged only, because they hang on the moment of the cut. A
// read fails if its report is late by more than 1 s, the driver's patience with
// nodes; and the callback of a command is lost for good if all that the stick
// sends of it is too old, upon which the driver waits 30 s for it and resets
// the stick.
func TestZWaveCuts(t *testing.T) {
	lab.NeedRoot(t)
	lab.NeedTools(t, "node", "npm")
	modules := nodeModules(t)
	c := &threeHosts{
		network: lab.NewNetwork(t, "edge", "consumer", "third"), secret: lab.NewSecret(t),
		rule: lab.Settings{"profile": "zwave-500"},
	}
	stick := startStick(t, c.network.Host("edge"), modules)
	c.start(t, "garage-zwave", stick.Path)
	link := c.attachPTY(t, "garage-zwave")
	pts, err := os.Readlink(link)
	if err != nil {
		t.Fatal(err)
	}
	driver := startZWaveDriver(t, c.network.Host("consumer"), modules, link)
	if driver.patience != 4800*time.Millisecond {
		t.Errorf("the driver waits %v for an answer; what is expected below rests on 4.8 s", driver.patience)
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for _, row := range []struct {
		length time.Duration
		times  int
		unseen bool // the driver must not notice
		resets bool // the driver may reset the stick
	}{
		{length: 500 * time.Millisecond, times: 6, unseen: true},
		{length: 1400 * time.Millisecond, times: 8, unseen: true},
		{length: 4 * time.Second, times: 3},
		{length: 12 * time.Second, times: 1, resets: true},
	} {
		t.Run(row.length.String(), func(t *testing.T) {
			for range row.times {
				driver.await(t, 2, 10*time.Second)
				// A write takes about as long: the cut comes at any point of one.
				lab.Pass(t, time.Duration(random.IntN(250))*time.Millisecond)
				got := cutZWave(t, c.network, driver, stick, row.length)
				t.Log(got)
				if row.unseen && got.repeated != 0 {
					t.Error("the driver noticed the cut")
				}
				if !row.resets && got.resets != 0 {
					t.Error("the stick was reset")
				}
			}
		})
	}
	wantLink(t, link, pts)
	if log := c.consumer.Log(); strings.Contains(log, "application is hung up") {
		t.Error("the agent has hung the driver up")
	}
	c.consumer.WaitAttachment(link, client.AttachmentConnected, 10*time.Second)
	driver.stop(t)
}

// zwaveCut is what was seen of one cut.
type zwaveCut struct {
	length   time.Duration
	back     time.Duration // from its end until two further writes of the driver were answered
	commands int           // frames that the stick got, from the cut's beginning to then
	repeated int           // of them retransmissions: the same as the one before
	resets   int           // of them soft resets
	again    int           // frames that the stick sent once more, for want of an ACK
	failed   int           // writes that the driver gave up
}

// String writes it in one line.
func (z zwaveCut) String() string {
	return fmt.Sprintf("cut for %v: next answers %v after its end; the stick got %d frames, %d retransmissions, %d resets; it repeated %d; %d writes failed",
		z.length, z.back.Round(time.Millisecond), z.commands, z.repeated, z.resets, z.again, z.failed)
}

// cutZWave cuts the stick's host off under traffic and waits until the driver
// has written again.
func cutZWave(t *testing.T, network *lab.Network, driver *zwaveDriver, stick *zwaveStick, length time.Duration) zwaveCut {
	t.Helper()
	seen, said := len(stick.output.String()), driver.output.String()
	mending := network.CutOff(t, network.Host("edge"), lab.Drop, length)
	// What is answered now may have been on its way back already, the second is
	// not.
	driver.await(t, 2, time.Minute)
	got := zwaveCut{length: length, back: time.Since(mending)}
	got.failed = strings.Count(driver.output.String(), "failed ") - strings.Count(said, "failed ")
	last := ""
	for line := range strings.Lines(stick.output.String()[seen:]) {
		switch kind, frame, _ := strings.Cut(strings.TrimSpace(line), " "); kind {
		case "again":
			got.again++
		case "host":
			got.commands++
			if frame == last { // each command has a callback ID of its own
				got.repeated++
			}
			if frame == softReset {
				got.resets++
			}
			last = frame
		}
	}
	return got
}

// softReset is the command FUNC_ID_SERIAL_API_SOFT_RESET: length 3, request.
const softReset = "01030008f4"

// zwaveDriver is a running zwave_driver.cjs that writes until it is stopped.
type zwaveDriver struct {
	patience time.Duration // after which it takes the stick for hung
	output   *lockedBuffer
	stdin    io.Closer
	done     chan error
	dir      string
}

// startZWaveDriver starts the driver and waits until it writes.
func startZWaveDriver(t *testing.T, host *lab.Host, modules, path string) *zwaveDriver {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	d := &zwaveDriver{output: &lockedBuffer{}, done: make(chan error, 1), dir: t.TempDir()}
	cmd := node(ctx, host, modules, "zwave_driver.cjs", path, d.dir, "0")
	var stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = d.output, &stderr
	stdin, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	d.stdin = stdin
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		d.done <- cmd.Wait()
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
		if t.Failed() {
			t.Logf("zwave_driver.cjs: %s\n%s", stderr.Bytes(), driverLog(d.dir))
		}
	})
	var wait, attempts int
	lab.WaitFor(t, "the Z-Wave driver", 90*time.Second, func() error {
		for line := range strings.Lines(d.output.String()) {
			if n, _ := fmt.Sscanf(line, "ready %d %d", &wait, &attempts); n == 2 {
				return nil
			}
		}
		return d.alive()
	})
	d.patience = time.Duration(wait*attempts) * time.Millisecond
	return d
}

// alive returns why the driver has ended, and that it is not ready otherwise.
func (d *zwaveDriver) alive() error {
	select {
	case err := <-d.done:
		d.done <- err
		return fmt.Errorf("it has ended: %w", err)
	default:
		return errors.New("it has not said so")
	}
}

// await waits until so many further writes were answered.
func (d *zwaveDriver) await(t *testing.T, writes int, deadline time.Duration) {
	t.Helper()
	count := func() int { return strings.Count(d.output.String(), "write ") }
	want := count() + writes
	lab.WaitFor(t, "an answer to the driver", deadline, func() error {
		if count() >= want {
			return nil
		}
		return d.alive()
	})
}

// stop ends the driver, who must still be well.
func (d *zwaveDriver) stop(t *testing.T) {
	t.Helper()
	_ = d.stdin.Close()
	if err := <-d.done; err != nil {
		t.Errorf("the driver ended with %v", err)
	}
	got := driverResult(t, d.output.String())
	if len(got.Errors) > 0 || got.Statistics["NAK"] != 0 {
		t.Errorf("the driver had errors: %+v", got)
	}
	t.Logf("%d writes; %v", got.Writes, got.Statistics)
}
