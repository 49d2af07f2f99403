"""Errors are exceptions of Python that carry what the library says."""

from __future__ import annotations

import errno
import pickle
import socket
from typing import Type

import p2pmount
import pytest
from p2pmount._error import error_from


def test_an_error_carries_code_name_sentence_and_errno(server: p2pmount.Node, client: p2pmount.Node) -> None:
    forward = client.forward("web", 0, server.address)
    with pytest.raises(p2pmount.AddressInUseError) as caught:
        client.forward("other", forward.address, server.address)
    error = caught.value
    assert error.code == p2pmount.Code.ADDRESS_IN_USE
    assert error.name == "P2P_ERROR_ADDRESS_IN_USE"
    assert str(error) == error.message == f"listen address {forward.address} is already in use"
    assert error.system_error == error.errno == errno.EADDRINUSE
    assert not error.timed_out


@pytest.mark.parametrize(
    "code, base",
    [
        (p2pmount.Code.INVALID_ARGUMENT, ValueError),
        (p2pmount.Code.BAD_OPTION, ValueError),
        (p2pmount.Code.ADDRESS_IN_USE, OSError),
        (p2pmount.Code.SYSTEM, OSError),
        (p2pmount.Code.TIMED_OUT, TimeoutError),
        (p2pmount.Code.UNREACHABLE, ConnectionError),
        (p2pmount.Code.NOT_FOUND, LookupError),
    ],
)
def test_an_error_is_also_the_builtin_kind_that_python_has_for_it(code: int, base: Type[Exception]) -> None:
    assert isinstance(error_from(code, "sentence"), (base, p2pmount.Error))
    assert isinstance(error_from(code, "sentence"), base)


def test_an_error_of_the_system_has_its_errno() -> None:
    error = error_from(p2pmount.Code.SYSTEM, "no more descriptors", errno.EMFILE, 1)
    assert isinstance(error, OSError)
    assert error.errno == error.system_error == errno.EMFILE
    assert error.temporary
    assert str(error) == "no more descriptors"


def test_a_code_that_is_newer_than_the_package_is_an_error_with_its_number() -> None:
    error = error_from(1234, "something new")
    assert type(error) is p2pmount.Error
    assert error.code == 1234 and error.name == "P2P_ERROR_?"


def test_an_error_survives_pickling() -> None:
    for code in [*p2pmount.Code, 1234]:
        error = error_from(int(code), "sentence", 5, 2)
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is type(error)
        assert (again.code, again.name, again.system_error, again.flags, str(again)) == (
            error.code,
            error.name,
            5,
            2,
            "sentence",
        )


def test_the_end_of_an_operation_carries_the_whole_error(server: p2pmount.Node, client: p2pmount.Node) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent_peer = f"/ip4/127.0.0.1/tcp/{silent.getsockname()[1]}/p2p/{server.peer_id}"
        with pytest.raises(p2pmount.TimedOutError) as caught:
            client.connect(silent_peer, timeout=0.1)
    assert caught.value.name == "P2P_ERROR_TIMED_OUT"
    assert caught.value.timed_out and caught.value.temporary


def test_a_timeout_says_so(client: p2pmount.Node) -> None:
    events = client.events()
    with pytest.raises(p2pmount.TimedOutError) as caught:
        events.get(timeout=0)
    assert caught.value.timed_out


@pytest.mark.parametrize("text", ["with\0nul", "with \udcff surrogate"])
def test_text_that_the_library_cannot_take_names_the_culprit(client: p2pmount.Node, text: str) -> None:
    with pytest.raises(p2pmount.InvalidArgumentError, match="protocol"):
        client.listen(text, 80)
    with pytest.raises(p2pmount.InvalidArgumentError, match="peer"):
        client.connect(text)
    with pytest.raises(p2pmount.InvalidArgumentError, match="option peers.allow"):
        client.set("peers.allow", text)


def test_an_argument_of_a_wrong_type_names_the_culprit(client: p2pmount.Node) -> None:
    with pytest.raises(TypeError, match="protocol must be text, not int"):
        client.listen(5, 80)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="target must be a port"):
        client.listen("web", 1.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="listen must be a pair of host and port"):
        client.forward("web", ("127.0.0.1",), "peer")
    with pytest.raises(TypeError, match="peer must be"):
        client.connect(5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="timeout must be seconds"):
        client.connect("peer", timeout="1s")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="what must be ListKind values .* such as ListKind.LISTENERS; not str"):
        client.list("streams")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="kinds must be EventKind values .*; not str"):
        client.events("mount")  # type: ignore[arg-type]
    with pytest.raises(p2pmount.InvalidArgumentError, match="timeout is -1"):
        client.connect("peer", timeout=-1)
    with pytest.raises(p2pmount.InvalidArgumentError, match="timeout is nan"):
        client.connect("peer", timeout=float("nan"))
