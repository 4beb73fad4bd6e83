package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/serialspan/serialspan/bridge/client"
)

// A program opens a device by name, wherever it is plugged in.
func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	port, err := client.New(client.Config{Socket: "/nowhere/agent.sock"}).OpenRaw(ctx, "garage-zwave", client.TakeNormal)
	switch {
	case errors.Is(err, client.ErrNoAgent):
		fmt.Println(err)
		return
	case errors.Is(err, client.Busy), errors.Is(err, client.Away):
		fmt.Println("not now:", err)
		return
	case err != nil:
		fmt.Println(err)
		return
	}
	defer port.Close()
	fmt.Fprintf(port, "PING\n")
	io.Copy(io.Discard, port)
	// Output: no agent at /nowhere/agent.sock: start it with "serialspan agent"
}
