//! Events are pulled: any number of bounded queues on a node, each with the kinds it asked for. Without a queue an event
//! costs one load.

use std::{
    collections::VecDeque,
    io,
    mem::MaybeUninit,
    net::Shutdown,
    os::{fd::OwnedFd, unix::net::UnixStream},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use parking_lot::{Condvar, Mutex, RwLock};
use socket2::SockRef;

use crate::{
    error::{Error, Result, Status},
    rows::{Cell, Row},
};

/// The kinds of events, as bits.
pub mod kind {
    pub const MOUNT: u32 = 1;
    pub const STREAM_OPENED: u32 = 2;
    pub const STREAM_CLOSED: u32 = 4;
    pub const TARGET_REFUSED: u32 = 8;
    pub const REFUSED: u32 = 16;
    pub const PEER: u32 = 32;
    pub const ADDRESS: u32 = 64;
    pub const OPERATION: u32 = 128;
    pub const NODE: u32 = 256;
    pub const OVERFLOW: u32 = 512;
    pub const ALL: u32 = 0x7fff_ffff;

    /// What goes first when a queue overflows: what other peers and clients can cause at will. Results and state changes of the
    /// node and its mounts never do.
    pub const EXPENDABLE: u32 = STREAM_OPENED | STREAM_CLOSED | TARGET_REFUSED | REFUSED | PEER;
}

/// What was closed when no more events can come, in a sentence.
const NODE: &str = "the node";

/// The queues of one node.
#[derive(Default)]
pub struct Hub {
    queues: RwLock<Queues>,
    wanted: AtomicU32,
}

#[derive(Default)]
struct Queues {
    all: Vec<Arc<Queue>>,
    /// The node is gone.
    closed: bool,
}

impl Hub {
    /// Puts an event of this kind in every queue that asked for it; `row` is made only if there is one.
    pub fn emit(&self, kind: u32, row: impl FnOnce() -> Row) {
        if self.wanted.load(Ordering::Acquire) & kind == 0 {
            return;
        }
        let row = row().int("event", kind).int("time_ms", now_ms());
        for queue in self.queues.read().all.iter().filter(|queue| queue.kinds & kind != 0) {
            queue.push(kind, row.clone());
        }
    }

    /// A new queue for the events of `kinds` from now on, which holds at most `capacity`.
    pub fn subscribe(&self, kinds: u32, capacity: usize) -> Arc<Queue> {
        let queue = Arc::new(Queue {
            kinds,
            capacity: capacity.max(1),
            state: Mutex::new(State {
                events: VecDeque::new(),
                lost: 0,
                last_lost: 0,
                sequence: 0,
                closed: None,
                wake: None,
            }),
            arrived: Condvar::new(),
        });
        let mut queues = self.queues.write();
        if queues.closed {
            queue.close(NODE);
        } else {
            queues.all.push(queue.clone());
            self.count(&queues.all);
        }
        queue
    }

    /// The queue gets no more events and wakes whoever waits on it.
    pub fn unsubscribe(&self, queue: &Arc<Queue>) {
        let mut queues = self.queues.write();
        queues.all.retain(|other| !Arc::ptr_eq(other, queue));
        self.count(&queues.all);
        drop(queues);
        queue.close("the queue");
    }

    fn count(&self, queues: &[Arc<Queue>]) {
        self.wanted.store(queues.iter().fold(0, |kinds, queue| kinds | queue.kinds), Ordering::Release);
    }

    /// The node is gone: what is queued can still be read, then the queues say `Status::Closed`.
    pub fn close(&self) {
        let mut queues = self.queues.write();
        queues.closed = true;
        self.wanted.store(0, Ordering::Release);
        for queue in std::mem::take(&mut queues.all) {
            queue.close(NODE);
        }
    }
}

fn now_ms() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()
}

/// A bounded queue of events.
pub struct Queue {
    kinds: u32,
    capacity: usize,
    state: Mutex<State>,
    arrived: Condvar,
}

struct State {
    /// Kind and row; the number that the event has in this queue is part of the row.
    events: VecDeque<(u32, Row)>,
    lost: u64,
    last_lost: u64,
    sequence: u64,
    closed: Option<&'static str>,
    wake: Option<Wake>,
}

/// The two ends of a socket pair: a byte lies in it exactly while events wait. Dropping the near end makes the far one
/// readable for ever.
struct Wake {
    near: Option<UnixStream>,
    far: UnixStream,
}

