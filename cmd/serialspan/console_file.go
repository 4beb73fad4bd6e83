package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

const (
	// fileStep is how much of a file is on its way to the device at most, in
	// bytes: then the progress is that of the device, and an end is soon.
	fileStep = 16 << 10
	// fileTell is how often the progress is said.
	fileTell = 500 * time.Millisecond
)

// filePort is what sending a file needs of a port.
type filePort interface {
	io.Writer
	Drain() error             // waits until the device has what was written
	ResetOutputBuffer() error // drops what it has not
}

// consoleFile sends one file at a time to the device, as fast as that takes it.
// A nil consoleFile sends none.
type consoleFile struct {
	port filePort
	say  io.Writer
	sent func(n int) // counts
	mend func()      // deferred by the goroutine that sends

	mu      sync.Mutex
	sending bool
	ended   chan struct{} // of the last, closed when nothing more is said of it; nil: there was none
	aborted bool
}

// busy reports whether a file is being sent.
func (f *consoleFile) busy() bool {
	if f == nil {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.sending
}

// start begins to send a file, in a goroutine that ends with it, by abort, or
// with the port. A path that begins with ~/ is below the home directory.
func (f *consoleFile) start(path string) error {
	if rest, ok := strings.CutPrefix(path, "~/"); ok {
		if home, err := os.UserHomeDir(); err == nil {
			path = filepath.Join(home, rest)
		}
	}
	info, err := os.Stat(path) // before the open, which a FIFO would hold up
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("not a regular file")
	}
	var file *os.File
	if err == nil {
		file, err = os.Open(path)
	}
	if err != nil {
		return fmt.Errorf("send file %q: %w", path, err)
	}
	ended := make(chan struct{})
	f.mu.Lock()
	before := f.ended
	f.sending, f.ended, f.aborted = true, ended, false
	f.mu.Unlock()
	go func() {
		defer f.mend()
		defer close(ended)
		defer file.Close()
		if before != nil {
			<-before
		}
		outcome := f.send(file, filepath.Base(path), info.Size())
		f.mu.Lock()
		f.sending = false // who reads that it was sent may type the next at once
		f.mu.Unlock()
		fmt.Fprint(f.say, outcome)
	}()
	return nil
}

// abort ends the sending; what the device has not got is dropped.
func (f *consoleFile) abort() {
	f.mu.Lock()
	f.aborted = true
	f.mu.Unlock()
	f.port.ResetOutputBuffer() // frees a Write that waits; if it fails, so does that
}

// join waits until none is being sent, for a while.
func (f *consoleFile) join(patience time.Duration) {
	if f == nil {
		return
	}
	f.mu.Lock()
	ended := f.ended
	f.mu.Unlock()
	if ended == nil {
		return
	}
	select {
	case <-ended:
	case <-time.After(patience):
	}
}

// send copies the file and says how far it is; it returns what to say in the end.
// The terminal is raw.
func (f *consoleFile) send(file io.Reader, name string, total int64) (outcome string) {
	began, told := time.Now(), time.Time{}
	var done uint64
	buf := make([]byte, 1024)
	for {
		step, err := f.step(file, buf)
		done += uint64(step)
		took := time.Since(began)
		switch {
		case errors.Is(err, io.EOF):
			return fmt.Sprintf("\r\n*** sent %s: %s in %s\r\n", printable(name), size(done), took.Round(100*time.Millisecond))
		case errors.Is(err, errAborted):
			return fmt.Sprintf("\r\n*** ended: %s of %s are with the device\r\n", size(done), size(uint64(total)))
		case err != nil:
			return fmt.Sprintf("\r\n*** send file %s: %s after %s\r\n", printable(name), printable(err.Error()), size(done))
		}
		if time.Since(told) >= fileTell {
			told = time.Now()
			fmt.Fprintf(f.say, "\r*** %s: %s of %s, %d %% ", printable(name), size(done), size(uint64(total)), done*100/uint64(max(total, 1)))
		}
	}
}

// errAborted: the user did.
var errAborted = errors.New("aborted")

// step sends up to fileStep bytes and waits until the device has them. It
// returns how many that were; io.EOF with the last.
func (f *consoleFile) step(file io.Reader, buf []byte) (done int, err error) {
	for done < fileStep && err == nil {
		var n int
		if n, err = file.Read(buf); n == 0 {
			continue
		}
		wrote, failed := f.port.Write(buf[:n])
		done += wrote
		f.sent(wrote)
		f.mu.Lock()
		aborted := f.aborted
		f.mu.Unlock()
		if aborted {
			failed = errAborted
		}
		if failed != nil {
			return 0, failed
		}
	}
	if failed := f.port.Drain(); failed != nil {
		return 0, failed
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.aborted {
		return 0, errAborted
	}
	return done, err
}
