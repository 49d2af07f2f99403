"""Rows of lists and events, read whole from the library."""

from __future__ import annotations

from ctypes import byref, c_char_p, c_int64, c_size_t, c_uint64
from typing import Any, Dict, List, Union

from ._library import call, free, library, make
from .constants import Code

#: Field: number or text.
Row = Dict[str, Union[int, str]]

# Whether a field is a number is a property of its name.
_is_number: Dict[bytes, bool] = {}


def listed(handle: int, what: int) -> List[Row]:
    """The rows of ``p2p_list``."""
    return _taken("p2p_list", handle, what)


def setting(handle: int, name: bytes) -> Row:
    """The row of ``p2p_get``."""
    return _taken("p2p_get", handle, name)[0]


def event(handle: int) -> Row:
    """The row of an event."""
    return _row(handle, 0)


def _taken(function: str, *arguments: Any) -> List[Row]:
    snapshot = c_uint64()
    try:
        make(snapshot, function, *arguments)
        count = c_size_t()
        call("p2p_row_count", snapshot.value, byref(count))
        return [_row(snapshot.value, index) for index in range(count.value)]
    finally:
        free("p2p_snapshot_free", snapshot.value)


def _row(rows: int, index: int) -> Row:
    lib = library()
    row: Row = {}
    name, text, number = c_char_p(), c_char_p(), c_int64()
    field = 0
    while lib.p2p_row_field(rows, index, field, byref(name), None) == Code.OK:
        field += 1
        key = name.value
        assert key is not None
        if _is_number.get(key, True):
            if lib.p2p_row_int(rows, index, key, byref(number), None) == Code.OK:
                _is_number[key] = True
                row[key.decode("utf-8", "replace")] = number.value
                continue
            _is_number[key] = False
        if lib.p2p_row_text(rows, index, key, byref(text), None) == Code.OK:
            row[key.decode("utf-8", "replace")] = (text.value or b"").decode("utf-8", "replace")
    return row
