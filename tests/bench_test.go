package tests

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"

	"github.com/serialspan/serialspan/bridge/client"
	"github.com/serialspan/serialspan/tests/internal/lab"
)

const (
	benchRounds = 7
	benchPings  = 1000 // in a round
	benchSize   = 16   // bytes
)

// BenchmarkFirstLight measures the round trip of 16 bytes from an application's
// tty to an echoing device, through two agents on loopback and through what
// people use today: ser2net without chardelay and socat, over TCP without any
// encryption. Both run at the same time and are asked in turns, so that the
// machine's moods hit both. `make bench-first-light` runs it.
func BenchmarkFirstLight(b *testing.B) {
	lab.NeedTools(b, "ser2net", "socat")
	ways := []*way{
		{name: "the PTY alone", app: lab.OpenTTY(b, echo(b).Path)},
		{name: "ser2net (chardelay off) + socat, plain TCP", app: ser2net(b)},
	}
	agents, app := throughAgents(b)
	idle := memory(b, agents)
	ways = append(ways, &way{name: "serialspan, two agents", app: app})
	for range benchRounds {
		for _, w := range ways {
			if err := w.ping(benchPings); err != nil {
				b.Fatalf("%s: %v", w.name, err)
			}
		}
	}

	var text strings.Builder
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(table, "\n%d bytes, %d rounds of %d\tmedian\tp90\tp99\tmedian / ser2net's\tmedians of the rounds\t\n", benchSize, benchRounds, benchPings)
	for _, w := range ways {
		fmt.Fprintf(table, "%s\t%v\t%v\t%v\t%.2f\t%v\t\n", w.name, w.quantile(0.5), w.quantile(0.9), w.quantile(0.99),
			float64(w.quantile(0.5))/float64(ways[1].quantile(0.5)), w.rounds)
	}
	_ = table.Flush()
	size, err := os.Stat(lab.Program(b))
	if err != nil {
		b.Fatal(err)
	}
	fmt.Fprintf(&text, "resident memory of an agent, idle: %s; after the round trips: %s\n", idle, memory(b, agents))
	fmt.Fprintf(&text, "size of the program: %.1f MB\n", float64(size.Size())/1e6)
	b.Log(text.String())
	b.ReportMetric(float64(ways[2].quantile(0.5).Microseconds()), "µs/roundtrip")
	b.ReportMetric(float64(ways[2].quantile(0.5))/float64(ways[1].quantile(0.5)), "x-ser2net")
	b.ReportMetric(0, "ns/op") // means nothing here
}

// way is one chain between an application and an echoing device.
type way struct {
	name    string
	app     *os.File
	samples []time.Duration
	rounds  []time.Duration // median of each
}

// ping measures n round trips, one after the other.
func (w *way) ping(n int) error {
	if err := w.app.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return err
	}
	sent, got := make([]byte, benchSize), make([]byte, benchSize)
	first := len(w.samples)
	for i := range n {
		copy(sent, fmt.Sprintf("%016d", i))
		start := time.Now()
		if _, err := w.app.Write(sent); err != nil {
			return err
		}
		if _, err := io.ReadFull(w.app, got); err != nil {
			return err
		}
		w.samples = append(w.samples, time.Since(start))
		if string(got) != string(sent) {
			return fmt.Errorf("sent %q, got %q", sent, got)
		}
	}
	w.rounds = append(w.rounds, quantile(w.samples[first:], 0.5))
	return nil
}

func (w *way) quantile(q float64) time.Duration { return quantile(w.samples, q) }

func quantile(samples []time.Duration, q float64) time.Duration {
	sorted := slices.Sorted(slices.Values(samples))
	return sorted[int(q*float64(len(sorted)-1))].Round(time.Microsecond)
}

// echo returns a device that says what it is told.
func echo(b *testing.B) *lab.TTY {
	device := lab.NewTTY(b)
	var done sync.WaitGroup
	done.Go(func() { _, _ = io.Copy(device, device) })
	b.Cleanup(func() {
		_ = device.SetDeadline(time.Unix(1, 0))
		done.Wait()
	})
	return device
}

