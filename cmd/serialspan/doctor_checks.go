package main

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/serialspan/serialspan/bridge/client"
)

// finding is what doctor says of one thing.
type finding struct {
	What     string `json:"what"`
	Evidence string `json:"evidence"`
	Do       string `json:"do,omitempty"`
	Hint     bool   `json:"hint,omitempty"` // nothing is wrong, but it is good to know
}

// patient is all that doctor has seen. What could not be had is zero.
type patient struct {
	machine   machine
	configErr error
	agentErr  error // the agent does not answer
	listenErr error // why its UDP port could not be opened now; looked at only without an agent
	// listenHolder is who has that port, if it is known.
	listenHolder string
	stateErr     error // the same of its state directory
	secretErr    error // the same of the cluster secret
	status       client.Status
	nodes        []client.Node
	devices      []client.Device
	sessions     []client.Session
	paths        []client.PathSize // of the living members that have one
}

// machine is what doctor sees besides the agent.
type machine struct {
	early    time.Duration // how far the wall clock is before the date of this program; 0: it is not
	kubeSpan bool          // there is an interface called kubespan
	sockets  []udpSocket   // those that are open
	clock    hardwareClock
	// userNamespace: root here is none outside.
	userNamespace bool
	// noNodes are ttys that the kernel has and that /dev here lacks.
	noNodes []string
}

// udpSocket is a row of /proc/net/udp.
type udpSocket struct {
	port   uint16
	drops  uint64 // datagrams that came faster than they were read
	inode  uint64
	holder string // who has it; looked up for ports that matter
}

const (
	// kubeSpanPort is the UDP port of Talos's WireGuard.
	kubeSpanPort = 51820
	// oddSkew is from when on another clock is worth a word.
	oddSkew = time.Minute
)

// diagnose returns the findings, hints last. It decides by what it is given
// alone.
func diagnose(p patient) []finding {
	all := []finding{}
	for _, check := range []func(patient) []finding{
		checkConfig, checkAgent, checkProblems, checkKey, checkNodes, checkPaths, checkPort, checkNAT, checkDevices, checkDrops, checkSessions, checkClock, checkHardwareClock, checkContainer, checkKubeSpan,
	} {
		all = append(all, check(p)...)
	}
	slices.SortStableFunc(all, func(a, b finding) int {
		switch {
		case a.Hint == b.Hint:
			return 0
		case a.Hint:
			return 1
		}
		return -1
	})
	return all
}

func checkConfig(p patient) []finding {
	if p.configErr == nil {
		return nil
	}
	var all []finding
	for line := range strings.Lines(p.configErr.Error()) {
		all = append(all, finding{What: "configuration", Evidence: strings.TrimSpace(line), Do: "correct it; configs/REFERENCE.md lists all keys"})
	}
	return all
}

func checkAgent(p patient) []finding {
	var all []finding
	if p.agentErr != nil {
		f := finding{What: "agent", Evidence: p.agentErr.Error(), Do: "look at its log"}
		if errors.Is(p.agentErr, client.ErrNoAgent) {
			f.Evidence, f.Do, _ = strings.Cut(p.agentErr.Error(), ": ")
		}
		all = append(all, f)
	}
	if p.listenErr != nil {
		evidence := p.listenErr.Error()
		if p.listenHolder != "" {
			evidence += "; now it is " + p.listenHolder
		}
		all = append(all, finding{What: "UDP port", Evidence: evidence, Do: "end the program that has it (\"ss -ulpn\" shows which), or set mesh.listen to a free port"})
	}
	if p.secretErr != nil {
		all = append(all, finding{What: "cluster secret", Evidence: p.secretErr.Error(), Do: "make a cluster with \"serialspan init\", enter one with \"serialspan join HOST\", or correct cluster.secret_file"})
	}
	if p.stateErr != nil {
		all = append(all, finding{What: "state directory", Evidence: p.stateErr.Error(), Do: "make it writable for the agent's user, free the disk, or set node.state_dir"})
	}
	return all
}

