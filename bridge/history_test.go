package bridge_test

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/serialspan/serialspan/bridge/attach"
	"github.com/serialspan/serialspan/bridge/internal/bridgetest"
	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/bridge/publish"
	"github.com/serialspan/serialspan/bridge/rule"
	"github.com/serialspan/serialspan/bridge/use"
	"github.com/serialspan/serialspan/mesh/identity"
)

// histories is how many random lives of a device and its users TestHistories
// tries; a history with a seed is run again by SERIALSPAN_SEED.
var histories = flag.Int("histories", 10000, "how many histories TestHistories runs")

// TestHistories holds the whole stack, owner and consumers, against the
// simplest model there is: what was written, what arrived, and what the gaps
// admit. Streams are cut, frozen and lost, the owner restarts, the stick is
// pulled, consumers take the device from each other, and each side reads
// slowly when it likes. In every history:
//
//   - nothing is doubled or reordered, in either direction;
//   - what is missing was counted as a gap, at least as much as that;
//   - nothing that the device sent before an open is delivered.
//
// In those in which only streams were cut, for less than hold, nothing is
// missing at all.
func TestHistories(t *testing.T) {
	n := *histories
	if testing.Short() {
		n = min(n, 500)
	}
	first := uint64(time.Now().UnixNano())
	if text := os.Getenv("SERIALSPAN_SEED"); text != "" {
		first, _ = strconv.ParseUint(text, 10, 64)
		n = 1
	}
	// One share for each of the machine's first cores.
	shares := min(runtime.GOMAXPROCS(0), 4, n)
	for share := range shares {
		t.Run(strconv.Itoa(share), func(t *testing.T) {
			t.Parallel()
			runHistories(t, first, share*n/shares, (share+1)*n/shares)
		})
	}
}

// runHistories runs histories from one number to another, in bubbles of 50.
func runHistories(t *testing.T, first uint64, from, to int) {
	lossless := 0
	for begin := from; begin < to && !t.Failed(); begin += 50 {
		synctest.Test(t, func(t *testing.T) {
			for i := begin; i < min(to, begin+50); i++ {
				h := newHistory(first + uint64(i))
				if err := h.live(); err != nil {
					t.Fatalf("SERIALSPAN_SEED=%d: %v\n%s", first+uint64(i), err, h.story())
				}
				if h.lossless {
					lossless++
				}
			}
		})
	}
	t.Logf("%d histories, in %d only streams were cut", to-from, lossless)
}

// A word is 8 bytes, each with its place in the top 3 bits, so that a word with
// a piece missing is noticed: 2 bits of who, 16 of a running number, 22 of a
// check.
func putWord(who uint8, n uint16) (b [8]byte) {
	var raw [3]byte
	raw[0] = who
	binary.BigEndian.PutUint16(raw[1:], n)
	v := uint64(who&3)<<38 | uint64(n)<<22 | uint64(crc32.ChecksumIEEE(raw[:])&(1<<22-1))
	for i := range b {
		b[i] = byte(i)<<5 | byte(v>>(35-5*i)&31)
	}
	return b
}

// words takes words from a stream of bytes; what is no whole word is skipped.
type words struct {
	at int
	b  [8]byte
}

func (w *words) next(c byte) (who uint8, n uint16, ok bool) {
	if int(c>>5) != w.at {
		w.at = 0
		if c>>5 != 0 {
			return 0, 0, false
		}
	}
	w.b[w.at] = c
	if w.at++; w.at < 8 {
		return 0, 0, false
	}
	w.at = 0
	var v uint64
	for _, c := range w.b {
		v = v<<5 | uint64(c&31)
	}
	who, n = uint8(v>>38&3), uint16(v>>22)
	return who, n, putWord(who, n) == w.b
}

