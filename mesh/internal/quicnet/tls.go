package quicnet

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/serialspan/serialspan/mesh/identity"
)

// alpn names the stream layer of this package and its version.
const alpn = "serialspan/1"

// instance names one run of a peer's process.
type instance [16]byte

// newInstance makes the instance of this process: random, positive as a
// certificate's serial number must be (RFC 5280 section 4.1.2.2).
func newInstance() (instance, error) {
	var i instance
	if _, err := rand.Read(i[:]); err != nil {
		return i, fmt.Errorf("make instance: %w", err)
	}
	i[0] = i[0]&0x3f | 0x40
	return i, nil
}

func instanceOf(cert *x509.Certificate) instance {
	var i instance
	if cert.SerialNumber.BitLen() <= 8*len(i) {
		cert.SerialNumber.FillBytes(i[:])
	}
	return i
}

// certificate is self-signed by the identity and valid at any time.
func certificate(id *identity.Identity, own instance) (tls.Certificate, error) {
	template := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(own[:]),
		Subject:      pkix.Name{CommonName: id.ID().String()},
		NotBefore:    time.Unix(0, 0).UTC(),
		NotAfter:     time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), // RFC 5280 section 4.1.2.5: no end
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, id.Public(), id.Private())
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: id.Private()}, nil
}

// baseTLS has no callbacks yet: it accepts any peer. Use it through pinned.
func baseTLS(cert tls.Certificate) *tls.Config {
	return &tls.Config{
		Certificates:       []tls.Certificate{cert},
		NextProtos:         []string{alpn},
		MinVersion:         tls.VersionTLS13,
		ClientAuth:         tls.RequireAnyClientCert,
		InsecureSkipVerify: true, // VerifyConnection pins the key instead

		// One group keeps the ClientHello in one packet, so that a lost packet
		// costs less and a handshake is one datagram each way. What could be
		// recorded today is WireGuard, which is no better against a quantum
		// computer.
		CurvePreferences: []tls.CurveID{tls.X25519},

		// Nothing may depend on the clock: no tickets, no session cache, and
		// what crypto/tls still compares with the time compares with this.
		SessionTicketsDisabled: true,
		Time:                   func() time.Time { return time.Unix(1_000_000_000, 0) },
	}
}

// pinned returns a copy of base that accepts nobody but node.
func pinned(base *tls.Config, node identity.NodeID) *tls.Config {
	c := base.Clone()
	c.GetConfigForClient = nil
	c.VerifyConnection = func(cs tls.ConnectionState) error { return verifyPeer(cs, node) }
	return c
}

// serverTLS pins each incoming connection to the member of its address.
func serverTLS(base *tls.Config, nodeOf func(net.Addr) (identity.NodeID, bool)) *tls.Config {
	c := base.Clone()
	c.VerifyConnection = func(tls.ConnectionState) error { return errors.New("connection without a pin") }
	c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		node, ok := nodeOf(hello.Conn.RemoteAddr())
		if !ok {
			return nil, fmt.Errorf("find node of %q: not a member's address", hello.Conn.RemoteAddr())
		}
		return pinned(base, node), nil
	}
	return c
}

// verifyPeer is all that makes a peer trusted. crypto/tls has checked by then
// that the peer holds the certificate's private key (RFC 8446 section 4.4.3).
func verifyPeer(cs tls.ConnectionState, node identity.NodeID) error {
	if len(cs.PeerCertificates) != 1 {
		return &IdentityError{Node: node, Cause: fmt.Sprintf("%d certificates, want 1", len(cs.PeerCertificates))}
	}
	key, ok := cs.PeerCertificates[0].PublicKey.(ed25519.PublicKey)
	if !ok {
		return &IdentityError{Node: node, Cause: "certificate without an Ed25519 key"}
	}
	if got := identity.NodeIDOf(key); got != node {
		return &IdentityError{Node: node, Cause: fmt.Sprintf("node %s answers at its address", got)}
	}
	return nil
}

// resetKey gives the same stateless reset tokens after a restart, so that peers
// notice one by the first packet they send. Only the identity's holder can make
// them.
func resetKey(id *identity.Identity) (*quic.StatelessResetKey, error) {
	key, err := hkdf.Key(sha256.New, id.Private().Seed(), nil, "serialspan quic stateless reset v1", 32)
	if err != nil {
		return nil, fmt.Errorf("derive stateless reset key: %w", err)
	}
	return (*quic.StatelessResetKey)(key), nil
}

// tag is the part of an instance that a round name carries. It tells the few
// last instances of one peer apart; nothing trusts it.
type tag [4]byte

func (i instance) tag() tag { return tag(i[4:8]) } // not the adjusted first byte

// roundName is the server name that carries a connection's round and floor, and
// which instance of the acceptor the floor is about.
func roundName(round, floor uint64, of tag) string {
	return fmt.Sprintf("%x-%x-%x", round, floor, of[:])
}

// parseRoundName reads roundName. A floor above the round is refused: the
// dialer would have given up the connection that it makes.
func parseRoundName(name string) (round, floor uint64, of tag, err error) {
	parts := strings.Split(name, "-")
	if len(parts) != 3 || len(parts[2]) != hex.EncodedLen(len(of)) {
		return 0, 0, tag{}, fmt.Errorf("parse round %q: want three parts", name)
	}
	round, roundErr := strconv.ParseUint(parts[0], 16, 64)
	floor, floorErr := strconv.ParseUint(parts[1], 16, 64)
	_, tagErr := hex.Decode(of[:], []byte(parts[2]))
	if err := errors.Join(roundErr, floorErr, tagErr); err != nil {
		return 0, 0, tag{}, fmt.Errorf("parse round %q: %w", name, err)
	}
	if floor > round || roundName(round, floor, of) != name {
		return 0, 0, tag{}, fmt.Errorf("parse round %q: not canonical", name)
	}
	return round, floor, of, nil
}
