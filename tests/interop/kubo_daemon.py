"""A Kubo as its users run it: `ipfs daemon`, asked through `ipfs p2p` and the other commands of the same program.

It looks for nobody: no bootstrap peers, no mDNS, no routing, no relays, no port mapping, nothing fetched, nothing
reported.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any, Optional

from kubo_config import keep_quiet, save

# Seconds: for one command, for the daemon's orderly end.
COMMAND, STOP = 20, 8
PR_SET_PDEATHSIG = 1


class Daemon:
    """A daemon with its repository below `folder`, which has to be there; a later one for the same folder goes on with
    the first one's identity.

    It listens on `addresses`, multiaddrs with commas between, and secures TCP connections with `security`, "tls",
    "noise" or "tls,noise". `identity` is a file with its peer id and private key, `swarm_key` the file of a private
    network's key.
    """

    def __init__(
        self,
        program: str,
        folder: Path,
        addresses: str,
        security: str,
        *,
        identity: Optional[Path] = None,
        swarm_key: Optional[Path] = None,
    ) -> None:
        self._program = program
        self._log = folder / "daemon.log"
        repository = folder / "repository"
        self._environment = environment(repository)
        if not repository.exists():
            self.command("init", "--profile=test", "--empty-repo", "--algorithm=ed25519")
            if swarm_key is not None:
                swarm_key.rename(repository / "swarm.key")
        configure(repository / "config", addresses, security, identity)
        self._daemon = self._start()
        about = json.loads(self.command("id"))
        self.peer_id: str = about["ID"]
        self.addresses: list[str] = about["Addresses"]

    def _start(self) -> subprocess.Popen[str]:
        libc = ctypes.CDLL(None)
        with self._log.open("a") as log:
            daemon = subprocess.Popen(
                [self._program, "daemon", "--migrate=false"],
                env=self._environment,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                # It ends with this process, however that ends.
                preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL),
            )
        said = []
        for line in daemon.stdout or ():
            said.append(line)
            if line.strip() == "Daemon is ready":
                return daemon
        raise RuntimeError("the daemon did not start: %s%s" % ("".join(said), self._log.read_text()))

    def command(self, *arguments: str) -> str:
        """What a command prints; what it complains about otherwise."""
        done = subprocess.run(
            [self._program, *arguments], env=self._environment, capture_output=True, text=True, timeout=COMMAND
        )
        if done.returncode != 0:
            raise RuntimeError(done.stderr.strip() or "ipfs %s failed" % " ".join(arguments))
        return done.stdout

    def listen(self, protocol: str, target: str) -> None:
        """Exposes the multiaddr `target`."""
        self.command("p2p", "listen", protocol, target)

    def connect(self, address: str) -> None:
        self.command("swarm", "connect", address)

    def forward(self, protocol: str, listen: str, peer_id: str) -> str:
        """Ties a multiaddr to the protocol at a connected peer; returns it with its real port."""
        before = {row["ListenAddress"] for row in self._mounts()}
        self.command("p2p", "forward", protocol, listen, "/p2p/" + peer_id)
        (made,) = {row["ListenAddress"] for row in self._mounts() if row["ListenAddress"] not in before}
        return str(made)

    def _mounts(self) -> list[dict[str, str]]:
        return json.loads(self.command("p2p", "ls", "--enc=json"))["Listeners"] or []

    def lists(self) -> dict[str, Any]:
        """Everything that is mounted, as kubo_node.py has it."""
        own = "/p2p/" + self.peer_id
        rows = self._mounts()
        return {
            "Forwards": [row for row in rows if row["ListenAddress"] != own],
            "Listens": [row for row in rows if row["ListenAddress"] == own],
            "Streams": json.loads(self.command("p2p", "stream", "ls", "--enc=json"))["Streams"] or [],
        }

    def peers(self) -> list[str]:
        rows = json.loads(self.command("swarm", "peers", "--enc=json"))["Peers"] or []
        return [row["Peer"] for row in rows]

    def close_mounts(self, protocol: str) -> int:
        which = ["--protocol=" + protocol] if protocol else ["--all"]
        return int(self.command("p2p", "close", "--enc=json", *which))

    def shut_down(self) -> None:
        """The daemon ends in order."""
        self._daemon.send_signal(signal.SIGTERM)
        self._daemon.wait(STOP)


def environment(repository: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("IPFS_", "LIBP2P_", "GOLOG_"))}
    return {
        **kept,
        "IPFS_PATH": str(repository),
        "IPFS_TELEMETRY": "off",
        "DO_NOT_TRACK": "1",
        "HOME": str(repository.parent),
    }


def configure(path: Path, listen: str, security: str, identity: Optional[Path]) -> None:
    """Changes the configuration of a repository that was made with the profile "test"."""
    config = json.loads(path.read_text())
    keep_quiet(config, listen.split(","), security, 300)
    config["Addresses"]["API"] = ["/ip4/127.0.0.1/tcp/0"]
    config["Peering"] = {"Peers": []}
    config["AutoConf"] = {"Enabled": False}
    config["AutoTLS"] = {"Enabled": False}
    config["Routing"] = {"Type": "none", "DelegatedRouters": []}
    config["Ipns"] = {**config.get("Ipns", {}), "DelegatedPublishers": []}
    config["DNS"] = {"Resolvers": {}}
    config["Provide"] = {"Enabled": False}
    config["HTTPRetrieval"] = {"Enabled": False}
    config["Version"] = {"SwarmCheckEnabled": False}
    config["Plugins"] = {"Plugins": {"telemetry": {"Disabled": True}}}
    config["Experimental"] = {**config.get("Experimental", {}), "Libp2pStreamMounting": True}
    config["Swarm"]["Transports"]["Network"]["WebRTCDirect"] = False
    save(config, path, identity)
