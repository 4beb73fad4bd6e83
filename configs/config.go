package configs

import (
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	"github.com/serialspan/serialspan/bridge/client"
	"github.com/serialspan/serialspan/registry/naming"
)

// DefaultPort is the UDP port of the mesh where none is written.
const DefaultPort = 51821

// DefaultHold is how long a device stays reserved for a consumer whose
// connection broke, where a rule says nothing else.
const DefaultHold = 15 * time.Second

// Config is everything an agent is told. Default returns a usable one for a
// machine that has a cluster secret; the zero value is not usable.
//
// The tag mapstructure gives the key in the file, oneof the words a key takes.
type Config struct {
	Node        Node         `mapstructure:"node"`
	Cluster     Cluster      `mapstructure:"cluster"`
	Mesh        Mesh         `mapstructure:"mesh"`
	Devices     Devices      `mapstructure:"devices"`
	Attachments []Attachment `mapstructure:"attachments"`
	Control     Control      `mapstructure:"control"`
	Log         Log          `mapstructure:"log"`

	// File is the absolute path of the file that was read, "" for none.
	File string `mapstructure:"-"`
	// At says where each key was written, "FILE:LINE" or the name of a
	// variable or flag, for messages about it. Place reads it.
	At map[string]string `mapstructure:"-"`
}

// Node is what this machine says of itself.
type Node struct {
	// Name is how people call the node; the default is the host name.
	Name string `mapstructure:"name"`
	// Labels go with every device of this node. Keys are in lower case.
	Labels map[string]string `mapstructure:"labels"`
	// StateDir holds the identity key, the boot counter and the known
	// members. A relative path is relative to the folder of the file.
	StateDir string `mapstructure:"state_dir"`
}

// Cluster says which cluster the node belongs to and how to get in.
type Cluster struct {
	// SecretFile holds the cluster secret, mode 0600. A relative path is
	// relative to the folder of the file.
	SecretFile string `mapstructure:"secret_file"`
	// Join lists members to join through, as HOST[:PORT]; after Load each has
	// a port. Empty: wait to be joined.
	Join []string `mapstructure:"join"`
	// Admission says who is let in. With secret, whoever holds it is a member;
	// with allowlist, whoever holds it and is listed in cluster.allow.
	Admission string `mapstructure:"admission" oneof:"secret allowlist"`
	// Allow lists the members that this node takes under allowlist: NodeIDs,
	// or names of cluster.nodes. This node itself need not be listed.
	Allow []string `mapstructure:"allow"`
	// Nodes gives members names of this machine's own: name to NodeID. Only
	// such names and NodeIDs authorise, never what a node calls itself.
	Nodes map[string]string `mapstructure:"nodes"`
	// Admins lists the members that may remove nodes from the whole cluster
	// ("serialspan nodes remove"), and, if there are any, the only ones that may
	// rotate the secret: NodeIDs, or names of cluster.nodes. Give every member
	// the same list.
	Admins []string `mapstructure:"admins"`
}

// Mesh is about the one UDP socket.
type Mesh struct {
	// Listen is the local UDP address, [IP]:PORT. Port 0 takes a free one.
	Listen string `mapstructure:"listen"`
	// Advertise lists addresses, at most 8, at which others reach this node
	// besides those the node finds out itself: a port forwarded by a router.
	Advertise []netip.AddrPort `mapstructure:"advertise"`
	// Relay says whether this node passes messages on, which it cannot read,
	// for members that cannot reach each other: auto (once two members reach
	// it straight), on or off.
	Relay string `mapstructure:"relay" oneof:"auto on off"`
	// KubeSpan says what is made of the KubeSpan that this machine is in, if it
	// is a node of a Talos cluster: auto (members are found and reached through
	// it) or off. Talos's part of it is never written to.
	KubeSpan string `mapstructure:"kubespan" oneof:"auto off"`
	// LAN finds members on the same link by multicast, without cluster.join.
	LAN bool `mapstructure:"lan"`
}

// Devices says which serial devices of this machine others may open.
type Devices struct {
	// Publish is known (what a rule matches or the agent recognises), all
	// (every serial device with hardware behind it) or listed (what a rule
	// matches).
	Publish string `mapstructure:"publish" oneof:"known all listed"`
	// ProfilesDir is a folder with profiles of one's own (*.yaml), which stand
	// before those that come along; they are read again with the file. Empty:
	// none. A relative path is relative to the folder of the file.
	ProfilesDir string `mapstructure:"profiles_dir"`
	// Rules are tried in order, the first that matches a device counts.
	Rules []Rule `mapstructure:"rules"`
}