// checkProblems takes over what the agent says of itself; devices have a check
// of their own.
func checkProblems(p patient) []finding {
	var all []finding
	for _, problem := range p.status.Problems {
		if !strings.HasPrefix(problem, "device ") || strings.HasPrefix(problem, "device name ") {
			all = append(all, findingOf(problem))
		}
	}
	return all
}

// findingOf takes a line of Status.Problems apart: "object: cause; what to do",
// where the object may be "FILE:LINE: KEY".
func findingOf(problem string) finding {
	what, rest, ok := strings.Cut(problem, ": ")
	if !ok {
		return finding{What: "agent", Evidence: problem}
	}
	if i := strings.LastIndexByte(what, ':'); i >= 0 {
		_, notLine := strconv.Atoi(what[i+1:])
		if key, text, found := strings.Cut(rest, ": "); notLine == nil && found {
			what, rest = what+": "+key, text
		}
	}
	f := finding{What: what, Evidence: rest}
	if i := strings.LastIndex(rest, "; "); i >= 0 {
		f.Evidence, f.Do = rest[:i], rest[i+2:]
	}
	return f
}

// checkKey looks for members that do not have the newest cluster secret.
func checkKey(p patient) []finding {
	key := p.status.Key
	if key == nil {
		return nil
	}
	var all []finding
	for _, node := range key.Behind {
		all = append(all, finding{What: "cluster secret of " + node, Evidence: fmt.Sprintf("it uses an older key than %d, which is in use here", key.Number), Do: "nothing at first, it is given the newer one by itself; if it stays so, look at \"serialspan status\" there", Hint: true})
	}
	if key.Rotation == nil {
		return all
	}
	for _, m := range key.Rotation.Missing {
		all = append(all, finding{What: "cluster secret of " + m.Node, Evidence: fmt.Sprintf("key %d was not given to it: %s", key.Rotation.Number, m.Why), Do: "let it come back before the secret is rotated twice more, or copy the secret file to it then", Hint: true})
	}
	return all
}

func checkNodes(p patient) []finding {
	var all []finding
	for _, n := range p.nodes {
		heard := "never heard"
		if n.Heard != nil {
			heard = "last heard " + since(time.Duration(*n.Heard)) + " ago"
		}
		what := "node " + cmp.Or(n.Name, n.ID.Short())
		switch {
		case n.Self:
			continue
		case n.State == client.NodeDead || n.State == client.NodeSuspect:
			all = append(all, finding{What: what, Evidence: fmt.Sprintf("%s without a word, %s", n.State, heard), Do: "look whether it is on, its agent runs and its network works"})
		case n.State == client.NodeKnown:
			all = append(all, finding{What: what, Evidence: "known from earlier, not met since the agent here started", Do: "start its agent; one that will not return is forgotten by itself"})
		case n.State == client.NodeAlive && n.Path == "":
			all = append(all, finding{
				What: what, Evidence: "alive, but there is no way to it from here, " + heard,
				Do: "let UDP through between the two, set mesh.advertise where a router forwards a port, or run an agent that both reach (mesh.relay)",
			})
		case strings.HasPrefix(n.Path, "via "):
			all = append(all, finding{
				What: what, Evidence: "reached " + n.Path + ": messages between the two go through another node, which cannot read them",
				Do: "nothing has to be done; for a straight way let UDP through between the two, or forward a port and name it in mesh.advertise", Hint: true,
			})
		}
		if n.Skew != nil && time.Duration(*n.Skew).Abs() >= oddSkew {
			all = append(all, finding{
				What: "clock of " + strings.TrimPrefix(what, "node "), Evidence: "off by " + signedSkew(time.Duration(*n.Skew)) + " as seen from here; the mesh does not care, but TLS and logs of other programs do",
				Do: "set the clock of whichever is wrong", Hint: true,
			})
		}
	}
	return all
}