impl Queue {
    fn push(&self, kind: u32, row: Row) {
        let mut state = self.state.lock();
        if state.closed.is_some() {
            return;
        }
        state.sequence += 1;
        if state.events.len() >= self.capacity {
            let oldest = state.events.iter().position(|(kind, _)| kind & kind::EXPENDABLE != 0);
            if let Some((_, lost)) = oldest.and_then(|at| state.events.remove(at)) {
                state.lose(&lost);
            } else if kind & kind::EXPENDABLE != 0 {
                state.lost += 1;
                state.last_lost = state.sequence;
                // The overflow is an event of its own: who waits beside those that are queued already gets it.
                self.arrived.notify_one();
                return;
            }
        }
        let sequence = state.sequence;
        state.events.push_back((kind, row.int("sequence", sequence)));
        state.arm();
        self.arrived.notify_one();
    }

    /// The next event. Waits for `timeout` (`None`: for ever); `Status::TimedOut` when none came, `Status::Closed` when none
    /// can come any more.
    pub fn next(&self, timeout: Option<Duration>) -> Result<Row> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut state = self.state.lock();
        loop {
            if let Some(row) = state.pop() {
                state.arm();
                return Ok(row);
            }
            if let Some(what) = state.closed {
                return Err(Error::closed(what));
            }
            let timed_out = match deadline {
                None => {
                    self.arrived.wait(&mut state);
                    false
                }
                Some(deadline) => self.arrived.wait_until(&mut state, deadline).timed_out(),
            };
            if timed_out && state.events.is_empty() && state.closed.is_none() {
                return Err(Error::new(Status::TimedOut, "no event came in time"));
            }
        }
    }

    /// A descriptor that is readable exactly while events wait or no more can come. Close-on-exec, non-blocking, the caller's
    /// to close. Its bytes mean nothing; whoever reads them away does so before taking the events.
    pub fn descriptor(&self) -> Result<OwnedFd> {
        let failed =
            |error: io::Error| Error::system(Status::System, "the wake descriptor of a queue cannot be made", &error);
        let mut state = self.state.lock();
        if state.wake.is_none() {
            let (near, far) = UnixStream::pair().map_err(failed)?;
            near.set_nonblocking(true).map_err(failed)?;
            far.set_nonblocking(true).map_err(failed)?;
            let near = state.closed.is_none().then_some(near);
            state.wake = Some(Wake { near, far });
            state.arm();
        }
        match &state.wake {
            Some(wake) => Ok(wake.far.try_clone().map_err(failed)?.into()),
            None => Err(Error::new(Status::Internal, "a queue lost its wake descriptor")),
        }
    }

    /// No more events; who waits is woken. `what` was closed.
    pub fn close(&self, what: &'static str) {
        let mut state = self.state.lock();
        state.closed.get_or_insert(what);
        if let Some(near) = state.wake.as_mut().and_then(|wake| wake.near.take()) {
            // A forked child may hold a copy of this end: only a shutdown ends it everywhere.
            let _ = near.shutdown(Shutdown::Both);
        }
        drop(state);
        self.arrived.notify_all();
    }
}

impl State {
    fn lose(&mut self, lost: &Row) {
        self.lost += 1;
        if let Some(Cell::Int(sequence)) = lost.get("sequence") {
            self.last_lost = u64::try_from(*sequence).unwrap_or(0);
        }
    }

    fn pop(&mut self) -> Option<Row> {
        if self.lost > 0 {
            let row = Row::new("overflow")
                .int("event", kind::OVERFLOW)
                .int("time_ms", now_ms())
                .int("sequence", self.last_lost)
                .int("count", self.lost)
                .text("message", format!("{} events were lost because the queue was full", self.lost));
            self.lost = 0;
            return Some(row);
        }
        self.events.pop_front().map(|(_, row)| row)
    }