// Rule gives the devices that it matches a name and a way of use.
type Rule struct {
	Match Match `mapstructure:"match"`
	// Name is the logical name, in which {{.Node}} and {{.Kind}} stand for the
	// node's name and the kind of device. Empty: "{{.Node}}-{{.Kind}}".
	Name string `mapstructure:"name"`
	// Kind is the kind of device, such as zwave or serial; empty: as the
	// profile says, else serial.
	Kind string `mapstructure:"kind"`
	// Profile names the profile that holds where the rule says nothing; none
	// turns profiles off. Empty: that of the device.
	Profile string `mapstructure:"profile"`
	// Line is the line settings on open, as bridge/line writes them; empty: as
	// the profile says, else "115200n81".
	Line string `mapstructure:"line"`
	// DTR is how the modem line stands after opening; empty: as the profile
	// says, else as the driver leaves it.
	DTR string `mapstructure:"dtr" oneof:"on off"`
	// RTS is the same for the other line.
	RTS string `mapstructure:"rts" oneof:"on off"`
	// RS485 lets the port drive the direction of an RS-485 line by RTS.
	RS485 RS485 `mapstructure:"rs485"`
	// Busy is what happens to a second consumer: kick (it gets the device),
	// refuse, wait (it gets the device when the first is done) or share (both
	// have it). Empty: as the profile says, else kick.
	Busy string `mapstructure:"busy" oneof:"kick refuse wait share"`
	// Hold is how long the device stays reserved for a consumer whose
	// connection broke. Empty: as the profile says, else 15s.
	Hold time.Duration `mapstructure:"hold"`
	// MaxStale is how old bytes may be that are sent again after an outage,
	// older ones are dropped and counted; off: any age. Empty: as the profile
	// says, else off.
	MaxStale Age `mapstructure:"max_stale"`
	// Allow lists who may open the device: NodeIDs, or names of
	// cluster.nodes. Empty: every member.
	Allow []string `mapstructure:"allow"`
	// AllowRead lists who else may read along ("serialspan monitor"); those of
	// allow may anyway.
	AllowRead []string `mapstructure:"allow_read"`
}

// RS485 is a half-duplex line whose direction RTS switches.
type RS485 struct {
	On                bool          `mapstructure:"on"`                            // switches it on; the driver has to support it
	RTSOnSend         string        `mapstructure:"rts_on_send" oneof:"on off"`    // RTS while sending; empty: on
	RTSAfterSend      string        `mapstructure:"rts_after_send" oneof:"on off"` // RTS otherwise; empty: off
	BeforeSend        time.Duration `mapstructure:"before_send"`                   // from RTS to the first bit, whole milliseconds
	AfterSend         time.Duration `mapstructure:"after_send"`                    // from the last bit to RTS, whole milliseconds
	ReceiveDuringSend bool          `mapstructure:"receive_during_send"`           // the port hears what it sends
	Terminate         bool          `mapstructure:"terminate"`                     // switches the terminating resistor in, where there is one
}

// Match selects devices. An empty field matches everything; a rule has at
// least one that is not. It is comparable.
type Match struct {
	VID       string `mapstructure:"vid"`       // USB vendor ID, 4 hexadecimal digits
	PID       string `mapstructure:"pid"`       // USB product ID, 4 hexadecimal digits
	Serial    string `mapstructure:"serial"`    // USB serial number
	Interface string `mapstructure:"interface"` // USB interface number, 2 hexadecimal digits
	Port      string `mapstructure:"port"`      // USB port path, "1-1.2"
	Path      string `mapstructure:"path"`      // absolute path of any tty, a PTY too
}

// Attachment is a device wanted on this machine, as a PTY, as a TCP port or as
// an RFC 2217 port.
type Attachment struct {
	// Device is NAME or NAME@NODE, or labels that only one device has:
	// zone=garage,kind=zwave, where kind is the device's kind.
	Device string `mapstructure:"device"`
	PTY    PTY    `mapstructure:"pty"`
	// TCP is the address to listen on, IP:PORT. Any local user can connect.
	TCP string `mapstructure:"tcp"`
	// RFC2217 is the address to listen on for clients that also set baud rate
	// and modem lines over the connection (rfc2217://), IP:PORT.
	RFC2217 string `mapstructure:"rfc2217"`
	// Expose allows an address that other machines can reach.
	Expose bool `mapstructure:"expose"`
	// Line is the line settings that a session begins with; empty: those of
	// the device. A PTY keeps data bits and parity from here, since no
	// application can set them there.
	Line string `mapstructure:"line"`
}

