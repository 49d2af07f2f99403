"""The functions of include/p2pmount.h, as ctypes wants them: what each returns and takes, in the order of the header.

The tests hold this table against the header.
"""

from __future__ import annotations

from ctypes import (
    POINTER,
    Structure,
    c_char,
    c_char_p,
    c_int,
    c_int32,
    c_int64,
    c_size_t,
    c_uint32,
    c_uint64,
)
from typing import Any, Dict, Tuple

#: The ABI that this table describes.
ABI_VERSION = 0

#: Bytes that are enough for a peer id, and for most addresses.
PEER_ID_SIZE = 128
ADDRESS_SIZE = 4096


class ErrorStruct(Structure):
    """``p2p_error``."""

    _fields_ = [
        ("code", c_int32),
        ("system_error", c_int32),
        ("flags", c_uint32),
        ("reserved", c_uint32),
        ("message", c_char * 1008),
    ]


_status = c_int32
_handle = c_uint64
_handle_out = POINTER(c_uint64)
_text = c_char_p
_buffer = POINTER(c_char)
_error = POINTER(ErrorStruct)

#: Function: (what it returns, (what it takes, ...)).
PROTOTYPES: Dict[str, Tuple[Any, Tuple[Any, ...]]] = {
    "p2p_version": (_text, ()),
    "p2p_abi_version": (c_uint32, ()),
    "p2p_status_name": (_text, (_status,)),
    "p2p_options_new": (_status, (_handle_out, _error)),
    "p2p_options_set": (_status, (_handle, _text, _text, _error)),
    "p2p_options_free": (_status, (_handle,)),
    "p2p_key_export": (_status, (_text, _text, _text, _error)),
    "p2p_node_open": (_status, (_handle, _handle_out, _error)),
    "p2p_node_close": (_status, (_handle, c_int32, _error)),
    "p2p_node_close_start": (_status, (_handle, c_int32, _handle_out, _error)),
    "p2p_node_peer_id": (_status, (_handle, _buffer, c_size_t, _error)),
    "p2p_node_address": (_status, (_handle, _buffer, c_size_t, _error)),
    "p2p_connect": (_status, (_handle, _text, c_int32, _error)),
    "p2p_connect_start": (_status, (_handle, _text, c_int32, _handle_out, _error)),
    "p2p_listen": (_status, (_handle, _text, _text, _handle, _handle_out, _error)),
    "p2p_forward": (_status, (_handle, _text, _text, _text, _handle, _handle_out, _error)),
    "p2p_forward_start": (_status, (_handle, _text, _text, _text, _handle, _handle_out, _error)),
    "p2p_mount_address": (_status, (_handle, _buffer, c_size_t, _error)),
    "p2p_mount_close": (_status, (_handle, c_uint32, _error)),
    "p2p_close": (_status, (_handle, _text, _text, _text, c_uint32, POINTER(c_size_t), _error)),
    "p2p_stream_close": (_status, (_handle, c_uint64, _error)),
    "p2p_list": (_status, (_handle, c_uint32, _handle_out, _error)),
    "p2p_row_count": (_status, (_handle, POINTER(c_size_t), _error)),
    "p2p_row_field": (_status, (_handle, c_size_t, c_size_t, POINTER(c_char_p), _error)),
    "p2p_row_text": (_status, (_handle, c_size_t, _text, POINTER(c_char_p), _error)),
    "p2p_row_int": (_status, (_handle, c_size_t, _text, POINTER(c_int64), _error)),
    "p2p_snapshot_free": (_status, (_handle,)),
    "p2p_set": (_status, (_handle, _text, _text, _error)),
    "p2p_get": (_status, (_handle, _text, _handle_out, _error)),
    "p2p_subscribe": (_status, (_handle, c_uint32, _handle, _handle_out, _error)),
    "p2p_next_event": (_status, (_handle, c_int32, _handle_out, _error)),
    "p2p_queue_fd": (_status, (_handle, POINTER(c_int), _error)),
    "p2p_queue_close": (_status, (_handle,)),
    "p2p_event_free": (_status, (_handle,)),
    "p2p_operation_cancel": (_status, (_handle, _error)),
}
