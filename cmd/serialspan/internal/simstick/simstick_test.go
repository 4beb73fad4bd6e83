package simstick_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/serialspan/serialspan/cmd/serialspan/internal/simstick"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// session is a host that says what it has to say and keeps the answers.
type session struct {
	io.Reader
	bytes.Buffer
}

func (s *session) Read(p []byte) (int, error) { return s.Reader.Read(p) }

func answers(t *testing.T, input io.Reader) string {
	t.Helper()
	s := &session{Reader: input}
	if err := simstick.Serve(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	return s.Buffer.String()
}

func TestProtocol(t *testing.T) {
	for _, test := range []struct{ name, in, want string }{
		{"ping", "PING x\n", "PONG x\r\n"},
		{"ping alone", "PING\r", "PONG\r\n"},
		{"lower case", "ping A b\r\n", "PONG A b\r\n"},
		{"id", "ID\n", "ID SerialSpan simulated stick 1\r\n"},
		{"temp", "TEMP\nTEMP\n", "TEMP 21.5 C\r\nTEMP 21.6 C\r\n"},
		{"echo keeps bytes", "ECHO  \x00\xff\x11 b \n", " \x00\xff\x11 b \r\n"},
		{"help", "HELP\n", "commands: PING [text], ID, TEMP, ECHO text, HELP\r\n"},
		{"unknown", "FOO bar\n", "ERR unknown command \"FOO\", try HELP\r\n"},
		{"escape sequence", "\x1b[A\n", "ERR unknown command \"\\x1b[A\", try HELP\r\n"},
		{"empty lines", "\r\n\n\r", ""},
		{"no end", "PING x", ""},
		{"longest", "ECHO " + strings.Repeat("a", 1019) + "\n", strings.Repeat("a", 1019) + "\r\n"},
		{"too long", "ECHO " + strings.Repeat("a", 1020) + "\nPING\n", "ERR line too long\r\nPONG\r\n"},
	} {
		if have := answers(t, strings.NewReader(test.in)); have != test.want {
			t.Errorf("%s: have %q, want %q", test.name, have, test.want)
		}
	}
}

func TestServeEndsWithContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	host, stick := net.Pipe()
	defer host.Close()
	ended := make(chan error, 1)
	go func() { ended <- simstick.Serve(ctx, stick) }()
	io.WriteString(host, "PING 1\n")
	if line, err := bufio.NewReader(host).ReadString('\n'); err != nil || line != "PONG 1\r\n" {
		t.Errorf("have %q, %v", line, err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestServeTellsFailure(t *testing.T) {
	reader, writer := io.Pipe()
	writer.CloseWithError(io.ErrUnexpectedEOF)
	if err := simstick.Serve(t.Context(), &session{Reader: reader}); err == nil {
		t.Error("no error")
	}
}

// FuzzProtocol: however the bytes are cut, the answers are the same lines.
func FuzzProtocol(f *testing.F) {
	f.Add([]byte("PING x\r\nTEMP\rFOO\n"), uint8(3))
	f.Fuzz(func(t *testing.T, in []byte, cut uint8) {
		whole := answers(t, bytes.NewReader(in))
		at := min(int(cut), len(in))
		parts := answers(t, io.MultiReader(bytes.NewReader(in[:at]), bytes.NewReader(in[at:])))
		if whole != parts {
			t.Errorf("whole %q, in parts %q", whole, parts)
		}
		if whole != "" && !strings.HasSuffix(whole, "\r\n") {
			t.Errorf("no line: %q", whole)
		}
	})
}
