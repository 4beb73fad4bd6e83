package gossip

import (
	"context"
	"io"
	"log"
	"log/slog"
	"strings"
)

// maxLogLine cuts memberlist's lines, some of which print whole records.
const maxLogLine = 200

// logger sends memberlist's log to l at debug level, whatever memberlist thinks
// of its importance: what matters to people shows in the members' states. If
// nobody listens, nothing is formatted.
func logger(l *slog.Logger) *log.Logger {
	if !l.Enabled(context.Background(), slog.LevelDebug) {
		return log.New(io.Discard, "", 0)
	}
	return log.New(logWriter{l}, "", 0)
}

type logWriter struct{ log *slog.Logger }

// Write takes one line: log.Logger makes one call for each.
func (w logWriter) Write(p []byte) (int, error) {
	line := strings.TrimSpace(string(p))
	if _, rest, ok := strings.Cut(line, "memberlist: "); ok {
		line = rest
	}
	if len(line) > maxLogLine {
		line = line[:maxLogLine] + "…"
	}
	w.log.Debug("memberlist", "detail", line)
	return len(p), nil
}
