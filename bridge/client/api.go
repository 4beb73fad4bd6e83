package client

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/serialspan/serialspan/mesh/identity"
)

// Version is the "api" of every answer.
const Version = "serialspan/v1"

// Upgrade is the protocol name in the HTTP upgrade of a console.
const Upgrade = "serialspan-raw"

// UpgradeMonitor is the protocol name in the HTTP upgrade of a monitor.
const UpgradeMonitor = "serialspan-monitor"

// UpgradePort is the protocol name in the HTTP upgrade of a port.
const UpgradePort = "serialspan-port"

// ConsoleHeader carries the ID of a console or monitor in the answer to its
// upgrade.
const ConsoleHeader = "Serialspan-Console"

// Status is what an agent says of itself.
type Status struct {
	Version     string          `json:"version"`      // of the software
	Node        string          `json:"node"`         // name
	ID          identity.NodeID `json:"id"`           //
	MeshAddress netip.Addr      `json:"mesh_address"` //
	Cluster     string          `json:"cluster"`      // fingerprint of the secret: equal on all members
	Epoch       uint64          `json:"epoch"`        // counts the starts of this node
	Uptime      Seconds         `json:"uptime_s"`     //
	Listen      string          `json:"listen"`       // the UDP address in use, IP:PORT
	Members     int             `json:"members"`      // alive, this node included
	Devices     int             `json:"devices"`      // published by this node
	// Key is the state of the cluster secret here.
	Key *Key `json:"key,omitempty"`
	// KubeSpan is nil where the machine has none, or mesh.kubespan is off.
	KubeSpan *KubeSpan `json:"kubespan,omitempty"`
	// Counters count since the start, by name in snake case: join_rejected,
	// junk_datagrams and so on.
	Counters map[string]uint64 `json:"counters"`
	// Problems are in force now, the worst first, each one line that names
	// the object, the cause and what to do.
	Problems []string `json:"problems"`
}

// Seconds is a duration that travels as a number of seconds.
type Seconds time.Duration

// MarshalJSON writes seconds with milliseconds.
func (s Seconds) MarshalJSON() ([]byte, error) {
	return fmt.Appendf(nil, "%.3f", time.Duration(s).Seconds()), nil
}

// UnmarshalJSON reads a number of seconds.
func (s *Seconds) UnmarshalJSON(text []byte) error {
	var number float64
	if _, err := fmt.Sscanf(string(text), "%g", &number); err != nil {
		return fmt.Errorf("parse seconds %q: %w", text, err)
	}
	*s = Seconds(number * float64(time.Second))
	return nil
}

// NodeState is how a member is seen from here.
type NodeState string

// The states of a member.
const (
	NodeAlive   NodeState = "alive"
	NodeKnown   NodeState = "known"   // from earlier; not met since the agent started
	NodeSuspect NodeState = "suspect" // did not answer lately
	NodeLeft    NodeState = "left"    // said goodbye
	NodeDead    NodeState = "dead"    // vanished without a word
	NodeRemoved NodeState = "removed" // taken out of the cluster, for good
)

// Node is a member of the cluster.
type Node struct {
	Name     string          `json:"name"`
	ID       identity.NodeID `json:"id"`
	State    NodeState       `json:"state"`
	Path     string          `json:"path,omitempty"`     // "kubespan", "direct", "via NAME", "self"; "" while there is none
	Endpoint string          `json:"endpoint,omitempty"` // UDP address in use, IP:PORT
	Class    string          `json:"class,omitempty"`    // of that address: kubespan, public, private, shared, link-local, loopback
	KubeSpan netip.Addr      `json:"kubespan,omitzero"`  // its address in a KubeSpan, as it says
	RTT      float64         `json:"rtt_ms,omitempty"`   // round trip in ms; 0: not measured
	Skew     *Seconds        `json:"skew_s,omitempty"`   // its wall clock ahead of ours, for people only; nil: not known
	Version  string          `json:"version,omitempty"`
	Heard    *Seconds        `json:"heard_s,omitempty"` // since data last came from it; nil: never
	Self     bool            `json:"self,omitempty"`
	// RemovedBy is who removed it; empty: nobody.
	RemovedBy string `json:"removed_by,omitempty"`
}

// Pong is the answer of a member to a ping.
type Pong struct {
	Node     string          `json:"node"` // its name
	ID       identity.NodeID `json:"id"`
	RTT      float64         `json:"rtt_ms"`             // round trip in ms
	Skew     Seconds         `json:"skew_s"`             // its wall clock ahead of ours; for people, nothing depends on it
	Path     string          `json:"path"`               // as in Node
	Endpoint string          `json:"endpoint,omitempty"` // as in Node
}

