package rfc2217_test

import (
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/bridge/rfc2217"
)

// python returns an interpreter that has pyserial. Debian's package belongs
// to Debian's own interpreter, which need not be the first in PATH.
func python(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"python3", "/usr/bin/python3"} {
		if exec.Command(name, "-c", "import serial.rfc2217").Run() == nil {
			return name
		}
	}
	const reason = "needs pyserial: apt-get install python3-serial"
	if os.Getenv("SERIALSPAN_TEST_REQUIRE") == "1" {
		t.Fatalf("would be skipped, which SERIALSPAN_TEST_REQUIRE=1 forbids: %s", reason)
	}
	t.Skip(reason)
	return ""
}

// loop is a port whose RTS goes to its CTS and DTR to its DSR, with a carrier,
// and whose data comes back.
func loop(outputs line.ModemLines) line.ModemLines {
	lines := line.DCD
	if outputs.Has(line.RTS) {
		lines |= line.CTS
	}
	if outputs.Has(line.DTR) {
		lines |= line.DSR
	}
	return lines
}

func upTo3M(inForce, wanted rfc2217.State) rfc2217.State {
	if wanted.Line.Baud > 3000000 {
		wanted.Line = inForce.Line
	}
	return wanted
}

// serve is a connection with such a port behind it; it returns what was asked
// of the port, but for data.
func serve(conn net.Conn) ([]string, error) {
	defer conn.Close()
	m := rfc2217.New(rfc2217.Config{Modem: loop(0), Grant: upTo3M})
	var requests []string
	out, in := m.Output(nil), make([]byte, 700)
	for {
		if _, err := conn.Write(out); err != nil {
			return requests, nil
		}
		n, err := conn.Read(in)
		if err != nil {
			return requests, nil
		}
		out = out[:0]
		for p := in[:n]; len(p) > 0; {
			r, n := m.Next(p)
			p = p[n:]
			switch r.Kind {
			case rfc2217.KindNone:
			case rfc2217.KindData:
				out = m.AppendData(out, r.Data)
			case rfc2217.KindOutputs:
				m.Modem(loop(r.State.Outputs))
				fallthrough
			default:
				requests = append(requests, describe(r))
			}
			out = m.Output(out)
		}
	}
}

func TestPyserial(t *testing.T) {
	interpreter := python(t)
	for _, tt := range []struct {
		name, options string
		args          []string
		openWithin    time.Duration
	}{
		{name: "all", openWithin: 2 * time.Second},
		{name: "ign_set_control", options: "?ign_set_control", args: []string{"short"}},
		{name: "poll_modem", options: "?poll_modem", args: []string{"short"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer listener.Close()
			asked := make(chan []string, 1)
			go func() {
				conn, err := listener.Accept()
				if err != nil {
					asked <- nil
					return
				}
				requests, _ := serve(conn)
				asked <- requests
			}()
			url := "rfc2217://" + listener.Addr().String() + tt.options
			cmd := exec.CommandContext(t.Context(), interpreter, append([]string{"testdata/client.py", url}, tt.args...)...)
			report, err := cmd.CombinedOutput()
			listener.Close()
			requests := <-asked
			if err != nil {
				t.Fatalf("client: %v\n%s\nrequests %q", err, report, requests)
			}
			t.Logf("%s", report)
			first, _, _ := strings.Cut(string(report), "\n")
			if took, err := time.ParseDuration(strings.TrimPrefix(first, "open ") + "s"); err != nil || tt.openWithin > 0 && took > tt.openWithin {
				t.Errorf("open took %v, %v, want at most %v", took, err, tt.openWithin)
			}
			checkAsked(t, requests, len(tt.args) == 0)
		})
	}
}

// checkAsked tells whether the port was asked for all that client.py does, in
// its order.
func checkAsked(t *testing.T, requests []string, all bool) {
	t.Helper()
	want := []string{"line 57600n81", "outputs dtr", "outputs dtr+rts", "purge 1", "purge 2"}
	if all {
		for _, baud := range []string{"50", "75", "110", "134", "150", "200", "300", "600", "1200", "1800", "2400", "4800",
			"9600", "19200", "38400", "57600", "115200", "65280", "250000", "460800", "921600", "3000000"} {
			want = append(want, "line "+baud+"n81")
		}
	}
	want = append(want, "line 9600n81")
	if all {
		for _, settings := range []string{"o81", "e81", "m81", "s81", "n81", "n71", "n61", "n51", "n51.5", "n51", "n81", "n82", "n81",
			"n81/rtscts", "n81", "n81/xonxoff", "n81"} {
			want = append(want, "line 9600"+settings)
		}
	}
	want = append(want, "outputs dtr", "outputs none", "outputs rts", "outputs dtr+rts", "outputs dtr", "outputs none",
		"break on", "break off", "break on", "break off", "purge 1", "purge 2")
	if !slices.Equal(requests, want) {
		t.Errorf("the port was asked\n%q, want\n%q", requests, want)
	}
}