    /// Puts the byte in the socket pair if events wait and it is not there, takes it out if none wait. The flags keep this
    /// from blocking even if the caller made the descriptor blocking.
    fn arm(&self) {
        let Some(Wake { near: Some(near), far }) = &self.wake else { return };
        let far = SockRef::from(far);
        let mut byte = [MaybeUninit::uninit(); 64];
        let waits = !self.events.is_empty() || self.lost > 0;
        let armed = far.recv_with_flags(&mut byte, libc::MSG_PEEK | libc::MSG_DONTWAIT).is_ok_and(|read| read > 0);
        if waits && !armed {
            let _ = SockRef::from(near).send_with_flags(&[1], libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL);
        } else if !waits && armed {
            while far.recv_with_flags(&mut byte, libc::MSG_DONTWAIT).is_ok_and(|read| read > 0) {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use rustix::event::{PollFd, PollFlags, poll};

    use super::*;

    fn readable(fd: &OwnedFd) -> bool {
        let mut fds = [PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)];
        poll(&mut fds, Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap() > 0
    }

    fn int(row: &Row, name: &str) -> i64 {
        match row.get(name) {
            Some(Cell::Int(number)) => *number,
            other => panic!("{name} is {other:?}"),
        }
    }

    #[test]
    fn a_queue_gets_only_the_kinds_it_asked_for() {
        let hub = Hub::default();
        let queue = hub.subscribe(kind::PEER, 10);
        hub.emit(kind::MOUNT, || panic!("made although nobody asked"));
        hub.emit(kind::PEER, || Row::new("peer").text("peer", "a"));
        let row = queue.next(Some(Duration::ZERO)).unwrap();
        assert_eq!((int(&row, "event"), int(&row, "sequence")), (i64::from(kind::PEER), 1));
        assert_eq!(queue.next(Some(Duration::ZERO)).unwrap_err().status, Status::TimedOut);
    }

    #[test]
    fn overflow_loses_the_oldest_stream_and_peer_events_and_counts_them() {
        let hub = Hub::default();
        let queue = hub.subscribe(kind::ALL, 3);
        hub.emit(kind::MOUNT, || Row::new("mount"));
        for _ in 0..4 {
            hub.emit(kind::STREAM_OPENED, || Row::new("stream opened"));
        }
        hub.emit(kind::OPERATION, || Row::new("operation"));
        let seen: Vec<_> = std::iter::from_fn(|| queue.next(Some(Duration::ZERO)).ok())
            .map(|row| (int(&row, "event"), int(&row, "sequence")))
            .collect();
        let expected = [(kind::OVERFLOW, 4), (kind::MOUNT, 1), (kind::STREAM_OPENED, 5), (kind::OPERATION, 6)];
        assert_eq!(seen, expected.map(|(kind, sequence)| (i64::from(kind), sequence)));
    }

    #[test]
    fn the_descriptor_is_readable_exactly_while_events_wait_or_none_can_come() {
        let hub = Hub::default();
        let queue = hub.subscribe(kind::ALL, 10);
        hub.emit(kind::MOUNT, || Row::new("mount"));
        let fd = queue.descriptor().unwrap();
        assert!(readable(&fd));
        hub.emit(kind::MOUNT, || Row::new("mount"));
        queue.next(None).unwrap();
        assert!(readable(&fd));
        queue.next(None).unwrap();
        assert!(!readable(&fd));
        hub.emit(kind::MOUNT, || Row::new("mount"));
        hub.emit(kind::MOUNT, || Row::new("mount"));
        rustix::io::read(&fd, &mut [0u8; 16]).unwrap();
        queue.next(None).unwrap();
        assert!(readable(&fd), "reading the bytes away must not hide what still waits");
        queue.next(None).unwrap();
        hub.close();
        assert!(readable(&fd));
        assert_eq!(queue.next(None).unwrap_err().message, "the node was closed");
    }

    #[test]
    fn closing_wakes_a_blocked_reader_and_queued_events_stay_readable() {
        let hub = Hub::default();
        let queue = hub.subscribe(kind::ALL, 10);
        let waiting = std::thread::spawn({
            let queue = queue.clone();
            move || queue.next(None).unwrap_err().status
        });
        hub.unsubscribe(&queue);
        assert_eq!(waiting.join().unwrap(), Status::Closed);

        let queue = hub.subscribe(kind::ALL, 10);
        hub.emit(kind::NODE, || Row::new("node"));
        hub.close();
        assert!(queue.next(None).is_ok());
        assert_eq!(queue.next(None).unwrap_err().status, Status::Closed);
        // Whoever comes too late is told so, too, and does not wait for ever.
        let late = hub.subscribe(kind::ALL, 10);
        assert_eq!(late.next(None).unwrap_err().status, Status::Closed);
        assert!(readable(&late.descriptor().unwrap()));
    }
}
