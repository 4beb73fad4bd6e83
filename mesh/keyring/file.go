package keyring

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/serialspan/serialspan/mesh/identity"
)

// ErrFile is wrapped by every error of Unmarshal. The errors never quote what
// was read.
var ErrFile = errors.New("not a key file")

// MaxFile bounds what Unmarshal reads, bytes: 4096 known nodes of 44 bytes, and
// the keys.
const MaxFile = 256 << 10

// Marshal returns the text form; doc.go has its lines.
func (r *Ring) Marshal() []byte {
	var out bytes.Buffer
	out.WriteString("# SerialSpan cluster keys. Whoever reads this file can join the cluster.\n")
	for _, k := range r.keys {
		fmt.Fprintf(&out, "key %s %s %x\n", map[bool]string{true: "in-use", false: "offered"}[k.InUse], k.Secret.Text(), k.Statement.wire)
	}
	for _, n := range r.named {
		fmt.Fprintf(&out, "named %d %x\n", n.Number, n.JoinKey)
	}
	for _, id := range slices.SortedFunc(maps.Keys(r.known), identity.NodeID.Compare) {
		fmt.Fprintf(&out, "known %s %d\n", id, r.known[id])
	}
	return out.Bytes()
}

// Unmarshal reads the text form. The error wraps ErrFile.
func Unmarshal(text []byte) (*Ring, error) {
	r := &Ring{known: make(map[identity.NodeID]uint32)}
	if len(text) > MaxFile {
		return nil, fmt.Errorf("read cluster keys: %w: %d bytes", ErrFile, len(text))
	}
	number := 0
	for line := range strings.Lines(string(text)) {
		number++
		words := strings.Fields(line)
		if len(words) == 0 || words[0][0] == '#' {
			continue
		}
		if !r.unmarshalLine(words) {
			return nil, fmt.Errorf("read cluster keys: %w: line %d", ErrFile, number)
		}
	}
	if !slices.ContainsFunc(r.keys, func(k Key) bool { return k.InUse }) {
		return nil, fmt.Errorf("read cluster keys: %w: no key is in use", ErrFile)
	}
	slices.SortFunc(r.keys, func(a, b Key) int { return b.Secret.Compare(a.Secret) })
	r.trim()
	return r, nil
}

// unmarshalLine takes in a line and reports whether it makes sense.
func (r *Ring) unmarshalLine(words []string) bool {
	switch {
	case words[0] == "key" && len(words) == 4:
		return r.unmarshalKey(words)
	case words[0] == "named" && len(words) == 3:
		n, err := strconv.ParseUint(words[1], 10, 32)
		key, keyErr := hex.DecodeString(words[2])
		if err != nil || keyErr != nil || len(key) != 32 {
			return false
		}
		r.named = append(r.named, NamedKey{uint32(n), [32]byte(key)})
		return true
	case words[0] == "known" && len(words) == 3:
		id, err := identity.ParseNodeID(words[1])
		n, numberErr := strconv.ParseUint(words[2], 10, 32)
		if err != nil || numberErr != nil || len(r.known) >= maxKnown {
			return false
		}
		r.known[id] = uint32(n)
		return true
	}
	return false
}

func (r *Ring) unmarshalKey(words []string) bool {
	secret, err := identity.ParseSecret(words[2])
	wire, wireErr := hex.DecodeString(words[3])
	if err != nil || wireErr != nil || words[1] != "in-use" && words[1] != "offered" {
		return false
	}
	if len(r.keys) > 0 && secret.Cluster != r.cluster {
		return false
	}
	r.cluster = secret.Cluster
	statement, err := ParseStatement(secret.Cluster, wire)
	if err != nil || !statement.Fits(secret) {
		return false
	}
	if slices.ContainsFunc(r.keys, func(k Key) bool { return k.Secret == secret }) {
		return false
	}
	r.keys = append(r.keys, Key{Secret: secret, Statement: statement, InUse: words[1] == "in-use"})
	return true
}

// Cluster returns the cluster of the secrets.
func (r *Ring) Cluster() identity.ClusterID { return r.cluster }