// PathSize is how large a datagram gets through on the path to a member. Sizes
// are bytes of UDP payload; on a path through a relay, of the message that is
// passed on.
type PathSize struct {
	Node     string          `json:"node"` // its name
	ID       identity.NodeID `json:"id"`
	Path     string          `json:"path"`                   // as in Node
	Endpoint string          `json:"endpoint,omitempty"`     // as in Node
	Data     int             `json:"data_bytes"`             // the largest of the agent's own on such a path
	Full     int             `json:"full_bytes"`             // the largest of all: what a relay passes on is larger
	There    int             `json:"there_bytes"`            // the largest that gets to it; 0: not even a small one is answered
	Back     int             `json:"back_bytes,omitempty"`   // the largest that comes back; 0: not known
	Headers  int             `json:"header_bytes,omitempty"` // of IP and UDP, before the payload; 0: through a relay
	MTU      int             `json:"mtu,omitempty"`          // of the path as the kernel knows it: a larger IP packet leaves in fragments; 0: not known
	// Seen is the address at which the member sees this node, if it is reached
	// straight. Translated: a router on the way has put it there.
	Seen       netip.AddrPort `json:"seen,omitzero"`
	Translated bool           `json:"translated,omitempty"`
}

// DeviceState is what a device is doing.
type DeviceState string

// The states of a device.
const (
	DeviceAvailable DeviceState = "available"
	DeviceInUse     DeviceState = "in-use"
	DeviceAway      DeviceState = "away"  // unplugged, or its node is not alive
	DeviceFault     DeviceState = "fault" // Detail says why
)

// Hardware is what tells a stick from another.
type Hardware struct {
	VID       string `json:"vid,omitempty"` // 4 hexadecimal digits
	PID       string `json:"pid,omitempty"` // 4 hexadecimal digits
	Serial    string `json:"serial,omitempty"`
	Interface string `json:"interface,omitempty"` // 2 hexadecimal digits
	Port      string `json:"port,omitempty"`      // USB port path
	Path      string `json:"path,omitempty"`      // of the tty, for devices matched by path
}

// Device is a published serial device. Name is not unique while Conflict is
// set; Name@Node always names it.
type Device struct {
	Name     string            `json:"name"`
	Node     string            `json:"node"` // the owner
	NodeID   identity.NodeID   `json:"node_id"`
	Kind     string            `json:"kind"` // zwave, zigbee, serial …
	State    DeviceState       `json:"state"`
	User     string            `json:"user,omitempty"`     // node whose session has it
	Conflict bool              `json:"conflict,omitempty"` // another device has the name
	Line     string            `json:"line,omitempty"`     // line settings, "115200n81"
	Hardware Hardware          `json:"hardware"`
	Labels   map[string]string `json:"labels,omitempty"`
	Detail   string            `json:"detail,omitempty"` // for people
	Profile  string            `json:"profile,omitempty"`
	// Capabilities are what it can do besides carrying bytes: "modem" (DTR,
	// RTS and break), "reset:RECIPE".
	Capabilities []string `json:"capabilities,omitempty"`
}

// Resolution is which device a name means now.
type Resolution struct {
	Query  string `json:"query"`
	Device Device `json:"device"`
}

// Kind is what an attachment opens.
type Kind string

// The kinds of attachments.
const (
	KindPTY     Kind = "pty"
	KindTCP     Kind = "tcp"
	KindRFC2217 Kind = "rfc2217"
	KindConsole Kind = "console"
	KindPort    Kind = "port" // a program that uses this package
)

// AttachmentState is how far an attachment is.
type AttachmentState string

// The states of an attachment.
const (
	AttachmentWaiting   AttachmentState = "waiting"   // nobody has it open, or the device is away
	AttachmentConnected AttachmentState = "connected" // bytes flow
	AttachmentHolding   AttachmentState = "holding"   // the way to the device broke; the app sees nothing of it
	AttachmentKicked    AttachmentState = "kicked"    // another consumer took the device
	AttachmentFailed    AttachmentState = "failed"    // Error says why
)

// Origin is who wants an attachment.
type Origin string

// The origins of attachments.
const (
	OriginFile      Origin = "file"      // the configuration
	OriginCommand   Origin = "command"   // a request; kept over restarts of the agent
	OriginEphemeral Origin = "ephemeral" // a request; gone at the agent's end
)

