package rfc2217_test

import (
	"bytes"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/bridge/rfc2217"
)

const agree = "IAC DO 0 IAC WILL 0 IAC WILL 44"

// active returns a machine with BINARY and COM-PORT agreed and nothing left
// to say.
func active(t testing.TB, config rfc2217.Config) *rfc2217.Machine {
	t.Helper()
	m := rfc2217.New(config)
	feed(m, wire(t, agree))
	if m.Output(nil); !m.Active() {
		t.Fatal("COM-PORT is not active")
	}
	return m
}

func expect(t testing.TB, m *rfc2217.Machine, what, want string) {
	t.Helper()
	if got := m.Output(nil); !bytes.Equal(got, wire(t, want)) {
		t.Errorf("%s: the server says %v, want %s", what, got, want)
	}
}

// TestGrant: what the device cannot do is answered with what is in force, and
// not asked of it.
func TestGrant(t *testing.T) {
	stick := func(inForce, wanted rfc2217.State) rfc2217.State {
		if wanted.Line.Baud > 921600 || wanted.Line.Parity == line.ParityMark || wanted.Line.DataBits == 5 {
			wanted.Line = inForce.Line
		}
		if wanted.Line.Baud == 250000 {
			wanted.Line.Baud = 249999
		}
		wanted.Outputs = inForce.Outputs
		wanted.Break = inForce.Break
		return wanted
	}
	for _, tt := range []struct{ name, client, server, requests string }{
		{"granted", "IAC SB 44 1 0 14 16 0 IAC SE", "IAC SB 44 101 0 14 16 0 IAC SE", "line 921600n81"},
		{"rate too high", "IAC SB 44 1 0 15 66 64 IAC SE", "IAC SB 44 101 0 1 194 0 IAC SE", ""},
		{"rounded", "IAC SB 44 1 0 3 208 144 IAC SE", "IAC SB 44 101 0 3 208 143 IAC SE", "line 249999n81"},
		{"parity", "IAC SB 44 3 4 IAC SE", "IAC SB 44 103 1 IAC SE", ""},
		{"size", "IAC SB 44 2 5 IAC SE", "IAC SB 44 102 8 IAC SE", ""},
		{"same again", "IAC SB 44 2 8 IAC SE", "IAC SB 44 102 8 IAC SE", ""},
		{"no DTR", "IAC SB 44 5 9 IAC SE", "IAC SB 44 105 8 IAC SE", ""},
		{"DTR as it is", "IAC SB 44 5 8 IAC SE", "IAC SB 44 105 8 IAC SE", "outputs dtr"},
		{"no RTS", "IAC SB 44 5 11 IAC SE", "IAC SB 44 105 12 IAC SE", ""},
		{"no break", "IAC SB 44 5 5 IAC SE", "IAC SB 44 105 6 IAC SE", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := active(t, rfc2217.Config{State: rfc2217.State{Line: line.Default(), Outputs: line.DTR}, Grant: stick})
			if got := strings.Join(feed(m, wire(t, tt.client)), ", "); got != tt.requests {
				t.Errorf("requests %q, want %q", got, tt.requests)
			}
			expect(t, m, "answer", tt.server)
		})
	}
	t.Run("nonsense granted", func(t *testing.T) {
		m := active(t, rfc2217.Config{Grant: func(_, _ rfc2217.State) rfc2217.State { return rfc2217.State{Line: line.Settings{Parity: 77}} }})
		feed(m, wire(t, "IAC SB 44 3 2 IAC SE IAC SB 44 3 0 IAC SE"))
		expect(t, m, "answer", "IAC SB 44 103 1 IAC SE IAC SB 44 103 1 IAC SE")
	})
}

