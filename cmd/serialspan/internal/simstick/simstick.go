// Package simstick is a simulated serial stick: the device end of a line
// protocol that a person can type and a program can test with. The demo puts
// it behind a PTY.
//
// A command is a line that ends in LF, CR or CR LF; the word that begins it
// counts in either case. Each command gets one reply line that ends in CR LF.
// Nothing is echoed and nothing is sent unasked.
//
//	PING [text]   PONG [text]
//	ID            ID SerialSpan simulated stick 1
//	TEMP          TEMP 21.5 C      (a made-up sawtooth: 20.0 to 24.9 in steps of 0.1)
//	ECHO text     text             (byte for byte up to the end of the line)
//	HELP          one line that names the commands
//	anything else ERR unknown command …
//
// A line of more than 1024 bytes gives ERR line too long and is dropped up to
// its end. An empty line gives nothing, so that CR LF is one end.
//
// The package is pure I/O: it opens nothing and starts no goroutine that
// outlives Serve.
package simstick

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
)

// maxLine is the longest command in bytes, without its end.
const maxLine = 1024

// Serve answers commands read from rw until ctx ends or reading fails. If rw
// is an io.Closer it is closed when ctx ends, which is what unblocks a read.
// The error is nil if ctx ended or rw did with io.EOF.
func Serve(ctx context.Context, rw io.ReadWriter) error {
	if closer, ok := rw.(io.Closer); ok {
		stop := context.AfterFunc(ctx, func() { closer.Close() })
		defer stop()
	}
	var s stick
	buf := make([]byte, 4096)
	for {
		n, err := rw.Read(buf)
		if reply := s.feed(buf[:n]); len(reply) > 0 && err == nil {
			_, err = rw.Write(reply)
		}
		switch {
		case ctx.Err() != nil, errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("serve simulated stick: %w", err)
		}
	}
}

// stick is the machine: bytes in, bytes out.
type stick struct {
	line     []byte
	tooLong  bool
	readings int
}

// feed takes bytes from the line and returns what the stick sends.
func (s *stick) feed(p []byte) []byte {
	var out []byte
	for _, b := range p {
		switch {
		case b == '\r' || b == '\n':
			out = append(out, s.end()...)
			s.line, s.tooLong = s.line[:0], false
		case len(s.line) == maxLine:
			s.tooLong = true
		default:
			s.line = append(s.line, b)
		}
	}
	return out
}

// end answers the line that is complete now.
func (s *stick) end() string {
	if s.tooLong {
		return "ERR line too long\r\n"
	}
	if len(s.line) == 0 {
		return ""
	}
	word, rest, hasRest := strings.Cut(string(s.line), " ")
	switch strings.ToUpper(word) {
	case "PING":
		if !hasRest {
			return "PONG\r\n"
		}
		return "PONG " + rest + "\r\n"
	case "ID":
		return "ID SerialSpan simulated stick 1\r\n"
	case "TEMP":
		tenths := 200 + (15+s.readings)%50
		s.readings++
		return fmt.Sprintf("TEMP %d.%d C\r\n", tenths/10, tenths%10)
	case "ECHO":
		return rest + "\r\n"
	case "HELP":
		return "commands: PING [text], ID, TEMP, ECHO text, HELP\r\n"
	}
	return fmt.Sprintf("ERR unknown command %q, try HELP\r\n", word)
}
