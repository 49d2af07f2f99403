//! Proof by safer_ffi's types that every export takes and returns only what C can pass.

use std::ffi::{c_char, c_int};

use safer_ffi::layout::ReprC;

use super::{event, key, list, mounts, node, operation, options, settings, types::*, version};

fn c_safe<T: ReprC>(_: T) {}

#[test]
fn every_signature_is_c_safe() {
    type Error = *mut p2p_error;
    type Text = CStrArg<'static>;
    type Out = *mut u64;
    c_safe(version::p2p_version as extern "C" fn() -> *const c_char);
    c_safe(version::p2p_abi_version as extern "C" fn() -> u32);
    c_safe(version::p2p_status_name as extern "C" fn(i32) -> *const c_char);
    c_safe(options::p2p_options_new as unsafe extern "C" fn(Out, Error) -> i32);
    c_safe(options::p2p_options_set as unsafe extern "C" fn(u64, Text, Text, Error) -> i32);
    c_safe(options::p2p_options_free as unsafe extern "C" fn(u64) -> i32);
    c_safe(key::p2p_key_export as unsafe extern "C" fn(Text, Text, Text, Error) -> i32);
    c_safe(node::p2p_node_open as unsafe extern "C" fn(u64, Out, Error) -> i32);
    c_safe(node::p2p_node_close as unsafe extern "C" fn(u64, i32, Error) -> i32);
    c_safe(node::p2p_node_close_start as unsafe extern "C" fn(u64, i32, Out, Error) -> i32);
    c_safe(node::p2p_node_peer_id as unsafe extern "C" fn(u64, *mut c_char, usize, Error) -> i32);
    c_safe(node::p2p_node_address as unsafe extern "C" fn(u64, *mut c_char, usize, Error) -> i32);
    c_safe(node::p2p_connect as unsafe extern "C" fn(u64, Text, i32, Error) -> i32);
    c_safe(node::p2p_connect_start as unsafe extern "C" fn(u64, Text, i32, Out, Error) -> i32);
    c_safe(mounts::p2p_listen as unsafe extern "C" fn(u64, Text, Text, u64, Out, Error) -> i32);
    c_safe(mounts::p2p_forward as unsafe extern "C" fn(u64, Text, Text, Text, u64, Out, Error) -> i32);
    c_safe(mounts::p2p_forward_start as unsafe extern "C" fn(u64, Text, Text, Text, u64, Out, Error) -> i32);
    c_safe(mounts::p2p_mount_address as unsafe extern "C" fn(u64, *mut c_char, usize, Error) -> i32);
    c_safe(mounts::p2p_mount_close as unsafe extern "C" fn(u64, u32, Error) -> i32);
    c_safe(mounts::p2p_close as unsafe extern "C" fn(u64, Text, Text, Text, u32, *mut usize, Error) -> i32);
    c_safe(mounts::p2p_stream_close as unsafe extern "C" fn(u64, u64, Error) -> i32);
    c_safe(list::p2p_list as unsafe extern "C" fn(u64, u32, Out, Error) -> i32);
    c_safe(list::p2p_row_count as unsafe extern "C" fn(u64, *mut usize, Error) -> i32);
    c_safe(list::p2p_row_field as unsafe extern "C" fn(u64, usize, usize, *mut *const c_char, Error) -> i32);
    c_safe(list::p2p_row_text as unsafe extern "C" fn(u64, usize, Text, *mut *const c_char, Error) -> i32);
    c_safe(list::p2p_row_int as unsafe extern "C" fn(u64, usize, Text, *mut i64, Error) -> i32);
    c_safe(list::p2p_snapshot_free as unsafe extern "C" fn(u64) -> i32);
    c_safe(settings::p2p_set as unsafe extern "C" fn(u64, Text, Text, Error) -> i32);
    c_safe(settings::p2p_get as unsafe extern "C" fn(u64, Text, Out, Error) -> i32);
    c_safe(event::p2p_subscribe as unsafe extern "C" fn(u64, u32, u64, Out, Error) -> i32);
    c_safe(event::p2p_next_event as unsafe extern "C" fn(u64, i32, Out, Error) -> i32);
    c_safe(event::p2p_queue_fd as unsafe extern "C" fn(u64, *mut c_int, Error) -> i32);
    c_safe(event::p2p_queue_close as unsafe extern "C" fn(u64) -> i32);
    c_safe(event::p2p_event_free as unsafe extern "C" fn(u64) -> i32);
    c_safe(operation::p2p_operation_cancel as unsafe extern "C" fn(u64, Error) -> i32);
}
