//! The budget of file descriptors.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::PerProcess;

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
