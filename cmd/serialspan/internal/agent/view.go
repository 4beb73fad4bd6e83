package agent

import (
	"cmp"
	"context"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/serialspan/serialspan/bridge/client"
	"github.com/serialspan/serialspan/bridge/session"
	"github.com/serialspan/serialspan/bridge/use"
	"github.com/serialspan/serialspan/cmd/serialspan/internal/control"
	"github.com/serialspan/serialspan/mesh"
	"github.com/serialspan/serialspan/registry"
)

var _ control.Agent = (*Agent)(nil)

// Status implements control.Agent.
func (a *Agent) Status() client.Status {
	s := a.mesh.Status()
	return client.Status{
		Version: a.options.Version, Node: s.Name, ID: s.ID, MeshAddress: s.Address,
		Cluster: a.mesh.Secret().Fingerprint(), Key: a.key(), Epoch: s.Epoch, Uptime: client.Seconds(a.now()),
		Listen: s.Listen.String(), Members: len(*a.peers.Load()) + 1, Devices: int(a.own.Load()),
		Counters: map[string]uint64{
			"join_answered":      s.JoinAnswered,
			"join_completed":     s.JoinCompleted,
			"join_refused":       s.JoinRefused,
			"join_junk":          s.JoinJunk,
			"join_stray":         s.JoinStray,
			"join_limited":       s.JoinLimited,
			"junk_datagrams":     s.Strangers,
			"control_dropped":    s.ControlDropped,
			"datagrams_dropped":  s.PlaneDropped,
			"datagrams_no_route": s.NoRoute,
			"send_errors":        s.SendErrors,
			"kubespan_refused":   s.BareRefused,
			"kubespan_unknown":   s.BareUnknown,
			"cookies_met":        s.CookiesMet,
			"relay_passed":       s.RelayPassed,
			"relay_limited":      s.RelayLimited,
			"relay_refused":      s.RelayRefused,
		},
		KubeSpan: a.kubeSpan(s.KubeSpan),
		Problems: a.problems(s),
	}
}

// Nodes implements control.Agent.
func (a *Agent) Nodes() []client.Node {
	states := map[mesh.State]client.NodeState{
		mesh.Known: client.NodeKnown, mesh.Alive: client.NodeAlive, mesh.Left: client.NodeLeft, mesh.Dead: client.NodeDead,
	}
	var all []client.Node
	for _, m := range a.mesh.Members() {
		n := client.Node{
			Name: m.Name, ID: m.ID, State: states[m.State], Path: m.Path, Endpoint: m.Endpoint,
			RTT: milliseconds(m.RoundTrip), Version: m.Version, Self: m.Self, Class: classOf(m.Endpoint), KubeSpan: m.KubeSpan,
		}
		if m.SkewKnown {
			n.Skew = new(client.Seconds(m.Skew))
		}
		if m.Heard >= 0 && !m.Self {
			n.Heard = new(client.Seconds(m.Heard))
		}
		all = append(all, n)
	}
	all = append(all, a.removedNodes()...)
	slices.SortFunc(all, func(x, y client.Node) int { return cmp.Or(strings.Compare(x.Name, y.Name), x.ID.Compare(y.ID)) })
	return all
}

// Devices implements control.Agent.
func (a *Agent) Devices() []client.Device {
	var all []client.Device
	for _, s := range a.registry.Devices(a.now()) {
		all = append(all, device(s))
	}
	return all
}

// LeftAlone returns the ttys of this machine that nobody asked to touch.
func (a *Agent) LeftAlone() []client.LeftAlone {
	var all []client.LeftAlone
	for _, c := range a.publisher.Ignored() {
		all = append(all, client.LeftAlone{Path: c.Path, Reason: c.Skip})
	}
	return all
}

func device(s registry.Status) client.Device {
	states := map[registry.State]client.DeviceState{
		registry.StateAvailable: client.DeviceAvailable, registry.StateInUse: client.DeviceInUse,
		registry.StateAway: client.DeviceAway, registry.StateFault: client.DeviceFault,
	}
	d := s.Device
	out := client.Device{
		Name: d.Name, Node: s.OwnerName, NodeID: s.Owner, Kind: d.Kind, State: states[d.State],
		Conflict: s.Conflict, Line: d.Line, Hardware: client.Hardware(d.Hardware), Labels: d.Labels, Detail: d.Detail,
		Profile: d.Profile, Capabilities: d.Capabilities,
	}
	if out.Node == "" {
		out.Node = s.Owner.Short()
	}
	if !d.User.IsZero() {
		out.User = cmp.Or(s.UserName, d.User.Short())
	}
	return out
}