// TestOutputs: how an output stands is told when it is asked for; a request is
// of the one output that the client names.
func TestOutputs(t *testing.T) {
	m := active(t, rfc2217.Config{State: rfc2217.State{Outputs: line.ModemOutputs}})
	m.Outputs(line.ModemOutputs, line.RTS|line.CTS)
	expect(t, m, "unasked", "")
	feed(m, wire(t, "IAC SB 44 5 7 IAC SE IAC SB 44 5 10 IAC SE"))
	expect(t, m, "asked", "IAC SB 44 105 9 IAC SE IAC SB 44 105 11 IAC SE")
	m.Outputs(line.DTR, line.DTR)
	request, _ := m.Next(wire(t, "IAC SB 44 5 12 IAC SE"))
	if request.Kind != rfc2217.KindOutputs || request.Mask != line.RTS || request.State.Outputs != line.DTR {
		t.Errorf("request %+v", request)
	}
}

// TestCorrect: what fails later is told unasked, each value that differs once.
func TestCorrect(t *testing.T) {
	m := active(t, rfc2217.Config{})
	feed(m, wire(t, "IAC SB 44 1 0 14 16 0 IAC SE IAC SB 44 5 8 IAC SE IAC SB 44 5 5 IAC SE"))
	m.Output(nil)
	really := rfc2217.State{Line: line.Default()}
	m.Correct(really)
	expect(t, m, "failed rate, DTR, break", "IAC SB 44 101 0 1 194 0 IAC SE IAC SB 44 105 6 IAC SE IAC SB 44 105 9 IAC SE")
	m.Correct(really)
	expect(t, m, "told already", "")

	other, err := line.Parse("9600e72/rtscts")
	if err != nil {
		t.Fatal(err)
	}
	m.Correct(rfc2217.State{Line: other, Outputs: line.ModemOutputs, Break: true})
	expect(t, m, "all changed", "IAC SB 44 101 0 0 37 128 IAC SE IAC SB 44 102 7 IAC SE IAC SB 44 103 3 IAC SE IAC SB 44 104 2 IAC SE IAC SB 44 105 3 IAC SE"+
		" IAC SB 44 105 5 IAC SE IAC SB 44 105 8 IAC SE IAC SB 44 105 11 IAC SE")
	if got := m.State(); got.Line != other || got.Outputs != line.ModemOutputs || !got.Break {
		t.Errorf("state %+v", got)
	}
	m.Correct(rfc2217.State{Outputs: line.ModemOutputs, Break: true})
	expect(t, m, "line unknown", "")

	feed(m, wire(t, "IAC SB 44 1 14 IAC SE"))
	m.Output(nil)
	m.Correct(rfc2217.State{Line: other, Outputs: line.ModemOutputs, Break: true})
	expect(t, m, "Cisco's client", "IAC SB 44 101 8 IAC SE")

	plain := rfc2217.New(rfc2217.Config{})
	plain.Output(nil)
	plain.Correct(rfc2217.State{Line: other})
	expect(t, plain, "plain Telnet", "")
	feed(plain, wire(t, agree+" IAC SB 44 1 0 0 0 0 IAC SE"))
	expect(t, plain, "asked later", "IAC SB 44 107 0 IAC SE IAC SB 44 101 0 0 37 128 IAC SE")
}

// TestModem: levels and marks, cut to the mask, at once.
func TestModem(t *testing.T) {
	m := rfc2217.New(rfc2217.Config{})
	m.Output(nil)
	m.Modem(line.DCD)
	expect(t, m, "not active", "")
	feed(m, wire(t, agree))
	expect(t, m, "unasked after activation, without marks", "IAC SB 44 107 128 IAC SE")
	for _, step := range []struct {
		what, client string
		lines        line.ModemLines
		want         string
	}{
		{"no change", "", line.DCD | line.DTR, ""},
		{"cts on", "", line.DCD | line.CTS, "IAC SB 44 107 145 IAC SE"},
		{"cts off", "", line.DCD, "IAC SB 44 107 129 IAC SE"},
		{"ri on has no mark", "", line.DCD | line.RI, "IAC SB 44 107 192 IAC SE"},
		{"ri off is the trailing edge", "", line.DCD, "IAC SB 44 107 132 IAC SE"},
		{"all change", "", line.CTS | line.DSR | line.RI, "IAC SB 44 107 123 IAC SE"},
		{"mask cts: dsr is not told", "IAC SB 44 11 16 IAC SE", line.CTS | line.RI, "IAC SB 44 111 16 IAC SE"},
		{"mask cts: its fall is, though the value is 0", "", line.RI, "IAC SB 44 107 0 IAC SE"},
		{"mask of marks", "IAC SB 44 11 2 IAC SE", line.RI | line.DSR, "IAC SB 44 111 2 IAC SE IAC SB 44 107 2 IAC SE"},
		{"mask 0", "IAC SB 44 11 0 IAC SE", line.CTS, "IAC SB 44 111 0 IAC SE"},
		{"a poll has no mask", "IAC SB 44 7 IAC SE", line.CTS, "IAC SB 44 107 23 IAC SE"},
		{"a poll forgets marks", "IAC SB 44 7 IAC SE", line.CTS, "IAC SB 44 107 16 IAC SE"},
	} {
		feed(m, wire(t, step.client))
		m.Modem(step.lines)
		expect(t, m, step.what, step.want)
	}
}

