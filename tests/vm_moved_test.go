package tests

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/serialspan/serialspan/bridge/client"
	"github.com/serialspan/serialspan/tests/internal/lab"
	"github.com/serialspan/serialspan/tests/internal/usbip"
	"github.com/serialspan/serialspan/tests/internal/vm"
)

// TestStickMoves takes a stick from one node to another and back while an
// application uses it from a third: the name follows, the session too, and the
// application's PTY stays. What cannot have reached the stick is counted; the
// rest arrives once and in order.
func TestStickMoves(t *testing.T) {
	secret := lab.NewSecret(t)
	consumer, join := startConsumer(t, secret)
	stick := usbip.New(usbip.Config{VID: 0x1209, PID: 0x0001, Serial: "MOVES"})
	devices := lab.Settings{"rules": []lab.Settings{{"match": lab.Settings{"serial": "MOVES"}, "name": "stick"}}}
	names := [2]string{"garage", "attic"}
	var machines [2]*vm.VM
	var edges [2]*guestAgent
	for i, name := range names {
		machines[i] = vm.Start(t, vm.Config{Name: name, Files: guestFiles(t, secret), NICs: []vm.NIC{vm.UserNet()}, USBIP: true, Disk: vm.NewDisk(t)})
		edges[i] = startGuestAgent(t, machines[i], name, lab.Settings{"cluster": join, "devices": devices})
	}
	unplug := machines[0].PlugUSB(stick)
	waitDeviceState(t, consumer.Client(), "stick", client.DeviceAvailable, 20*time.Second)
	link := filepath.Join(consumer.Dir, "stick")
	consumer.MustRun("attach", "stick", "--pty", link)
	app := lab.OpenTTY(t, link)
	consumer.WaitAttachment(link, client.AttachmentConnected, 10*time.Second)
	leads, err := os.Readlink(link)
	if err != nil {
		t.Fatal(err)
	}
	talk(t, app, stick, 300*time.Millisecond)

	there, back := startCount('>', app, stick), startCount('<', stick, app)
	const moves = 4
	var took []time.Duration
	for move := 1; move <= moves; move++ {
		from, to := (move+1)%2, move%2
		lab.WaitFor(t, "traffic", 10*time.Second, func() error { return errors.Join(there.since(5), back.since(5)) })
		unplug()
		waitDeviceState(t, edges[from].Client, "stick", client.DeviceAway, 10*time.Second)
		there.mark()
		back.mark()
		plugged := time.Now()
		unplug = machines[to].PlugUSB(stick)
		lab.WaitFor(t, "traffic on the other node", 20*time.Second, func() error { return errors.Join(there.since(1), back.since(1)) })
		took = append(took, max(there.began().Sub(plugged), back.began().Sub(plugged)))
		t.Logf("to %s: %s, data after %v", names[to], stages(stick.Transfers(), plugged), took[move-1].Round(time.Millisecond))
		if d, err := deviceOf(t, consumer.Client(), "stick"); err != nil || d.Node != names[to] {
			t.Errorf("the device is %+v, %v; want it at %s", d, err, names[to])
		}
		if all, err := edges[from].Client.Sessions(t.Context()); err != nil || len(all) != 0 {
			t.Errorf("where it was are the sessions %+v, %v; want none", all, err)
		}
	}
	lostThere, lostBack := there.end(t, "to the stick"), back.end(t, "from the stick")
	t.Logf("data both ways %v after it was plugged in at another node (median of %d)", median(took).Round(time.Millisecond), moves)
	if slices.Min(took) > movedTime { // other load on this machine only adds
		t.Errorf("data %v after it was plugged in at another node, want %v at most", took, movedTime)
	}
	wantLink(t, link, leads)
	// A gap from the stick at each move, and up to two to it: the owner tells
	// what the driver had taken and may have sent, the consumer counts what the
	// owner had not taken. What the stick would have sent nobody can say.
	s := sessionOf(t, consumer.Client(), "stick")
	t.Logf("%d gaps, %d bytes said to be lost; %d to the stick and %d from it did not arrive", s.Gaps, s.Lost, lostThere, lostBack)
	if s.Gaps < 2*moves || s.Gaps > 3*moves || int(s.Lost) < lostThere || int(s.Lost) > lostThere+moves*inDriver {
		t.Errorf("the session counts %d gaps and %d bytes; want %d to %d and %d, at most %d more by move", s.Gaps, s.Lost, 2*moves, 3*moves, lostThere, inDriver)
	}
	_, _ = app.Close(), stick.Close()
	there.done.Wait()
	back.done.Wait()
	for _, e := range edges {
		e.stop(t)
	}
}

