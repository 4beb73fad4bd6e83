package registry

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"

	"github.com/serialspan/serialspan/mesh/identity"
)

// A digest is a CBOR map {1: rows} with one row per owner, ordered by NodeID:
//
//	NodeID (16) ‖ SHA-256(list hash ‖ entry hashes ordered by name)[0:8]
//
// 64 bits are enough: an owner that makes two of its own states collide hides
// a change of its own devices from itself.
const (
	rowLen = identity.NodeIDLen + 8

	// MaxDigest bounds a digest, in bytes.
	MaxDigest = (maxOwners+1)*rowLen + 16
)

type digestBody struct {
	Rows []byte `cbor:"1,keyasint"`
}

// Root returns a hash of the whole state: two registries with the same root
// hold the same, apart from what stands in for entries that they both lack.
func (r *Registry) Root() [32]byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.root == nil {
		sum := sha256.Sum256(r.rows())
		r.root = &sum
	}
	return *r.root
}

// Digest returns what Answer needs to tell what another registry lacks, at
// most MaxDigest bytes.
func (r *Registry) Digest() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return encode(digestBody{r.rows()})
}

func (r *Registry) rows() []byte {
	rows := make([]byte, 0, len(r.owners)*rowLen)
	for _, id := range slices.SortedFunc(maps.Keys(r.owners), identity.NodeID.Compare) {
		if o := r.owners[id]; !o.isEmpty() {
			sum := o.digest()
			rows = append(append(rows, id[:]...), sum[:]...)
		}
	}
	return rows
}

// isEmpty: nothing but a hint has been heard of the owner.
func (o *owner) isEmpty() bool { return o.list == nil && len(o.entries) == 0 }

func (o *owner) digest() [8]byte {
	if o.sum == nil {
		sum := sha256.New()
		if o.list != nil {
			sum.Write(o.list.hash[:])
		} else {
			sum.Write(make([]byte, sha256.Size))
		}
		for _, h := range o.live() {
			sum.Write(h.hash[:])
		}
		o.sum = (*[8]byte)(sum.Sum(nil)[:8])
	}
	return *o.sum
}

// live returns the entries that are part of the state, ordered by name.
func (o *owner) live() []*held {
	all := make([]*held, 0, len(o.entries))
	for _, name := range slices.Sorted(maps.Keys(o.entries)) {
		if h := o.entries[name]; !h.awaited {
			all = append(all, h)
		}
	}
	return all
}

// Answer compares another registry's digest with this one and returns what
// the other may lack: everything of each owner about whom they differ, the
// list before the entries. After the other has merged that, and this one the
// other's answer to a digest of this one, both hold the same. The messages
// are shared with the registry and must not be changed; each has at most
// MaxMessage bytes. The error wraps ErrMessage.
func (r *Registry) Answer(digest []byte) (messages [][]byte, err error) {
	theirs, err := decodeDigest(digest)
	if err != nil {
		return nil, fmt.Errorf("answer registry digest: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, id := range slices.SortedFunc(maps.Keys(r.owners), identity.NodeID.Compare) {
		o := r.owners[id]
		if sum, ok := theirs[id]; o.isEmpty() || ok && sum == o.digest() {
			continue
		}
		if o.list != nil {
			messages = append(messages, o.list.wire)
		}
		for _, h := range o.live() {
			messages = append(messages, h.wire)
		}
	}
	return messages, nil
}

func decodeDigest(digest []byte) (map[identity.NodeID][8]byte, error) {
	var b digestBody
	if len(digest) > MaxDigest {
		return nil, fmt.Errorf("%w: digest of %d bytes", ErrMessage, len(digest))
	}
	if err := decMode.Unmarshal(digest, &b); err != nil {
		return nil, fmt.Errorf("%w: digest: %v", ErrMessage, err)
	}
	if len(b.Rows)%rowLen != 0 || len(b.Rows) > (maxOwners+1)*rowLen {
		return nil, fmt.Errorf("%w: digest with rows of %d bytes", ErrMessage, len(b.Rows))
	}
	theirs := make(map[identity.NodeID][8]byte, len(b.Rows)/rowLen)
	var last []byte
	for row := range slices.Chunk(b.Rows, rowLen) {
		id := row[:identity.NodeIDLen]
		if bytes.Compare(last, id) >= 0 {
			return nil, fmt.Errorf("%w: digest out of order", ErrMessage)
		}
		last = id
		theirs[identity.NodeID(id)] = [8]byte(row[identity.NodeIDLen:])
	}
	return theirs, nil
}
