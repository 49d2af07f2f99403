"""What the configuration of every Kubo in the tests has in common: it looks for nobody, and nobody finds it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Optional


def keep_quiet(config: dict[str, Any], addresses: list[str], security: str, noise: int) -> None:
    """It listens on `addresses` alone, with the transports that they need. `noise` is Noise's place, TLS has 100."""
    config["Bootstrap"] = []
    config["Addresses"].update(Swarm=addresses, Gateway=[], Announce=[], AppendAnnounce=[], NoAnnounce=[])
    config["Discovery"] = {"MDNS": {"Enabled": False}}
    config["AutoNAT"] = {"ServiceMode": "disabled"}
    config["Swarm"].update(
        AddrFilters=[],
        DisableNatPortMap=True,
        EnableHolePunching=False,
        RelayClient={"Enabled": False},
        RelayService={"Enabled": False},
        Transports={
            "Network": {
                "TCP": any(one.rpartition("/tcp/")[2].isdigit() for one in addresses),
                "QUIC": any("/quic-v1" in one for one in addresses),
                "Websocket": any(one.endswith("/ws") for one in addresses),
                "WebTransport": False,
                "Relay": False,
            },
            "Security": {
                "TLS": 100 if "tls" in security else False,
                "Noise": noise if "noise" in security else False,
            },
            "Multiplexers": {"Yamux": 100},
        },
    )


def save(config: dict[str, Any], path: Path, identity: Optional[Path]) -> None:
    """With the peer id and key in the file `identity`, if there is one."""
    if identity is not None:
        peer_id, key = json.loads(identity.read_text())
        config["Identity"] = {"PeerID": peer_id, "PrivKey": key}
    path.write_text(json.dumps(config))
