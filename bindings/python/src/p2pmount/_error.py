"""The library's errors as exceptions: one class for each code."""

from __future__ import annotations

from typing import Any, Dict, Mapping, Optional, Tuple, Type

from .constants import Code, ErrorFlag


class Error(Exception):
    """Something failed; ``str()`` of it is the library's sentence, which names the thing concerned.

    Decide by the class or by ``code``; the wording may change.

    >>> import p2pmount
    >>> try:
    ...     p2pmount.set("log.level", "loud")
    ... except p2pmount.Error as error:
    ...     print(error.name, error.code == p2pmount.Code.BAD_OPTION, error.temporary)
    P2P_ERROR_BAD_OPTION True False
    """

    #: The number of a ``P2P_ERROR_`` code; a :class:`Code` unless it is newer than this package.
    code: int
    #: Its name, such as ``"P2P_ERROR_LIMIT"``.
    name: str
    #: The system's ``errno``, or 0 if the failure was not the system's.
    system_error: int
    #: ``P2P_ERROR_FLAG_`` bits.
    flags: int
    #: The sentence.
    message: str

    _code: Code = Code.INTERNAL

    def __init__(
        self, message: str, code: Optional[int] = None, system_error: int = 0, flags: int = 0, name: str = ""
    ) -> None:
        super().__init__(message)
        number = self._code if code is None else code
        try:
            self.code = Code(number)
            self.name = name or f"P2P_ERROR_{self.code.name}"
        except ValueError:
            self.code = number
            self.name = name or "P2P_ERROR_?"
        self.message = message
        self.system_error = system_error
        self.flags = flags

    @property
    def temporary(self) -> bool:
        """The same call can succeed later without a change on this side."""
        return bool(self.flags & ErrorFlag.TEMPORARY)

    @property
    def timed_out(self) -> bool:
        """A time limit ended it."""
        return bool(self.flags & ErrorFlag.TIMED_OUT)

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> Tuple[Any, ...]:
        return type(self), (self.message, int(self.code), self.system_error, self.flags, self.name)


class _SystemError(Error, OSError):
    """Those that are an OSError, too, and so have ``errno``."""

    def __init__(
        self, message: str, code: Optional[int] = None, system_error: int = 0, flags: int = 0, name: str = ""
    ) -> None:
        super().__init__(message, code, system_error, flags, name)
        self.errno = system_error or None
        self.strerror = message


class InvalidArgumentError(Error, ValueError):
    """Text that is not UTF-8 or has a NUL in it, a number out of range, arguments that exclude each other."""

    _code = Code.INVALID_ARGUMENT


class BadHandleError(Error, ValueError):
    """The node, mount or queue was closed before the call."""

    _code = Code.BAD_HANDLE


class BadOptionError(Error, ValueError):
    """Unknown option, bad value, not an option of this object, or not changeable in use."""

    _code = Code.BAD_OPTION


class BadAddressError(Error, ValueError):
    """A local address or multiaddr is malformed or not allowed here."""

    _code = Code.BAD_ADDRESS


class BadProtocolError(Error, ValueError):
    """A protocol name is malformed or outside ``/x/``."""

    _code = Code.BAD_PROTOCOL


class BadPeerError(Error, ValueError):
    """A peer without id, with a malformed one, or the node itself."""

    _code = Code.BAD_PEER


class BadKeyError(Error):
    """The key file is damaged, foreign, readable by others or cannot be read."""

    _code = Code.BAD_KEY


class AddressInUseError(_SystemError):
    """A listen address is in use."""

    _code = Code.ADDRESS_IN_USE


class AlreadyRegisteredError(Error):
    """The node has a listener for this protocol."""

    _code = Code.ALREADY_REGISTERED


class NotFoundError(Error, LookupError):
    """No such stream, row or field."""

    _code = Code.NOT_FOUND


class UnreachableError(_SystemError, ConnectionError):
    """The peer cannot be reached."""

    _code = Code.UNREACHABLE


class ProtocolRefusedError(_SystemError, ConnectionError):
    """The peer does not offer the protocol, or not to this node."""

    _code = Code.PROTOCOL_REFUSED


class TargetRefusedError(_SystemError, ConnectionError):
    """A listener's target does not accept connections."""

    _code = Code.TARGET_REFUSED


class TimedOutError(_SystemError, TimeoutError):
    """Time ran out."""

    _code = Code.TIMED_OUT


class CancelledError(Error):
    """The operation was cancelled. (A cancelled task gets :class:`asyncio.CancelledError` as always.)"""

    _code = Code.CANCELLED


class ClosedError(Error):
    """The object was closed while the call ran."""

    _code = Code.CLOSED


class LimitError(Error):
    """A limit was reached; the sentence says which."""

    _code = Code.LIMIT


class ResetError(_SystemError, ConnectionError):
    """A stream was reset or cut."""

    _code = Code.RESET


class ForkedError(Error):
    """The object was inherited through a fork; open a new node here."""

    _code = Code.FORKED


class SystemCallError(_SystemError):
    """The operating system refused; ``system_error`` and ``errno`` say why."""

    _code = Code.SYSTEM


class InternalError(Error):
    """A defect of the library, contained."""

    _code = Code.INTERNAL


#: The class for each code.
CLASSES: Dict[int, Type[Error]] = {
    int(each._code): each for each in (*Error.__subclasses__(), *_SystemError.__subclasses__()) if each != _SystemError
}


def error_from(code: int, message: str, system_error: int = 0, flags: int = 0, name: str = "") -> Error:
    """The exception for a code of the library, :class:`Error` itself for one that is newer than this package."""
    return CLASSES.get(code, Error)(message, code, system_error, flags, name)


def error_from_row(row: Mapping[str, Any], code: str = "code", message: str = "message") -> Optional[Error]:
    """What an event or a row of a list says about a failure; None if it says that there was none."""
    number = int(row.get(code, 0))
    if number == Code.OK:
        return None
    return error_from(number, str(row.get(message, "")), int(row.get("system_error", 0)), int(row.get("flags", 0)))
