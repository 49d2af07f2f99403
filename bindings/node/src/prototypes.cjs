"use strict";
// What include/p2pmount.h declares, once. test/header.test.mjs holds both tables against the header.

/**
 * Every function: its result and its parameters, as they are written in the header.
 * @type {Record<string, [string, string[]]>}
 */
const FUNCTIONS = {
    p2p_version: ["const char *", []],
    p2p_abi_version: ["uint32_t", []],
    p2p_status_name: ["const char *", ["p2p_status"]],

    p2p_options_new: ["p2p_status", ["p2p_options *", "p2p_error *"]],
    p2p_options_set: ["p2p_status", ["p2p_options", "const char *", "const char *", "p2p_error *"]],
    p2p_options_free: ["p2p_status", ["p2p_options"]],
    p2p_set: ["p2p_status", ["uint64_t", "const char *", "const char *", "p2p_error *"]],
    p2p_get: ["p2p_status", ["uint64_t", "const char *", "p2p_snapshot *", "p2p_error *"]],

    p2p_key_export: ["p2p_status", ["const char *", "const char *", "const char *", "p2p_error *"]],

    p2p_node_open: ["p2p_status", ["p2p_options", "p2p_node *", "p2p_error *"]],
    p2p_node_close: ["p2p_status", ["p2p_node", "int32_t", "p2p_error *"]],
    p2p_node_close_start: ["p2p_status", ["p2p_node", "int32_t", "p2p_operation *", "p2p_error *"]],
    p2p_node_peer_id: ["p2p_status", ["p2p_node", "char *", "size_t", "p2p_error *"]],
    p2p_node_address: ["p2p_status", ["p2p_node", "char *", "size_t", "p2p_error *"]],
    p2p_connect: ["p2p_status", ["p2p_node", "const char *", "int32_t", "p2p_error *"]],
    p2p_connect_start: ["p2p_status", ["p2p_node", "const char *", "int32_t", "p2p_operation *", "p2p_error *"]],

    p2p_listen: [
        "p2p_status",
        ["p2p_node", "const char *", "const char *", "p2p_options", "p2p_mount *", "p2p_error *"],
    ],
    p2p_forward: [
        "p2p_status",
        ["p2p_node", "const char *", "const char *", "const char *", "p2p_options", "p2p_mount *", "p2p_error *"],
    ],
    p2p_forward_start: [
        "p2p_status",
        ["p2p_node", "const char *", "const char *", "const char *", "p2p_options", "p2p_operation *", "p2p_error *"],
    ],
    p2p_mount_address: ["p2p_status", ["p2p_mount", "char *", "size_t", "p2p_error *"]],
    p2p_mount_close: ["p2p_status", ["p2p_mount", "uint32_t", "p2p_error *"]],
    p2p_close: [
        "p2p_status",
        ["p2p_node", "const char *", "const char *", "const char *", "uint32_t", "size_t *", "p2p_error *"],
    ],
    p2p_stream_close: ["p2p_status", ["p2p_node", "uint64_t", "p2p_error *"]],

    p2p_list: ["p2p_status", ["uint64_t", "uint32_t", "p2p_snapshot *", "p2p_error *"]],
    p2p_row_count: ["p2p_status", ["uint64_t", "size_t *", "p2p_error *"]],
    p2p_row_field: ["p2p_status", ["uint64_t", "size_t", "size_t", "const char **", "p2p_error *"]],
    p2p_row_text: ["p2p_status", ["uint64_t", "size_t", "const char *", "const char **", "p2p_error *"]],
    p2p_row_int: ["p2p_status", ["uint64_t", "size_t", "const char *", "int64_t *", "p2p_error *"]],
    p2p_snapshot_free: ["p2p_status", ["p2p_snapshot"]],

    p2p_subscribe: ["p2p_status", ["p2p_node", "uint32_t", "p2p_options", "p2p_queue *", "p2p_error *"]],
    p2p_next_event: ["p2p_status", ["p2p_queue", "int32_t", "p2p_event *", "p2p_error *"]],
    p2p_queue_fd: ["p2p_status", ["p2p_queue", "int *", "p2p_error *"]],
    p2p_queue_close: ["p2p_status", ["p2p_queue"]],
    p2p_event_free: ["p2p_status", ["p2p_event"]],
    p2p_operation_cancel: ["p2p_status", ["p2p_operation", "p2p_error *"]],
};

/** The numbers of the header by their names there, except the header's own version. */
const constants = Object.freeze({
    P2P_ABI_VERSION: 0,

    P2P_PEER_ID_SIZE: 128,
    P2P_ADDRESS_SIZE: 4096,

    P2P_OK: 0,
    P2P_ERROR_INVALID_ARGUMENT: 1,
    P2P_ERROR_BAD_HANDLE: 2,
    P2P_ERROR_BAD_OPTION: 3,
    P2P_ERROR_BAD_ADDRESS: 4,
    P2P_ERROR_BAD_PROTOCOL: 5,
    P2P_ERROR_BAD_PEER: 6,
    P2P_ERROR_BAD_KEY: 7,
    P2P_ERROR_ADDRESS_IN_USE: 8,
    P2P_ERROR_ALREADY_REGISTERED: 9,
    P2P_ERROR_NOT_FOUND: 10,
    P2P_ERROR_UNREACHABLE: 11,
    P2P_ERROR_PROTOCOL_REFUSED: 12,
    P2P_ERROR_TARGET_REFUSED: 13,
    P2P_ERROR_TIMED_OUT: 14,
    P2P_ERROR_CANCELLED: 15,
    P2P_ERROR_CLOSED: 16,
    P2P_ERROR_LIMIT: 17,
    P2P_ERROR_RESET: 18,
    P2P_ERROR_FORKED: 19,
    P2P_ERROR_SYSTEM: 20,
    P2P_ERROR_INTERNAL: 21,

    P2P_ERROR_FLAG_TEMPORARY: 1,
    P2P_ERROR_FLAG_TIMED_OUT: 2,

    P2P_LIST_LISTENERS: 1,
    P2P_LIST_FORWARDS: 2,
    P2P_LIST_STREAMS: 4,
    P2P_LIST_PEERS: 8,
    P2P_LIST_ADDRESSES: 16,
    P2P_LIST_NODE: 32,
    P2P_LIST_OPTIONS: 64,
    P2P_LIST_PROCESS: 128,

    P2P_CLOSE_ALL: 1,
    P2P_CLOSE_LISTENERS: 2,
    P2P_CLOSE_FORWARDS: 4,
    P2P_CLOSE_STREAMS: 8,

    P2P_EVENT_MOUNT: 1,
    P2P_EVENT_STREAM_OPENED: 2,
    P2P_EVENT_STREAM_CLOSED: 4,
    P2P_EVENT_TARGET_REFUSED: 8,
    P2P_EVENT_REFUSED: 16,
    P2P_EVENT_PEER: 32,
    P2P_EVENT_ADDRESS: 64,
    P2P_EVENT_OPERATION: 128,
    P2P_EVENT_NODE: 256,
    P2P_EVENT_OVERFLOW: 512,
    P2P_EVENT_ALL: 2147483647,
});

module.exports = { FUNCTIONS, constants };