// Attachments implements control.Agent.
func (a *Agent) Attachments() []client.Attachment {
	return a.wanted.list()
}

func attachment(s use.Status) client.Attachment {
	states := map[use.State]client.AttachmentState{
		use.Waiting: client.AttachmentWaiting, use.Connected: client.AttachmentConnected,
		use.Holding: client.AttachmentHolding, use.Kicked: client.AttachmentKicked,
		use.Failed: client.AttachmentFailed,
	}
	out := client.Attachment{
		ID: s.ID, Device: s.Device, Kind: client.Kind(s.Kind), Where: s.Where, State: states[s.State],
		Since: client.Seconds(s.Age), Sent: s.Sent, Received: s.Received,
		Resumed: s.Resumed, Gaps: s.Gaps, Lost: s.Lost, RTT: milliseconds(s.RoundTrip), Users: s.Users,
	}
	if !s.Line.IsZero() {
		out.Line = s.Line.String()
	}
	if s.Err != nil {
		out.Error = s.Err.Error()
	}
	return out
}

// Sessions implements control.Agent.
func (a *Agent) Sessions() []client.Session {
	state := map[bool]string{true: "open", false: "holding"}
	var all []client.Session
	for _, s := range a.publisher.Sessions() {
		all = append(all, client.Session{
			ID: s.ID.String(), Device: s.Device, Role: "owner", Peer: a.nameOf(s.Peer), PeerID: s.Peer,
			State: state[s.Connected], Line: s.Line.String(), Since: client.Seconds(s.Age), Sent: s.Sent, Received: s.Received,
			Kind: client.Kind(s.Kind), ReadOnly: s.ReadOnly, RTT: milliseconds(s.RoundTrip), Resumed: s.Resumed, Gaps: s.Gaps, Lost: s.Lost,
		})
	}
	for _, s := range a.attacher.Statuses() {
		if s.Session == (session.ID{}) {
			continue
		}
		use := client.Session{
			ID: s.Session.String(), Device: s.Device, Role: "consumer", Peer: a.nameOf(s.Owner), PeerID: s.Owner,
			State: state[s.State == use.Connected], Since: client.Seconds(s.Age), Sent: s.Sent, Received: s.Received,
			Kind: client.Kind(s.Kind), RTT: milliseconds(s.RoundTrip), Resumed: s.Resumed, Gaps: s.Gaps, Lost: s.Lost,
		}
		if !s.Line.IsZero() {
			use.Line = s.Line.String()
		}
		all = append(all, use)
	}
	slices.SortFunc(all, func(x, y client.Session) int {
		return cmp.Or(strings.Compare(x.Device, y.Device), strings.Compare(x.ID, y.ID))
	})
	return all
}

// Watch implements control.Agent.
func (a *Agent) Watch() (signals <-chan struct{}, stop func()) { return a.changes.watch() }

// Resolve implements control.Agent.
func (a *Agent) Resolve(name string) (client.Resolution, error) {
	status, err := a.registry.Resolve(a.now(), name)
	if err != nil {
		return client.Resolution{}, controlError(err)
	}
	return client.Resolution{Query: name, Device: device(status)}, nil
}

// Attach implements control.Agent.
func (a *Agent) Attach(ctx context.Context, request client.AttachRequest) (client.Attachment, error) {
	defer a.changes.tell()
	return a.wanted.attach(ctx, request, control.Caller(ctx))
}

func take(t client.Take) use.Take {
	return map[client.Take]use.Take{
		client.TakeNormal: use.TakeNormal, client.TakePolite: use.TakePolite, client.TakeForce: use.TakeForce,
	}[t]
}

// Detach implements control.Agent.
func (a *Agent) Detach(_ context.Context, id string) error {
	defer a.changes.tell()
	return controlError(a.wanted.detach(id))
}

// Console implements control.Agent.
func (a *Agent) Console(ctx context.Context, name string, t client.Take) (io.ReadWriteCloser, error) {
	raw, err := a.attacher.OpenRaw(ctx, name, take(t))
	if err != nil {
		return nil, controlError(err)
	}
	return console{raw}, nil
}

// console gives the reasons of a lost device their codes.
type console struct{ io.ReadWriteCloser }

func (c console) Read(p []byte) (int, error) {
	n, err := c.ReadWriteCloser.Read(p)
	if err == io.EOF {
		return n, err
	}
	return n, controlError(err)
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
