"""What belongs to the process and no node: the log, the table of options, figures, files of keys."""

from __future__ import annotations

import os
from typing import List, Union

from ._library import call, encoded
from ._options import OptionValue
from .constants import ListKind
from .rows import OptionRow, ProcessRow, Setting, get_setting, listing, set_option


def set(name: str, value: OptionValue) -> None:
    """Changes an option of the process, for example the log.

    >>> import p2pmount
    >>> p2pmount.set("log.level", "warn")
    >>> p2pmount.get("log.level").value
    'warn'
    >>> p2pmount.set("log.level", "off")
    """
    set_option(0, name, value)


def get(name: str) -> Setting:
    """The value of an option of the process, and where it came from."""
    return get_setting(0, name)


def options() -> List[OptionRow]:
    """Every option there is, with type, default and what it does.

    >>> import p2pmount
    >>> [option.default for option in p2pmount.options() if option.name == "open.timeout"]
    ['30s']
    """
    return listing(0, ListKind.OPTIONS).of_kind(OptionRow)


def process() -> ProcessRow:
    """Figures of the library in this process."""
    return listing(0, ListKind.PROCESS).of_kind(ProcessRow)[0]


def export_key(
    identity_file: Union[str, "os.PathLike[str]"], format: str, destination: Union[str, "os.PathLike[str]"]
) -> None:
    """Writes the private key of a file, in any form that the option ``identity.file`` takes, to a new file.

    ``format`` is one of ``ipfs key export``: ``libp2p-protobuf-cleartext``, ``pem-pkcs8-cleartext``, or ``base64``, as
    Kubo's configuration has it. The new file is its owner's alone; none is ever overwritten.

    >>> import os, tempfile, p2pmount
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     key, pem = os.path.join(folder, "key"), os.path.join(folder, "key.pem")
    ...     with p2pmount.Node(identity_file=key) as node:
    ...         pass
    ...     p2pmount.export_key(key, "pem-pkcs8-cleartext", pem)
    ...     with open(pem) as file:
    ...         print(file.readline().strip())
    -----BEGIN PRIVATE KEY-----
    """
    call(
        "p2p_key_export",
        encoded(os.fsdecode(identity_file), "identity_file"),
        encoded(format, "format"),
        encoded(os.fsdecode(destination), "destination"),
    )