// checkPort asks whether anybody reaches this node straight.
func checkPort(p patient) []finding {
	others, straight := 0, 0
	for _, n := range p.nodes {
		if n.Self || n.State != client.NodeAlive {
			continue
		}
		others++
		if n.Path != "" && !strings.HasPrefix(n.Path, "via ") {
			straight++
		}
	}
	if others == 0 || straight > 0 {
		return nil
	}
	return []finding{{
		What: "UDP port " + portOf(p.status.Listen), Evidence: fmt.Sprintf("none of %d other members exchanges datagrams with this node straight", others),
		Do: "open this UDP port in the firewall here" + talosFirewall(p) + ", or forward one in the router and name it in mesh.advertise",
	}}
}

// talosFirewall names what opens a port on Talos.
func talosFirewall(p patient) string {
	if p.status.KubeSpan == nil {
		return ""
	}
	return " (on Talos a NetworkRuleConfig for UDP; what comes by the KubeSpan it lets in anyway)"
}

func portOf(address string) string {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	return port
}

func checkDevices(p patient) []finding {
	var all []finding
	for _, d := range p.devices {
		switch {
		case d.State == client.DeviceFault:
			all = append(all, finding{What: "device " + d.Name, Evidence: cmp.Or(d.Detail, "in fault") + ", on " + d.Node, Do: "look at the cable, the tty's permissions and who else has it open, on " + d.Node})
		case d.State == client.DeviceAway && d.NodeID == p.status.ID:
			all = append(all, finding{What: "device " + d.Name, Evidence: cmp.Or(d.Detail, "away"), Do: "plug it in, or remove its rule", Hint: true})
		}
	}
	return all
}

// checkDrops looks for datagrams that were lost inside this machine.
func checkDrops(p patient) []finding {
	var all []finding
	for _, s := range p.machine.sockets {
		if s.drops > 0 && fmt.Sprint(s.port) == portOf(p.status.Listen) {
			all = append(all, finding{What: fmt.Sprintf("UDP port %d", s.port), Evidence: fmt.Sprintf("the kernel dropped %d datagrams since the agent opened it: its buffer was full", s.drops), Do: "raise it: sysctl net.core.rmem_max=2500000, then restart the agent; if the processor is busy, relieve it"})
		}
	}
	for _, counter := range []struct{ name, what string }{
		{"datagrams_dropped", "streams were read too slowly"}, {"control_dropped", "probes and join messages came too fast"},
	} {
		if n := p.status.Counters[counter.name]; n > 0 {
			all = append(all, finding{What: "counter " + counter.name, Evidence: fmt.Sprintf("%d datagrams dropped by the agent: %s", n, counter.what), Do: "sessions repeat what was lost; if it grows, look at the load of this machine", Hint: true})
		}
	}
	if n := p.status.Counters["send_errors"]; n > 0 {
		all = append(all, finding{What: "counter send_errors", Evidence: fmt.Sprintf("the kernel refused %d datagrams", n), Do: "look at routes and the firewall's output rules if it grows", Hint: true})
	}
	return all
}

func checkSessions(p patient) []finding {
	var all []finding
	for _, s := range p.sessions {
		if s.Gaps > 0 {
			all = append(all, finding{What: "session of " + s.Device, Evidence: fmt.Sprintf("%d gaps, at most %s lost, with %s", s.Gaps, size(s.Lost), s.Peer), Do: "the log of both nodes says why each", Hint: true})
		}
	}
	return all
}

func checkClock(p patient) []finding {
	if p.machine.early <= 0 {
		return nil
	}
	return []finding{{
		What: "clock of this machine", Evidence: "it is " + since(p.machine.early) + " before the date of this program, so it is wrong; SerialSpan does not care, but TLS in other programs fails",
		Do: "set it, or let NTP; replace the battery of the clock if it comes back",
	}}
}