// ser2net returns the application's end of ser2net and socat.
func ser2net(b *testing.B) *os.File {
	dir := b.TempDir()
	address := freeAddress(b, "tcp")
	host, port, _ := net.SplitHostPort(address)
	config := fmt.Sprintf(`connection: &stick
  accepter: tcp(nodelay),%s,%s
  connector: serialdev,%s,115200n81,local
  enable: on
  options:
    chardelay: false
`, host, port, echo(b).Path)
	file, link := filepath.Join(dir, "ser2net.yaml"), filepath.Join(dir, "tty")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		b.Fatal(err)
	}
	run(b, "ser2net", "-n", "-c", file)
	// Not asked first whether it listens: it would take the question for a user.
	run(b, "socat", "PTY,link="+link+",rawer", "TCP:"+address+",nodelay,retry=100,interval=0.05")
	lab.WaitFor(b, "socat", 5*time.Second, func() error {
		_, err := os.Stat(link)
		return err
	})
	app := lab.OpenTTY(b, link)
	answers(b, app)
	return app
}

// answers waits until the device echoes, which tells that the chain is up.
func answers(b *testing.B, app *os.File) {
	b.Helper()
	lab.WaitFor(b, "an echo", 10*time.Second, func() error {
		_ = app.SetDeadline(time.Now().Add(time.Second))
		if _, err := app.Write([]byte{'?'}); err != nil {
			return err
		}
		got := make([]byte, 1)
		_, err := io.ReadFull(app, got)
		return err
	})
}

// throughAgents returns two agents on loopback and the application's end of an
// attachment of the second to an echoing device of the first.
func throughAgents(b *testing.B) ([]*lab.Agent, *os.File) {
	secret, device := lab.NewSecret(b), echo(b)
	first, second := freeAddress(b, "udp"), freeAddress(b, "udp")
	edge := lab.StartAgent(b, nil, "edge", secret, lab.Settings{
		"mesh":    lab.Settings{"listen": first},
		"devices": lab.Device("echo", device.Path),
	})
	consumer := lab.StartAgent(b, nil, "consumer", secret, lab.Settings{
		"mesh":    lab.Settings{"listen": second},
		"cluster": lab.Settings{"join": []string{first}},
	})
	consumer.WaitDevice("echo", 15*time.Second)
	link := filepath.Join(consumer.Dir, "tty")
	consumer.MustRun("attach", "echo", "--pty", link)
	app := lab.OpenTTY(b, link)
	consumer.WaitAttachment(link, client.AttachmentConnected, 10*time.Second)
	answers(b, app)
	return []*lab.Agent{edge, consumer}, app
}

// freeAddress returns an address on loopback that nobody has now.
func freeAddress(b *testing.B, network string) string {
	b.Helper()
	if network == "udp" {
		conn, err := net.ListenPacket(network, "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		defer conn.Close()
		return conn.LocalAddr().String()
	}
	listener, err := net.Listen(network, "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// run starts a program that ends with the benchmark.
func run(b *testing.B, program string, args ...string) {
	b.Helper()
	output := &lockedBuffer{}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	cmd.Stdout, cmd.Stderr = output, output
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		cancel()
		_ = cmd.Wait()
		if b.Failed() {
			b.Logf("%s:\n%s", program, output)
		}
	})
}

// memory returns the resident memory of the agents for people.
func memory(b *testing.B, agents []*lab.Agent) string {
	b.Helper()
	var parts []string
	var errs error
	for _, a := range agents {
		bytes, err := a.ResidentMemory()
		errs = errors.Join(errs, err)
		parts = append(parts, fmt.Sprintf("%s %.1f MB", a.Name, float64(bytes)/1e6))
	}
	if errs != nil {
		b.Fatal(errs)
	}
	return strings.Join(parts, ", ")
}
