//! Which library this is.

use std::ffi::c_char;

use super::types::{P2P_ABI_VERSION, p2p_status};
use crate::error::Status;

/// The version of the loaded library, such as "0.1.0". The string is static.
#[unsafe(no_mangle)]
pub extern "C" fn p2p_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// The ABI version of the loaded library, to be compared with P2P_ABI_VERSION by programs that load it at run time.
#[unsafe(no_mangle)]
pub extern "C" fn p2p_abi_version() -> u32 {
    P2P_ABI_VERSION
}

/// The name of a status, such as "P2P_ERROR_LIMIT", or "P2P_ERROR_?" for a number that this version does not know. The
/// string is static.
#[unsafe(no_mangle)]
pub extern "C" fn p2p_status_name(status: p2p_status) -> *const c_char {
    let known = Status::ALL.iter().find(|known| **known as i32 == status);
    let name = match known {
        None => "P2P_ERROR_?\0",
        Some(Status::Ok) => "P2P_OK\0",
        Some(Status::InvalidArgument) => "P2P_ERROR_INVALID_ARGUMENT\0",
        Some(Status::BadHandle) => "P2P_ERROR_BAD_HANDLE\0",
        Some(Status::BadOption) => "P2P_ERROR_BAD_OPTION\0",
        Some(Status::BadAddress) => "P2P_ERROR_BAD_ADDRESS\0",
        Some(Status::BadProtocol) => "P2P_ERROR_BAD_PROTOCOL\0",
        Some(Status::BadPeer) => "P2P_ERROR_BAD_PEER\0",
        Some(Status::BadKey) => "P2P_ERROR_BAD_KEY\0",
        Some(Status::AddressInUse) => "P2P_ERROR_ADDRESS_IN_USE\0",
        Some(Status::AlreadyRegistered) => "P2P_ERROR_ALREADY_REGISTERED\0",
        Some(Status::NotFound) => "P2P_ERROR_NOT_FOUND\0",
        Some(Status::Unreachable) => "P2P_ERROR_UNREACHABLE\0",
        Some(Status::ProtocolRefused) => "P2P_ERROR_PROTOCOL_REFUSED\0",
        Some(Status::TargetRefused) => "P2P_ERROR_TARGET_REFUSED\0",
        Some(Status::TimedOut) => "P2P_ERROR_TIMED_OUT\0",
        Some(Status::Cancelled) => "P2P_ERROR_CANCELLED\0",
        Some(Status::Closed) => "P2P_ERROR_CLOSED\0",
        Some(Status::Limit) => "P2P_ERROR_LIMIT\0",
        Some(Status::Reset) => "P2P_ERROR_RESET\0",
        Some(Status::Forked) => "P2P_ERROR_FORKED\0",
        Some(Status::System) => "P2P_ERROR_SYSTEM\0",
        Some(Status::Internal) => "P2P_ERROR_INTERNAL\0",
    };
    name.as_ptr().cast()
}
