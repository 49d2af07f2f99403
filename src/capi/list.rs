//! Lists: snapshots of rows, and the getters that read rows of snapshots and events.

use std::{ffi::c_char, sync::Arc};

use super::{
    guard::{bits, guard, handle_out, out},
    handles::{self, Object},
    strings::text,
    types::{
        CStrArg, P2P_LIST_ADDRESSES, P2P_LIST_FORWARDS, P2P_LIST_LISTENERS, P2P_LIST_NODE, P2P_LIST_OPTIONS,
        P2P_LIST_PEERS, P2P_LIST_PROCESS, P2P_LIST_STREAMS, p2p_error, p2p_snapshot, p2p_status,
    },
};
use crate::{
    error::{Error, Result, Status, quote},
    mounts::Kind,
    node,
    rows::{self, Cell, Row},
};

/// Lists what a node has: any of the P2P_LIST_ bits, in rows whose field kind tells them apart, forwards before listeners
/// before streams. Of a mount's handle it lists the mount (P2P_LIST_LISTENERS or P2P_LIST_FORWARDS) and its streams. Handle 0
/// will do for P2P_LIST_OPTIONS and P2P_LIST_PROCESS. Never waits for a peer. To be freed with p2p_snapshot_free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn p2p_list(
    handle: u64,
    what: u32,
    snapshot: *mut p2p_snapshot,
    error: *mut p2p_error,
) -> p2p_status {
    guard(error, || {
        let snapshot = handle_out(snapshot, "snapshot")?;
        let everywhere = P2P_LIST_OPTIONS | P2P_LIST_PROCESS;
        let of_mount = P2P_LIST_LISTENERS | P2P_LIST_FORWARDS | P2P_LIST_STREAMS | everywhere;
        let all = of_mount | P2P_LIST_PEERS | P2P_LIST_ADDRESSES | P2P_LIST_NODE;
        bits(what, all, "what")?;
        if what == 0 {
            return Err(Error::new(
                Status::InvalidArgument,
                "what is 0; it must have at least one of the P2P_LIST_ bits",
            ));
        }
        let mut rows = Vec::new();
        match handle {
            0 if what & !everywhere == 0 => {}
            0 => {
                return Err(Error::new(
                    Status::BadHandle,
                    "handle is 0, of which only P2P_LIST_OPTIONS and P2P_LIST_PROCESS can be listed",
                ));
            }
            _ => match handles::find(handle, "handle")? {
                Object::Node(node) => list_node(&node, what, &mut rows),
                Object::Mount(node, mount) => {
                    bits(what, of_mount, "what, for a mount,")?;
                    for (bit, kind) in [(P2P_LIST_FORWARDS, Kind::Forward), (P2P_LIST_LISTENERS, Kind::Listener)] {
                        if what & bit != 0 && mount.kind() == kind {
                            rows.extend(node.mount_rows(kind).into_iter().filter(|row| is_mount(row, mount.handle())));
                        }
                    }
                    if what & P2P_LIST_STREAMS != 0 {
                        rows.extend(node.stream_rows(Some(&mount)));
                    }
                }
                _ => {
                    return Err(Error::new(
                        Status::BadHandle,
                        format!("handle is {handle}, which is not a handle of a node or mount"),
                    ));
                }
            },
        }
        if what & P2P_LIST_OPTIONS != 0 {
            rows.extend(node::option_rows());
        }
        if what & P2P_LIST_PROCESS != 0 {
            rows.push(node::process_row(handles::count()));
        }
        snapshot.set(handles::add(Object::Snapshot(rows.into()), 0));
        Ok(())
    })
}

fn is_mount(row: &Row, handle: u64) -> bool {
    row.get("id") == i64::try_from(handle).ok().map(Cell::Int).as_ref()
}

