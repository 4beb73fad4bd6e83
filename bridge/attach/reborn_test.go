package attach_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/serialspan/serialspan/bridge/attach"
	"github.com/serialspan/serialspan/bridge/internal/bridgetest"
	"github.com/serialspan/serialspan/bridge/use"
	"github.com/serialspan/serialspan/mesh/identity"
)

// memFiles keeps files as a service manager does: it has duplicates.
type memFiles struct {
	t *testing.T

	mu        sync.Mutex
	kept      map[string][]*os.File
	inherited map[string][]*os.File
	spoil     func(master, memory *os.File) []*os.File // what is handed on; nil: both
}

func (m *memFiles) duplicate(c syscall.Conn) *os.File {
	raw, err := c.SyscallConn()
	if err != nil {
		m.t.Fatal(err)
	}
	var copied int
	if outer := raw.Control(func(fd uintptr) { copied, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) }); outer != nil || err != nil {
		m.t.Fatal(outer, err)
	}
	return os.NewFile(uintptr(copied), "kept")
}

// handOn is the start of the next process.
func (m *memFiles) handOn() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.inherited = map[string][]*os.File{}
	for name, files := range m.kept {
		for _, f := range slices.Backward(files) {
			m.inherited[name] = append(m.inherited[name], m.duplicate(f))
		}
		if m.spoil != nil {
			m.inherited[name] = m.spoil(m.inherited[name][1], m.inherited[name][0])
		}
	}
}

func (m *memFiles) Names() (names []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name := range m.inherited {
		names = append(names, name)
	}
	return names
}

func (m *memFiles) Take(name string) []*os.File {
	m.mu.Lock()
	defer m.mu.Unlock()
	files := m.inherited[name]
	delete(m.inherited, name)
	return files
}

func (m *memFiles) Keep(name string, files ...syscall.Conn) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, f := range files {
		m.kept[name] = append(m.kept[name], m.duplicate(f))
	}
	return nil
}

func (m *memFiles) Drop(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, f := range m.kept[name] {
		_ = f.Close()
	}
	delete(m.kept, name)
	return nil
}

// memory returns the file of a record.
func (m *memFiles) memory() *os.File { return m.file(1) }

// master returns that of the terminal.
func (m *memFiles) master() *os.File { return m.file(0) }

func (m *memFiles) file(i int) *os.File {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, files := range m.kept {
		return files[i]
	}
	m.t.Fatal("nothing is kept")
	return nil
}

// reborn is a consumer that is started again and again, with an attachment to
// the bench's stick.
type reborn struct {
	*bench
	t     *testing.T
	files *memFiles
	spec  attach.Spec
	log   *lockedBuffer

	attacher *attach.Attacher
	end      func()

	mu      sync.Mutex
	streams []*bridgetest.Stream
	down    bool
	mute    bool // the owner's answers do not come
	serving sync.WaitGroup
	owning  context.Context
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newReborn(t *testing.T) *reborn {
	r := &reborn{
		bench: newBench(t, 0), t: t, files: &memFiles{t: t, kept: map[string][]*os.File{}}, log: &lockedBuffer{},
		spec: attach.Spec{Device: "lab", PTY: &attach.PTYSpec{Link: filepath.Join(t.TempDir(), "tty")}},
	}
	var over context.CancelFunc
	r.owning, over = context.WithCancel(context.Background())
	r.start()
	t.Cleanup(func() {
		r.end()
		over()
		for name := range r.files.kept {
			_ = r.files.Drop(name)
		}
		r.serving.Wait()
		if t.Failed() {
			t.Log("\n" + r.log.String())
		}
	})
	return r
}

// start is the start of a process that is configured for r.spec.
func (r *reborn) start() {
	r.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	a := attach.New(attach.Config{
		Resolve: func(string) (use.Target, error) { return use.Target{Owner: bridgetest.Owner, Device: "lab"}, nil },
		Dial: func(context.Context, identity.NodeID) (net.Conn, error) {
			r.mu.Lock()
			defer r.mu.Unlock()
			if r.down {
				return nil, bridgetest.ErrCut
			}
			x, y := bridgetest.NewStreams(65536)
			if r.mute {
				x.In.Freeze()
			}
			r.streams = append(r.streams, x)
			r.serving.Go(func() { _ = r.publisher.Serve(r.owning, y, identity.NodeID{7}) })
			return x, nil
		},
		Files:  r.files,
		Logger: slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	r.files.handOn()
	if _, err := a.Attach(r.spec); err != nil {
		r.t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() { _ = a.Run(ctx) })
	r.attacher = a
	r.end = sync.OnceFunc(func() {
		cancel()
		running.Wait()
	})
	r.eventually("the attachment stands", func() bool { return a.Standing(ctx) == nil })
}

// restart ends the process in good order and starts another.
func (r *reborn) restart() {
	r.t.Helper()
	r.end()
	r.start()
}

// crash is a restart in which the record stays as it was before the end.
func (r *reborn) crash(change func([]byte) []byte) {
	r.t.Helper()
	memory := r.files.memory()
	record := make([]byte, 1<<20)
	n, err := memory.ReadAt(record, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		r.t.Fatal(err)
	}
	r.end()
	record = change(record[:n])
	if err := memory.Truncate(0); err != nil {
		r.t.Fatal(err)
	}
	if _, err := memory.WriteAt(record, 0); err != nil {
		r.t.Fatal(err)
	}
	r.start()
}

func same(b []byte) []byte { return b }

func (r *reborn) reach(up bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.down = !up
	if up {
		return
	}
	for _, s := range r.streams {
		s.Cut()
	}
	r.streams = nil
}

func (r *reborn) open() *os.File {
	r.t.Helper()
	app := openTTY(r.t, r.spec.PTY.Link)
	r.t.Cleanup(func() { _ = app.Close() })
	return app
}

func (r *reborn) status() use.Status {
	r.t.Helper()
	all := r.attacher.Statuses()
	if len(all) != 1 {
		r.t.Fatalf("attachments are %+v", all)
	}
	return all[0]
}

func (r *reborn) becomes(want use.State) {
	r.t.Helper()
	r.eventually("attachment is "+want.String(), func() bool { return r.status().State == want })
}

// wantRead reads exactly want, and fails after a while.
func wantRead(t *testing.T, from io.Reader, want []byte) {
	t.Helper()
	have, err := bridgetest.ReadExactly(from, len(want))
	if err != nil || !bytes.Equal(have, want) {
		t.Fatalf("%d bytes differ from the %d wanted, %v", len(have), len(want), err)
	}
}

func mustWrite(t *testing.T, to io.Writer, b []byte) {
	t.Helper()
	if n, err := to.Write(b); n != len(b) || err != nil {
		t.Fatalf("%d of %d bytes written, %v", n, len(b), err)
	}
}
