package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/serialspan/serialspan/bridge/capture"
	"github.com/serialspan/serialspan/bridge/line"
)

func TestMonitor(t *testing.T) {
	agent := newAgentWithDevices()
	events := []capture.Event{
		{Kind: capture.Line, Text: "115200n81"},
		{Kind: capture.ToDevice, At: 1500 * time.Millisecond, Data: []byte("PING\r\n")},
		{Kind: capture.FromDevice, At: 1501250 * time.Microsecond, Data: []byte("\x01\x03\x00PONG from a stick\xff")},
		{Kind: capture.Modem, At: 2 * time.Second, Mask: line.DTR | line.RTS, On: line.RTS},
		{Kind: capture.Gap, At: 3 * time.Second, Of: capture.FromDevice, Lost: 1500},
		{Kind: capture.Gap, At: 3 * time.Second, Of: capture.ToDevice, Unknown: true},
		{Kind: capture.Gap, At: 3 * time.Second, Of: capture.ToDevice, Unknown: true, Lost: 7},
		{Kind: capture.Purge, At: 4 * time.Second, Bits: 3},
		{Kind: capture.Port, At: 5 * time.Second, Text: "unplugged"},
		{Kind: capture.Port, At: 6 * time.Second, Open: true},
		{Kind: capture.Kind(200), At: 6 * time.Second},
		{Kind: capture.Note, At: 123456 * time.Second, Text: "in use by: \x1b[31mserver"},
	}
	for _, e := range events {
		agent.Records = capture.Append(agent.Records, e)
	}
	socket := serve(t, agent)
	const rest = "" +
		"    2.000000 - modem on: rts; off: dtr\n" +
		"    3.000000 - gap from the device of 1.5 kB\n" +
		"    3.000000 - gap to the device, nobody knows of how much\n" +
		"    3.000000 - gap to the device of 7 B or more\n" +
		"    4.000000 - purged what it had sent and what was on its way to it\n" +
		"    5.000000 - device away: unplugged\n" +
		"    6.000000 - device there\n" +
		"123456.000000 - in use by: ?[31mserver\n"
	for _, test := range []struct {
		args []string
		want string
	}{
		{nil, "    0.000000 - line 115200n81\n" +
			`    1.500000 > PING\r\n` + "\n" +
			`    1.501250 < \x01\x03\x00PONG from a stick\xff` + "\n" + rest},
		{[]string{"--hex"}, "    0.000000 - line 115200n81\n" +
			"    1.500000 > 50 49 4e 47 0d 0a                                PING..\n" +
			"    1.501250 < 01 03 00 50 4f 4e 47 20 66 72 6f 6d 20 61 20 73  ...PONG from a s\n" +
			"    1.501250 < 74 69 63 6b ff                                   tick.\n" + rest},
	} {
		r := command(t, "", append([]string{"monitor", "garage-zwave", "--socket", socket}, test.args...)...)
		if r.code != 0 || r.out != test.want {
			t.Errorf("%v: exit %d, %s\nhave\n%s\nwant\n%s", test.args, r.code, r.err, r.out, test.want)
		}
	}

	file := filepath.Join(t.TempDir(), "stick.pcap")
	if r := command(t, "", "monitor", "nothing", "--capture", file, "--socket", socket); r.code != 3 {
		t.Errorf("no such device: %+v", r)
	}
	if _, err := os.Lstat(file); err == nil {
		t.Error("an empty capture is left")
	}
	if r := command(t, "", "monitor", "garage-zwave", "--capture", file, "--socket", socket); r.code != 0 {
		t.Errorf("capture: %+v", r)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	reader, err := capture.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, err = reader.Read(); err == nil; _, err = reader.Read() {
		n++
	}
	if err != io.EOF || n != len(events) {
		t.Errorf("%d events in the file, %v", n, err)
	}
	if r := command(t, "", "monitor", "garage-zwave", "--capture", file, "--socket", socket); r.code != 4 {
		t.Errorf("a file that is there: %+v", r)
	}
}
