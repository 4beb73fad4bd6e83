package pty_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/serialspan/serialspan/bridge/internal/pty"
)

// instances counts the inotify instances of this process.
func instances(t *testing.T) (n int) {
	t.Helper()
	descriptors, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range descriptors {
		if target, _ := os.Readlink(d); target == "anon_inode:inotify" {
			n++
		}
	}
	return n
}

// TestManyShareOneInstance: a user has 128 inotify instances, and an agent may
// have more terminals. Each is told of its own apps, also while others come and
// go, and nothing is left in the end.
func TestManyShareOneInstance(t *testing.T) {
	before := instances(t)
	readers := make([]*reader, 150)
	for i := range readers {
		readers[i] = open(t, pty.Config{})
	}
	if n := instances(t) - before; n != 1 {
		t.Errorf("%d inotify instances for %d terminals", n, len(readers))
	}
	for i, r := range readers {
		if i%3 == 1 { // those around it go on
			_ = r.pty.Close()
			<-r.done
		}
	}
	for range 2 {
		for i, r := range readers {
			if i%3 == 1 {
				continue
			}
			f := r.openApp()
			write(t, f, []byte{byte(i)})
			r.wantBytes([]byte{byte(i)})
			_ = f.Close()
			r.want(pty.Closed)
		}
	}
	for _, r := range readers {
		_ = r.pty.Close()
		<-r.done
	}
	if n := instances(t); n != before {
		t.Errorf("%d inotify instances are left", n-before)
	}
	again := open(t, pty.Config{})
	again.openApp()
}
