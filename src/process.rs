//! What exists once per process: the runtime, the budget of file descriptors, the counter behind every id.
//!
//! After a fork the child has none of the parent's threads, and any lock may be held by a thread that is gone. So nothing of
//! the parent's is touched there: `forked` moves the process on to a fresh slot of every [`PerProcess`], and ids made before
//! the fork are recognised by their number alone.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use once_cell::sync::OnceCell;
use parking_lot::Mutex;
use tokio::runtime::{Builder, Handle, Runtime};

use crate::error::{Error, Result, Status};

/// How many forks deep a new node still works.
const DEPTHS: usize = 16;

static DEPTH: AtomicUsize = AtomicUsize::new(0);
static NEXT_ID: AtomicU64 = AtomicU64::new(1);
static FIRST_ID: AtomicU64 = AtomicU64::new(1);

/// Called in the child of a fork, on its only thread, before anything else. Async-signal-safe.
pub fn forked() {
    DEPTH.fetch_add(1, Ordering::Relaxed);
    FIRST_ID.store(NEXT_ID.load(Ordering::Relaxed), Ordering::Relaxed);
}

/// A number that was never given out before in this process or the processes it was forked from.
pub fn next_id() -> u64 {
    NEXT_ID.fetch_add(1, Ordering::Relaxed)
}

/// `id` was made before this process was forked off.
pub fn is_inherited(id: u64) -> bool {
    id < FIRST_ID.load(Ordering::Relaxed)
}

/// A value of which each process has its own, made when it is first needed.
pub struct PerProcess<T> {
    slots: [OnceCell<T>; DEPTHS],
}

impl<T> PerProcess<T> {
    pub const fn new() -> Self {
        PerProcess { slots: [const { OnceCell::new() }; DEPTHS] }
    }

