package admission

import (
	"crypto/hmac"
	"crypto/sha256"
	"slices"

	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/mesh/keyring"
)

// Tag names a secret.
func Tag(k keyring.Key) KeyTag {
	hash := k.Secret.Hash()
	return KeyTag{Number: k.Secret.KeyNumber, Tag: [tagLen]byte(hash[:tagLen]), InUse: k.InUse}
}

// Tags names all secrets of a ring that are accepted, newest first.
func Tags(keys []keyring.Key) []KeyTag {
	var all []KeyTag
	for _, k := range keys {
		all = append(all, Tag(k))
	}
	return all
}

// same reports whether two tags name one secret.
func (t KeyTag) same(other KeyTag) bool { return t.Number == other.Number && t.Tag == other.Tag }

// Holds reports whether a Hello names a secret, and whether it is in use there.
func (h Hello) Holds(k keyring.Key) (held, inUse bool) {
	i := slices.IndexFunc(h.Keys, Tag(k).same)
	if i < 0 {
		return false, false
	}
	return true, h.Keys[i].InUse
}

// Newest returns the largest key number in use.
func (h Hello) Newest() (number uint32) {
	for _, k := range h.Keys {
		if k.InUse {
			number = max(number, k.Number)
		}
	}
	return number
}

// Common returns the newest of our secrets that a Hello names.
func Common(ours []keyring.Key, theirs Hello) (identity.Secret, bool) {
	for _, k := range ours {
		if held, _ := theirs.Holds(k); held {
			return k.Secret, true
		}
	}
	return identity.Secret{}, false
}

// Missing returns the secrets of ours that a Hello does not name, or does not
// have in use although we have.
func Missing(ours []keyring.Key, theirs Hello) []GiftKey {
	var gift []GiftKey
	for _, k := range ours {
		held, inUse := theirs.Holds(k)
		if !held || k.InUse && !inUse {
			gift = append(gift, GiftKey{Secret: k.Secret.Text(), Statement: k.Statement.Wire(), InUse: k.InUse})
		}
	}
	return gift
}

// Key reads a secret of a Gift. The error wraps identity.ErrSecret or
// keyring.ErrStatement; whether the statement fits is not checked.
func (k GiftKey) Key(cluster identity.ClusterID) (keyring.Key, error) {
	secret, err := identity.ParseSecret(k.Secret)
	if err != nil {
		return keyring.Key{}, err
	}
	statement, err := keyring.ParseStatement(cluster, k.Statement)
	if err != nil {
		return keyring.Key{}, err
	}
	return keyring.Key{Secret: secret, Statement: statement, InUse: k.InUse}, nil
}

// Role is the side of an exchange.
type Role string

// The sides of an exchange.
const (
	Dialer   Role = "dialer"
	Accepter Role = "accepter"
)

// Transcript is what an exchange began with; both sides must see the same.
type Transcript struct {
	Dialer, Accepter           identity.NodeID
	DialerHello, AccepterHello []byte // frames without their length
}

// Prove makes the proof of one side that it holds secret.
func (t Transcript) Prove(secret identity.Secret, side Role) Proof {
	h := sha256.New()
	h.Write([]byte("serialspan hand-over v1\x00"))
	h.Write(t.Dialer[:])
	h.Write(t.Accepter[:])
	for _, frame := range [][]byte{t.DialerHello, t.AccepterHello} {
		sum := sha256.Sum256(frame)
		h.Write(sum[:])
	}
	key := secret.HandOverKey()
	mac := hmac.New(sha256.New, key[:])
	mac.Write([]byte(side))
	mac.Write([]byte{0})
	mac.Write(h.Sum(nil))
	return Proof{MAC: [32]byte(mac.Sum(nil))}
}

// Verify reports whether a proof is that of the given side.
func (t Transcript) Verify(secret identity.Secret, side Role, p Proof) bool {
	want := t.Prove(secret, side)
	return hmac.Equal(want.MAC[:], p.MAC[:])
}
