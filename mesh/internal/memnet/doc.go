// Package memnet is a packet network in memory for tests: a hub with endpoints
// that satisfy net.PacketConn, and per-direction delay, jitter, loss and cuts.
// UDP endpoints may be behind routers (NAT), or in a second network over the
// first (SetOverlay).
//
// It is for tests only; nothing of the program imports it. It starts no
// goroutine and uses no socket, so whole nodes on one hub run in virtual time
// inside a testing/synctest bubble. A hub made inside a bubble must be used
// inside it only.
//
// Datagrams of one direction keep their order unless the link has jitter. A
// full receive queue drops the newest datagram, as a socket does.
package memnet