// stick is a device whose driver keeps nothing: what was written has reached
// it. Only that can be held against the gaps exactly.
type stick struct {
	mu      sync.Mutex
	changed *sync.Cond
	words   words
	got     [4][]uint16 // by who wrote them
	budget  int         // how many bytes it takes now
	sent    uint16
	port    *stickPort // plugged in and open
	absent  bool
}

type stickPort struct {
	*stick
	out     []byte // sent by the device, not read yet
	err     error
	pressed bool
}

func (s *stick) open(publish.PortSpec) (publish.Port, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.absent {
		return nil, errors.New("no such device")
	}
	s.port = &stickPort{stick: s}
	return s.port, nil
}

func (s *stick) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	s.changed.Broadcast()
}

// send makes the device send n words.
func (s *stick) send(n int) {
	s.set(func() {
		for range n {
			s.sent++
			if s.port != nil {
				b := putWord(3, s.sent)
				s.port.out = append(s.port.out, b[:]...)
			}
		}
	})
}

func (s *stick) pull() {
	s.set(func() {
		s.absent = true
		if s.port != nil {
			s.port.err = errors.New("unplugged")
			s.port = nil
		}
	})
}

func (p *stickPort) Read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.out) == 0 && p.err == nil {
		p.changed.Wait()
	}
	if p.err != nil {
		return 0, p.err
	}
	n := copy(b, p.out)
	p.out = p.out[:copy(p.out, p.out[n:])]
	return n, nil
}

func (p *stickPort) TryWrite(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.take(b), p.err
}

func (p *stickPort) take(b []byte) int {
	if p.err != nil {
		return 0
	}
	n := min(len(b), p.budget)
	p.budget -= n
	for _, c := range b[:n] {
		if who, number, ok := p.words.next(c); ok {
			p.got[who] = append(p.got[who], number)
		}
	}
	return n
}

func (p *stickPort) Write(b []byte) (done int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		done += p.take(b[done:])
		switch {
		case p.err != nil:
			return done, p.err
		case done == len(b):
			return done, nil
		case p.pressed:
			return done, os.ErrDeadlineExceeded
		}
		p.changed.Wait()
	}
}

func (p *stickPort) SetWriteDeadline(t time.Time) error {
	p.set(func() { p.pressed = !t.IsZero() })
	return nil
}

func (p *stickPort) Close() error {
	p.set(func() {
		p.err = net.ErrClosed
		if p.stick.port == p {
			p.stick.port = nil
		}
	})
	return nil
}

func (p *stickPort) Drain(context.Context) error { return nil }
func (p *stickPort) SetLine(line.Settings) error { return nil }
func (p *stickPort) Line() line.Settings         { return line.Default() }
func (p *stickPort) PurgeInput() error           { p.set(func() { p.out = nil }); return nil }
func (p *stickPort) PurgeOutput() error          { return nil }

// historyHold is the hold time of owner and consumers.
const historyHold = 5 * time.Second

// history is one life.
type history struct {
	rng      *rand.Rand
	lossless bool
	stale    bool
	window   int
	began    time.Time
	log      []string

	stick   *stick
	ctx     context.Context
	stop    context.CancelFunc
	running sync.WaitGroup
	apps    [2]*app

	mu        sync.Mutex
	changes   [2]chan struct{}
	publisher *publish.Publisher
	ownerCtx  context.Context
	ownerStop context.CancelFunc
	owner     sync.WaitGroup
	streams   []*bridgetest.Stream
	down      bool
}

func newHistory(seed uint64) *history {
	h := &history{rng: rand.New(rand.NewPCG(seed, 1)), began: time.Now()}
	h.lossless = h.rng.IntN(2) == 0
	h.stale = !h.lossless && h.rng.IntN(3) == 0
	h.window = []int{100, 1000, 20000}[h.rng.IntN(3)]
	h.stick = &stick{budget: 1 << 30}
	h.stick.changed = sync.NewCond(&h.stick.mu)
	h.ctx, h.stop = context.WithCancel(context.Background())
	return h
}

