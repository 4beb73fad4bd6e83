package registry

import (
	"bytes"
	"cmp"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"github.com/serialspan/serialspan/mesh/canonical"
	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/registry/naming"
)

// Sizes in bytes of whole messages.
const (
	// MaxBroadcast bounds the messages that Publish returns, so that each fits
	// one gossip packet.
	MaxBroadcast = 1000
	// MaxMessage bounds the messages that Answer returns: a full list is
	// 256 * (63 + 24) bytes and a little.
	MaxMessage = 24 << 10

	maxEntry = MaxBroadcast
	maxHint  = 160
)

// ErrMessage is wrapped by errors about messages and digests that no honest
// member sends: malformed, too large, or not signed by their owner.
var ErrMessage = errors.New("not a valid registry message")

type messageKind byte

const (
	kindEntry messageKind = 1
	kindList  messageKind = 2
	kindHint  messageKind = 3
	// kindIgnored and above are left to later versions.
	kindIgnored messageKind = 128
)

// contexts keep a signature of one kind from passing as another.
var contexts = map[messageKind]string{
	kindEntry: "serialspan registry entry v1",
	kindList:  "serialspan registry list v1",
	kindHint:  "serialspan registry hint v1",
}

// Version orders what one owner says. The zero value is before everything.
type Version struct {
	Epoch    uint64 // the owner's boot counter
	Sequence uint64 // counts what the owner signed in this epoch, from 1
}

// Compare orders versions by epoch and then by sequence.
func (v Version) Compare(other Version) int {
	return cmp.Or(cmp.Compare(v.Epoch, other.Epoch), cmp.Compare(v.Sequence, other.Sequence))
}

// message is a decoded message; exactly one of entry, list, hint is set. It is
// immutable.
type message struct {
	kind    messageKind
	key     ed25519.PublicKey
	owner   identity.NodeID
	version Version
	wire    []byte // whole and verbatim
	hash    [sha256.Size]byte

	claim  uint32 // entry
	keeps  bool   // entry
	device Device // entry

	listed map[string]Version // list
}

// compare orders two messages about the same thing.
func (m *message) compare(other *message) int {
	return cmp.Or(m.version.Compare(other.version), bytes.Compare(m.hash[:], other.hash[:]))
}

// topic names what a message is about: of two broadcasts with the same topic
// the later one makes the earlier one needless.
func (m *message) topic() string {
	if m.kind == kindEntry {
		return "device/" + m.owner.String() + "/" + m.device.Name
	}
	return "devices/" + m.owner.String()
}

// body is every kind's CBOR body.
type body struct {
	Key          []byte            `cbor:"1,keyasint"`
	Epoch        uint64            `cbor:"2,keyasint"`
	Sequence     uint64            `cbor:"3,keyasint"`
	Name         string            `cbor:"4,keyasint"`
	Claim        uint32            `cbor:"5,keyasint"`
	Hardware     *hardwareBody     `cbor:"6,keyasint,omitempty"`
	Kind         string            `cbor:"7,keyasint,omitempty"`
	Profile      string            `cbor:"8,keyasint,omitempty"`
	Capabilities []string          `cbor:"9,keyasint,omitempty"`
	Line         string            `cbor:"10,keyasint,omitempty"`
	Labels       map[string]string `cbor:"11,keyasint,omitempty"`
	State        uint8             `cbor:"12,keyasint"`
	User         []byte            `cbor:"13,keyasint,omitempty"`
	Detail       string            `cbor:"14,keyasint,omitempty"`
	Keeps        bool              `cbor:"15,keyasint,omitempty"`
}

type hardwareBody struct {
	VID       string `cbor:"1,keyasint,omitempty"`
	PID       string `cbor:"2,keyasint,omitempty"`
	Serial    string `cbor:"3,keyasint,omitempty"`
	Interface string `cbor:"4,keyasint,omitempty"`
	Port      string `cbor:"5,keyasint,omitempty"`
	Path      string `cbor:"6,keyasint,omitempty"`
}

type listBody struct {
	Key      []byte     `cbor:"1,keyasint"`
	Epoch    uint64     `cbor:"2,keyasint"`
	Sequence uint64     `cbor:"3,keyasint"`
	Names    []listItem `cbor:"4,keyasint"`
}

type listItem struct {
	_        struct{} `cbor:",toarray"`
	Name     string
	Epoch    uint64
	Sequence uint64
}

type hintBody struct {
	Key      []byte `cbor:"1,keyasint"`
	Epoch    uint64 `cbor:"2,keyasint"`
	Sequence uint64 `cbor:"3,keyasint"`
}

var (
	encMode = canonical.Encoder()
	decMode = canonical.Decoder(canonical.Limits{Levels: 8, Elements: maxDevices, Pairs: 64})
)

func encode(v any) []byte {
	out, err := encMode.Marshal(v)
	if err != nil {
		panic("registry: encode: " + err.Error()) // only strings, numbers and bytes
	}
	return out
}

