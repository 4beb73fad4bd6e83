package beacon_test

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/serialspan/serialspan/mesh/internal/beacon"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// noJitter makes the schedule exact: the shortest of every wait.
func noJitter(time.Duration) time.Duration { return 0 }

func newMachine() *beacon.Machine { return beacon.NewMachine(beacon.Start{1}, noJitter) }

// sends runs the schedule from where it is until the end.
func sends(m *beacon.Machine, end time.Duration) []time.Duration {
	var all []time.Duration
	for m.Next() < end {
		now := m.Next()
		all = append(all, now)
		m.Sent(now)
	}
	return all
}

func TestSchedule(t *testing.T) {
	const ms = time.Millisecond
	m := newMachine()
	want := []time.Duration{0, 250 * ms, 1250 * ms, 4250 * ms, 26750 * ms, 49250 * ms}
	if got := sends(m, time.Minute); !slices.Equal(got, want) {
		t.Errorf("sent at %v, want %v", got, want)
	}
	m.LinksChanged(60 * time.Second)
	want = []time.Duration{60100 * ms, 60350 * ms, 61350 * ms, 64350 * ms, 86850 * ms}
	if got := sends(m, 90*time.Second); !slices.Equal(got, want) {
		t.Errorf("after a change of links at 60 s sent at %v, want %v", got, want)
	}
}

func TestJitter(t *testing.T) {
	longest := beacon.NewMachine(beacon.Start{1}, func(d time.Duration) time.Duration { return d - 1 })
	all := sends(longest, time.Hour)
	if gap := all[5] - all[4]; gap < 37*time.Second || gap >= 37500*time.Millisecond {
		t.Errorf("longest gap %v, want just under 37.5 s", gap)
	}
	if n := len(all); n < 96 || n > 104 {
		t.Errorf("%d beacons in an hour", n)
	}
}

var (
	lan  = netip.MustParseAddr("192.0.2.7")
	from = netip.AddrPortFrom(lan, 51821)
)

func hello(start byte) beacon.Hello {
	return beacon.Hello{Port: 51821, Start: beacon.Start{start}}
}

func TestHeard(t *testing.T) {
	const s = time.Second
	for name, row := range map[string]struct {
		at    []time.Duration
		start []byte // of each beacon
		want  []bool // told of each
	}{
		"our own":                {[]time.Duration{0, 5 * s}, []byte{1, 1}, []bool{false, false}},
		"new":                    {[]time.Duration{0}, []byte{2}, []bool{true}},
		"the burst":              {[]time.Duration{0, s / 4, 5 * s / 4, 17 * s / 4}, []byte{2, 2, 2, 2}, []bool{true, false, false, true}},
		"as time goes by":        {[]time.Duration{0, 30 * s, 60 * s}, []byte{2, 2, 2}, []bool{true, true, true}},
		"started again":          {[]time.Duration{0, s, 2 * s}, []byte{2, 3, 3}, []bool{true, true, false}},
		"two agents on one port": {[]time.Duration{0, s}, []byte{2, 3}, []bool{true, true}},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine()
			for i, at := range row.at {
				where, told := m.Heard(at, lan, hello(row.start[i]))
				if told != row.want[i] || told && where != from || !told && where.IsValid() {
					t.Errorf("at %v: %v, %v; want %v", at, where, told, row.want[i])
				}
			}
		})
	}
}

func TestAnswerToWhoIsNew(t *testing.T) {
	m := newMachine()
	sends(m, 20*time.Second) // the next is due at 26.75 s
	m.Heard(20*time.Second, lan, hello(2))
	if got := m.Next(); got != 20050*time.Millisecond {
		t.Fatalf("answer at %v, want 50 ms later", got)
	}
	m.Sent(20050 * time.Millisecond)
	m.Heard(20100*time.Millisecond, lan, hello(3))
	if got := m.Next(); got != 21100*time.Millisecond {
		t.Errorf("second answer at %v, want 1.05 s after the first", got)
	}
	m.Sent(21100 * time.Millisecond)
	before := m.Next()
	m.Heard(25*time.Second, lan, hello(3))
	if m.Next() != before {
		t.Error("an answer to somebody known")
	}
}

// TestReplayer replays a thousand beacons a second from new addresses: the
// suggestions, the answers and the memory stay within bounds.
func TestReplayer(t *testing.T) {
	m := newMachine()
	told, sent := 0, 0
	addr := netip.MustParseAddr("10.0.0.0")
	for i := range 100_000 {
		now := time.Duration(i) * time.Millisecond
		for m.Next() <= now {
			m.Sent(now)
			sent++
		}
		addr = addr.Next()
		if _, ok := m.Heard(now, addr, hello(byte(i)|2)); ok {
			told++
		}
	}
	if told > 32+8*100 || told < 700 {
		t.Errorf("%d suggestions in 100 s, want about 832", told)
	}
	if sent > 105 {
		t.Errorf("%d beacons in 100 s, want at most one a second", sent)
	}
	if n := beacon.Remembered(m); n > 256 {
		t.Errorf("%d addresses remembered", n)
	}
}

// TestForgetsWhoIsUnheardForLongest: a known peer that speaks stays known while
// others come and go.
func TestForgetsWhoIsUnheardForLongest(t *testing.T) {
	m := newMachine()
	m.Heard(0, lan, hello(2))
	addr := netip.MustParseAddr("10.0.0.0")
	now := time.Duration(0)
	for range 1000 {
		now += time.Second
		addr = addr.Next()
		m.Heard(now, addr, hello(3))
		m.Heard(now, lan, hello(2))
	}
	m.Sent(now)
	before := m.Next()
	m.Heard(now, lan, hello(2))
	if m.Next() != before {
		t.Error("the peer that spoke all the time was taken for new")
	}
}