fn list_node(node: &node::Node, what: u32, rows: &mut Vec<Row>) {
    if what & P2P_LIST_NODE != 0 {
        rows.push(node.row());
    }
    if what & P2P_LIST_ADDRESSES != 0 {
        rows.extend(node.address_rows());
    }
    if what & P2P_LIST_FORWARDS != 0 {
        rows.extend(node.mount_rows(Kind::Forward));
    }
    if what & P2P_LIST_LISTENERS != 0 {
        rows.extend(node.mount_rows(Kind::Listener));
    }
    if what & P2P_LIST_STREAMS != 0 {
        rows.extend(node.stream_rows(None));
    }
    if what & P2P_LIST_PEERS != 0 {
        rows.extend(node.peer_rows());
    }
}

/// How many rows a snapshot has; an event has one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn p2p_row_count(rows: u64, count: *mut usize, error: *mut p2p_error) -> p2p_status {
    guard(error, || {
        let count = out(count, "count")?;
        count.set(handles::rows(rows)?.len());
        Ok(())
    })
}

/// The name of a field that a row has, by its index from 0; P2P_ERROR_NOT_FOUND past the last. The string lives until rows
/// is freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn p2p_row_field(
    rows: u64,
    row: usize,
    index: usize,
    name: *mut *const c_char,
    error: *mut p2p_error,
) -> p2p_status {
    guard(error, || {
        let name = out(name, "name")?;
        let rows = handles::rows(rows)?;
        let row = find_row(&rows, row)?;
        let field = row.fields().nth(index);
        let field = field.ok_or_else(|| {
            Error::new(
                Status::NotFound,
                format!("index {index} is past the last of the row's {} fields", row.fields().count()),
            )
        })?;
        name.set(field.name_with_nul.as_ptr().cast());
        Ok(())
    })
}

/// The value of a field as text, numbers in decimal. The string lives until rows is freed. P2P_ERROR_NOT_FOUND if rows of
/// this kind do not have the field, P2P_ERROR_INVALID_ARGUMENT if none have; docs/FIELDS.md lists all.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn p2p_row_text(
    rows: u64,
    row: usize,
    field: CStrArg<'_>,
    value: *mut *const c_char,
    error: *mut p2p_error,
) -> p2p_status {
    guard(error, || {
        let value = out(value, "value")?;
        let rows = handles::rows(rows)?;
        let field = text(field, "field")?;
        let row = find_row(&rows, row)?;
        let text = row.text_with_nul(field).ok_or_else(|| no_field(row, field))?;
        value.set(text.as_ptr().cast());
        Ok(())
    })
}

/// The value of a field that is a number. P2P_ERROR_INVALID_ARGUMENT if the field is text; otherwise as p2p_row_text.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn p2p_row_int(
    rows: u64,
    row: usize,
    field: CStrArg<'_>,
    value: *mut i64,
    error: *mut p2p_error,
) -> p2p_status {
    guard(error, || {
        let value = out(value, "value")?;
        let rows = handles::rows(rows)?;
        let field = text(field, "field")?;
        let row = find_row(&rows, row)?;
        match row.get(field) {
            Some(Cell::Int(number)) => value.set(*number),
            Some(Cell::Text(_)) => {
                return Err(Error::new(
                    Status::InvalidArgument,
                    format!("field {field} is text; read it with p2p_row_text"),
                ));
            }
            None => return Err(no_field(row, field)),
        }
        Ok(())
    })
}

fn find_row(rows: &Arc<Vec<Row>>, row: usize) -> Result<&Row> {
    rows.get(row)
        .ok_or_else(|| Error::new(Status::NotFound, format!("row {row} is past the last of {} rows", rows.len())))
}

fn no_field(row: &Row, field: &str) -> Error {
    let kind = match row.get("kind") {
        Some(Cell::Text(kind)) => kind,
        _ => "",
    };
    match rows::field(field) {
        Some(_) => Error::new(Status::NotFound, format!("a row of kind '{kind}' has no field {field}")),
        None => Error::new(
            Status::InvalidArgument,
            format!("field '{}' does not exist; docs/FIELDS.md lists all", quote(field)),
        ),
    }
}

/// Frees a snapshot and the strings read from it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn p2p_snapshot_free(snapshot: p2p_snapshot) -> p2p_status {
    guard(std::ptr::null_mut(), || handles::close(snapshot, handles::SNAPSHOT, |_| Ok(())))
}
