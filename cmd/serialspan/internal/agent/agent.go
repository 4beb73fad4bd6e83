// Package agent is the wiring of one node: mesh, registry and bridge made from
// the configuration and tied together, behind the control API. It is the only
// package that sees all three.
//
//	mesh ──members──▶ registry ◀──devices── publisher ◀──sessions── mesh
//	  ▲                  │ resolve                                    ▲
//	  └──digests── registrysync                 attacher ──dial───────┘
//
// What a person wants is reconciled with what is: the configuration file is
// followed (reload.go), and attachments of the file and of
// commands are kept in one set (wanted.go, kept.go). What is in the way stands
// in Status (problems.go).
//
//	state directory   identity, epoch, members, keys, removed   mesh.Store
//	                  claims.json                numbers drawn for device names
//	                  attachments.json           attachments made by command
//	                  cluster.secret             the secret, where its own file cannot be written
//
// New opens the state directory and the UDP socket; Run starts everything,
// owns all goroutines, joins them and closes what New opened.
package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/serialspan/serialspan/bridge/attach"
	"github.com/serialspan/serialspan/bridge/publish"
	"github.com/serialspan/serialspan/bridge/rule"
	"github.com/serialspan/serialspan/cmd/serialspan/internal/control"
	"github.com/serialspan/serialspan/cmd/serialspan/internal/registrysync"
	"github.com/serialspan/serialspan/cmd/serialspan/internal/servicemanager"
	"github.com/serialspan/serialspan/configs"
	"github.com/serialspan/serialspan/mesh"
	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/mesh/kubespan"
	"github.com/serialspan/serialspan/registry"
)

// sessionProtocol is the stream protocol of package bridge/session.
const sessionProtocol = "serial/1"

// Options is what an agent is made of.
type Options struct {
	Config  configs.Config
	Logger  *slog.Logger // nil discards
	Version string       // of the software

	// Reload reads the configuration again after its file changed. Default:
	// the file is not watched.
	Reload func() (configs.Config, error)
	// Level is the logger's, to be changed with log.level. Default: that
	// takes a restart.
	Level *slog.LevelVar
	// MachineID tells this machine from one whose state directory was copied.
	// Default: what machine-id(5) says.
	MachineID string

	// Manager is the service manager that started the process; it is told of
	// the start and the end, and keeps PTYs over a restart. Default: there is
	// none.
	Manager *servicemanager.Manager
	// Socket is the UDP socket; default one at Config.Mesh.Listen. Run closes it.
	Socket mesh.Socket
	// Ports are where devices come from; default this machine's ttys.
	Ports Ports
}

// Ports is what the publisher needs of the machine; see publish.Config.
// Nil fields stand for the real thing.
type Ports struct {
	Discover func() ([]rule.Candidate, error)
	Watch    func(ctx context.Context, changed func()) error
	Exists   func(path string) bool
	Open     func(publish.PortSpec) (publish.Port, error)
}

// Agent is one node. It implements control.Agent; its methods are safe for
// concurrent use, before and after Run too.
type Agent struct {
	options Options
	log     *slog.Logger
	start   time.Time
	secret  identity.Secret

	store     *mesh.Store
	socket    mesh.Socket
	mesh      *mesh.Mesh
	registry  *registry.Registry
	sync      *registrysync.Engine
	publisher *publish.Publisher
	attacher  *attach.Attacher
	claims    *claims
	wanted    *wantedSet
	settings  settings
	changes   changes
	admission admission
	// secretFile follows the secret in use.
	secretFile *secretFile

	peers atomic.Pointer[[]identity.NodeID]          // alive, without this node
	names atomic.Pointer[map[identity.NodeID]string] // of all known members
	own   atomic.Int64                               // devices of this node
}

// New makes an agent: it reads the cluster secret and opens the state directory
// and the UDP socket. What it opened is closed by Run, or at once if New fails.
func New(options Options) (agent *Agent, err error) {
	if options.Logger == nil {
		options.Logger = slog.New(slog.DiscardHandler)
	}
	a := &Agent{options: options, log: options.Logger, start: time.Now()}
	a.peers.Store(new([]identity.NodeID))
	a.names.Store(new(map[identity.NodeID]string))
	defer func() {
		if err != nil {
			a.close()
		}
	}()
	if err := a.readPolicy(); err != nil {
		return nil, err
	}
	if err := a.openMesh(); err != nil {
		return nil, err
	}
	if err := a.openRegistry(); err != nil {
		return nil, err
	}
	a.openBridge()
	return a, nil
}

