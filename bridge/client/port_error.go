package client

import (
	"errors"
	"net"

	"go.bug.st/serial"
)

// PortError is an error of OpenPort or a Port for which go.bug.st/serial has a
// code. It is not serial.PortError, whose fields only that package can set; the
// code is under the same method. Who wants it of either kind of port writes
//
//	if e, ok := errors.AsType[interface {
//		error
//		Code() serial.PortErrorCode
//	}](err); ok && e.Code() == serial.PortBusy { … }
//
// errors.Is finds what it unwraps to. The codes are:
//
//	PortBusy                  Busy, Kicked
//	PortNotFound              NotFound, Ambiguous, Away
//	PermissionDenied          Refused
//	PortClosed                net.ErrClosed after Close, Stopping
//	InvalidSpeed, InvalidDataBits, InvalidParity, InvalidStopBits
//	                          Invalid, or Failed where the device's driver has
//	                          other settings now: this one first
//	InvalidTimeoutValue       Invalid
//	FunctionNotImplemented    Unsupported: no modem lines, no break
type PortError struct {
	code serial.PortErrorCode
	err  error
}

// Code returns the code that go.bug.st/serial has for it.
func (e *PortError) Code() serial.PortErrorCode { return e.code }

// Error returns what happened, to which device, and what to do.
func (e *PortError) Error() string { return e.err.Error() }

// Unwrap returns an *Error, which unwraps to its Code.
func (e *PortError) Unwrap() error { return e.err }

// portError makes a PortError of an error that has a code there; nil stays nil.
func portError(err error) error {
	if err == nil {
		return nil
	}
	if _, is := errors.AsType[*PortError](err); is {
		return err
	}
	for _, row := range []struct {
		codes []Code
		code  serial.PortErrorCode
	}{
		{[]Code{Busy, Kicked}, serial.PortBusy},
		{[]Code{NotFound, Ambiguous, Away}, serial.PortNotFound},
		{[]Code{Refused}, serial.PermissionDenied},
		{[]Code{Stopping}, serial.PortClosed},
		{[]Code{Unsupported}, serial.FunctionNotImplemented},
	} {
		if isOneOf(err, row.codes...) {
			return &PortError{row.code, err}
		}
	}
	return err
}

// closedError says that Close was called.
func (p *Port) closedError(verb string) error {
	return &PortError{serial.PortClosed, &closedPort{verb, p.device}}
}

// closedPort unwraps to net.ErrClosed.
type closedPort struct{ verb, device string }

func (e *closedPort) Error() string {
	return e.verb + " device \"" + e.device + "\": the port is closed"
}

func (e *closedPort) Unwrap() error { return net.ErrClosed }

func (p *Port) readOnlyError(verb string) error {
	return Errorf(Refused, "open it without ReadOnly", "%s device %q: it was opened to read along", verb, p.device)
}
