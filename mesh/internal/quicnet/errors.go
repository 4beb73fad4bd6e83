package quicnet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/quic-go/quic-go"

	"github.com/serialspan/serialspan/mesh/identity"
)

// Codes of stream resets (RESET_STREAM, STOP_SENDING). Append only.
const (
	streamClosed          quic.StreamErrorCode = 0 // closed by its user
	streamUnknownProtocol quic.StreamErrorCode = 1
	streamBusy            quic.StreamErrorCode = 2 // accept queue full
	streamBadHeader       quic.StreamErrorCode = 3
	streamAborted         quic.StreamErrorCode = 4 // closed while a write was blocked
)

// Codes of connection closes. Append only.
const (
	connShutdown  quic.ApplicationErrorCode = 0 // the process ends
	connReplaced  quic.ApplicationErrorCode = 1 // another connection of the pair is used
	connRenewed   quic.ApplicationErrorCode = 2 // Renew
	connForgotten quic.ApplicationErrorCode = 3 // Forget
	connBadRound  quic.ApplicationErrorCode = 4 // server name is no round name
)

// tlsBadCertificate is the CRYPTO_ERROR (RFC 9001 section 4.8) of the alert
// bad_certificate (RFC 8446 section 6.2), which crypto/tls raises when
// VerifyConnection fails.
const tlsBadCertificate = quic.TransportErrorCode(0x100 + 42)

// ErrUnknownProtocol means that the peer does not listen for the protocol.
// Trying again helps only after the peer has changed.
var ErrUnknownProtocol = fmt.Errorf("peer does not serve this protocol: %w", net.ErrClosed)

// ErrBusy means that too many streams of the protocol wait at the peer.
var ErrBusy = fmt.Errorf("too many streams wait at the peer: %w", net.ErrClosed)

// ErrAborted means that the peer closed the stream in the middle of a write, so
// that what was read is not all that it meant to send.
var ErrAborted = fmt.Errorf("peer aborted the stream: %w", net.ErrClosed)

// errPeerClosed is a write to a stream that the peer has closed.
var errPeerClosed = fmt.Errorf("peer closed the stream: %w", net.ErrClosed)

// errForgotten ends dials of a peer that is forgotten.
var errForgotten = fmt.Errorf("peer is forgotten: %w", net.ErrClosed)

// IdentityError means that whoever answers at a member's address does not hold
// that member's identity key, or that the peer thinks so of us. It is not
// retried.
type IdentityError struct {
	Node   identity.NodeID // whom we wanted
	Remote bool            // the peer refused us
	Cause  string
}

func (e *IdentityError) Error() string {
	if e.Remote {
		return fmt.Sprintf("verify identity: node %s refused ours: %s", e.Node, e.Cause)
	}
	return fmt.Sprintf("verify identity of node %s: %s", e.Node, e.Cause)
}

// LostError means that a stream ended because its connection did: the peer
// restarted, the connection was renewed or replaced, nothing was heard for the
// idle timeout, or one side shut down. Bytes on the way are lost. It unwraps to
// net.ErrClosed; a new Dial may succeed at once.
type LostError struct {
	Node  identity.NodeID
	Cause string
}

func (e *LostError) Error() string {
	return fmt.Sprintf("connection to node %s lost: %s", e.Node, e.Cause)
}

// Unwrap returns net.ErrClosed.
func (e *LostError) Unwrap() error { return net.ErrClosed }

// HandshakeError means that no connection came about. Timeout reports whether
// that was for lack of an answer.
type HandshakeError struct {
	Node    identity.NodeID
	Cause   string
	timeout bool
}

func (e *HandshakeError) Error() string {
	return fmt.Sprintf("connect to node %s: %s", e.Node, e.Cause)
}

// Timeout implements net.Error.
func (e *HandshakeError) Timeout() bool { return e.timeout }

// Temporary implements net.Error; its meaning is ill-defined and nothing here uses it.
func (e *HandshakeError) Temporary() bool { return e.timeout }

var _ net.Error = (*HandshakeError)(nil)

// dialError says what the error of a failed handshake means.
func dialError(node identity.NodeID, err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if e, ok := errors.AsType[*IdentityError](err); ok {
		return e
	}
	if e, ok := errors.AsType[*quic.TransportError](err); ok && e.Remote && e.ErrorCode == tlsBadCertificate {
		return &IdentityError{Node: node, Remote: true, Cause: "bad certificate"}
	}
	if errors.Is(err, quic.ErrTransportClosed) {
		return &LostError{Node: node, Cause: "this node shuts down"}
	}
	ne, ok := errors.AsType[net.Error](err)
	return &HandshakeError{Node: node, Cause: text(err), timeout: ok && ne.Timeout()}
}

// streamError says what the error of a stream operation means. io.EOF and
// deadline errors are themselves.
func streamError(node identity.NodeID, err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	if e, ok := errors.AsType[*quic.StreamError](err); ok {
		if !e.Remote {
			return net.ErrClosed
		}
		switch e.ErrorCode {
		case streamClosed:
			return errPeerClosed
		case streamUnknownProtocol:
			return ErrUnknownProtocol
		case streamBusy:
			return ErrBusy
		default:
			return ErrAborted
		}
	}
	if errors.Is(err, quic.ErrStreamClosed) {
		return net.ErrClosed
	}
	// Everything that ends a connection unwraps to net.ErrClosed, the idle
	// timeout too, which must not pass for a deadline of the caller.
	if errors.Is(err, net.ErrClosed) || errors.Is(err, quic.ErrTransportClosed) {
		return &LostError{Node: node, Cause: text(err)}
	}
	return err
}

// text is the cause in our words where quic-go's would not help a person.
func text(err error) string {
	if e, ok := errors.AsType[*quic.ApplicationError](err); ok {
		side := "this node"
		if e.Remote {
			side = "the peer"
		}
		switch e.ErrorCode {
		case connShutdown:
			return side + " shut down"
		case connReplaced:
			return side + " replaced it by a newer one"
		case connRenewed:
			return side + " renewed it after an outage"
		case connForgotten:
			return side + " has removed the other"
		case connBadRound:
			return side + " did not understand the connection's round"
		}
	}
	if errors.Is(err, quic.ErrTransportClosed) {
		return "this node shut down"
	}
	if _, ok := errors.AsType[*quic.StatelessResetError](err); ok {
		return "the peer has restarted"
	}
	if _, ok := errors.AsType[*quic.IdleTimeoutError](err); ok {
		return "nothing heard from the peer"
	}
	if _, ok := errors.AsType[*quic.HandshakeTimeoutError](err); ok {
		return "no answer in time"
	}
	return strings.TrimPrefix(err.Error(), "quic: ")
}