// TestLineState: the mask is 0 at first; levels are told when they go on,
// events when they come.
func TestLineState(t *testing.T) {
	m := active(t, rfc2217.Config{})
	m.LineState(rfc2217.LineBreak)
	expect(t, m, "no mask", "")
	feed(m, wire(t, "IAC SB 44 6 IAC SE IAC SB 44 6 IAC SE"))
	expect(t, m, "poll, and again", "IAC SB 44 106 16 IAC SE IAC SB 44 106 0 IAC SE")
	feed(m, wire(t, "IAC SB 44 10 118 IAC SE"))
	expect(t, m, "mask", "IAC SB 44 110 118 IAC SE")
	for _, step := range []struct {
		what  string
		state rfc2217.LineState
		want  string
	}{
		{"framing error is not in the mask", rfc2217.LineFramingError, ""},
		{"overrun", rfc2217.LineOverrun, "IAC SB 44 106 2 IAC SE"},
		{"overrun again", rfc2217.LineOverrun, "IAC SB 44 106 2 IAC SE"},
		{"sent", rfc2217.LineHoldingEmpty | rfc2217.LineShiftingEmpty, "IAC SB 44 106 96 IAC SE"},
		{"still sent", rfc2217.LineHoldingEmpty | rfc2217.LineShiftingEmpty, ""},
		{"sending", 0, ""},
		{"break while sent", rfc2217.LineHoldingEmpty | rfc2217.LineBreak, "IAC SB 44 106 48 IAC SE"},
	} {
		m.LineState(step.state)
		expect(t, m, step.what, step.want)
	}
}

func TestSuspend(t *testing.T) {
	m := rfc2217.New(rfc2217.Config{})
	m.Output(nil)
	m.Suspend()
	m.Resume()
	expect(t, m, "plain Telnet", "")
	m = active(t, rfc2217.Config{})
	m.Suspend()
	m.Resume()
	expect(t, m, "both", "IAC SB 44 108 IAC SE IAC SB 44 109 IAC SE")
	feed(m, wire(t, "IAC SB 44 8 IAC SE"))
	if !m.Suspended() {
		t.Error("not suspended")
	}
	feed(m, wire(t, "IAC SB 44 9 IAC SE"))
	if m.Suspended() {
		t.Error("suspended")
	}
	feed(m, wire(t, "IAC SB 44 8 IAC SE IAC WONT 44"))
	if m.Suspended() || m.Active() {
		t.Error("suspended without COM-PORT")
	}
}

