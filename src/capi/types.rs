//! The types and constants of the header.

use std::ffi::c_char;

use safer_ffi::{derive_ReprC, prelude::char_p};

/// A string from C: NULL, or bytes that end in NUL, of an encoding still to be checked.
pub type CStrArg<'a> = Option<char_p::Ref<'a>>;

/// P2P_OK or one of P2P_ERROR_.
pub type p2p_status = i32;
/// A node of the network.
pub type p2p_node = u64;
/// A listener or a forward.
pub type p2p_mount = u64;
/// Options by name for a node, mount or queue.
pub type p2p_options = u64;
/// The rows of a list, as they were when it was made.
pub type p2p_snapshot = u64;
/// A queue of events.
pub type p2p_queue = u64;
/// One event, which is one row.
pub type p2p_event = u64;
/// A call that goes on in the background; it ends by itself and needs no freeing.
pub type p2p_operation = u64;

/// What went wrong. Its size is 1,024 bytes and stays so.
#[derive_ReprC]
#[repr(C)]
pub struct p2p_error {
    /// P2P_OK or one of P2P_ERROR_.
    pub code: i32,
    /// The system's errno, or 0 if the failure was not the system's.
    pub system_error: i32,
    /// P2P_ERROR_FLAG_ bits.
    pub flags: u32,
    /// 0.
    pub reserved: u32,
    /// A sentence in UTF-8 that names what failed, ended by NUL.
    pub message: [c_char; 1008],
}

/// Changes when a program made for an older library may not work any more; part of the library's file name.
pub const P2P_ABI_VERSION: u32 = 0;

/// Bytes that are enough for a peer id, its NUL included.
pub const P2P_PEER_ID_SIZE: usize = 128;
/// Bytes that are enough for the addresses of a node or mount, their NUL included.
pub const P2P_ADDRESS_SIZE: usize = 4096;

/// Success.
pub const P2P_OK: i32 = 0;
/// NULL, text that is not UTF-8, an unknown flag, a number out of range, or arguments that exclude each other.
pub const P2P_ERROR_INVALID_ARGUMENT: i32 = 1;
/// The handle is closed, freed, of another kind, or never was one.
pub const P2P_ERROR_BAD_HANDLE: i32 = 2;
/// Unknown option, bad value, not an option of this object, or not changeable in use.
pub const P2P_ERROR_BAD_OPTION: i32 = 3;
/// A local address or multiaddr is malformed or not allowed here.
pub const P2P_ERROR_BAD_ADDRESS: i32 = 4;
/// A protocol name is malformed or outside /x/.
pub const P2P_ERROR_BAD_PROTOCOL: i32 = 5;
/// A peer without id, with a malformed one, or this node itself.
pub const P2P_ERROR_BAD_PEER: i32 = 6;
/// The key file is damaged, foreign, readable by others or cannot be read.
pub const P2P_ERROR_BAD_KEY: i32 = 7;
/// A listen address is in use.
pub const P2P_ERROR_ADDRESS_IN_USE: i32 = 8;
/// A listener for this protocol exists.
pub const P2P_ERROR_ALREADY_REGISTERED: i32 = 9;
/// No such stream, row or field.
pub const P2P_ERROR_NOT_FOUND: i32 = 10;
/// The peer cannot be reached.
pub const P2P_ERROR_UNREACHABLE: i32 = 11;
/// The peer does not offer the protocol, or not to this node.
pub const P2P_ERROR_PROTOCOL_REFUSED: i32 = 12;
/// A listener's target does not accept connections.
pub const P2P_ERROR_TARGET_REFUSED: i32 = 13;
/// Time ran out.
pub const P2P_ERROR_TIMED_OUT: i32 = 14;
/// The operation was cancelled.
pub const P2P_ERROR_CANCELLED: i32 = 15;
/// The object was closed.
pub const P2P_ERROR_CLOSED: i32 = 16;
/// A limit was reached.
pub const P2P_ERROR_LIMIT: i32 = 17;
/// A stream was reset or cut.
pub const P2P_ERROR_RESET: i32 = 18;
/// The handle was inherited through fork.
pub const P2P_ERROR_FORKED: i32 = 19;
/// The operating system refused; system_error says why.
pub const P2P_ERROR_SYSTEM: i32 = 20;
/// A defect of the library, contained.
pub const P2P_ERROR_INTERNAL: i32 = 21;

