package mesh_test

import (
	"context"
	"fmt"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/serialspan/serialspan/mesh"
	"github.com/serialspan/serialspan/mesh/identity"
)

// BenchmarkIdle measures the processor time of members that have nothing to
// say: real sockets on the loopback, real time, all in one process, a minute
// after they have met. Run it with -benchtime 1x; it takes two minutes a size.
func BenchmarkIdle(b *testing.B) {
	for _, members := range []int{3, 10, 50} {
		b.Run(fmt.Sprintf("members=%d", members), func(b *testing.B) {
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan error, members)
			nodes := loopback(b, ctx, members, done)
			for range b.N {
				time.Sleep(time.Minute)
				before, start := processorTime(b), time.Now()
				time.Sleep(time.Minute)
				used := processorTime(b) - before
				share := used.Seconds() / time.Since(start).Seconds() / float64(members)
				b.ReportMetric(100*share, "%cpu/member")
			}
			cancel()
			for range nodes {
				if err := <-done; err != nil {
					b.Error(err)
				}
			}
		})
	}
}

// loopback starts members on the loopback and waits until all see all alive.
func loopback(b *testing.B, ctx context.Context, members int, done chan<- error) (nodes []*mesh.Mesh) {
	b.Helper()
	secret, err := identity.NewSecret()
	if err != nil {
		b.Fatal(err)
	}
	var join []string
	for i := range members {
		store, err := mesh.OpenStore(b.TempDir(), fmt.Sprint("machine ", i))
		if err != nil {
			b.Fatal(err)
		}
		socket, err := mesh.ListenUDP("127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		m, err := mesh.New(mesh.Config{
			Store: store, Secret: secret, Name: fmt.Sprintf("m%d", i), Socket: socket, Join: join,
			Addresses: func() ([]netip.Addr, error) { return nil, nil },
		})
		if err != nil {
			b.Fatal(err)
		}
		go func() {
			err := m.Run(ctx)
			socket.Close()
			store.Close()
			done <- err
		}()
		nodes = append(nodes, m)
		join = []string{nodes[0].Status().Listen.String()}
	}
	for _, n := range nodes {
		for alive := 0; alive < members; time.Sleep(100 * time.Millisecond) {
			alive = 0
			for _, m := range n.Members() {
				if m.State == mesh.Alive {
					alive++
				}
			}
		}
	}
	return nodes
}

func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
