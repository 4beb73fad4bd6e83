package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/serialspan/serialspan/bridge/client"
	"github.com/serialspan/serialspan/cmd/serialspan/internal/control/controltest"
	"github.com/serialspan/serialspan/cmd/serialspan/internal/terminal/terminaltest"
)

// watching runs a command until stop is called; its output can be read.
func watching(t *testing.T, args ...string) (out *bufio.Reader, stop func() int) {
	t.Helper()
	reader, writer := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan int, 1)
	go func() {
		a := &app{in: strings.NewReader(""), out: writer, err: io.Discard}
		code := a.run(ctx, args)
		writer.Close()
		ended <- code
	}()
	return bufio.NewReader(reader), func() int {
		cancel()
		go io.Copy(io.Discard, reader)
		return <-ended
	}
}

// TestWatchJSON: one object per line, at once and after a change.
func TestWatchJSON(t *testing.T) {
	agent := newAgentWithDevices()
	socket := serve(t, agent)
	out, stop := watching(t, "devices", "--watch", "--json", "--socket", socket)
	for want := 3; want <= 4; want++ {
		line, err := out.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		var answer client.DevicesAnswer
		if err := json.Unmarshal([]byte(line), &answer); err != nil || answer.API != client.Version || len(answer.Devices) != want {
			t.Errorf("%d devices wanted: %v in %s", want, err, line)
		}
		agent.AddDevice(client.Device{Name: "new", Node: "attic"})
	}
	if code := stop(); code != 0 {
		t.Errorf("exit %d", code)
	}
}

func TestWatchEveryList(t *testing.T) {
	socket := serve(t, newAgentWithDevices())
	for _, name := range []string{"status", "nodes", "devices", "attachments", "sessions"} {
		out, stop := watching(t, name, "--watch", "--socket", socket)
		line, err := out.ReadString('\n')
		if err != nil || !strings.HasPrefix(line, map[string]string{"status": "node ", "nodes": "NAME", "devices": "NAME", "attachments": "DEVICE", "sessions": "ID"}[name]) {
			t.Errorf("%s: %q, %v", name, line, err)
		}
		if code := stop(); code != 0 {
			t.Errorf("%s: exit %d", name, code)
		}
	}
	if r := command(t, "", "nodes", "--watch", "--socket", socket+"-none"); r.code != 5 {
		t.Errorf("without an agent: %+v", r)
	}
}

// TestWatchTerminal: the table is drawn over the last one, in colour and within
// the columns.
func TestWatchTerminal(t *testing.T) {
	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "")
	agent := newAgentWithDevices()
	socket := serve(t, agent)
	person, program := terminaltest.Open(t)
	terminaltest.Resize(t, program, 40)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan int, 1)
	go func() {
		a := &app{in: strings.NewReader(""), out: program, err: io.Discard}
		ended <- a.run(ctx, []string{"devices", "--watch", "--socket", socket})
	}()
	first := expect(t, person, "\x1b[J")
	if !strings.HasPrefix(first, "\x1b[2J\x1b[H") || !strings.Contains(first, "\x1b[33min-use") {
		t.Errorf("drew %q", first)
	}
	agent.AddDevice(client.Device{Name: "new", Node: "attic", State: client.DeviceAvailable})
	second := expect(t, person, "\x1b[J")
	if strings.Contains(second, "\x1b[2J") || !strings.HasPrefix(second, "\x1b[H") || !strings.Contains(second, "\x1b[32mavaila") {
		t.Errorf("drew over it %q", second)
	}
	for line := range strings.Lines(second) {
		for _, escape := range []string{"\x1b[H", "\x1b[K", "\x1b[J", green, yellow, red, plain} {
			line = strings.ReplaceAll(line, escape, "")
		}
		if utf8.RuneCountInString(strings.TrimRight(line, "\r\n")) > 40 && strings.HasPrefix(line, "NAME") {
			t.Errorf("too wide: %q", line)
		}
	}
	cancel()
	if code := <-ended; code != 0 {
		t.Errorf("exit %d", code)
	}
}

func TestNoColour(t *testing.T) {
	_, program := terminaltest.Open(t)
	t.Setenv("TERM", "xterm")
	for _, test := range []struct {
		noColor, term string
		w             io.Writer
		want          bool
	}{
		{"", "xterm", program, true}, {"1", "xterm", program, false}, {"", "dumb", program, false}, {"", "xterm", &buffer{}, false},
	} {
		t.Setenv("NO_COLOR", test.noColor)
		t.Setenv("TERM", test.term)
		if p := newPage(test.w); p.colour != test.want {
			t.Errorf("%+v: %v", test, p.colour)
		}
	}
}

