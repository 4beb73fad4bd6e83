package agent

import (
	"context"
	"sync"

	"github.com/serialspan/serialspan/bridge/attach"
	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/bridge/publish"
	"github.com/serialspan/serialspan/bridge/use"
	"github.com/serialspan/serialspan/configs"
	"github.com/serialspan/serialspan/registry"
)

// readPolicy takes over what the configuration says of devices.
func (a *Agent) readPolicy() (err error) {
	a.settings.config = a.options.Config
	a.settings.policy, err = bridgePolicy(a.options.Config)
	return err
}

// openBridge makes the publisher and the attacher from the configuration.
func (a *Agent) openBridge() {
	config := &a.options.Config
	a.publisher = publish.New(publish.Config{
		NodeName:  config.Node.Name,
		Rules:     a.settings.policy.Rules,
		Publish:   a.settings.policy.Publish,
		Profiles:  a.settings.policy.Profiles,
		Labels:    a.settings.policy.Labels,
		Discover:  a.options.Ports.Discover,
		Watch:     a.options.Ports.Watch,
		Exists:    a.options.Ports.Exists,
		Open:      a.options.Ports.Open,
		OnDevices: a.publishDevices,
		NameOf:    a.nameOf,
		Logger:    a.log,
	})
	a.attacher = attach.New(attach.Config{
		Resolve: a.target,
		Watch:   a.registry.Watch,
		Dial:    a.dialOwner,
		Files:   a.files(),
		Logger:  a.log,
	})
	a.wanted = &wantedSet{attacher: a.attacher, dir: a.store.Dir(), links: configs.NewLinkRule(config.Control.LinkDirs), log: a.log}
	a.wanted.setFile(config.Attachments, config.Place)
	a.wanted.load()
}

// publishDevices tells the cluster what this node has.
func (a *Agent) publishDevices(devices []registry.Device) {
	a.own.Store(int64(len(devices)))
	if err := a.sync.Publish(devices); err != nil {
		a.log.Warn("not all devices could be published", "err", err)
	}
}

// tellMoved tells the publisher of hardware that other nodes have now: a stick
// that was here may have been plugged in there.
func (a *Agent) tellMoved() {
	self := a.mesh.Self()
	for _, s := range a.registry.Devices(a.now()) {
		here := s.Device.State == registry.StateAvailable || s.Device.State == registry.StateInUse
		if s.Owner != self && here && a.publisher.Moved(s.Device.Hardware, s.Owner) {
			a.log.Info("device moved to another node", "device", s.Device.Name, "node", a.nameOf(s.Owner))
		}
	}
}

// target finds where a device is, for a session.
func (a *Agent) target(query string) (use.Target, error) {
	status, err := a.registry.Resolve(a.now(), query)
	if err != nil {
		return use.Target{}, err
	}
	settings, err := line.Parse(status.Device.Line)
	if err != nil {
		settings = line.Settings{} // of a newer version: as the device has them
	}
	return use.Target{Owner: status.Owner, Device: status.Device.Name, Line: settings}, nil
}

// serveSessions gives the session streams of consumers to the publisher.
func (a *Agent) serveSessions(ctx context.Context) error {
	var sessions sync.WaitGroup
	defer sessions.Wait()
	for {
		conn, from, err := a.mesh.Accept(ctx, sessionProtocol)
		if err != nil {
			return err
		}
		sessions.Go(func() {
			if err := a.publisher.Serve(ctx, conn, from); err != nil {
				a.log.Debug("session ended", "node", from.Short(), "err", err)
			}
		})
	}
}
