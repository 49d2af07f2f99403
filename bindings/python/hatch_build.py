"""Puts the library into the wheel, and names the wheel after the platform: the package is Python 3 of any version, the
library is for one kind of machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

LIBRARY = "libp2pmount.so"
# In the package: a name that Python does not take for a module of its own.
PACKAGED = "libp2pmount.so.0"
BUILD = ["cargo", "rustc", "--release", "--locked", "--lib", "--crate-type", "cdylib"]


class CustomBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """Runs before a wheel is made, an editable one included."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        library = find_library(Path(self.root))
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform}"
        if version == "editable":
            keep_beside_source(library, Path(self.root))
        else:
            build_data["force_include"][str(library)] = f"p2pmount/{PACKAGED}"


def find_library(root: Path) -> Path:
    """The library for the wheel: P2PMOUNT_LIBRARY as it is, or what cargo makes of the checkout around `root`."""
    given = os.environ.get("P2PMOUNT_LIBRARY")
    if given:
        path = Path(given).resolve()
        if not path.is_file():
            raise RuntimeError(f"P2PMOUNT_LIBRARY is {given}, which is not a file")
        return path
    checkout = root.parent.parent
    if not all((checkout / name).is_file() for name in ("Cargo.toml", "include/p2pmount.h")):
        raise RuntimeError(
            f"{root} does not lie in a checkout of p2pmount, so there are no sources of its library. Set"
            f" P2PMOUNT_LIBRARY to a {LIBRARY} that was built for this machine, or install from a checkout"
            " (pip install ./bindings/python) or from a wheel."
        )
    if shutil.which(BUILD[0]) is None:
        raise RuntimeError(
            f"cargo is needed to build {LIBRARY} and was not found. Install Rust, or set P2PMOUNT_LIBRARY to a library"
            " that was built elsewhere for this kind of machine."
        )
    subprocess.run(BUILD, cwd=checkout, check=True)
    return build_tree(checkout)


def build_tree(checkout: Path) -> Path:
    """Where cargo puts the library."""
    return (checkout / os.environ.get("CARGO_TARGET_DIR", "target") / "release" / LIBRARY).resolve()


def keep_beside_source(library: Path, root: Path) -> None:
    """An editable package finds the library in the build tree; one from elsewhere is copied into the package."""
    copy = root / "src" / "p2pmount" / PACKAGED
    copy.unlink(missing_ok=True)
    if library != build_tree(root.parent.parent):
        shutil.copyfile(library, copy)