func (h *history) note(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.log = append(h.log, fmt.Sprintf("%v ", time.Since(h.began))+fmt.Sprintf(format, args...))
}

func (h *history) story() (text string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, l := range h.log {
		text += "  " + l + "\n"
	}
	return text
}

func (h *history) startOwner() {
	one := rule.Rule{Match: rule.Match{VID: "0658"}, Name: "stick"}
	if h.stale {
		one.MaxStale = 300 * time.Millisecond
	}
	p := publish.New(publish.Config{
		Rules: []rule.Rule{one}, Hold: historyHold, Window: h.window, Open: h.stick.open,
		Discover: func() ([]rule.Candidate, error) {
			h.stick.mu.Lock()
			defer h.stick.mu.Unlock()
			if h.stick.absent {
				return nil, nil
			}
			return []rule.Candidate{bridgetest.Zwave}, nil
		},
		PollInterval: 400 * time.Millisecond,
	})
	h.ownerCtx, h.ownerStop = context.WithCancel(h.ctx)
	ctx := h.ownerCtx
	h.owner.Go(func() { _ = p.Run(ctx) })
	h.mu.Lock()
	h.publisher = p
	h.mu.Unlock()
}

func (h *history) dial(_ context.Context, from identity.NodeID) (net.Conn, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.down || h.publisher == nil {
		return nil, bridgetest.ErrCut
	}
	a, b := bridgetest.NewStreams(4096)
	h.streams = append(h.streams, a)
	p, ctx := h.publisher, h.ownerCtx
	h.owner.Go(func() { _ = p.Serve(ctx, b, from) })
	return a, nil
}

