package registrysync_test

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestGarbage has members that speak nonsense on every stream.
func TestGarbage(t *testing.T) {
	random := make([]byte, 4096)
	rand.Read(random)
	frame := func(kind byte, size uint32, payload ...byte) []byte {
		return append(binary.BigEndian.AppendUint32([]byte{kind}, size), payload...)
	}
	for what, says := range map[string][]byte{
		"random bytes":              random,
		"nothing":                   nil,
		"a huge frame":              frame(4, 1<<31),
		"a long root":               frame(1, 33, make([]byte, 33)...),
		"an unknown type":           frame(77, 0),
		"a bad digest":              append(frame(1, 32, make([]byte, 32)...), frame(3, 5, 1, 2, 3, 4, 5)...),
		"a digest of the wrong key": frame(3, 2, 0xa1, 0x05),
		"a bad message":             append(frame(1, 32, make([]byte, 32)...), frame(4, 3, 1, 2, 3)...),
		"the end at once":           frame(5, 0),
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHub(t, 4)
				defer h.stopAll()
				for _, m := range h.nodes {
					m.publish(m.devices(2)...)
				}
				mad := h.nodes[3]
				h.run(h.nodes[:3]...)
				ctx, stop := context.WithCancel(t.Context())
				h.mu.Lock()
				mad.stop = stop
				h.mu.Unlock()
				speak := func(conn net.Conn) {
					mad.running.Go(func() { io.Copy(io.Discard, conn) })
					conn.Write(says) // to somebody who may have hung up
					mad.running.Go(func() {
						<-ctx.Done()
						conn.Close()
					})
				}
				mad.running.Go(func() { // answers
					for {
						conn, _, err := mad.accept(ctx)
						if err != nil {
							return
						}
						mad.running.Go(func() { speak(conn) })
					}
				})
				mad.running.Go(func() { // and asks
					for _, m := range h.nodes[:3] {
						for range 20 {
							if conn, err := mad.dial(ctx, m.id.ID()); err == nil {
								mad.running.Go(func() { speak(conn) })
							}
						}
						m.inbox <- append([]byte(nil), random...)
						m.inbox <- append([]byte(nil), says...)
					}
				})
				h.membersChanged()
				h.within(10*interval, "the sane ones hold the same", func() bool { return agree(h.nodes[:3]...) })
				if got := len(h.nodes[0].registry.Devices(h.now())); got != 6 {
					t.Errorf("%d devices, want 6", got)
				}
				h.nodes[1].publish()
				h.within(0, "and go on", func() bool { return agree(h.nodes[:3]...) })
			})
		})
	}
}

// cutAfter breaks a connection after some bytes were read from it.
type cutAfter struct {
	net.Conn
	mu   sync.Mutex
	left int
}

func (c *cutAfter) Read(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left <= 0 {
		c.Close()
		return 0, io.ErrUnexpectedEOF
	}
	n, err := c.Conn.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}

func TestBrokenStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, 3)
		defer h.stopAll()
		h.deaf = true
		after := 0
		h.cut = func(c net.Conn) net.Conn {
			after += 500
			return &cutAfter{Conn: c, left: after}
		}
		for _, m := range h.nodes {
			m.publish(m.devices(20)...)
		}
		h.run(h.nodes...)
		h.within(interval*10, "all hold the same although streams break", func() bool { return agree(h.nodes...) })
	})
}

func TestSilentSideIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, 2)
		defer h.stopAll()
		h.run(h.nodes[0])
		near, far := net.Pipe()
		h.nodes[0].streams <- stream{far, h.nodes[1].id.ID()}
		began := h.now()
		if _, err := near.Read(make([]byte, 1)); err == nil {
			t.Error("got an answer to nothing")
		}
		if took := h.now() - began; took != 10*time.Second {
			t.Errorf("cut off after %v, want 10 s", took)
		}
	})
}

func TestOneMemberCannotTakeAllPlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, 3)
		defer h.stopAll()
		h.run(h.nodes[0])
		closed := make(chan int, 10)
		open := func(from *member, n int) {
			for i := range n {
				near, far := net.Pipe()
				h.nodes[0].streams <- stream{far, from.id.ID()}
				go func() {
					near.Read(make([]byte, 1))
					closed <- i
				}()
			}
			synctest.Wait()
		}
		open(h.nodes[1], 4)
		if len(closed) != 2 {
			t.Errorf("%d of 4 streams of one member closed, want 2", len(closed))
		}
		open(h.nodes[2], 2)
		if len(closed) != 2 {
			t.Error("another member found no place")
		}
		time.Sleep(time.Minute)
		if len(closed) != 6 {
			t.Errorf("%d closed in the end", len(closed))
		}
	})
}