    /// The value of this process; more forks deep than there are slots, the last one serves.
    pub fn get_or_init(&'static self, make: impl FnOnce() -> T) -> &'static T {
        self.slot().get_or_init(make)
    }

    pub fn get_or_try_init(&'static self, make: impl FnOnce() -> Result<T>) -> Result<&'static T> {
        if DEPTH.load(Ordering::Relaxed) >= DEPTHS {
            return Err(Error::new(
                Status::Forked,
                format!("more than {} forks lie between this process and the first", DEPTHS - 1),
            ));
        }
        self.slot().get_or_try_init(make)
    }

    pub fn get(&'static self) -> Option<&'static T> {
        self.slot().get()
    }

    fn slot(&'static self) -> &'static OnceCell<T> {
        &self.slots[DEPTH.load(Ordering::Relaxed).min(DEPTHS - 1)]
    }
}

impl<T> Default for PerProcess<T> {
    fn default() -> Self {
        Self::new()
    }
}

static RUNTIME: PerProcess<Engine> = PerProcess::new();

/// What runs the tasks, for as long as the process lives.
struct Engine {
    handle: Handle,
    /// Unless its only thread has it.
    _runtime: Option<Runtime>,
}

/// Of the runtime's threads.
const THREAD_NAME: &str = "p2pmount";

/// What every thread of the library runs first. The C boundary blocks all signals here.
static THREAD_START: OnceCell<fn()> = OnceCell::new();

/// Has `start` run first on every thread that is made from now on; only the first call counts.
pub fn set_thread_start(start: fn()) {
    let _ = THREAD_START.set(start);
}

pub(crate) fn thread_start() {
    if let Some(start) = THREAD_START.get() {
        start();
    }
}

/// The one runtime of this process, made with `threads` workers (0: as many as suit the machine) when it is first needed.
pub fn runtime(threads: usize) -> Result<Handle> {
    let made = RUNTIME.get_or_try_init(|| {
        let threads = if threads == 0 { default_threads() } else { threads };
        let failed =
            |error: std::io::Error| Error::system(Status::System, "the runtime's threads cannot be started", &error);
        // The runtime panics, or waits for ever, if one of its threads cannot be started; these say why.
        let (release, wait) = std::sync::mpsc::channel::<()>();
        let wait = Arc::new(Mutex::new(wait));
        let threads_can_be_made = || -> std::io::Result<()> {
            for _ in 0..=threads {
                let wait = wait.clone();
                std::thread::Builder::new().stack_size(64 * 1024).spawn(move || wait.lock().recv())?;
            }
            Ok(())
        };
        let made = threads_can_be_made();
        drop(release);
        made.map_err(failed)?;
        Engine::start(threads).map_err(failed)
    })?;
    Ok(made.handle.clone())
}

impl Engine {
    fn start(threads: usize) -> std::io::Result<Engine> {
        // One thread alone needs no means to share work with others: that spares it a quarter of what it does itself between two
        // system calls.
        let mut builder = if threads == 1 { Builder::new_current_thread() } else { Builder::new_multi_thread() };
        let runtime = builder
            .worker_threads(threads)
            // A task may move a few hundred KiB at a time. After so many of them the runtime looks which other sockets have
            // become ready: by default only after 61, which full streams make others wait for.
            .event_interval(4)
            .max_blocking_threads(8)
            .thread_name(THREAD_NAME)
            .on_thread_start(thread_start)
            .enable_all()
            .build()?;
        let handle = runtime.handle().clone();
        if threads > 1 {
            return Ok(Engine { handle, _runtime: Some(runtime) });
        }
        std::thread::Builder::new().name(THREAD_NAME.into()).spawn(move || {
            thread_start();
            runtime.block_on(std::future::pending::<()>());
        })?;
        Ok(Engine { handle, _runtime: None })
    }
}

/// Worker threads of the runtime, 0 before the first node.
pub fn threads() -> usize {
    RUNTIME.get().map_or(0, |engine| engine.handle.metrics().num_workers())
}

fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(1, |processors| (processors.get() / 2).clamp(1, 4))
}

/// The file descriptors that sockets of this library may use: what the process's limit leaves after what is open besides and
/// a reserve for the host.
pub struct Descriptors {
    used: AtomicUsize,
    reserve: AtomicUsize,
    /// Descriptors open in the process that are not counted in `used`, and when that was looked up.
    others: Mutex<Option<(Instant, usize)>>,
    /// Listeners of this process, whose targets take descriptors, too.
    listeners: AtomicUsize,
    freed: tokio::sync::Notify,
}

/// How long the count of the process's other descriptors is good for.
const OTHERS_GOOD_FOR: Duration = Duration::from_millis(200);

static DESCRIPTORS: PerProcess<Arc<Descriptors>> = PerProcess::new();

/// The budget of this process.
pub fn descriptors() -> &'static Arc<Descriptors> {
    DESCRIPTORS.get_or_init(|| Arc::new(Descriptors::new(64)))
}

/// Of so many descriptors under the limit.
fn connections(left: usize) -> usize {
    (left / 4).clamp(8, 1024)
}

fn pending_connections(left: usize) -> usize {
    (left / 8).clamp(8, 256)
}

impl Descriptors {
    fn new(reserve: usize) -> Self {
        Descriptors {
            used: AtomicUsize::new(0),
            reserve: AtomicUsize::new(reserve),
            others: Mutex::new(None),
            listeners: AtomicUsize::new(0),
            freed: tokio::sync::Notify::new(),
        }
    }

    pub fn set_reserve(&self, reserve: usize) {
        self.reserve.store(reserve, Ordering::Relaxed);
    }

    /// Sockets of the library's streams at the moment.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Descriptors under the process's limit, less the reserve.
    fn left(&self) -> usize {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(1 << 20);
        let limit = usize::try_from(limit).unwrap_or(1 << 20);
        limit.saturating_sub(self.reserve.load(Ordering::Relaxed))
    }

    /// Connections to peers that a node has at most, unless it is told otherwise.
    pub fn connections(&self) -> usize {
        connections(self.left())
    }

    /// Inbound connections without a finished handshake that a node has at most.
    pub fn pending_connections(&self) -> usize {
        pending_connections(self.left())
    }

    /// Most sockets that streams may have: what strangers can take by connecting is set aside. At least 8, so that a small
    /// limit slows the node down rather than stopping it.
    pub fn max(&self) -> usize {
        let left = self.left();
        let aside = MARGIN + connections(left) + pending_connections(left);
        // Counting what is open takes time in proportion; far below the limit the number does not matter.
        if self.used() + aside < left / 2 && self.others.lock().is_some() {
            return left.saturating_sub(aside).max(8);
        }
        left.saturating_sub(self.others().max(aside)).max(8)
    }

    fn others(&self) -> usize {
        let mut others = self.others.lock();
        match *others {
            Some((when, count)) if when.elapsed() < OTHERS_GOOD_FOR => count,
            _ => {
                let open = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
                let count = open.saturating_sub(self.used());
                *others = Some((Instant::now(), count));
                count
            }
        }
    }

    /// A descriptor for a target, or `None` when the budget is used up.
    pub fn try_take(self: &Arc<Self>) -> Option<Descriptor> {
        self.take_below(self.max())
    }

    /// A descriptor for a client, which can wait for it. Beside listeners a quarter is left to targets, which cannot: a
    /// process that forwards to itself would else take all for clients and refuse them for want of one for the target.
    pub fn try_take_for_client(self: &Arc<Self>) -> Option<Descriptor> {
        let max = self.max();
        let targets = if self.listeners.load(Ordering::Relaxed) > 0 { max / 4 } else { 0 };
        self.take_below(max - targets)
    }

    /// Leaves room for targets as long as the guard lives.
    pub fn serve_targets(self: &Arc<Self>) -> ServesTargets {
        self.listeners.fetch_add(1, Ordering::Relaxed);
        ServesTargets(self.clone())
    }

    fn take_below(self: &Arc<Self>, max: usize) -> Option<Descriptor> {
        let take = |used| (used < max).then_some(used + 1);
        self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, take).ok().map(|_| Descriptor(self.clone()))
    }

    /// Waits until a descriptor has been given back, or for a short time: the host may have closed some of its own.
    pub async fn freed(&self) {
        let _ = tokio::time::timeout(Duration::from_millis(250), self.freed.notified()).await;
    }
}

/// Descriptors set aside for listening sockets and the runtime's own.
const MARGIN: usize = 16;

/// A listener is there.
pub struct ServesTargets(Arc<Descriptors>);

impl Drop for ServesTargets {
    fn drop(&mut self) {
        self.0.listeners.fetch_sub(1, Ordering::Relaxed);
        self.0.freed.notify_one();
    }
}

/// A descriptor taken from the budget, given back when dropped.
pub struct Descriptor(Arc<Descriptors>);

impl Drop for Descriptor {
    fn drop(&mut self) {
        self.0.used.fetch_sub(1, Ordering::AcqRel);
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_never_given_out_twice() {
        let first = next_id();
        assert!(next_id() > first);
        assert!(!is_inherited(first));
    }

    #[test]
    fn a_descriptor_is_given_back_when_dropped() {
        let budget = Arc::new(Descriptors::new(usize::MAX / 2));
        let mut taken: Vec<_> = (0..8).map(|_| budget.try_take().unwrap()).collect();
        assert!(budget.try_take().is_none());
        taken.pop();
        assert!(budget.try_take().is_some());
    }

    #[test]
    fn clients_leave_room_for_targets() {
        let budget = Arc::new(Descriptors::new(usize::MAX / 2));
        let serving = budget.serve_targets();
        let mut clients: Vec<_> = std::iter::from_fn(|| budget.try_take_for_client()).collect();
        let targets: Vec<_> = std::iter::from_fn(|| budget.try_take()).collect();
        assert_eq!((clients.len(), targets.len()), (6, 2));
        drop(serving);
        drop(targets);
        clients.extend(std::iter::from_fn(|| budget.try_take_for_client()));
        assert_eq!(clients.len(), 8);
    }
}
