"""Finds the library, and calls it."""

from __future__ import annotations

import os
from ctypes import CDLL, POINTER, PyDLL, byref, c_char, c_uint64, cast, create_string_buffer
from pathlib import Path
from typing import Any, Callable, List, Optional, Tuple, Union

from ._error import Error, InvalidArgumentError, error_from
from ._prototypes import ABI_VERSION, PROTOTYPES, ErrorStruct
from .constants import Code

#: The name of an installed library, and of the one in this package, where it is no module in Python's eyes.
SONAME = f"libp2pmount.so.{ABI_VERSION}"
#: What cargo calls it.
FILE = "libp2pmount.so"

#: What neither waits nor calls back, and is called many times for one result. It is called with the GIL held: to get
#: that again takes 5 ms each time when another thread of Python is busy.
QUICK = frozenset(
    {
        "p2p_status_name",
        "p2p_options_free",
        "p2p_row_count",
        "p2p_row_field",
        "p2p_row_text",
        "p2p_row_int",
        "p2p_snapshot_free",
        "p2p_event_free",
    }
)

_loaded: Optional[CDLL] = None


class LibraryError(ImportError):
    """The library was not found, or is not one that this package can use."""


def load_library(path: Union[str, "os.PathLike[str]", None] = None) -> str:
    """Loads the library and returns what was loaded; every first use does it by itself.

    With a path it loads that file, and must come before anything else. Otherwise it takes, in this order: the file
    that the environment variable ``P2PMOUNT_LIBRARY`` names, the one in this package, the one in the build tree of a
    checkout that this package lies in, the system's.

    >>> import p2pmount
    >>> "libp2pmount" in p2pmount.load_library()
    True
    """
    global _loaded
    if _loaded is None:
        _loaded = _open(os.fspath(path) if path is not None else _find())
    elif path is not None and not _is_same_file(os.fspath(path), _loaded._name):
        raise LibraryError(f"{path} cannot be loaded any more: {_loaded._name} is in use already")
    return str(_loaded._name)


def library() -> CDLL:
    """The library, loaded. Its calls release the GIL, but those of :data:`QUICK`."""
    if _loaded is None:
        load_library()
    assert _loaded is not None
    return _loaded


def _find() -> str:
    given = os.environ.get("P2PMOUNT_LIBRARY")
    if given:
        if not os.path.isfile(given):
            raise LibraryError(f"P2PMOUNT_LIBRARY is {given}, which is not a file")
        return given
    for candidate in _candidates():
        if candidate.is_file():
            return str(candidate)
    return SONAME


def _candidates() -> List[Path]:
    """In the package, then in the build tree, if the package lies in a checkout (bindings/python/src/p2pmount)."""
    package = Path(__file__).resolve().parent
    candidates = [package / SONAME]
    checkout = package.parents[3] if len(package.parents) > 3 else package
    if (checkout / "include" / "p2pmount.h").is_file():
        candidates.append(checkout / os.environ.get("CARGO_TARGET_DIR", "target") / "release" / FILE)
    return candidates


def _open(name: str) -> CDLL:
    try:
        opened = CDLL(name)
    except OSError as error:
        if name == SONAME:
            searched = ", ".join(str(candidate) for candidate in _candidates())
            raise LibraryError(
                f"the library p2pmount was not found: P2PMOUNT_LIBRARY is not set, there is no {searched},"
                f" and the system says: {error}"
            ) from error
        raise LibraryError(f"{name} cannot be loaded: {error}") from error
    try:
        abi = opened.p2p_abi_version
    except AttributeError:
        raise LibraryError(f"{name} is not the library p2pmount: it has no p2p_abi_version") from None
    abi.restype, abi.argtypes = PROTOTYPES["p2p_abi_version"]
    if abi() != ABI_VERSION:
        raise LibraryError(
            f"{name} has the ABI version {abi()}, and this package needs version {ABI_VERSION}: install the package and"
            " the library of one release"
        )
    quick = PyDLL(name, handle=opened._handle)
    for function, (result, parameters) in PROTOTYPES.items():
        try:
            entry = getattr(quick if function in QUICK else opened, function)
        except AttributeError:
            raise LibraryError(f"{name} is older than this package: it has no {function}") from None
        entry.restype, entry.argtypes = result, parameters
        setattr(opened, function, entry)
    return opened


def _is_same_file(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return one == other


def call(function: str, *arguments: Any) -> None:
    """Calls a function whose last parameter is the error; raises what that says."""
    error = ErrorStruct()
    if getattr(library(), function)(*arguments, byref(error)) != Code.OK:
        raise _raised(error)


def free(function: str, handle: int) -> None:
    """Frees or closes what cannot fail; a second time is no error."""
    getattr(library(), function)(handle)


def _raised(error: ErrorStruct) -> Error:
    message = error.message.decode("utf-8", "replace")
    return error_from(error.code, message, error.system_error, error.flags, status_name(error.code))


def status_name(code: int) -> str:
    """The name of a code, such as ``"P2P_ERROR_LIMIT"``."""
    name: bytes = library().p2p_status_name(code)
    return name.decode("ascii")


def make(handle: c_uint64, function: str, *arguments: Any) -> None:
    """Calls a function whose second last parameter takes the handle that it makes.

    The handle is the caller's, who has it in a ``try`` by then: the exception of a signal handler is raised when the
    call returns, and a result that only the call had would be lost with what it stands for.
    """
    call(function, *arguments, byref(handle))


def text_of(function: str, handle: int, size: int) -> str:
    """The text that a function writes to a buffer, which grows until it is large enough."""
    while True:
        buffer = create_string_buffer(size)
        try:
            call(function, handle, cast(buffer, POINTER(c_char)), size)
            return buffer.value.decode("utf-8", "replace")
        except InvalidArgumentError:
            if size >= 1 << 24:
                raise
            size *= 4


def encoded(text: object, what: str) -> bytes:
    """Text for the library: UTF-8, in which a NUL would be the end."""
    if not isinstance(text, str):
        raise TypeError(f"{what} must be text, not {type(text).__name__}")
    if "\0" in text:
        raise InvalidArgumentError(f"{what} has a NUL character in it")
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        raise InvalidArgumentError(f"{what} cannot be written as UTF-8") from None


def version() -> str:
    """The version of the loaded library.

    >>> import p2pmount
    >>> p2pmount.version().count(".")
    2
    """
    text: bytes = library().p2p_version()
    return text.decode("ascii")


#: Makes an operation of the library, whose handle it stores.
Start = Callable[[c_uint64], None]


class Unique:
    """Something that is there once: what it stands for is in the library."""

    def __reduce__(self) -> Tuple[Any, ...]:
        raise TypeError(f"{type(self).__name__} belongs to its process and cannot be pickled or copied")