// bodyOf returns the body of a device's entry without owner and version: equal
// for equal devices.
func bodyOf(d Device, claim uint32, keeps bool) body {
	b := body{
		Name: d.Name, Claim: claim, Kind: d.Kind, Profile: d.Profile, Capabilities: d.Capabilities,
		Line: d.Line, Labels: d.Labels, State: uint8(d.State), Detail: d.Detail, Keeps: keeps,
	}
	if d.Hardware != (Hardware{}) {
		h := hardwareBody(d.Hardware)
		b.Hardware = &h
	}
	if !d.User.IsZero() {
		b.User = d.User[:]
	}
	return b
}

// sign makes the wire form of a message.
func sign(id *identity.Identity, cluster identity.ClusterID, kind messageKind, encoded []byte) []byte {
	wire := make([]byte, 0, 1+len(encoded)+ed25519.SignatureSize)
	wire = append(wire, byte(kind))
	wire = append(wire, encoded...)
	return append(wire, id.Sign(contexts[kind], slices.Concat(cluster[:], encoded))...)
}

// verify reports whether the owner signed the message for this cluster.
func (m *message) verify(cluster identity.ClusterID) error {
	encoded := m.wire[1 : len(m.wire)-ed25519.SignatureSize]
	if !identity.Verify(m.key, contexts[m.kind], slices.Concat(cluster[:], encoded), m.wire[len(m.wire)-ed25519.SignatureSize:]) {
		return fmt.Errorf("%w: not signed by its owner %s for this cluster", ErrMessage, m.owner.Short())
	}
	return nil
}

// decode reads a message and checks everything but the signature. It does not
// alias wire. A kind that is to be ignored gives nil and no error.
func decode(wire []byte) (*message, error) {
	if len(wire) > 0 && messageKind(wire[0]) >= kindIgnored {
		return nil, nil
	}
	if len(wire) < 1+ed25519.SignatureSize {
		return nil, fmt.Errorf("%w: %d bytes", ErrMessage, len(wire))
	}
	m := &message{kind: messageKind(wire[0])}
	encoded := wire[1 : len(wire)-ed25519.SignatureSize]
	var err error
	switch {
	case m.kind == kindEntry && len(wire) <= maxEntry:
		err = m.decodeEntry(encoded)
	case m.kind == kindList && len(wire) <= MaxMessage:
		err = m.decodeList(encoded)
	case m.kind == kindHint && len(wire) <= maxHint:
		var b hintBody
		if err = decMode.Unmarshal(encoded, &b); err == nil {
			err = m.setOwner(b.Key, b.Epoch, b.Sequence)
		}
	default:
		err = fmt.Errorf("kind %d of %d bytes", m.kind, len(wire))
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrMessage, err)
	}
	m.wire = bytes.Clone(wire)
	m.hash = sha256.Sum256(wire)
	return m, nil
}

func (m *message) setOwner(key []byte, epoch, sequence uint64) error {
	if len(key) != ed25519.PublicKeySize {
		return fmt.Errorf("identity key of %d bytes", len(key))
	}
	if sequence == 0 {
		return errors.New("sequence 0")
	}
	m.key = ed25519.PublicKey(key)
	m.owner = identity.NodeIDOf(m.key)
	m.version = Version{epoch, sequence}
	return nil
}

func (m *message) decodeEntry(encoded []byte) error {
	var b body
	if err := decMode.Unmarshal(encoded, &b); err != nil {
		return err
	}
	if err := m.setOwner(b.Key, b.Epoch, b.Sequence); err != nil {
		return err
	}
	if b.Claim == 0 {
		return errors.New("claim 0")
	}
	m.claim, m.keeps = b.Claim, b.Keeps
	m.device = Device{
		Name: b.Name, Kind: b.Kind, Profile: b.Profile, Capabilities: b.Capabilities,
		Line: b.Line, Labels: b.Labels, State: State(b.State), Detail: b.Detail,
	}
	if b.Hardware != nil {
		m.device.Hardware = Hardware(*b.Hardware)
	}
	switch len(b.User) {
	case 0:
	case identity.NodeIDLen:
		m.device.User = identity.NodeID(b.User)
	default:
		return fmt.Errorf("user of %d bytes", len(b.User))
	}
	return m.device.check()
}

func (m *message) decodeList(encoded []byte) error {
	var b listBody
	if err := decMode.Unmarshal(encoded, &b); err != nil {
		return err
	}
	if err := m.setOwner(b.Key, b.Epoch, b.Sequence); err != nil {
		return err
	}
	m.listed = make(map[string]Version, len(b.Names))
	for i, item := range b.Names {
		v := Version{item.Epoch, item.Sequence}
		switch err := naming.Check(item.Name); {
		case err != nil:
			return err
		case i > 0 && b.Names[i-1].Name >= item.Name:
			return errors.New("names out of order")
		case v.Compare(m.version) >= 0:
			return errors.New("a listed version is not before the list's")
		}
		m.listed[item.Name] = v
	}
	return nil
}