// TestBinary: CR needs a companion until BINARY is agreed, each way by itself.
func TestBinary(t *testing.T) {
	m := rfc2217.New(rfc2217.Config{})
	m.Output(nil)
	send := func(p string) string { return string(m.AppendData(nil, []byte(p))) }
	receive := func(p string) string { return strings.Join(joined(feed(m, []byte(p))), ", ") }
	if got := send("a\rb\r\nc\xff\r"); got != "a\r\x00b\r\nc\xff\xff\r\x00" {
		t.Errorf("sent %q", got)
	}
	if got := receive("a\r\x00b\r\nc\r\r\x00\xff\xff\r"); got != "data 'a' 13 'b' 13 10 'c' 13 13 255 13" {
		t.Errorf("received %s", got)
	}
	if got := receive("\x00\x00d\r\xff\xf1\x00"); got != "data 0 'd' 13 0" {
		t.Errorf("received %s", got)
	}
	feed(m, wire(t, "IAC WILL 0"))
	if got := receive("a\r\x00"); got != "data 'a' 13 0" {
		t.Errorf("received with BINARY %s", got)
	}
	if got := send("\r"); got != "\r\x00" {
		t.Errorf("sent before BINARY %q", got)
	}
	feed(m, wire(t, "IAC DO 0"))
	if got := send("\r\x00\xff\xff\r"); got != "\r\x00\xff\xff\xff\xff\r" {
		t.Errorf("sent with BINARY %q", got)
	}
}

// TestBounds: a subnegotiation without end costs nothing and ends at last.
func TestBounds(t *testing.T) {
	m := active(t, rfc2217.Config{Signature: strings.Repeat("x", 100)})
	long := append(wire(t, "IAC SB 44 0"), bytes.Repeat([]byte("s"), 1<<20)...)
	if got := feed(m, long); got != nil {
		t.Errorf("requests %q", got)
	}
	feed(m, wire(t, "IAC SE IAC SB 44 0 IAC SE"))
	if got, want := m.Output(nil), wire(t, "IAC SB 44 100 '"+strings.Repeat("x", 24)+"' IAC SE"); !bytes.Equal(got, want) {
		t.Errorf("signature %q", got)
	}
	limit := append(append(wire(t, "IAC SB 44 0"), bytes.Repeat([]byte("s"), 78)...), wire(t, "IAC SE")...)
	if got, want := feed(m, limit), []string{"signature '" + strings.Repeat("s", 78) + "'"}; !slices.Equal(got, want) {
		t.Errorf("requests %q", got)
	}
	if got := feed(m, slices.Insert(limit, 4, 's')); got != nil {
		t.Errorf("one more: %q", got)
	}
}

func TestBreakOnSync(t *testing.T) {
	m := rfc2217.New(rfc2217.Config{BreakOnSync: true})
	if got := feed(m, wire(t, "IAC DM IAC BRK")); !slices.Equal(got, []string{"timed break", "timed break"}) {
		t.Errorf("requests %q", got)
	}
}

// TestConfig: each field of Config does something, so that none is forgotten.
func TestConfig(t *testing.T) {
	exercised := []string{"Signature", "State", "Modem", "Grant", "BreakOnSync"}
	var fields []string
	for _, f := range reflect.VisibleFields(reflect.TypeFor[rfc2217.Config]()) {
		fields = append(fields, f.Name)
	}
	if !slices.Equal(fields, exercised) {
		t.Errorf("fields %q, of which these tests know %q", fields, exercised)
	}
	m := rfc2217.New(rfc2217.Config{})
	if got := m.State(); got.Line != line.Default() {
		t.Errorf("state at first %+v", got)
	}
}

// TestDataAllocates: data without IAC is passed on as it is, both ways.
func TestDataAllocates(t *testing.T) {
	m := active(t, rfc2217.Config{})
	data := bytes.Repeat([]byte("0123456789abcde\r"), 256)
	escaped := bytes.Repeat([]byte("0123456789abcd\xff\xff"), 256)
	out := make([]byte, 0, 2*len(data))
	if n := testing.AllocsPerRun(100, func() {
		r, n := m.Next(data)
		if n != len(data) || &r.Data[0] != &data[0] || len(r.Data) != len(data) {
			t.Fatal("data is not passed through")
		}
		for p := escaped; len(p) > 0; p = p[n:] {
			_, n = m.Next(p)
		}
		out = m.Output(m.AppendData(out[:0], data))
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if !bytes.Equal(out, data) {
		t.Error("data is changed")
	}
}