// PTY says where and for whom an attachment makes a PTY.
type PTY struct {
	Link  string   `mapstructure:"link"`  // absolute path of the symbolic link
	Mode  FileMode `mapstructure:"mode"`  // of the tty node; 0: 0600
	Owner string   `mapstructure:"owner"` // of the tty node, user name or number; "": the agent's; another takes root
	Group string   `mapstructure:"group"` // of the tty node, name or number; "": the agent's
}

// Control is about the socket that the commands use.
type Control struct {
	// Socket is the path of the unix socket. A relative path is relative to
	// the folder of the file.
	Socket string `mapstructure:"socket"`
	// Mode is the permissions of the socket, in octal: whoever can write to
	// it commands the agent.
	Mode FileMode `mapstructure:"mode"`
	// Group is the group of the socket, name or number; empty: the agent's.
	Group string `mapstructure:"group"`
	// LinkDirs are where an agent of root makes links for other users.
	LinkDirs []string `mapstructure:"link_dirs"`
}

// Place says where key, or the nearest key around it that was written, stands:
// "FILE:LINE: KEY"; KEY alone for a configuration made by code.
func (c Config) Place(key string) string {
	for near := key; near != ""; near = near[:max(0, strings.LastIndexAny(near, ".["))] {
		if at := c.At[near]; at != "" {
			return at + ": " + key
		}
	}
	return key
}

// Differences returns the keys whose values differ, in the order of the
// schema. File and At are not compared.
func (c Config) Differences(other Config) []string {
	var keys []string
	theirs := leaves(other)
	for i, mine := range leaves(c) {
		a, b := mine.value, theirs[i].value
		empty := a.Kind() == reflect.Slice || a.Kind() == reflect.Map
		if empty && a.Len() == 0 && b.Len() == 0 || reflect.DeepEqual(a.Interface(), b.Interface()) {
			continue
		}
		keys = append(keys, mine.key)
	}
	return keys
}

// Log says what the agent writes to standard error.
type Log struct {
	// Level is the least that is written.
	Level string `mapstructure:"level" oneof:"debug info warn error"`
	// Format is text for people or json for programs.
	Format string `mapstructure:"format" oneof:"text json"`
}

// Default returns the configuration of a machine that says nothing: paths for
// root if the process is root, else for the user, and the host name as name.
func Default() Config {
	return Config{
		Node:    Node{Name: hostName(), Labels: map[string]string{}, StateDir: defaultStateDir()},
		Cluster: Cluster{SecretFile: SecretFileName, Admission: "secret"},
		Mesh:    Mesh{Listen: ":51821", Relay: "auto", KubeSpan: "auto", LAN: true},
		Devices: Devices{Publish: "known"},
		Control: Control{Socket: client.DefaultSocket(), Mode: 0o660, LinkDirs: []string{"/dev/serialspan", "/run/serialspan"}},
		Log:     Log{Level: "info", Format: "text"},
	}
}

// DefaultDir returns the folder that holds the configuration of this machine
// (root) or of this user.
func DefaultDir() string {
	if os.Geteuid() == 0 {
		return systemDir
	}
	return userDir("XDG_CONFIG_HOME", ".config")
}

func defaultStateDir() string {
	if os.Geteuid() == 0 {
		return "/var/lib/serialspan"
	}
	return userDir("XDG_STATE_HOME", ".local/state")
}

// userDir follows the XDG base directory specification: a relative value in
// the environment is ignored.
func userDir(variable, below string) string {
	if dir := os.Getenv(variable); filepath.IsAbs(dir) {
		return filepath.Join(dir, "serialspan")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return filepath.Join(os.TempDir(), "serialspan")
	}
	return filepath.Join(home, below, "serialspan")
}

// hostName returns the first label of the host name in lower case, "node"
// where that is no valid name.
func hostName() string {
	host, err := os.Hostname()
	if err != nil {
		return "node"
	}
	first, _, _ := strings.Cut(strings.ToLower(host), ".")
	if !naming.Valid(first) {
		return "node"
	}
	return first
}