// heal lets dials through and says so, as the mesh does.
func (h *history) heal() {
	h.mu.Lock()
	h.down = false
	h.mu.Unlock()
	for _, ch := range h.changes {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

func (h *history) each(f func(*bridgetest.Stream)) {
	h.mu.Lock()
	streams := h.streams
	h.mu.Unlock()
	for _, s := range streams {
		f(s)
	}
}

// app is a program that uses the device, again and again.
type app struct {
	who      uint8
	h        *history
	rng      *rand.Rand
	attacher *attach.Attacher

	mu      sync.Mutex
	changed *sync.Cond
	wanted  bool // it shall use the device
	quiet   bool // it shall write nothing
	paused  bool // it does not read
	number  uint16
	written []uint16 // words whose Write succeeded
	lost    uint64   // in the gaps of all its uses
	gaps    int
	uses    int
	err     error
}

func (a *app) set(f func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f()
	a.changed.Broadcast()
}

func (a *app) fail(format string, args ...any) {
	a.set(func() {
		if a.err == nil {
			a.err = fmt.Errorf("app %d: "+format, append([]any{a.who}, args...)...)
		}
	})
}

// run uses the device whenever it is wanted.
func (a *app) run(ctx context.Context) {
	for {
		a.mu.Lock()
		for !a.wanted && ctx.Err() == nil {
			a.changed.Wait()
		}
		a.mu.Unlock()
		if ctx.Err() != nil {
			return
		}
		a.h.stick.mu.Lock()
		before := a.h.stick.sent
		a.h.stick.mu.Unlock()
		// The model's device sends and is read at one moment: what it sent at
		// the very moment of an open may be of either side of it.
		time.Sleep(time.Microsecond)
		stream, err := a.attacher.OpenRaw(ctx, "stick", use.TakeNormal)
		if err != nil {
			time.Sleep(time.Duration(20+a.rng.IntN(200)) * time.Millisecond)
			continue
		}
		a.use(stream, before)
	}
}

func (a *app) use(stream io.ReadWriteCloser, before uint16) {
	var reader sync.WaitGroup
	missing := 0
	reader.Go(func() { missing = a.read(stream, before) })
	for {
		a.mu.Lock()
		on, quiet := a.wanted, a.quiet
		a.mu.Unlock()
		if !on {
			break
		}
		if quiet {
			time.Sleep(time.Second)
			continue
		}
		var chunk []byte
		first := a.number
		for range 1 + a.rng.IntN(10) {
			a.number++
			b := putWord(a.who, a.number)
			chunk = append(chunk, b[:]...)
		}
		if _, err := stream.Write(chunk); err != nil {
			break
		}
		a.set(func() {
			for n := first + 1; n <= a.number; n++ {
				a.written = append(a.written, n)
			}
		})
		time.Sleep(time.Duration(a.rng.IntN(150)) * time.Millisecond)
	}
	_ = stream.Close()
	a.set(func() { a.paused = false })
	reader.Wait()
	s := stream.(interface{ Status() use.Status }).Status()
	if missing > 0 && s.Gaps == 0 {
		a.fail("%d words of the device are missing without a gap", missing)
	}
	a.set(func() {
		a.lost += s.Lost
		a.gaps += s.Gaps
		a.uses++
	})
	a.h.note("app %d used it: %d resumes, %d gaps, %d lost, %d words missing, %v", a.who, s.Resumed, s.Gaps, s.Lost, missing, s.Err)
}

// read checks what comes and returns how many words were left out.
func (a *app) read(stream io.Reader, before uint16) (missing int) {
	var w words
	last := before
	began := false
	buf := make([]byte, 512)
	for {
		a.mu.Lock()
		for a.paused {
			a.changed.Wait()
		}
		a.mu.Unlock()
		n, err := stream.Read(buf)
		for _, c := range buf[:n] {
			_, number, ok := w.next(c)
			switch {
			case !ok:
			case number <= last:
				a.fail("word %d of the device came after %d, open came after %d", number, last, before)
			default:
				if began {
					missing += int(number - last - 1)
				}
				began, last = true, number
			}
		}
		if err != nil {
			return missing
		}
	}
}

// live runs the history and returns what the model does not allow.
func (h *history) live() error {
	h.startOwner()
	for i := range h.apps {
		h.changes[i] = make(chan struct{}, 1)
		a := &app{who: uint8(i), h: h, rng: rand.New(rand.NewPCG(h.rng.Uint64(), 2))}
		a.changed = sync.NewCond(&a.mu)
		a.attacher = attach.New(attach.Config{
			Resolve: func(string) (use.Target, error) { return use.Target{Owner: bridgetest.Owner, Device: "stick"}, nil },
			Watch:   func() (<-chan struct{}, func()) { return h.changes[i], func() {} },
			Dial: func(ctx context.Context, _ identity.NodeID) (net.Conn, error) {
				return h.dial(ctx, identity.NodeID{byte(i + 1)})
			},
			Hold: historyHold, Window: h.window,
		})
		h.apps[i] = a
		h.running.Go(func() { _ = a.attacher.Run(h.ctx) })
		synctest.Wait()
		h.running.Go(func() { a.run(h.ctx) })
	}
	h.apps[0].set(func() { h.apps[0].wanted = true })
	time.Sleep(300 * time.Millisecond)
	for range 3 + h.rng.IntN(10) {
		h.step()
		time.Sleep(time.Duration(h.rng.IntN(400)) * time.Millisecond)
	}
	err := h.settle()
	h.stop()
	for _, a := range h.apps {
		a.set(func() {})
	}
	h.running.Wait()
	h.owner.Wait()
	return err
}

// step is one thing that happens.
func (h *history) step() {
	ms := func(n int) time.Duration { return time.Duration(1+h.rng.IntN(n)) * time.Millisecond }
	h.stick.send(h.rng.IntN(40))
	kinds := 6
	if !h.lossless {
		kinds = 11
	}
	switch k := h.rng.IntN(kinds); k {
	case 0, 1: // the path is cut, at once or after it went dead
		h.note("cut")
		if k == 1 {
			h.each(func(s *bridgetest.Stream) { s.In.Freeze(); s.Out.Freeze() })
			time.Sleep(ms(500))
		}
		h.mu.Lock()
		h.down = h.rng.IntN(2) == 0
		h.mu.Unlock()
		h.each((*bridgetest.Stream).Cut)
		h.stick.send(h.rng.IntN(10))
		time.Sleep(ms(1000))
		h.heal()
	case 2: // frames end in the middle
		h.note("fragile streams")
		h.each(func(s *bridgetest.Stream) {
			for _, q := range []*bridgetest.Queue{s.In, s.Out} {
				q.BreakAfter(1 + h.rng.IntN(300))
			}
		})
	case 3: // nothing comes through, and nobody is told
		h.note("silence")
		h.each(func(s *bridgetest.Stream) { s.In.Freeze(); s.Out.Freeze() })
		time.Sleep(ms(3000))
	case 4:
		n := h.rng.IntN(200)
		h.note("the device takes %d bytes only", n)
		h.stick.set(func() { h.stick.budget = n })
		time.Sleep(ms(500))
		h.stick.set(func() { h.stick.budget = 1 << 30 })
	case 5:
		h.note("an app does not read")
		a := h.apps[h.rng.IntN(2)]
		a.set(func() { a.paused = true })
		time.Sleep(ms(700))
		h.stick.send(h.rng.IntN(100))
		time.Sleep(ms(300))
		a.set(func() { a.paused = false })
	case 6:
		h.note("owner restarts")
		h.mu.Lock()
		h.publisher = nil
		h.mu.Unlock()
		h.ownerStop()
		h.owner.Wait()
		time.Sleep(ms(1000))
		h.startOwner()
		h.heal()
	case 7:
		h.note("the stick is pulled")
		h.stick.pull()
		time.Sleep(ms(1500))
		h.stick.set(func() { h.stick.absent = false })
	case 8:
		h.note("a long cut")
		h.mu.Lock()
		h.down = true
		h.mu.Unlock()
		h.each((*bridgetest.Stream).Cut)
		time.Sleep(historyHold + ms(3000))
		h.heal()
	case 9, 10:
		a := h.apps[k-9]
		a.set(func() { a.wanted = !a.wanted })
		h.note("app %d wants it: %v", a.who, a.wanted)
	}
}

// settle heals everything, lets what is on its way arrive, and compares.
func (h *history) settle() error {
	h.heal()
	h.stick.set(func() { h.stick.absent = false })
	for _, a := range h.apps {
		a.set(func() { a.quiet = true })
	}
	time.Sleep(2*historyHold + 3*time.Second)
	for _, a := range h.apps {
		a.set(func() { a.wanted = false })
	}
	time.Sleep(historyHold + 3*time.Second)
	synctest.Wait()
	h.stick.mu.Lock()
	defer h.stick.mu.Unlock()
	for _, a := range h.apps {
		if err := a.compare(h.stick.got[a.who], h.lossless); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) compare(got []uint16, lossless bool) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.err != nil {
		return a.err
	}
	there := map[uint16]bool{}
	for i, n := range got {
		if i > 0 && n <= got[i-1] {
			return fmt.Errorf("the device got word %d of app %d after word %d", n, a.who, got[i-1])
		}
		there[n] = true
	}
	missing := 0
	for _, n := range a.written {
		if !there[n] {
			missing++
		}
	}
	switch {
	case lossless && (missing > 0 || a.gaps > 0 || a.lost > 0):
		return fmt.Errorf("app %d: %d of %d words are missing, %d gaps, %d bytes", a.who, missing, len(a.written), a.gaps, a.lost)
	case uint64(missing) > a.lost:
		return fmt.Errorf("app %d: %d words are missing, the gaps admit %d bytes", a.who, missing, a.lost)
	case lossless && a.who == 0 && (a.uses != 1 || len(a.written) == 0):
		return fmt.Errorf("app %d used the device %d times and wrote %d words", a.who, a.uses, len(a.written))
	}
	return nil
}
