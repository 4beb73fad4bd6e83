package mesh_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"sync"

	"github.com/serialspan/serialspan/mesh"
	"github.com/serialspan/serialspan/mesh/identity"
)

// Two nodes on the loopback: garage accepts streams, shed joins through it,
// waits until it knows it, and dials.
func Example() {
	secret, err := identity.NewSecret()
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var nodes sync.WaitGroup
	defer nodes.Wait()
	defer stop()
	start := func(name string, join ...string) (*mesh.Mesh, mesh.Socket) {
		dir, err := os.MkdirTemp("", name)
		if err != nil {
			log.Fatal(err)
		}
		store, err := mesh.OpenStore(dir, "the machine's id")
		if err != nil {
			log.Fatal(err)
		}
		socket, err := mesh.ListenUDP("127.0.0.1:0")
		if err != nil {
			log.Fatal(err)
		}
		m, err := mesh.New(mesh.Config{
			Store: store, Secret: secret, Name: name, Socket: socket, Join: join, Protocols: []string{"greeting/1"},
		})
		if err != nil {
			log.Fatal(err)
		}
		nodes.Go(func() {
			if err := m.Run(ctx); err != nil {
				log.Print(err)
			}
			socket.Close()
			store.Close()
			os.RemoveAll(dir)
		})
		return m, socket
	}

	garage, socket := start("garage")
	nodes.Go(func() {
		conn, _, err := garage.Accept(ctx, "greeting/1")
		if err != nil {
			return // ctx has ended
		}
		defer conn.Close()
		fmt.Fprint(conn, "hello")
	})

	shed, _ := start("shed", socket.LocalAddr().String())
	changes, done := shed.Watch()
	defer done()
	for !knows(shed, garage.Self()) {
		<-changes
	}
	conn, err := shed.Dial(ctx, garage.Self(), "greeting/1")
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	text, err := io.ReadAll(conn)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", text)
	// Output: hello
}

// knows tells whether a member is alive as the node sees it.
func knows(m *mesh.Mesh, id identity.NodeID) bool {
	for _, member := range m.Members() {
		if member.ID == id && member.State == mesh.Alive {
			return true
		}
	}
	return false
}
