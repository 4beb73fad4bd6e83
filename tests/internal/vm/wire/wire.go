// Package wire is what a test and the init of its guest say to each other over
// one virtio-serial port: messages in encoding/gob, both ways, each belonging
// to a call.
//
//	host                                   guest
//	Message{Call: 1, Start: {Kind: Run}}
//	                                       Message{Call: 1, Stream: Stdout, Data}
//	                                       Message{Call: 1, End: {Code: 0}}
//
// Calls run beside each other; the host numbers them from 1. Message{} with
// Call 0 is the guest's first word: it is ready. A stream has no flow control:
// both sides take what comes.
//
// There is no code here but names.
package wire

import "net/netip"

// Port is the name of the virtio-serial port.
const Port = "serialspan.control"

// BootFile is where the initrd has Boot, as JSON.
const BootFile = "/boot.json"

// DiskDir is where the guest mounts its disk.
const DiskDir = "/disk"

// Boot is what a guest does when it starts.
type Boot struct {
	Hostname   string
	Modules    []Module // in order
	Interfaces []Interface
	Disk       bool // there is one: mount it at DiskDir
}

// Module is a kernel module.
type Module struct {
	Path       string // in the initrd
	Parameters string
}

// Interface is a network interface, found by its MAC address.
type Interface struct {
	MAC     string // "52:54:00:…", lower case
	Address netip.Prefix
	Gateway netip.Addr // not valid: none
}

// Kind is what a call does.
type Kind uint8

// The kinds of calls.
const (
	// Run runs Args and ends with it. Streams: Stdout, Stderr.
	Run Kind = iota + 1
	// Signal sends Number to the process of the call Target.
	Signal
	// Read sends the file Path on Stdout.
	Read
	// Write makes the file Path with permissions Number of what the host sends,
	// up to its EOF.
	Write
	// Dial connects to Args[1] of network Args[0]; the stream is the connection's.
	Dial
	// USB plugs a device of speed Number into the virtual host controller; its
	// URBs are the stream.
	USB
	// PowerOff writes what is to be written and ends the guest.
	PowerOff
)

// Start begins a call.
type Start struct {
	Kind   Kind
	Args   []string
	Path   string
	Number uint32
	Target uint64
}

// Stream says which bytes Data are.
type Stream uint8

// The streams of a call. Stdout is also the only one of calls that have one.
const (
	Stdout Stream = iota
	Stderr
)

// Message is one message of a call.
type Message struct {
	Call   uint64
	Start  *Start // the first of a call
	Stream Stream
	Data   []byte
	EOF    bool // after Data, nothing comes from this side any more
	End    *End // the last of a call, by the guest
}

// End is how a call has ended.
type End struct {
	Code  int    // of Run: exit status; -1: by a signal
	Error string // empty: none
}
