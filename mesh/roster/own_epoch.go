package roster

import "cmp"

// Verdict says what a record of this very node means that a peer holds.
type Verdict int

const (
	// Fine: our own record, or one of an earlier life that ours outranks.
	Fine Verdict = iota
	// JumpTo: an earlier life of this node got further than the boot counter
	// on disk tells (the disk was restored, or cannot be written). Go on in
	// the epoch that Decide returned: persist it, sign a new record with it.
	JumpTo
	// TwoMachines: two machines run this identity. Stop publishing, say so.
	TwoMachines
)

// String returns the verdict's name in lower case.
func (v Verdict) String() string {
	names := [...]string{"fine", "jump", "two machines"}
	if v < 0 || int(v) >= len(names) {
		return "unknown"
	}
	return names[v]
}

// OwnEpoch decides about records of this node that peers show it (DESIGN
// section 6). A foreign record is one with another start whose (epoch,
// sequence) is at least ours: only a process that does not know of ours, or
// that outran it, made it.
//
//	foreign record | not jumped yet            | jumped before
//	---------------+---------------------------+--------------
//	no             | Fine                      | Fine
//	yes            | JumpTo its epoch + 1      | TwoMachines
//
// An earlier life cannot answer a jump; another machine does, since ours is
// foreign to it. Of two machines that see each other's records at least one
// ends at TwoMachines; the other, which jumped last, outranks it.
//
// One OwnEpoch belongs to one process. The zero value is ready to use. It is
// not safe for concurrent use.
type OwnEpoch struct {
	jumped uint64 // the epoch jumped to; 0: none, as a jump goes to 1 at least
}

// Decide judges a record of this node held by a peer against ours, the newest
// one of this process. The epoch is meaningful with JumpTo only. The zero
// Signed, and a record of another node, are Fine.
//
// A record that the jump already outranks is Fine even while ours is not yet
// signed again, so several answers that arrive together make one jump.
func (o *OwnEpoch) Decide(ours, held Signed) (Verdict, uint64) {
	switch {
	case !foreign(ours, held):
		return Fine, 0
	case o.jumped != 0 && held.v.record.Epoch < o.jumped:
		return Fine, 0
	case o.jumped != 0 || held.v.record.Epoch >= MaxCount:
		return TwoMachines, 0
	}
	o.jumped = held.v.record.Epoch + 1
	return JumpTo, o.jumped
}

// foreign reports whether held is a record of the node of ours, made by
// another process, with (epoch, sequence) at least ours.
func foreign(ours, held Signed) bool {
	if ours.IsZero() || held.IsZero() || ours.v.id != held.v.id || ours.v.record.Start == held.v.record.Start {
		return false
	}
	return cmp.Or(
		cmp.Compare(held.v.record.Epoch, ours.v.record.Epoch),
		cmp.Compare(held.v.record.Sequence, ours.v.record.Sequence),
	) >= 0
}
