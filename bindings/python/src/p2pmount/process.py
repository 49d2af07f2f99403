"""What belongs to the process and no node: the log, the table of options, figures."""

from __future__ import annotations

from typing import List

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
