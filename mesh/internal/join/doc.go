// Package join is the join handshake: how a node that holds the cluster secret
// and a member get each other's signed node records, before there is a tunnel.
//
// It is a pure machine: datagrams in, datagrams out, time handed in as the
// duration since the process started. It opens no socket, logs nothing, starts
// no goroutine. It decides neither when to try whom nor what to do with a
// record; it vouches that the peer holds the secret, the identity key of its
// record and the WireGuard key in it.
//
// # Handshake
//
// Noise_XXpsk0_25519_ChaChaPoly_BLAKE2s (Noise Protocol Framework revision 34,
// section 7.5 for XX, 9 for the psk), prologue "serialspan join v1" ‖ cluster
// ID, psk = the secret's join key. The static key is the node's WireGuard key
// of this start and must be the one in its record, which its identity signed.
//
//	joiner                                              member
//	  [5][id 4][e, payload 1, padded: 1200 in all] ──▶    opens with the join key only
//	  ◀── [6][joiner's id 4][member's id 4][e, ee, s, es, payload 2]
//	done; [7][member's id 4][s, se, payload 3] ───▶       done
//
// Ids are random and mean something to their maker only. A payload is one CBOR
// map (RFC 8949) with integer keys, in payload 1 followed by zero bytes:
//
//	key  payload  value
//	 1     1, 2   protocol version, 1
//	 2     1, 2   the sender's node record (package roster)
//	 3     2, 3   where the sender sees the other: address ‖ port, 6 or 18 bytes
//	 4     2      newest record of the joiner that the member holds, where it
//	              is another than the one in payload 1
//	 5     2      refusal code, absent or 0: none. A refusal has keys 1, 5 and
//	              6 at most, and ends the handshake
//	 6     2      with refusal 3 or 5, which are about the secret: key number of
//	              the one in use
//
// Unknown keys are ignored.
//
// # Older secrets
//
// After a rotation a member knows several join keys (SetKeys), and opens message
// 1 with whichever fits. With an older one only those are let in that were
// members when it was in use; still older ones open only for a refusal that says
// so. A node that gets no answer may try an older key itself: the other side may
// be the one that was away.
//
// # Silence and floods
//
// What does not open gets no answer, so strangers see a dead port, and since
// message 2 is shorter than message 1 nobody's traffic is amplified. A recorded
// message 1 is answered at most once by a process: the ephemeral keys answered
// lately are remembered for longer than the handshake. The answer is worth
// nothing without the ephemeral private key. Everything kept is bounded by the
// constants in limits.go. Stray input never ends a handshake that is under way:
// the Noise state is made again from its inputs after a message that fails.
//
// # Lost messages
//
// The joiner tries again with a fresh message 1; nothing is sent by a timer. If
// message 2 comes again, message 3 is repeated byte for byte; a repeated
// message 3 is ignored. A member whose message 3 got lost does not know the
// joiner, which sees that no path comes up and begins again.
package join
