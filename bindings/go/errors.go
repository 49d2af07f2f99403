package p2pmount

import (
	"context"
	"errors"
	"net"
	"os"
	"syscall"
)

// Code is the status of a call. Each is an error of its own, so that errors.Is(err, p2pmount.ErrAddressInUse) tells what
// kind of failure an error is.
type Code int32

// The codes of the library.
const (
	// OK is success; no error has it.
	OK Code = 0
	// ErrInvalidArgument: text that is not UTF-8 or has a NUL, a number out of range, or arguments that exclude each other.
	ErrInvalidArgument Code = 1
	// ErrBadHandle: the object was closed before the call. errors.Is(err, ErrClosed) is true of it, too.
	ErrBadHandle Code = 2
	// ErrBadOption: unknown option, bad value, not an option of this object, or not changeable in use.
	ErrBadOption Code = 3
	// ErrBadAddress: a local address or multiaddr is malformed or not allowed here.
	ErrBadAddress Code = 4
	// ErrBadProtocol: a protocol name is malformed or outside /x/.
	ErrBadProtocol Code = 5
	// ErrBadPeer: a peer without id, with a malformed one, or this node itself.
	ErrBadPeer Code = 6
	// ErrBadKey: the key file is damaged, foreign, readable by others or cannot be read.
	ErrBadKey Code = 7
	// ErrAddressInUse: a listen address is in use.
	ErrAddressInUse Code = 8
	// ErrAlreadyRegistered: a listener for this protocol exists.
	ErrAlreadyRegistered Code = 9
	// ErrNotFound: no such stream, row or field.
	ErrNotFound Code = 10
	// ErrUnreachable: the peer cannot be reached.
	ErrUnreachable Code = 11
	// ErrProtocolRefused: the peer does not offer the protocol, or not to this node.
	ErrProtocolRefused Code = 12
	// ErrTargetRefused: a listener's target does not accept connections.
	ErrTargetRefused Code = 13
	// ErrTimedOut: time ran out.
	ErrTimedOut Code = 14
	// ErrCancelled: the operation was cancelled, as a rule because its context ended.
	ErrCancelled Code = 15
	// ErrClosed: the object was closed during the call; errors.Is takes one that was closed before for it, too.
	ErrClosed Code = 16
	// ErrLimit: a limit was reached.
	ErrLimit Code = 17
	// ErrReset: a stream was reset or cut.
	ErrReset Code = 18
	// ErrForked: the handle was inherited through fork.
	ErrForked Code = 19
	// ErrSystem: the operating system refused; SystemError says why.
	ErrSystem Code = 20
	// ErrInternal: a defect of the library, contained.
	ErrInternal Code = 21
)

// Name is the name of the code in the C header, such as "P2P_ERROR_LIMIT", or "P2P_ERROR_?" if the library does not know
// it.
func (c Code) Name() string { return statusName(int32(c)) }

// String is the same as [Code.Name].
func (c Code) String() string { return c.Name() }

// Error is the same as [Code.Name]. Errors that calls return are of type [*Error] and say more.
func (c Code) Error() string { return c.Name() }

// Bits of Error.Flags.
const (
	flagTemporary = 1
	flagTimedOut  = 2
)

// Error is what the library reports. It is a [net.Error].
type Error struct {
	// Code says what kind of failure it is: decide by it, or by errors.Is with one of the codes.
	Code Code
	// SystemError is the system's errno, or 0 if the failure was not the system's. errors.Is finds it, so that
	// errors.Is(err, syscall.EADDRINUSE) and errors.Is(err, fs.ErrPermission) work.
	SystemError syscall.Errno
	// Flags are the P2P_ERROR_FLAG_ bits; see Temporary and Timeout.
	Flags uint32
	// Message is a sentence that names what failed. It is made for people and may change.
	Message string

	causes []error
}

var _ net.Error = (*Error)(nil)

// Error is the library's sentence; where a context ended the call, what the context says follows it.
func (e *Error) Error() string {
	if len(e.causes) == 0 {
		return e.Message
	}
	return e.Message + ": " + e.causes[len(e.causes)-1].Error()
}

// Temporary says that the same call can succeed later without a change on this side.
func (e *Error) Temporary() bool { return e.Flags&flagTemporary != 0 }

// Timeout says that a time limit ended the call, the library's or that of a context.
func (e *Error) Timeout() bool {
	if e.Flags&flagTimedOut != 0 || e.Code == ErrTimedOut {
		return true
	}
	for _, cause := range e.causes {
		if errors.Is(cause, context.DeadlineExceeded) {
			return true
		}
	}
	return false
}

// Is makes [ErrClosed], [net.ErrClosed] and [os.ErrClosed] fit whatever was closed, before the call or during it.
func (e *Error) Is(target error) bool {
	switch target {
	case ErrClosed, net.ErrClosed, os.ErrClosed:
		return e.Code == ErrClosed || e.Code == ErrBadHandle
	}
	return false
}

// Unwrap gives the code, the system's error if there is one, and the errors of the context that ended the call.
func (e *Error) Unwrap() []error {
	all := append(make([]error, 0, 4), e.Code)
	if e.SystemError != 0 {
		all = append(all, e.SystemError)
	}
	return append(all, e.causes...)
}

// contextError is the error of a call that the end of its context ended.
func contextError(ctx context.Context, message string) error {
	causes := []error{ctx.Err()}
	if cause := context.Cause(ctx); cause != ctx.Err() {
		causes = append(causes, cause)
	}
	return &Error{Code: ErrCancelled, Message: message, causes: causes}
}
