package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/serialspan/serialspan/bridge/client"
	"github.com/serialspan/serialspan/bridge/profile"
	"github.com/serialspan/serialspan/mesh"
	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/registry"
)

// signalProtocol carries one request to move the modem lines of a device to its
// owner, who runs it, so that its timing does not depend on the network. The
// asking side writes a signalRequest in JSON and closes its direction; the owner
// does it and writes a client.ErrorAnswer.
const signalProtocol = "signal/1"

type signalRequest struct {
	Device string   `json:"device"` // by which the owner publishes it
	Words  []string `json:"words"`  // for profile.ParseSignal
}

const (
	// maxSignal bounds a request and its answer, in bytes.
	maxSignal = 8 << 10
	// signalPatience is how long a request may take besides the waits in it.
	signalPatience = 10 * time.Second
	// maxSignals is how many requests of others run at once; more wait.
	maxSignals = 16
)

// Signal implements control.Agent.
func (a *Agent) Signal(ctx context.Context, device string, words []string) error {
	if _, _, err := profile.ParseSignal(words); err != nil {
		return controlError(err)
	}
	target, err := a.target(device)
	if err != nil {
		return controlError(err)
	}
	ctx, cancel := context.WithTimeout(ctx, profile.MaxRun+signalPatience)
	defer cancel()
	err = a.askSignal(ctx, target.Owner, signalRequest{target.Device, words})
	if _, told := errors.AsType[*client.Error](err); err == nil || told {
		return err
	}
	if errors.Is(err, mesh.ErrUnknownProtocol) {
		return client.Errorf(client.Failed, "run the same version there", "signal %q: the agent of %s does not know how", device, a.nameOf(target.Owner))
	}
	return client.Errorf(client.Away, "\"serialspan nodes\" shows its state", "signal %q: %v", device, err)
}

func (a *Agent) askSignal(ctx context.Context, owner identity.NodeID, request signalRequest) error {
	conn, err := a.mesh.Dial(ctx, owner, signalProtocol)
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := json.NewEncoder(conn).Encode(request); err != nil {
		return err
	}
	if closer, ok := conn.(interface{ CloseWrite() error }); ok {
		if err := closer.CloseWrite(); err != nil {
			return err
		}
	}
	var answer client.ErrorAnswer
	if err := json.NewDecoder(io.LimitReader(conn, maxSignal)).Decode(&answer); err != nil {
		return err
	}
	if answer.Error != nil {
		return answer.Error
	}
	return nil
}

// serveSignals does what other members, and this node's own commands, ask for.
func (a *Agent) serveSignals(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	free := make(chan struct{}, maxSignals)
	for {
		conn, from, err := a.mesh.Accept(ctx, signalProtocol)
		if err != nil {
			return err
		}
		running.Go(func() {
			defer conn.Close()
			stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
			defer stop()
			select {
			case free <- struct{}{}:
				defer func() { <-free }()
			case <-ctx.Done():
				return
			}
			if err := a.serveSignal(ctx, conn, from); err != nil {
				a.log.Debug("signal not answered", "node", from.Short(), "err", err)
			}
		})
	}
}

func (a *Agent) serveSignal(ctx context.Context, conn net.Conn, from identity.NodeID) error {
	if err := conn.SetDeadline(time.Now().Add(profile.MaxRun + signalPatience)); err != nil {
		return err
	}
	var request signalRequest
	if err := json.NewDecoder(io.LimitReader(conn, maxSignal)).Decode(&request); err != nil {
		return fmt.Errorf("read request: %w", err)
	}
	answer := client.ErrorAnswer{API: client.Version}
	if err := a.signalHere(ctx, request, from); err != nil {
		answer.Error = client.AsError(controlError(err))
	} else {
		a.log.Info("device signalled", "device", request.Device, "node", from.Short())
	}
	return json.NewEncoder(conn).Encode(answer)
}

// signalHere runs a request of a member on a device of this node.
func (a *Agent) signalHere(ctx context.Context, request signalRequest, from identity.NodeID) error {
	steps, recipe, err := profile.ParseSignal(request.Words)
	if err != nil {
		return err
	}
	if !a.publisher.Allows(request.Device, from) {
		if _, err := a.registry.Resolve(a.now(), request.Device+"@"+a.mesh.Self().String()); errors.Is(err, registry.ErrNotFound) {
			return err
		}
		return client.Errorf(client.Refused, "add its NodeID to allow of the device's rule", "signal %q: %s may not open it", request.Device, a.nameOf(from))
	}
	if recipe != "" {
		return a.publisher.Reset(ctx, request.Device, recipe)
	}
	return a.publisher.Signal(ctx, request.Device, steps)
}
