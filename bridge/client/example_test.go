package client_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"

	"github.com/serialspan/serialspan/bridge/client"
)

// A program that asks a device for its version. Without a Config it talks to
// the agent of this machine; here, one is played.
func Example() {
	socket, stop := playAgent()
	defer stop()

	ctx := context.Background()
	agent := client.New(client.Config{Socket: socket})
	device, err := agent.OpenRaw(ctx, "garage-stick", client.TakePolite)
	switch {
	case errors.Is(err, client.ErrNoAgent):
		log.Fatal("start it with `serialspan agent`")
	case errors.Is(err, client.Busy):
		log.Fatal("somebody else has the device")
	case err != nil:
		log.Fatal(err)
	}
	defer device.Close()
	if _, err := io.WriteString(device, "version?\n"); err != nil {
		log.Fatal(err)
	}
	answer, err := bufio.NewReader(device).ReadString('\n')
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print(answer)
	// Output: version 7
}

// A program that lets another one, which knows nothing of SerialSpan, use the
// device: it opens the link as it would a tty.
func ExampleClient_Attach() {
	agent := client.New(client.Config{})
	attachment, err := agent.Attach(context.Background(), client.AttachRequest{
		Device: "garage-zwave", PTY: &client.PTYSpec{Link: "/run/serialspan/zwave", Mode: 0o660, Group: "dialout"},
	})
	if err != nil {
		log.Fatal(err) // it says what to do
	}
	fmt.Println(attachment.Where, attachment.State)
}

// playAgent answers POST /v1/console as an agent with one device does.
func playAgent() (socket string, stop func()) {
	return play(client.Upgrade, func(conn net.Conn, stream *bufio.Reader) {
		if question, _ := stream.ReadString('\n'); question == "version?\n" {
			fmt.Fprint(conn, "version 7\n")
		}
		io.Copy(io.Discard, stream) // until it is closed
	})
}

// play serves one request after another that switches protocols.
func play(upgrade string, serve func(net.Conn, *bufio.Reader)) (socket string, stop func()) {
	dir, err := os.MkdirTemp("", "agent")
	if err != nil {
		log.Fatal(err)
	}
	socket = filepath.Join(dir, "agent.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", upgrade)
		w.WriteHeader(http.StatusSwitchingProtocols)
		conn, stream, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		serve(conn, stream.Reader)
	})}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	return socket, func() {
		server.Close()
		<-served
		os.RemoveAll(dir)
	}
}
