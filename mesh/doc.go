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
//	peering    which address to use for a member            (pure machine)
//	join       first contact: Noise, with the secret        (pure machine)
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
// # Concurrency
//
// All methods are safe for concurrent use. One mutex, Mesh.mu, guards the
// peering machine, the probe keys and our own record; it is held only for
// work that does not wait. It is taken before the mutexes of roster, join and
// tunnel; nothing is called in quicnet or gossip while it is held. Callbacks
// that run on wireguard-go's goroutines only leave a note in the signals and
// return. Run owns all goroutines and joins them.
package mesh
