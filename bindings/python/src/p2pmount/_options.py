"""Options by name. Which there are only the library knows; here is how Python values become its text."""

from __future__ import annotations

import math
import os
from contextlib import contextmanager
from ctypes import c_uint64
from datetime import timedelta
from typing import Any, Dict, Iterable, Iterator, Mapping, Optional, Union

from ._error import InvalidArgumentError
from ._library import call, encoded, free, make
from ._rows import listed
from .constants import ListKind

#: The value of an option. A list is joined with commas, None leaves the library's default.
OptionValue = Union[None, bool, int, str, timedelta, "os.PathLike[str]", Iterable[Any]]


def option_text(value: OptionValue, name: str) -> str:
    """A value as the library reads it.

    >>> option_text(True, "verify"), option_text(["tcp", "quic"], "transports"), option_text(timedelta(seconds=5), "x")
    ('true', 'tcp,quic', '5000ms')
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, str):
        return value
    if isinstance(value, timedelta):
        return f"{math.ceil(value / timedelta(milliseconds=1))}ms"
    if isinstance(value, os.PathLike):
        return os.fsdecode(value)
    if isinstance(value, Iterable) and not isinstance(value, (bytes, bytearray, Mapping)):
        items = [option_text(item, name) for item in value]
        return ",".join(sorted(items) if isinstance(value, (set, frozenset)) else items)
    raise TypeError(
        f"option {name}: a value is text, a bool, an int, a timedelta, a path or a list of such,"
        f" not {type(value).__name__}"
    )


def option_names(options: Optional[Mapping[str, OptionValue]], keywords: Mapping[str, OptionValue]) -> Dict[str, str]:
    """Both ways of giving options, by the library's names; a keyword has underscores for their dots and dashes."""
    texts = {name: option_text(value, name) for name, value in (options or {}).items() if value is not None}
    given = {keyword: value for keyword, value in keywords.items() if value is not None}
    if given:
        names = _known_names()
        for keyword, value in given.items():
            name = names.get(keyword, keyword)
            if name in texts:
                raise InvalidArgumentError(f"option {name} is given twice")
            texts[name] = option_text(value, name)
    return texts


_names: Dict[str, str] = {}


def _known_names() -> Dict[str, str]:
    """The library's options by the keyword for each."""
    if not _names:
        for row in listed(0, ListKind.OPTIONS):
            name = str(row["name"])
            _names[name.replace(".", "_").replace("-", "_")] = name
    return _names


@contextmanager
def option_set(options: Optional[Mapping[str, OptionValue]], keywords: Mapping[str, OptionValue]) -> Iterator[int]:
    """The handle of a set of options for the length of a call; 0 if there are none."""
    texts = option_names(options, keywords)
    if not texts:
        yield 0
        return
    handle = c_uint64()
    try:
        make(handle, "p2p_options_new")
        for name, text in texts.items():
            call("p2p_options_set", handle, encoded(name, "the name of an option"), encoded(text, f"option {name}"))
        yield handle.value
    finally:
        free("p2p_options_free", handle.value)