// Attachment is a device opened on this machine.
type Attachment struct {
	ID       string          `json:"id"`
	Device   string          `json:"device"` // as asked for: NAME or NAME@NODE
	Kind     Kind            `json:"kind"`
	Where    string          `json:"where"` // link path or IP:PORT
	State    AttachmentState `json:"state"`
	Since    Seconds         `json:"since_s"`         // how long in this state
	Error    string          `json:"error,omitempty"` // of the last failure
	Origin   Origin          `json:"origin,omitempty"`
	Sent     uint64          `json:"bytes_sent"`       // to the device
	Received uint64          `json:"bytes_received"`   // from the device
	RTT      float64         `json:"rtt_ms,omitempty"` // round trip to the device's node in ms; 0: not measured
	Resumed  int             `json:"resumed"`          // how often sessions went on after a break
	Gaps     int             `json:"gaps"`             // how often bytes were lost
	Lost     uint64          `json:"bytes_lost"`       // in the gaps, at most
	Line     string          `json:"line,omitempty"`   // line settings in force
	Users    string          `json:"users,omitempty"`  // who else uses the device, for people
}

// PTYSpec asks for a PTY.
type PTYSpec struct {
	Link  string `json:"link"`            // absolute path of the symbolic link
	Mode  uint32 `json:"mode,omitempty"`  // permission bits of the tty node; 0: 0600
	Group string `json:"group,omitempty"` // group of the tty node, name or number
}

// AttachRequest asks for an attachment: exactly one of PTY, TCP and RFC2217.
type AttachRequest struct {
	Device string   `json:"device"` // NAME or NAME@NODE
	PTY    *PTYSpec `json:"pty,omitempty"`
	TCP    string   `json:"tcp,omitempty"` // IP:PORT to listen on; port 0: a free one
	// RFC2217 is IP:PORT to listen on for RFC 2217; port 0: a free one.
	RFC2217 string `json:"rfc2217,omitempty"`
	Expose  bool   `json:"expose,omitempty"` // the address may be reachable from other machines
	// Line are the line settings that a session begins with; "": the
	// device's. A PTY keeps data bits and parity from here.
	Line string `json:"line,omitempty"`
	Take Take   `json:"take,omitempty"`
	// Ephemeral: not kept over a restart of the agent.
	Ephemeral bool `json:"ephemeral,omitempty"`
}

// Session is one consumer's use of a device of this node, or this node's use
// of a device elsewhere.
type Session struct {
	ID       string          `json:"id"`
	Device   string          `json:"device"`
	Role     string          `json:"role"` // "owner" or "consumer"
	Peer     string          `json:"peer"` // node at the other end
	PeerID   identity.NodeID `json:"peer_id"`
	State    string          `json:"state"`          // "open" or "holding"
	Line     string          `json:"line,omitempty"` // line settings in force
	Since    Seconds         `json:"since_s"`
	Sent     uint64          `json:"bytes_sent"`          // to the peer
	Received uint64          `json:"bytes_received"`      // from the peer
	Kind     Kind            `json:"kind,omitempty"`      // of the attachment
	ReadOnly bool            `json:"read_only,omitempty"` // it reads along
	RTT      float64         `json:"rtt_ms,omitempty"`    // round trip in ms; 0: not measured
	Resumed  int             `json:"resumed"`             // how often it went on after a break
	Gaps     int             `json:"gaps"`                // how often bytes were lost
	Lost     uint64          `json:"bytes_lost"`          // in the gaps, at most, both ways
}

// SignalRequest asks for DTR, RTS and break of a device.
type SignalRequest struct {
	Device string `json:"device"` // NAME or NAME@NODE
	// Words are done in this order: dtr=on|off, rts=on|off, break=TIME; or one
	// reset=RECIPE.
	Words []string `json:"words"`
}

// Take says what an opener may do to another consumer of the device.
type Take int

// The ways of taking a device.
const (
	// TakeNormal does what the device's rule says: kick or be refused.
	TakeNormal Take = iota
	// TakePolite never kicks.
	TakePolite
	// TakeForce kicks in any case.
	TakeForce
)

func takeWords() []string { return []string{"normal", "polite", "force"} }

// String returns "normal", "polite" or "force".
func (t Take) String() string {
	if words := takeWords(); t >= 0 && int(t) < len(words) {
		return words[t]
	}
	return fmt.Sprintf("take %d", int(t))
}

// MarshalText implements encoding.TextMarshaler.
func (t Take) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler; no text is TakeNormal.
func (t *Take) UnmarshalText(text []byte) error {
	for i, word := range takeWords() {
		if word == string(text) || i == 0 && len(text) == 0 {
			*t = Take(i)
			return nil
		}
	}
	return fmt.Errorf("parse take %q: write normal, polite or force", text)
}
