//! Handles are numbers that are never given out twice; this table says what they mean. A stale one is an error, never a
//! dangling pointer.

use std::{collections::HashMap, sync::Arc};

use parking_lot::{Condvar, Mutex, RwLock};
use tokio_util::sync::CancellationToken;

use crate::{
    error::{Error, Result, Status},
    events::Queue,
    mounts::{HANDLE_KIND_BITS, MOUNT_HANDLE_KIND, Mount},
    node::Node,
    options::Options,
    process::{self, PerProcess},
    rows::Row,
};

/// The kinds of handles: their low bits.
pub(super) const NODE: u64 = 1;
pub(super) const MOUNT: u64 = MOUNT_HANDLE_KIND;
pub(super) const OPTIONS: u64 = 3;
pub(super) const SNAPSHOT: u64 = 4;
pub(super) const QUEUE: u64 = 5;
pub(super) const EVENT: u64 = 6;
pub(super) const OPERATION: u64 = 7;

/// What a handle stands for.
#[derive(Clone)]
pub enum Object {
    Node(Arc<Node>),
    Mount(Arc<Node>, Arc<Mount>),
    Options(Arc<Mutex<Options>>),
    Snapshot(Arc<Vec<Row>>),
    Queue(std::sync::Weak<Node>, Arc<Queue>),
    Event(Arc<Vec<Row>>),
    Operation(CancellationToken),
}

impl Object {
    fn kind(&self) -> (u64, &'static str) {
        match self {
            Object::Node(_) => (NODE, "node"),
            Object::Mount(..) => (MOUNT, "mount"),
            Object::Options(_) => (OPTIONS, "options"),
            Object::Snapshot(_) => (SNAPSHOT, "snapshot"),
            Object::Queue(..) => (QUEUE, "queue"),
            Object::Event(_) => (EVENT, "event"),
            Object::Operation(_) => (OPERATION, "operation"),
        }
    }
}

const HANDLE_KIND_MASK: u64 = (1 << HANDLE_KIND_BITS) - 1;

/// Names by the low bits of a handle.
const KINDS: [&str; 8] = ["thing", "node", "mount", "options", "snapshot", "queue", "event", "operation"];

struct Entry {
    object: Object,
    /// The node that takes this handle along when it is closed; 0 for none.
    parent: u64,
    closing: Option<Arc<Closing>>,
}

/// Lets whoever closes the same thing at the same time wait for the first.
#[derive(Default)]
struct Closing {
    done: Mutex<bool>,
    finished: Condvar,
}

static TABLE: PerProcess<RwLock<HashMap<u64, Entry>>> = PerProcess::new();

fn table() -> &'static RwLock<HashMap<u64, Entry>> {
    TABLE.get_or_init(RwLock::default)
}

/// Handles that are open.
pub fn count() -> usize {
    table().read().len()
}

/// Gives out a handle for `object`.
pub fn add(object: Object, parent: u64) -> u64 {
    let id = match &object {
        Object::Node(node) => node.id(),
        Object::Mount(_, mount) => mount.id(),
        _ => process::next_id(),
    };
    let handle = id << HANDLE_KIND_BITS | object.kind().0;
    table().write().insert(handle, Entry { object, parent, closing: None });
    handle
}

/// The object behind `handle`, of whatever kind.
pub fn find(handle: u64, name: &str) -> Result<Object> {
    check_process(handle, name)?;
    let table = table().read();
    table.get(&handle).map(|entry| entry.object.clone()).ok_or_else(|| bad(handle, name))
}

/// Handles that a fork brought along are told by their number alone: no lock, which may be held for ever, is touched.
fn check_process(handle: u64, name: &str) -> Result<()> {
    let id = handle >> HANDLE_KIND_BITS;
    // Ids start at 1: smaller numbers were never handles of any process.
    if id != 0 && process::is_inherited(id) {
        return Err(Error::new(
            Status::Forked,
            format!("{name} {handle} belongs to the process that this one was forked from; open a new node here"),
        ));
    }
    Ok(())
}

fn bad(handle: u64, name: &str) -> Error {
    let sentence = match handle {
        0 => format!("{name} is 0, which is no handle"),
        // The parameter says nothing about what it was, but the number does.
        _ if name == "handle" => {
            let kind = with_article(KINDS[(handle & HANDLE_KIND_MASK) as usize]);
            format!("handle {handle}, {kind}, is closed, or never was one")
        }
        _ => format!("{name} {handle} is closed, or never was a handle"),
    };
    Error::new(Status::BadHandle, sentence)
}

/// The argument called as the kind `wanted` is the handle of something else.
fn other_kind(handle: u64, wanted: &str, found: &Object) -> Error {
    let (found, what) = (with_article(found.kind().1), with_article(wanted));
    Error::new(Status::BadHandle, format!("{wanted} is {handle}, the handle of {found}, not of {what}"))
}

fn with_article(kind: &str) -> String {
    match kind {
        "options" => kind.to_owned(),
        _ if kind.starts_with(['e', 'o']) => format!("an {kind}"),
        _ => format!("a {kind}"),
    }
}