const (
	// movedTime bounds the way of a stick to another node: as replugTime, and
	// then two nodes and the consumer, all on one machine here, have to agree.
	movedTime = 5 * time.Second
	// inDriver is more than a second of what count sends, in bytes.
	inDriver = 2000
)

// count sends lines of 16 bytes, one each 10 ms, which have a number twice, and
// looks at what arrives: numbers that grow. Where bytes are lost, the beginning
// of a line and the end of a later one may arrive as one: its numbers differ. It
// has two goroutines until end.
type count struct {
	from, to lab.End
	letter   rune // its lines begin with: Linux echoes until a new tty was made raw
	stop     chan struct{}
	done     sync.WaitGroup

	mu             sync.Mutex
	last           uint64 // number that arrived
	sent, received int    // bytes
	wrong          error
	news           int       // numbers after mark
	first          time.Time // when the first of them came
}

func startCount(letter rune, from, to lab.End) *count {
	c := &count{from: from, to: to, letter: letter, stop: make(chan struct{})}
	_ = from.SetDeadline(time.Time{})
	_ = to.SetDeadline(time.Time{})
	c.done.Go(c.send)
	c.done.Go(c.receive)
	return c
}

func (c *count) send() {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for number := 1; ; {
		n, err := fmt.Fprintf(c.from, "%c%06x.%07x\n", c.letter, number, number)
		c.mu.Lock()
		c.sent += n
		c.mu.Unlock()
		if err == nil {
			number++
		} else if !errors.Is(err, usbip.ErrUnplugged) {
			c.fail(fmt.Errorf("send %d: %w", number, err))
			return
		}
		select {
		case <-tick.C:
		case <-c.stop:
			return
		}
	}
}

func (c *count) receive() {
	lines := bufio.NewReader(c.to)
	for {
		text, err := lines.ReadString('\n')
		c.mu.Lock()
		c.received += len(text)
		c.mu.Unlock()
		if err != nil {
			c.fail(fmt.Errorf("receive: %w", err))
			return
		}
		var number, again uint64
		if n, _ := fmt.Sscanf(text, string(c.letter)+"%06x.%07x\n", &number, &again); n != 2 || len(text) != 16 || number != again {
			continue
		}
		c.mu.Lock()
		if number <= c.last && c.wrong == nil {
			c.wrong = fmt.Errorf("to %T came %d after %d", c.to, number, c.last)
		}
		c.last = number
		if c.news++; c.news == 1 {
			c.first = time.Now()
		}
		c.mu.Unlock()
	}
}

func (c *count) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.wrong == nil {
		c.wrong = err
	}
}

// mark begins to count anew.
func (c *count) mark() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.news = 0
}

// since returns an error until so many numbers came after mark.
func (c *count) since(numbers int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.wrong == nil && c.news < numbers {
		return fmt.Errorf("%d of %d came", c.news, numbers)
	}
	return c.wrong
}

// began returns when the first number came after mark.
func (c *count) began() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.first
}

// end stops the sender, waits until nothing comes any more and returns how many
// bytes were lost.
func (c *count) end(t *testing.T, way string) (lost int) {
	t.Helper()
	close(c.stop)
	c.mark()
	before := -1
	lab.WaitFor(t, "the last bytes "+way, 10*time.Second, func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		if now := c.received; now != before {
			before = now
			return fmt.Errorf("they still come: %d", now)
		}
		return nil
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.wrong != nil {
		t.Errorf("%s: %v", way, c.wrong)
	}
	return c.sent - c.received
}
