package bench

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/serialspan/serialspan/tests/internal/lab"
)

// patience bounds one load of one round.
const patience = 5 * time.Minute

// device is a stick that echoes, or says what it is told to.
type device struct {
	*lab.TTY
	echoing sync.WaitGroup
}

// newDevice returns a device that echoes.
func newDevice(tb testing.TB) *device {
	d := &device{TTY: lab.NewTTY(tb)}
	d.echo()
	tb.Cleanup(d.quiet)
	return d
}

func (d *device) echo() {
	d.echoing.Go(func() { _, _ = io.Copy(struct{ io.Writer }{d.TTY}, struct{ io.Reader }{d.TTY}) })
}

// quiet ends the echo.
func (d *device) quiet() {
	_ = d.SetDeadline(time.Unix(1, 0))
	d.echoing.Wait()
	_ = d.SetDeadline(time.Time{})
}

// within bounds what f does with the ends: it fails when patience is over or
// ctx ends.
func within(ctx context.Context, ends []lab.End, f func() error) error {
	deadline := time.Now().Add(patience)
	for _, end := range ends {
		if err := end.SetDeadline(deadline); err != nil {
			return err
		}
	}
	stop := context.AfterFunc(ctx, func() {
		for _, end := range ends {
			_ = end.SetDeadline(time.Unix(1, 0))
		}
	})
	err := f()
	if !stop() {
		return errors.Join(ctx.Err(), err)
	}
	return err
}

// ping makes n round trips of size bytes, one after the other, and returns how
// long each took, in seconds.
func ping(ctx context.Context, app *os.File, size, n int) ([]float64, error) {
	took := make([]float64, 0, n)
	sent, got := make([]byte, size), make([]byte, size)
	random := rand.New(rand.NewPCG(uint64(size), 0))
	err := within(ctx, []lab.End{app}, func() error {
		for range n {
			for i := range sent {
				sent[i] = byte(random.Uint32())
			}
			start := time.Now()
			if _, err := app.Write(sent); err != nil {
				return err
			}
			if _, err := io.ReadFull(app, got); err != nil {
				return err
			}
			took = append(took, time.Since(start).Seconds())
			if !bytes.Equal(got, sent) {
				return fmt.Errorf("sent %x, got %x", sent, got)
			}
		}
		return nil
	})
	return took, err
}

// payload returns size random bytes, the same ones for a size.
func payload(size int) []byte {
	p := make([]byte, size)
	random := rand.NewChaCha8([32]byte{byte(size), byte(size >> 8), byte(size >> 16), byte(size >> 24)})
	_, _ = random.Read(p)
	return p
}

// echoed sends data through the echoing device and returns how long it took
// until all of it was back.
func echoed(ctx context.Context, app *os.File, data []byte) (time.Duration, error) {
	start := time.Now()
	err := within(ctx, []lab.End{app}, func() error {
		var sending sync.WaitGroup
		var wrong error
		sending.Go(func() {
			if _, wrong = app.Write(data); wrong != nil {
				_ = app.SetDeadline(time.Unix(1, 0))
			}
		})
		err := receive(app, data)
		if err != nil {
			_ = app.SetDeadline(time.Unix(1, 0))
		}
		sending.Wait()
		return errors.Join(wrong, err)
	})
	return time.Since(start), err
}

// streamed lets the device say data, without an echo, and returns how long it
// took until the application had all of it.
func streamed(ctx context.Context, d *device, app *os.File, data []byte) (time.Duration, error) {
	d.quiet()
	defer d.echo()
	start := time.Now()
	err := within(ctx, []lab.End{app, d.TTY}, func() error {
		var sending sync.WaitGroup
		var wrong error
		sending.Go(func() {
			if _, wrong = d.Write(data); wrong != nil {
				_ = app.SetDeadline(time.Unix(1, 0))
			}
		})
		err := receive(app, data)
		if err != nil {
			_ = d.SetDeadline(time.Unix(1, 0))
		}
		sending.Wait()
		return errors.Join(wrong, err)
	})
	took := time.Since(start)
	_ = d.SetDeadline(time.Time{})
	return took, err
}

// receive reads as much as data is long and compares the hashes.
func receive(r io.Reader, data []byte) error {
	hash, buffer, got := sha256.New(), make([]byte, 64<<10), 0
	for got < len(data) {
		n, err := r.Read(buffer[:min(len(buffer), len(data)-got)])
		hash.Write(buffer[:n])
		got += n
		if err != nil {
			return fmt.Errorf("after %d of %d bytes: %w", got, len(data), err)
		}
	}
	if want := sha256.Sum256(data); !bytes.Equal(hash.Sum(nil), want[:]) {
		return fmt.Errorf("the %d bytes are not those that were sent", got)
	}
	return nil
}

// answers waits until the device echoes a byte, which tells that the chain
// stands, and takes away what was echoed too late.
func answers(tb testing.TB, app *os.File) {
	tb.Helper()
	lab.WaitFor(tb, "an echo", 15*time.Second, func() error {
		_ = app.SetDeadline(time.Now().Add(time.Second))
		if _, err := app.Write([]byte{'?'}); err != nil {
			return err
		}
		_, err := io.ReadFull(app, make([]byte, 1))
		return err
	})
	for late := make([]byte, 16); ; {
		_ = app.SetDeadline(time.Now().Add(50 * time.Millisecond))
		if _, err := app.Read(late); err != nil {
			return
		}
	}
}

func TestReceive(t *testing.T) {
	data := payload(100_000)
	wrong := bytes.Clone(data)
	wrong[77_777] ^= 1
	for _, c := range []struct {
		name string
		got  []byte
		ok   bool
	}{
		{"the same", data, true},
		{"one bit", wrong, false},
		{"one byte less", data[:len(data)-1], false},
		{"one byte lost", slices.Concat(data[:5000], data[5001:], []byte{0}), false},
	} {
		if err := receive(bytes.NewReader(c.got), data); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if bytes.Equal(payload(100_001)[:100_000], data) {
		t.Error("payloads of two sizes begin alike")
	}
}

// The harness finds what a chain does wrong: this one swaps two bytes.
func TestTalkFindsErrors(t *testing.T) {
	tty := lab.NewTTY(t)
	app := lab.OpenTTY(t, tty.Path)
	data := payload(lineRate / 10)
	delays, err := talk(t.Context(), tty, app, data)
	if err != nil || len(delays) == 0 || quantile(delays, 0) <= 0 {
		t.Errorf("delays %v, %v", delays, err)
	}
	if _, err := talk(t.Context(), swapping{tty}, app, data); err == nil {
		t.Error("two bytes were swapped, and nothing was said")
	}
}

type swapping struct{ *lab.TTY }

func (s swapping) Write(p []byte) (int, error) {
	q := bytes.Clone(p)
	if len(q) > 1 {
		q[0], q[1] = q[1], q[0]
	}
	return s.TTY.Write(q)
}
