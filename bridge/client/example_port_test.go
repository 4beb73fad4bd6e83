package client_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"time"

	"go.bug.st/serial"

	"github.com/serialspan/serialspan/bridge/client"
	"github.com/serialspan/serialspan/bridge/portwire"
)

// A program that uses go.bug.st/serial, with a device that is plugged in
// elsewhere: what it gets is a serial.Port. Without a Config it talks to the
// agent of this machine; here, one is played.
func ExampleClient_OpenPort() {
	socket, stop := playPortAgent()
	defer stop()

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	agent := client.New(client.Config{Socket: socket})
	opened, err := agent.OpenPort(ctx, "shed-generator", client.PortOptions{
		Mode: &serial.Mode{BaudRate: 9600, DataBits: 7, Parity: serial.EvenParity},
		Take: client.TakePolite,
		Event: func(e client.PortEvent) {
			if e.Kind == client.PortGap {
				log.Printf("%d bytes were lost after byte %d", e.Lost, e.Offset)
			}
		},
	})
	switch {
	case errors.Is(err, client.ErrNoAgent):
		log.Fatal("start it with `serialspan agent`")
	case errors.Is(err, client.Busy):
		log.Fatal("somebody else has the device")
	case err != nil:
		log.Fatal(err) // it says what to do
	}
	var port serial.Port = opened // as any other from here on
	defer port.Close()

	if err := port.SetReadTimeout(5 * time.Second); err != nil {
		log.Fatal(err)
	}
	if _, err := port.Write([]byte("version?\n")); err != nil {
		log.Fatal(err)
	}
	if err := port.Drain(); err != nil { // it is at the device
		log.Fatal(err)
	}
	answer, err := bufio.NewReader(port).ReadString('\n')
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print(answer)
	// Output: version 7
}

// playPortAgent answers POST /v1/ports as an agent with one device does.
func playPortAgent() (socket string, stop func()) {
	return play(client.UpgradePort, func(conn net.Conn, r *bufio.Reader) {
		send := func(f portwire.Frame) { conn.Write(portwire.Append(nil, f)) }
		send(portwire.Frame{Type: portwire.State, Line: "9600e71"})
		send(portwire.Frame{Type: portwire.Window, Count: 4096})
		for buf := []byte(nil); ; {
			more := make([]byte, 4096)
			n, err := r.Read(more)
			if err != nil {
				send(portwire.Frame{Type: portwire.End})
				return
			}
			buf = append(buf, more[:n]...)
			for {
				f, size, err := portwire.Decode(buf)
				if err != nil || size == 0 {
					break
				}
				switch f.Type {
				case portwire.Data:
					send(portwire.Frame{Type: portwire.Data, Data: []byte("version 7\n")})
				case portwire.Request:
					send(portwire.Frame{Type: portwire.Answer, ID: f.ID})
				}
				buf = buf[size:]
			}
		}
	})
}
