package roster

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/serialspan/serialspan/mesh/identity"
)

// membersHeader begins a members list and tells its version.
const membersHeader = "serialspan members 1\n"

// MaxMembers bounds a members list, in bytes: header + 4096·(2 + 450).
const MaxMembers = len(membersHeader) + MaxRecords*(2+MaxWire)

// ErrMembers is wrapped by every error of Unmarshal.
var ErrMembers = errors.New("not a sound members list")

// Marshal returns the members list to persist: the records of all other
// members by ascending NodeID. Equal rosters give equal bytes, so a caller can
// leave an unchanged file alone.
func (r *Roster) Marshal() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := r.others()
	slices.SortFunc(all, byID)
	out := []byte(membersHeader)
	for _, s := range all {
		out = binary.BigEndian.AppendUint16(out, uint16(len(s.v.wire)))
		out = append(out, s.v.wire...)
	}
	return out
}

// Unmarshal reads a members list of cluster and verifies each record. It
// returns the sound records even with an error, because a node that is cut off
// needs whoever it can still know: a record that does not parse is left out, a
// damaged length ends the list. The error wraps ErrMembers.
func Unmarshal(cluster identity.ClusterID, data []byte) ([]Signed, error) {
	if len(data) > MaxMembers {
		return nil, fmt.Errorf("read members: %w: %d bytes, want at most %d", ErrMembers, len(data), MaxMembers)
	}
	if !strings.HasPrefix(string(data[:min(len(data), len(membersHeader))]), membersHeader) {
		return nil, fmt.Errorf("read members: %w: unknown format", ErrMembers)
	}
	var (
		records []Signed
		bad     int
		first   error
	)
	for rest := data[len(membersHeader):]; len(rest) > 0; {
		if len(rest) < 2 || len(rest)-2 < int(binary.BigEndian.Uint16(rest)) {
			return records, fmt.Errorf("read members: %w: cut short after %d records", ErrMembers, len(records)+bad)
		}
		if len(records)+bad == MaxRecords {
			return records, fmt.Errorf("read members: %w: more than %d records", ErrMembers, MaxRecords)
		}
		size := int(binary.BigEndian.Uint16(rest))
		s, err := Parse(cluster, rest[2:2+size])
		rest = rest[2+size:]
		if err != nil {
			bad++
			if first == nil {
				first = err
			}
			continue
		}
		records = append(records, s)
	}
	if bad > 0 {
		return records, fmt.Errorf("read members: %w: %d of %d records left out, the first because: %v", ErrMembers, bad, bad+len(records), first)
	}
	return records, nil
}