// TestRedrawFitsRows: a list that is longer than the terminal does not scroll.
func TestRedrawFitsRows(t *testing.T) {
	p := &page{rows: 5}
	for range 20 {
		p.line("a", "b")
	}
	var out buffer
	if err := p.redraw(&out, true); err != nil {
		t.Fatal(err)
	}
	if lines := strings.Count(out.String(), "\n"); lines != 4 || !strings.Contains(out.String(), "… 17 more lines") {
		t.Errorf("%d lines: %q", lines, out.String())
	}
}

// TestComplete asks as the scripts of bash, zsh and fish do.
func TestComplete(t *testing.T) {
	socket := serve(t, newAgentWithDevices())
	if r := command(t, "", "attach", "meter", "--pty", "/run/serialspan/meter", "--socket", socket); r.code != 0 {
		t.Fatal(r)
	}
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"console", "gar"}, "garage-zwave\tzwave on garage, in-use\n:4\n"},
		{[]string{"attach", "m"}, "meter\tserial on shed, away\nmeter@attic\tserial on attic, available\n:4\n"},
		{[]string{"resolve", "meter@s"}, "meter@shed\tserial on shed, away\n:4\n"},
		{[]string{"resolve", "meter@shed", "x"}, ":4\n"},
		{[]string{"ping", "g"}, "garage\ts6ufnswi, alive\n:4\n"},
		{[]string{"detach", ""}, "/run/serialspan/meter\tmeter\n:4\n"},
	} {
		r := command(t, "", append([]string{"__complete", "--socket", socket}, test.args...)...)
		if r.code != 0 || r.out != test.want {
			t.Errorf("%v: %+v, want %q", test.args, r, test.want)
		}
	}
	if r := command(t, "", "__complete", "--socket", socket+"-none", "console", ""); r.code != 0 || r.out != ":4\n" {
		t.Errorf("without an agent: %+v", r)
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if r := command(t, "", "completion", shell); r.code != 0 || !strings.Contains(r.out, "__complete") {
			t.Errorf("%s: exit %d, %s", shell, r.code, r.err)
		}
	}
}

func TestPing(t *testing.T) {
	socket := serve(t, newAgentWithDevices())
	for _, test := range []struct {
		args []string
		want result
	}{
		{[]string{"garage", "-c", "1"}, result{0, "garage  1.25 ms  direct 192.0.2.2:51821  its clock is 1h00m behind\n", ""}},
		{[]string{"garage", "-c", "1", "--json"}, result{0, `{"api":"serialspan/v1","node":"garage","id":"` + controltest.ID(2).String() + `","rtt_ms":1.25,"skew_s":-3600.000,"path":"direct","endpoint":"192.0.2.2:51821"}` + "\n", ""}},
		{[]string{"nothing"}, result{3, "", "serialspan: ping \"nothing\": no such node; \"serialspan nodes\" lists them\n"}},
	} {
		if r := command(t, "", append([]string{"ping", "--socket", socket}, test.args...)...); r != test.want {
			t.Errorf("%v:\nhave %+v\nwant %+v", test.args, r, test.want)
		}
	}
}

func TestSettingsFlags(t *testing.T) {
	for _, test := range []struct {
		args []string
		code int
		err  string
	}{
		{[]string{"--set", "node.name"}, 2, "write --set KEY=VALUE"},
		{[]string{"--set", "node.nam=x"}, 1, `flag --set: node.nam: unknown key; did you mean "node.name"?`},
		{[]string{"--socket", "/" + strings.Repeat("x", 120)}, 1, "flag --socket: control.socket: 121 bytes long"},
	} {
		t.Setenv("SERIALSPAN_CLUSTER_SECRET_FILE", "/nowhere")
		if r := command(t, "", append([]string{"agent"}, test.args...)...); r.code != test.code || !strings.Contains(r.err, test.err) {
			t.Errorf("%v: %+v", test.args, r)
		}
	}
	if r := command(t, "", "status", "--socket", "/"+strings.Repeat("x", 120)); r.code != 2 || !strings.Contains(r.err, "121 bytes long, the kernel takes 107") {
		t.Errorf("status: %+v", r)
	}
}
