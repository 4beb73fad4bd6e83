package gossip

import (
	"context"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/serialspan/serialspan/mesh/identity"
)

// An epidemic misses a member now and then, and with push/pull off nothing in
// memberlist repairs that. So each member tells its neighbours in the overlay,
// one after the other, a digest of what it knows, 33 bytes; who knows something
// else joins the sender. That costs nothing while all agree, and keeps the
// WireGuard sessions that the next message wants.
const (
	// calmFactor and freshFactor are in units of Intervals.Repair: how often
	// digests are sent while nothing changes, and how long a change makes that
	// more often.
	calmFactor  = 5
	freshFactor = 10

	// maxRepairPause bounds the pauses between repairs that change nothing:
	// members that for ever disagree on the validity of a record must not
	// exchange everything all the time.
	maxRepairPause = 5 * time.Minute
)

// summary is a digest of the members that are alive, with their records. The
// order does not matter. Called with mu held.
func (g *Gossip) summary() digest {
	if g.sum == nil {
		g.sum = new([8]byte)
		for _, m := range g.members {
			if m.state != Alive {
				continue
			}
			for i := range g.sum {
				g.sum[i] ^= m.row[i]
			}
		}
	}
	return digest{from: g.cfg.Self, sum: *g.sum}
}

func summaryRow(id identity.NodeID, meta []byte) [8]byte {
	record := hashRecord(meta)
	sum := sha256.Sum256(append(id[:], record[:]...))
	return [8]byte(sum[:8])
}

// heard is the last digest of another member.
type heard struct {
	digest
	at time.Time // monotonic
}

// receiveDigest keeps the last digest for repair to look at.
func (g *Gossip) receiveDigest(d digest) {
	now := time.Now()
	differs := d.users != g.cfg.Digest()
	g.mu.Lock()
	g.heard = heard{d, now}
	if differs {
		g.pending.differs = d.from
	}
	g.mu.Unlock()
	if differs {
		g.signal()
	}
}

// repair sends digests and repairs what those of others show, until ctx ends.
func (g *Gossip) repair(ctx context.Context) {
	interval := g.cfg.Intervals.Repair
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	pause, next := interval, time.Time{}
	turn := rand.IntN(2 * rings)
	for tick := 0; ; tick++ {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		now, users := time.Now(), g.cfg.Digest()
		g.mu.Lock()
		own, changed, last := g.summary(), g.changed, g.heard
		own.users = users
		g.rumours.forget(now)
		_, known := g.members[last.from]
		near := g.neighbourhood()
		g.mu.Unlock()
		if len(near) > 0 && (now.Sub(changed) < freshFactor*interval || tick%calmFactor == 0) {
			g.send(ctx, near[turn%len(near)], own.encode())
			turn++
		}
		// Both sides must have had time to hear the news that is under way.
		settled := !last.at.IsZero() && last.at.Sub(changed) >= interval
		if !known || !settled || last.sum == own.sum || now.Before(next) {
			continue
		}
		if err := g.Join(ctx, []identity.NodeID{last.from}); err != nil {
			g.cfg.Logger.Debug("repair of membership failed", "node", last.from, "err", err)
		}
		g.mu.Lock()
		helped := g.changed != changed
		g.heard = heard{}
		g.mu.Unlock()
		if pause = min(2*pause, maxRepairPause); helped {
			pause = interval
		}
		next = time.Now().Add(pause)
	}
}

// send sends a frame to one member, best effort.
func (g *Gossip) send(ctx context.Context, to identity.NodeID, frame []byte) {
	list, release, err := g.use(ctx)
	if err != nil {
		return // it ends
	}
	defer release()
	address := memberlist.Address{Name: to.String(), Addr: fmt.Sprintf("[%s]:%d", g.cfg.Address(to), port)}
	if err := list.SendToAddress(address, frame); err != nil {
		g.cfg.Logger.Debug("gossip packet lost", "node", to, "err", err)
	}
}
