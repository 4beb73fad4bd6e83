// Package mesh makes a set of agents one network: it finds the others, keeps
// their records and liveness, and gives streams to them by NodeID. It knows
// nothing of serial devices.
//
// A Mesh needs a cluster secret, a state directory and one open UDP socket:
//
//	store, err := mesh.OpenStore(dir, machineID)
//	socket, err := mesh.ListenUDP(":51821")
//	m, err := mesh.New(mesh.Config{Store: store, Secret: secret, Name: "garage", Socket: socket,
//		Join: []string{"cloud.example.net"}, Protocols: []string{"chat/1"}})
//	go m.Run(ctx)
//	conn, err := m.Dial(ctx, member, "chat/1")
//
// This is the only place where its parts are tied together:
//
//	roster     newest record of every known member         (values)
//	keyring    the cluster's secrets, in use and older      (values)
//	removal    who was removed, and who says so             (values)
//	peering    which address to use for a member            (pure machine)
//	join       first contact: Noise, with the secret        (pure machine)
//	admission  comparing secrets and removals               (pure codec)
//	probe      sealed probes                                (pure codec)
//	tunnel     WireGuard in the process                     Run
//	plane      datagrams by member
//	quicnet    streams by member                            Run
//	gossip     who is alive                                 Run
//
// # From power-on to member
//
// New signs the node's record with a fresh WireGuard key and the next epoch.
// The join loop sends a join handshake to every address it knows. When one is
// answered, both sides hold the record of the other, probe each other's
// address, and the answer makes the path; WireGuard and QUIC come up on it by
// themselves, because gossip wants a stream to the member to exchange the
// membership. From then on records and liveness arrive together. The loop goes
// on for ever, with backoff and jitter, while the node is alone, and every
// half a minute for seeds and members that are missing, because memberlist
// does not heal partitions.
//
// # Who belongs to it
//
// Two members compare their secrets and the removals that they know when one
// joins through the other, when a path is back after an outage, when a hint says
// that another holds something else, and at random now and then (compare.go).
// Gossip carries hints and removals, never secrets. A rotation (rotate.go) is
// two rounds of such comparisons with everybody alive: one that hands the new
// secret out, one that tells that it is in use. A removal (remove.go) is a
// statement that only adds up; whoever honours it parts with the node in steps,
// so that the reason still reaches it.
//
// # KubeSpan
//
// On a node of a Talos cluster the others are reached through its KubeSpan, at
// their addresses there, with bare datagrams: what the plane carries, without a
// tunnel of ours (package tunnel, TypeBare). Records say where a member is in
// the KubeSpan; that only makes a candidate. A sealed probe there, as large as
// data, whose answer shows that it saw us at our own address there, proves it.
// See span.go.
//
// # Concurrency
//
// All methods are safe for concurrent use. One mutex, Mesh.mu, guards the
// peering machine, the probe keys and our own record; it is held only for
// work that does not wait. It is taken before the mutexes of roster, join and
// tunnel; nothing is called in quicnet or gossip while it is held. Callbacks
// that run on wireguard-go's goroutines only leave a note in the signals and
// return. Secrets and removals have a mutex of their own that is a leaf, and one
// that is held, before Mesh.mu, while they are written to disk. Run owns all goroutines and joins them.
package mesh
