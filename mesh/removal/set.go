package removal

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/serialspan/serialspan/mesh/identity"
)

const (
	// MaxStatements bounds a Set.
	MaxStatements = 2048
	// maxIdle bounds the statements in a Set whose issuer does not count here:
	// they are kept and passed on because it may count elsewhere, or later.
	maxIdle = 256
)

// ErrFull means that a Set takes no more statements.
var ErrFull = errors.New("too many removals")

// key is what a Set has one statement of.
type key struct{ node, issuer identity.NodeID }

// Set holds statements and grows only. It is not safe for concurrent use. The
// zero value is empty.
type Set struct {
	statements map[key]Statement
	nodes      map[identity.NodeID][]identity.NodeID // who removed it
}

// Add takes in a statement; counts says whether its issuer's statements do here.
// It reports whether the statement is new; the error wraps ErrFull.
func (s *Set) Add(statement Statement, counts func(issuer identity.NodeID) bool) (added bool, err error) {
	k := key{statement.node, statement.issuer}
	if held, ok := s.statements[k]; ok {
		// One of each issuer: all members keep the same.
		if statement.wire < held.wire {
			s.statements[k], added = statement, true
		}
		return added, nil
	}
	limit := MaxStatements
	if !counts(statement.issuer) {
		limit = maxIdle
	}
	if len(s.statements) >= limit {
		return false, fmt.Errorf("keep removal of %s: %w: %d", statement.node, ErrFull, len(s.statements))
	}
	if s.statements == nil {
		s.statements = make(map[key]Statement)
		s.nodes = make(map[identity.NodeID][]identity.NodeID)
	}
	s.statements[k] = statement
	s.nodes[k.node] = append(s.nodes[k.node], k.issuer)
	return true, nil
}

// Find returns a statement about node whose issuer counts; of several that of
// the smallest issuer.
func (s *Set) Find(node identity.NodeID, counts func(issuer identity.NodeID) bool) (Statement, bool) {
	var found Statement
	for _, issuer := range s.nodes[node] {
		if counts(issuer) && (found.issuer.IsZero() || issuer.Compare(found.issuer) < 0) {
			found = s.statements[key{node, issuer}]
		}
	}
	return found, !found.node.IsZero()
}

// All returns the statements by removed node, then by issuer.
func (s *Set) All() []Statement {
	all := make([]Statement, 0, len(s.statements))
	for _, statement := range s.statements {
		all = append(all, statement)
	}
	slices.SortFunc(all, func(a, b Statement) int { return cmp.Or(a.node.Compare(b.node), a.issuer.Compare(b.issuer)) })
	return all
}

// Digest is equal on members that hold the same statements.
func (s *Set) Digest() [sha256.Size]byte {
	h := sha256.New()
	for _, statement := range s.All() {
		sum := statement.hash()
		h.Write(sum[:])
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// Marshal returns the text form; doc.go has its lines.
func (s *Set) Marshal() []byte {
	var out bytes.Buffer
	out.WriteString("# SerialSpan nodes that were removed from the cluster, as signed.\n")
	for _, statement := range s.All() {
		fmt.Fprintf(&out, "%x\n", statement.wire)
	}
	return out.Bytes()
}

// Unmarshal adds what Marshal wrote, as far as it is valid and there is room;
// the error then says how much is not.
func (s *Set) Unmarshal(cluster identity.ClusterID, text []byte, counts func(issuer identity.NodeID) bool) error {
	bad := 0
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		wire, err := hex.DecodeString(line)
		if err == nil {
			var statement Statement
			if statement, err = Parse(cluster, wire); err == nil {
				_, err = s.Add(statement, counts)
			}
		}
		if err != nil {
			bad++
		}
	}
	if bad > 0 {
		return fmt.Errorf("read removals: %w: %d of them", ErrStatement, bad)
	}
	return nil
}