func (a *Agent) openMesh() (err error) {
	config := &a.options.Config
	if a.secret, err = identity.ReadSecretFile(config.Cluster.SecretFile); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			err = fmt.Errorf("%w; make a cluster with `serialspan init`, or enter one with `serialspan join HOST`", err)
		}
		return err
	}
	if err := a.admission.set(config.Cluster); err != nil {
		return fmt.Errorf("%s: %w", config.Place("cluster.allow"), err)
	}
	// The state directory comes last: each opening of it writes the boot counter,
	// and an agent whose port is taken is started again and again.
	if a.socket = a.options.Socket; a.socket == nil {
		if a.socket, err = mesh.ListenUDP(config.Mesh.Listen); err != nil {
			return err
		}
	}
	if a.store, err = mesh.OpenStore(config.Node.StateDir, cmp.Or(a.options.MachineID, machineID())); err != nil {
		return err
	}
	if _, origin := a.store.Identity(); origin == identity.Replaced {
		a.log.Warn("state directory was copied from another machine, this one got an identity of its own", "path", a.store.Dir())
	}
	if err := a.store.EpochError(); err != nil {
		a.log.Warn("boot counter cannot be written, the mesh will be asked for it", "err", err)
	}
	a.secretFile = &secretFile{path: config.Cluster.SecretFile, dir: a.store.Dir(), log: a.log}
	var span mesh.KubeSpan
	if config.Mesh.KubeSpan != "off" {
		span = kubespan.New(kubespan.Config{Logger: a.log})
	}
	a.mesh, err = mesh.New(mesh.Config{
		Store: a.store, Secret: a.secret, Name: config.Node.Name, Socket: a.socket,
		Version: a.options.Version, Join: config.Cluster.Join, Advertise: config.Mesh.Advertise,
		Protocols:   []string{registrysync.Protocol, sessionProtocol, signalProtocol},
		Admit:       a.admission.admits,
		Admins:      a.admission.administrators,
		OnSecret:    a.secretFile.keep,
		OnRemoved:   a.nodeRemoved,
		LAN:         config.Mesh.LAN,
		Relay:       map[string]mesh.RelayMode{"on": mesh.RelayOn, "off": mesh.RelayOff}[config.Mesh.Relay],
		KubeSpan:    span,
		OnBroadcast: func(message []byte) { a.sync.OnBroadcast(message) },
		Known:       func(message []byte) bool { return a.sync.Knows(message) },
		Digest:      func() [8]byte { return a.sync.Digest() },
		OnDiffer:    func(id identity.NodeID) { a.sync.OnDiffer(id) },
		Logger:      a.log,
	})
	if err != nil {
		return err
	}
	// The secret of the file may be older than what was in use at the last
	// stop; it is then told here too.
	if secret := a.mesh.Secret(); secret != a.secret {
		a.secret = secret
		a.secretFile.keep(secret)
	}
	return nil
}

// compareEvery is how often the registry is compared with a random member's
// although the digests that gossip carries agree, or have not come.
const compareEvery = 5 * time.Minute

func (a *Agent) openRegistry() error {
	id, _ := a.store.Identity()
	a.claims = openClaims(a.store.Dir(), a.log)
	a.registry = registry.New(registry.Config{
		Identity: id, Cluster: a.secret.Cluster, NodeName: a.options.Config.Node.Name,
		Claims:     a.claims.known,
		SaveClaims: a.claims.save,
		Refuse:     a.mesh.IsRemoved,
	})
	a.sync = registrysync.New(registrysync.Config{
		Registry: a.registry,
		Self:     id.ID(),
		Peers:    func() []identity.NodeID { return *a.peers.Load() },
		Dial: func(ctx context.Context, to identity.NodeID) (net.Conn, error) {
			return a.mesh.Dial(ctx, to, registrysync.Protocol)
		},
		Accept: func(ctx context.Context) (net.Conn, identity.NodeID, error) {
			return a.mesh.Accept(ctx, registrysync.Protocol)
		},
		Broadcast: a.mesh.Broadcast,
		Interval:  compareEvery,
		Now:       a.now,
		Logger:    a.log,
	})
	return a.sync.SetEpoch(a.store.Epoch())
}

// now is the monotonic time since the agent was made, the registry's clock.
func (a *Agent) now() time.Duration { return time.Since(a.start) }

