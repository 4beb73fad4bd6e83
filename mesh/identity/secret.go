package identity

import (
	"bytes"
	"cmp"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

const (
	secretPrefix   = "ssp1"
	secretBodyLen  = 16 + 4 + 32
	secretCheckLen = 4
)

// ErrSecret is wrapped by every error of ParseSecret. The errors never quote
// the secret.
var ErrSecret = errors.New("not a cluster secret")

// ClusterID names a cluster for ever; rotating the key keeps it.
type ClusterID [16]byte

// Prefix returns the cluster's /64 of unique local addresses (RFC 4193). It is
// never put on a host interface.
func (c ClusterID) Prefix() netip.Prefix {
	sum := labelled("serialspan mesh prefix v1", c[:])
	var a [16]byte
	a[0] = 0xfd
	copy(a[1:8], sum[:7])
	return netip.PrefixFrom(netip.AddrFrom16(a), 64)
}

// Address returns the mesh address of a member.
func (c ClusterID) Address(id NodeID) netip.Addr {
	a := c.Prefix().Addr().As16()
	copy(a[8:], id[:8])
	return netip.AddrFrom16(a)
}

// Label returns the cluster's gossip label: 16 hexadecimal digits that tell
// clusters apart without naming the cluster ID.
func (c ClusterID) Label() string {
	sum := labelled("serialspan gossip label v1", c[:])
	return hex.EncodeToString(sum[:8])
}

// Secret is a cluster secret: whoever holds it may ask to join (DESIGN section
// 6). It prints redacted; Text gives the real text form. It is comparable. The
// zero value is the secret of no cluster.
type Secret struct {
	Cluster   ClusterID
	KeyNumber uint32 // counts rotations, from 1
	key       hiddenBytes
}

// SecretOf puts a secret together; keyNumber counts rotations, from 1.
func SecretOf(cluster ClusterID, keyNumber uint32, key [32]byte) Secret {
	return Secret{Cluster: cluster, KeyNumber: keyNumber, key: hideBytes(key)}
}

// NewSecret makes the first secret of a new cluster.
func NewSecret() (Secret, error) {
	var (
		cluster ClusterID
		key     [32]byte
	)
	if _, err := rand.Read(cluster[:]); err != nil {
		return Secret{}, fmt.Errorf("make cluster secret: %w", err)
	}
	if _, err := rand.Read(key[:]); err != nil {
		return Secret{}, fmt.Errorf("make cluster secret: %w", err)
	}
	return SecretOf(cluster, 1, key), nil
}

// Text returns the text form that ParseSecret reads, 94 characters.
func (s Secret) Text() string {
	body := make([]byte, 0, secretBodyLen+secretCheckLen)
	body = append(body, s.Cluster[:]...)
	body = binary.BigEndian.AppendUint32(body, s.KeyNumber)
	key := s.key.show()
	body = append(body, key[:]...)
	sum := labelled("serialspan secret checksum v1", body)
	return secretPrefix + lowerBase32.EncodeToString(append(body, sum[:secretCheckLen]...))
}

// String returns a form without the key, safe for logs.
func (s Secret) String() string { return "cluster secret " + s.Fingerprint() }

// GoString keeps %#v from printing the key.
func (s Secret) GoString() string { return s.String() }

// Fingerprint names the secret without revealing it, for people to compare:
// the same on two machines exactly if cluster ID, key number and key agree.
func (s Secret) Fingerprint() string {
	sum := labelled("serialspan secret fingerprint v1", []byte(s.Text()))
	digits := hex.EncodeToString(sum[:8])
	return digits[0:4] + "-" + digits[4:8] + "-" + digits[8:12] + "-" + digits[12:16]
}

// ParseSecret reads the text form; white space around it is ignored.
func ParseSecret(text string) (Secret, error) {
	text = strings.ToLower(strings.TrimSpace(text))
	encoded, ok := strings.CutPrefix(text, secretPrefix)
	if !ok {
		return Secret{}, fmt.Errorf("parse cluster secret: %w: it must begin with %q", ErrSecret, secretPrefix)
	}
	if want := lowerBase32.EncodedLen(secretBodyLen + secretCheckLen); len(encoded) != want {
		return Secret{}, fmt.Errorf("parse cluster secret: %w: want %d characters after %q, have %d", ErrSecret, want, secretPrefix, len(encoded))
	}
	raw, err := lowerBase32.DecodeString(encoded)
	if err != nil || len(raw) != secretBodyLen+secretCheckLen { // it skips line breaks
		return Secret{}, fmt.Errorf("parse cluster secret: %w: only the letters a-z and digits 2-7 occur", ErrSecret)
	}
	body := raw[:secretBodyLen]
	sum := labelled("serialspan secret checksum v1", body)
	if subtle.ConstantTimeCompare(sum[:secretCheckLen], raw[secretBodyLen:]) != 1 || lowerBase32.EncodeToString(raw) != encoded {
		return Secret{}, fmt.Errorf("parse cluster secret: %w: the checksum does not fit; a character is wrong or missing", ErrSecret)
	}
	return SecretOf(ClusterID(body[:16]), binary.BigEndian.Uint32(body[16:20]), [32]byte(body[20:52])), nil
}

// JoinKey returns the pre-shared key of the join handshake.
func (s Secret) JoinKey() [32]byte { return s.derive("serialspan join key v1") }

// GossipKey returns the AES-256 key of the gossip packets.
func (s Secret) GossipKey() [32]byte { return s.derive("serialspan gossip key v1") }

// BeaconKey returns the key of the beacons by which agents find each other on
// one link.
func (s Secret) BeaconKey() [32]byte { return s.derive("serialspan beacon key v1") }

// HandOverKey returns the key by which a member proves to another that it holds
// this secret, before it is given a newer one.
func (s Secret) HandOverKey() [32]byte { return s.derive("serialspan hand-over key v1") }

// Hash stands for the secret where it is signed or put in order: unlike
// Fingerprint it is too long for two secrets to share one.
func (s Secret) Hash() [sha256.Size]byte {
	return labelled("serialspan secret hash v1", []byte(s.Text()))
}

// Renewed returns a secret of the same cluster with a new key and the given key
// number.
func (s Secret) Renewed(keyNumber uint32) (Secret, error) {
	var key [32]byte
	if _, err := rand.Read(key[:]); err != nil {
		return Secret{}, fmt.Errorf("renew cluster secret: %w", err)
	}
	return SecretOf(s.Cluster, keyNumber, key), nil
}

// Compare orders secrets of one cluster: the larger key number is the newer
// one, of equal numbers the larger Hash. So members that make new keys at the
// same time agree which of them counts.
func (s Secret) Compare(other Secret) int {
	a, b := s.Hash(), other.Hash()
	return cmp.Or(cmp.Compare(s.KeyNumber, other.KeyNumber), bytes.Compare(a[:], b[:]))
}

func (s Secret) derive(info string) [32]byte {
	key := s.key.show()
	out, err := hkdf.Key(sha256.New, key[:], s.Cluster[:], info, 32)
	if err != nil {
		panic("identity: HKDF of 32 bytes: " + err.Error()) // RFC 5869 allows up to 255*32
	}
	return [32]byte(out)
}
