package terminal_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/serialspan/serialspan/cmd/serialspan/internal/terminal"
	"github.com/serialspan/serialspan/cmd/serialspan/internal/terminal/terminaltest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestIs(t *testing.T) {
	_, program := terminaltest.Open(t)
	terminaltest.Resize(t, program, 93)
	if columns, rows := terminal.Size(program); !terminal.Is(program) || columns != 93 || rows != 24 {
		t.Errorf("a terminal: %v, %d columns, %d rows", terminal.Is(program), columns, rows)
	}
	for _, other := range []any{&bytes.Buffer{}, nil} {
		if columns, rows := terminal.Size(other); terminal.Is(other) || columns != 0 || rows != 0 {
			t.Errorf("%T is a terminal", other)
		}
	}
}

func TestMakeRawRestores(t *testing.T) {
	_, program := terminaltest.Open(t)
	before := terminaltest.Settings(t, program)
	restore, err := terminal.MakeRaw(program)
	if err != nil {
		t.Fatal(err)
	}
	if raw := terminaltest.Settings(t, program); raw.Lflag&(unix.ECHO|unix.ICANON|unix.ISIG) != 0 || raw.Iflag&unix.IXON != 0 || raw.Oflag&unix.OPOST != 0 {
		t.Errorf("not raw: %+v", raw)
	}
	restore()
	restore()
	if after := terminaltest.Settings(t, program); after != before {
		t.Errorf("before %+v\nafter %+v", before, after)
	}
}

func TestAskWithoutEcho(t *testing.T) {
	person, program := terminaltest.Open(t)
	before := terminaltest.Settings(t, program)
	type answer struct {
		text string
		err  error
	}
	got := make(chan answer, 1)
	go func() {
		text, err := terminal.Ask(t.Context(), program, program, "secret: ")
		got <- answer{text, err}
	}()
	shown := make([]byte, len("secret: "))
	if _, err := io.ReadFull(person, shown); err != nil {
		t.Fatal(err)
	}
	io.WriteString(person, "hush\n")
	if a := <-got; a.text != "hush" || a.err != nil {
		t.Errorf("have %q, %v", a.text, a.err)
	}
	if after := terminaltest.Settings(t, program); after != before {
		t.Error("the terminal is not as it was")
	}
	io.WriteString(program, "end")
	var seen []byte
	buf := make([]byte, 100)
	for !bytes.Contains(seen, []byte("end")) {
		n, err := person.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		seen = append(seen, buf[:n]...)
	}
	if bytes.Contains(seen, []byte("hush")) {
		t.Errorf("the terminal showed %q", seen)
	}
}

func TestAskEndsWithContext(t *testing.T) {
	_, program := terminaltest.Open(t)
	before := terminaltest.Settings(t, program)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := terminal.Ask(ctx, program, io.Discard, "secret: "); !errors.Is(err, context.Canceled) {
		t.Errorf("have %v", err)
	}
	if after := terminaltest.Settings(t, program); after != before {
		t.Error("the terminal is not as it was")
	}
	program.Close() // ends the goroutine that reads
}

func TestAskPipe(t *testing.T) {
	for in, want := range map[string]string{"a\nb\n": "a", "a\r\n": "a", "a": "a"} {
		var out bytes.Buffer
		if have, err := terminal.Ask(t.Context(), strings.NewReader(in), &out, "secret: "); have != want || err != nil || out.Len() != 0 {
			t.Errorf("%q: %q, %v, printed %q", in, have, err, &out)
		}
	}
	if _, err := terminal.Ask(t.Context(), strings.NewReader(""), io.Discard, ""); !errors.Is(err, io.EOF) {
		t.Errorf("nothing: %v", err)
	}
}