/// Trying again later can help.
pub const P2P_ERROR_FLAG_TEMPORARY: u32 = 1;
/// Time ran out.
pub const P2P_ERROR_FLAG_TIMED_OUT: u32 = 2;

/// Listeners.
pub const P2P_LIST_LISTENERS: u32 = 1;
/// Forwards.
pub const P2P_LIST_FORWARDS: u32 = 2;
/// Live streams.
pub const P2P_LIST_STREAMS: u32 = 4;
/// Connected peers.
pub const P2P_LIST_PEERS: u32 = 8;
/// The node's own listening multiaddrs.
pub const P2P_LIST_ADDRESSES: u32 = 16;
/// The node itself, one row.
pub const P2P_LIST_NODE: u32 = 32;
/// The table of options; handle 0 will do.
pub const P2P_LIST_OPTIONS: u32 = 64;
/// The library in this process, one row; handle 0 will do.
pub const P2P_LIST_PROCESS: u32 = 128;

/// Every mount of the node.
pub const P2P_CLOSE_ALL: u32 = 1;
/// Only listeners.
pub const P2P_CLOSE_LISTENERS: u32 = 2;
/// Only forwards.
pub const P2P_CLOSE_FORWARDS: u32 = 4;
/// Also reset the live streams of what is closed; without it they run on.
pub const P2P_CLOSE_STREAMS: u32 = 8;

/// A mount was made, changed its state or was closed.
pub const P2P_EVENT_MOUNT: u32 = 1;
/// A stream was opened.
pub const P2P_EVENT_STREAM_OPENED: u32 = 2;
/// A stream has ended; reason, bytes_in and bytes_out say how.
pub const P2P_EVENT_STREAM_CLOSED: u32 = 4;
/// A listener's target did not accept a connection.
pub const P2P_EVENT_TARGET_REFUSED: u32 = 8;
/// A client, stream or connection was refused, or accepting pauses; code and message say why.
pub const P2P_EVENT_REFUSED: u32 = 16;
/// A peer was connected or disconnected.
pub const P2P_EVENT_PEER: u32 = 32;
/// A listening address of the node is new or gone.
pub const P2P_EVENT_ADDRESS: u32 = 64;
/// An operation has ended.
pub const P2P_EVENT_OPERATION: u32 = 128;
/// The node is closing, closed or has failed.
pub const P2P_EVENT_NODE: u32 = 256;
/// Events were lost; delivered to every queue that lost some.
pub const P2P_EVENT_OVERFLOW: u32 = 512;
/// Every kind, future ones included.
pub const P2P_EVENT_ALL: u32 = 2147483647;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        error::{FLAG_TEMPORARY, FLAG_TIMED_OUT, MESSAGE_MAX, Status},
        events::kind,
    };

    #[test]
    fn the_error_is_1024_bytes() {
        assert_eq!(size_of::<p2p_error>(), 1024);
        assert_eq!(MESSAGE_MAX + 1, 1008);
    }

    #[test]
    fn the_constants_are_those_of_the_core() {
        assert_eq!(P2P_ERROR_INTERNAL, Status::Internal as i32);
        assert_eq!(P2P_ERROR_UNREACHABLE, Status::Unreachable as i32);
        assert_eq!([P2P_ERROR_FLAG_TEMPORARY, P2P_ERROR_FLAG_TIMED_OUT], [FLAG_TEMPORARY, FLAG_TIMED_OUT]);
        assert_eq!(P2P_EVENT_OVERFLOW, kind::OVERFLOW);
        assert_eq!(P2P_EVENT_OPERATION, kind::OPERATION);
        assert_eq!(P2P_EVENT_ALL, kind::ALL);
    }
}
