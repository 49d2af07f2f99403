"""Any option of the library works, and the package knows none of them."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any, Dict, Iterator, Set

import p2pmount
import pytest


def names(scope: str) -> Iterator[p2pmount.OptionRow]:
    for option in p2pmount.options():
        if scope in option.scope.replace(",", " ").split():
            yield option


def test_every_option_of_the_manual_is_in_the_table(checkout: Path) -> None:
    manual = set(re.findall(r"^\| `([^`]+)` \|", (checkout / "docs" / "OPTIONS.md").read_text(), re.M))
    assert {option.name for option in p2pmount.options()} == manual


def test_no_option_is_named_in_the_package(checkout: Path) -> None:
    source = "".join(path.read_text() for path in (checkout / "bindings/python/src/p2pmount").glob("_*.py"))
    source = re.sub(r'""".*?"""', "", source, flags=re.S)
    assert [option.name for option in p2pmount.options() if f'"{option.name}"' in source] == []


def test_every_option_of_a_node_can_be_given_by_name_and_by_keyword() -> None:
    used: Set[str] = set()
    # Without the one that would be a file.
    options = {option.name: option.default for option in names("node") if option.name != "identity.file"}
    options["network"] = "local"
    with p2pmount.Node(options) as node:
        for name, value in options.items():
            setting = node.get(name)
            assert (setting.value, setting.source) == (value, "options"), name
    keywords: Dict[str, Any] = {re.sub("[.-]", "_", name): value for name, value in options.items()}
    with p2pmount.Node(**keywords) as node:
        for name, value in options.items():
            assert node.get(name).value == value
            used.add(name)
    assert len(used) > 20


@pytest.mark.parametrize("scope", ["listener", "forward"])
def test_every_option_of_a_mount_can_be_given_by_keyword(
    server: p2pmount.Node, client: p2pmount.Node, scope: str
) -> None:
    options = {option.name: option.default for option in names(scope)}
    keywords: Dict[str, Any] = {re.sub("[.-]", "_", name): value for name, value in options.items()}
    mount: p2pmount.Listener | p2pmount.Forward
    if scope == "listener":
        mount = server.listen("web", 80, **keywords)
        assert "report-peer-id" in options
    else:
        mount = client.forward("web", 0, server.address, **keywords)
    for name, value in options.items():
        assert (mount.get(name).value, mount.get(name).source) == (value, "options"), name


def test_values_of_python_become_what_the_library_reads(client: p2pmount.Node, tmp_path: Path) -> None:
    with p2pmount.Node(
        {
            "open.timeout": timedelta(seconds=1.5),
            "streams.max": 7,
            "reconnect": False,
            "transports": ["quic", "tcp"],
            "identity.file": tmp_path / "key",
            "peers.deny": {client.peer_id},
            "ping.interval": None,
        },
        report_peer_id=None,
    ) as node:
        values = {name: node.get(name).value for name in ("open.timeout", "streams.max", "reconnect", "transports")}
        assert values == {"open.timeout": "1500ms", "streams.max": "7", "reconnect": "false", "transports": "quic,tcp"}
        assert node.get("peers.deny").value == client.peer_id
        assert node.get("ping.interval").source == "default"
    assert (tmp_path / "key").is_file()


def test_a_key_file_keeps_the_peer_id(tmp_path: Path) -> None:
    ids = set()
    for _ in range(2):
        with p2pmount.Node(identity_file=tmp_path / "key") as node:
            ids.add(node.peer_id)
    assert len(ids) == 1


def test_an_exported_key_is_the_same_in_each_form(tmp_path: Path) -> None:
    with p2pmount.Node(identity_file=tmp_path / "key") as node:
        peer_id = node.peer_id
    for form in ("libp2p-protobuf-cleartext", "pem-pkcs8-cleartext", "base64"):
        p2pmount.export_key(tmp_path / "key", form, str(tmp_path / form))
        assert (tmp_path / form).stat().st_mode & 0o777 == 0o600
        with p2pmount.Node(identity_file=tmp_path / form) as node:
            assert node.peer_id == peer_id
    with pytest.raises(p2pmount.BadKeyError, match="exists already"):
        p2pmount.export_key(tmp_path / "base64", "base64", tmp_path / "key")
    with pytest.raises(p2pmount.InvalidArgumentError, match="pem-pkcs8-cleartext"):
        p2pmount.export_key(tmp_path / "key", "jwk", tmp_path / "new")


def test_a_listener_without_peers_admits_nobody(server: p2pmount.Node) -> None:
    assert server.listen("web", 80, peers_allow=[]).access == "open to nobody"


def test_an_option_that_is_not_known_or_out_of_place_is_refused(client: p2pmount.Node) -> None:
    with pytest.raises(p2pmount.BadOptionError, match="opne_timeout"):
        p2pmount.Node(opne_timeout="5s")
    with pytest.raises(p2pmount.BadOptionError, match="open.timeout"):
        p2pmount.Node({"open.timeout": "soon"})
    with pytest.raises(p2pmount.BadOptionError, match="transports"):
        client.listen("web", 80, transports="tcp")
    with pytest.raises(p2pmount.InvalidArgumentError, match="open.timeout is given twice"):
        p2pmount.Node({"open.timeout": "5s"}, open_timeout="6s")
    with pytest.raises(TypeError, match="option open.timeout: .* not float"):
        p2pmount.Node(open_timeout=1.5)  # type: ignore[arg-type]


def test_a_failed_call_frees_its_options() -> None:
    before = p2pmount.process().handles
    for _ in range(5):
        with pytest.raises(p2pmount.BadOptionError):
            p2pmount.Node({"open.timeout": "5s", "streams.max": "many"})
    assert p2pmount.process().handles == before


def test_a_live_option_changes_in_use(server: p2pmount.Node, client: p2pmount.Node) -> None:
    listener = server.listen("web", 80)
    listener.set("peers.allow", [client.peer_id])
    assert listener.get("peers.allow").value == client.peer_id
    assert listener.get("peers.allow").source == "set"
    server.set("open.timeout", timedelta(seconds=3))
    assert str(server.get("open.timeout")) == "3000ms"
    with pytest.raises(p2pmount.BadOptionError):
        server.set("transports", "tcp")


def test_options_of_the_process_are_set_without_a_node() -> None:
    p2pmount.set("log.level", "error")
    try:
        assert p2pmount.get("log.level").value == "error"
    finally:
        p2pmount.set("log.level", "off")


def test_the_environment_replaces_a_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("P2PMOUNT_OPEN_TIMEOUT", "7s")
    with p2pmount.Node() as node:
        assert (node.get("open.timeout").value, node.get("open.timeout").source) == ("7s", "environment")