macro_rules! getter {
    ($(#[$doc:meta])* $name:ident, $label:literal, $pattern:pat => $value:expr, $type:ty) => {
        $(#[$doc])*
        pub fn $name(handle: u64) -> Result<$type> {
            match find(handle, $label) {
                Ok($pattern) => Ok($value),
                Ok(other) => Err(other_kind(handle, $label, &other)),
                Err(error) => Err(error),
            }
        }
    };
}

getter!(node, "node", Object::Node(node) => node, Arc<Node>);
getter!(mount, "mount", Object::Mount(node, mount) => (node, mount), (Arc<Node>, Arc<Mount>));
getter!(queue, "queue", Object::Queue(_, queue) => queue, Arc<Queue>);

/// The options behind a handle; 0 is all defaults.
pub fn options(handle: u64) -> Result<Options> {
    if handle == 0 {
        return Ok(Options::new());
    }
    Ok(options_object(handle)?.lock().clone())
}

getter!(
    /// The options that a setter changes.
    options_object, "options", Object::Options(options) => options, Arc<Mutex<Options>>
);

/// The rows behind a snapshot or event.
pub fn rows(handle: u64) -> Result<Arc<Vec<Row>>> {
    match find(handle, "rows") {
        Ok(Object::Snapshot(rows) | Object::Event(rows)) => Ok(rows),
        Ok(other) => Err(Error::new(
            Status::BadHandle,
            format!("rows is {handle}, the handle of {}, not of a snapshot or event", with_article(other.kind().1)),
        )),
        Err(error) => Err(error),
    }
}

/// Closes or frees `handle`, which must be of the kind numbered `kind`: runs `end` on its object, then forgets it and its
/// children. A second close that comes meanwhile waits and succeeds. 0 is nothing to do.
pub fn close(handle: u64, kind: u64, end: impl FnOnce(Object) -> Result<()>) -> Result<()> {
    if handle == 0 {
        return Ok(());
    }
    match claim(handle, kind)? {
        Claim::First(object, forget) => {
            let result = end(object);
            drop(forget);
            result
        }
        Claim::Later(closing) => {
            let mut done = closing.done.lock();
            while !*done {
                closing.finished.wait(&mut done);
            }
            Ok(())
        }
    }
}

/// Begins a close that ends when the result is dropped; `Status::Closed` if it has begun already.
pub fn begin_close(handle: u64, kind: u64) -> Result<Forget> {
    match claim(handle, kind)? {
        Claim::First(_, forget) => Ok(forget),
        Claim::Later(_) => Err(Error::closed(format_args!("the {}", KINDS[kind as usize]))),
    }
}

/// Who closes a handle: the first, or somebody who comes while the first is at it.
enum Claim {
    First(Object, Forget),
    Later(Arc<Closing>),
}

fn claim(handle: u64, kind: u64) -> Result<Claim> {
    let name = KINDS[kind as usize];
    check_process(handle, name)?;
    let mut table = table().write();
    let entry = table.get_mut(&handle).ok_or_else(|| bad(handle, name))?;
    if entry.object.kind().0 != kind {
        return Err(other_kind(handle, name, &entry.object));
    }
    if let Some(closing) = &entry.closing {
        return Ok(Claim::Later(closing.clone()));
    }
    let closing = Arc::<Closing>::default();
    entry.closing = Some(closing.clone());
    Ok(Claim::First(entry.object.clone(), Forget { handle, closing }))
}

/// Forgets a handle even if its ending panicked, and wakes who waits for that. Its entry may have gone before, with a node
/// that was closed meanwhile.
pub struct Forget {
    handle: u64,
    closing: Arc<Closing>,
}

impl Drop for Forget {
    fn drop(&mut self) {
        let mut table = table().write();
        table.remove(&self.handle);
        // Only nodes have children.
        if self.handle & HANDLE_KIND_MASK == NODE {
            table.retain(|_, other| other.parent != self.handle);
        }
        drop(table);
        *self.closing.done.lock() = true;
        self.closing.finished.notify_all();
    }
}

/// Cancels an operation that has not been forgotten. Both under the table's lock: once forgotten, it stays as it ended.
pub fn cancel(handle: u64) -> Result<()> {
    check_process(handle, "operation")?;
    let table = table().read();
    match table.get(&handle).map(|entry| &entry.object) {
        Some(Object::Operation(cancel)) => {
            cancel.cancel();
            Ok(())
        }
        Some(other) => Err(other_kind(handle, "operation", other)),
        None => Err(bad(handle, "operation")),
    }
}

/// Forgets handles whose objects have ended by other means.
pub fn forget(handles: impl IntoIterator<Item = u64>) {
    let mut table = table().write();
    for handle in handles {
        // One that is being closed is forgotten by who closes it.
        if table.get(&handle).is_some_and(|entry| entry.closing.is_none()) {
            table.remove(&handle);
        }
    }
}