// Run runs the node until ctx ends, and returns nil then.
func (a *Agent) Run(ctx context.Context) error {
	defer a.close()
	// What uses the mesh stops before it: the sessions then say goodbye, or are
	// left to the next agent. Telling the members takes a second, in which the
	// sessions still run.
	users, stopUsers := context.WithCancel(context.WithoutCancel(ctx))
	defer stopUsers()
	carriers, stopCarriers := context.WithCancel(context.WithoutCancel(ctx))
	defer stopCarriers()

	var carrier errgroup.Group
	carrier.Go(func() error {
		defer stopUsers()
		return a.mesh.Run(carriers)
	})
	carrier.Go(func() error {
		defer stopUsers()
		select {
		case <-ctx.Done():
			a.mesh.Leave()
		case <-carriers.Done():
		}
		return nil
	})
	user, users := errgroup.WithContext(users)
	user.Go(func() error { return a.sync.Run(users) })
	user.Go(func() error { return a.publisher.Run(users) })
	user.Go(func() error { return a.attacher.Run(users) })
	user.Go(func() error { return a.serveSessions(users) })
	user.Go(func() error { return a.serveSignals(users) })
	user.Go(func() error { a.followMembers(users); return nil })
	user.Go(func() error { a.tellManager(ctx, users); return nil })
	user.Go(func() error { a.maintain(users); return nil })
	if path := a.options.Config.Control.Socket; path != "" {
		user.Go(func() error {
			return control.Run(users, control.Config{
				Agent: a, Socket: path, Mode: a.options.Config.Control.Mode.Perm(), Group: a.options.Config.Control.Group,
				LinkDirs: a.options.Config.Control.LinkDirs, Logger: a.log,
			})
		})
	}
	a.log.Info("agent runs", "node", a.options.Config.Node.Name, "id", a.mesh.Self().String(),
		"listen", a.socket.LocalAddr().String(), "version", a.options.Version)

	err := user.Wait()
	stopCarriers()
	err = errors.Join(err, carrier.Wait())
	if ctx.Err() != nil && onlyEnded(err) {
		a.log.Info("agent stopped")
		return nil
	}
	return err
}

// onlyEnded reports whether err says no more than that the end was asked for.
func onlyEnded(err error) bool {
	return err == nil || errors.Is(err, context.Canceled) || errors.Is(err, net.ErrClosed)
}

func (a *Agent) close() {
	if a.socket != nil {
		a.socket.Close()
	}
	if a.store != nil {
		a.store.Close()
	}
}

// followMembers hands what the mesh knows of its members to those who need it.
func (a *Agent) followMembers(ctx context.Context) {
	changes, stop := a.mesh.Watch()
	defer stop()
	timer := time.NewTimer(0)
	defer timer.Stop()
	epoch := a.store.Epoch()
	a.takeMembers(a.mesh.Members())
	for seen := uint64(0); ; {
		if now := a.mesh.Status().Epoch; now != epoch {
			epoch = now
			if err := a.sync.SetEpoch(epoch); err != nil {
				a.log.Error("devices cannot be signed again", "err", err)
			}
		}
		if now := a.mesh.Membership(); now != seen {
			seen = now
			a.takeMembers(a.mesh.Members())
		}
		if next, ok := a.registry.Advance(a.now()); ok {
			timer.Reset(max(0, next-a.now()))
		}
		looked := time.Now()
		select {
		case <-ctx.Done():
			return
		case <-changes:
		case <-timer.C:
		}
		// Where many start at once, each of them is not worth a look at all.
		select {
		case <-ctx.Done():
			return
		case <-time.After(max(0, max(followGap, time.Duration(len(*a.peers.Load()))*followEach)-time.Since(looked))):
		}
	}
}

// Between two looks at all members lie followGap and followEach for each of
// them: a look takes microseconds a member.
const (
	followGap  = 100 * time.Millisecond
	followEach = time.Millisecond
)

func (a *Agent) takeMembers(members []mesh.Member) {
	views := make(map[identity.NodeID]registry.MemberView)
	names := make(map[identity.NodeID]string)
	var peers []identity.NodeID
	for _, m := range members {
		views[m.ID] = registry.MemberView{Name: m.Name, Alive: m.State == mesh.Alive}
		names[m.ID] = m.Name
		if m.State == mesh.Alive && !m.Self {
			peers = append(peers, m.ID)
		}
	}
	a.names.Store(&names)
	a.peers.Store(&peers)
	a.registry.SetMembers(views)
	a.sync.MembersChanged()
}

// nameOf returns a member's name for people, its short NodeID if it has none.
func (a *Agent) nameOf(id identity.NodeID) string {
	if name := (*a.names.Load())[id]; name != "" {
		return name
	}
	if id.IsZero() {
		return ""
	}
	return id.Short()
}

// machineID returns what machine-id(5) says, empty where there is none.
func machineID() string {
	for _, path := range []string{"/etc/machine-id", "/var/lib/dbus/machine-id"} {
		if data, err := os.ReadFile(path); err == nil {
			if id := strings.TrimSpace(string(data)); id != "" && id != "uninitialized" {
				return id
			}
		}
	}
	return ""
}
