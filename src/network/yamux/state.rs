//! What a stream's handle and its connection share. No lock here is ever held across socket input or output.

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Waker},
    time::{Duration, Instant},
};

use futures::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::{
    budget::{Budget, Reservation},
    chunk::{BODY, CHUNK, Part, Pool, SMALL},
    frame::{HEADER, INITIAL_WINDOW},
};
use crate::network::frames;

/// Bytes that one stream may queue for sending, and what is left to it while its connection queues more than
/// [`CONNECTION_QUEUE`]: memory stays bounded also with thousands of writers on a stalled connection.
pub(super) const SEND_QUEUE: usize = 256 * 1024;
const SEND_QUEUE_CROWDED: usize = 16 * 1024;
const CONNECTION_QUEUE: usize = 4 * 1024 * 1024;
/// A window doubles when half of it was consumed in less than this many round-trips, and grows fourfold when that took
/// less than one: as fast as TCP's slow start under it.
const GROWTH_ROUND_TRIPS: u32 = 4;
/// A window update is sent when half of the window was consumed, or this much: what was consumed and not yet announced
/// is of no use to the sender, and half of a large window would be much of it.
const UPDATE: u32 = 1024 * 1024;

/// The part of a connection that its streams use.
pub(super) struct Shared {
    /// The connection's number in the frame log.
    pub(super) connection: u64,
    /// Wakes the connection's task.
    pub(super) waker: AtomicWaker,
    pub(super) pool: Pool,
    inbox: Mutex<Inbox>,
    /// Round-trip time in nanoseconds; 0 until it is known.
    round_trip: AtomicU64,
    /// Bytes queued by all streams.
    queued: AtomicUsize,
    pub(super) growth: Arc<Budget>,
    window_max: u32,
    frame_max: usize,
    /// Where the connection moves from now on, if not where it was made.
    pub(super) elsewhere: OnceLock<Handle>,
}

/// Streams that want something from the connection, each at most once.
#[derive(Default)]
struct Inbox {
    streams: VecDeque<Arc<Inner>>,
    closed: bool,
}

impl Shared {
    pub(super) fn new(window_max: u32, connection_window_max: usize, frame_size: usize) -> Self {
        Self {
            connection: frames::connection(),
            waker: AtomicWaker::new(),
            pool: Pool::default(),
            inbox: Mutex::default(),
            round_trip: AtomicU64::new(0),
            queued: AtomicUsize::new(0),
            growth: Arc::new(Budget::new(connection_window_max)),
            window_max: window_max.max(INITIAL_WINDOW),
            frame_max: HEADER + frame_size.clamp(1, CHUNK - HEADER),
            elsewhere: OnceLock::new(),
        }
    }

    /// Queues a stream whose state has just become `scheduled`.
    pub(super) fn notify(&self, stream: Arc<Inner>) {
        let mut inbox = self.inbox.lock();
        // A closed connection serves nobody; keeping the stream would be a reference cycle.
        if inbox.closed {
            return;
        }
        let first = inbox.streams.is_empty();
        inbox.streams.push_back(stream);
        drop(inbox);
        // Later streams find a connection that is awake or waits for room in its socket.
        if first {
            self.waker.wake();
        }
    }

    /// Exchanges the inbox for an empty queue.
    pub(super) fn take_inbox(&self, empty: &mut VecDeque<Arc<Inner>>) {
        std::mem::swap(&mut self.inbox.lock().streams, empty);
    }

    pub(super) fn has_inbox(&self) -> bool {
        !self.inbox.lock().streams.is_empty()
    }

    /// Streams in the inbox.
    pub(super) fn inbox_len(&self) -> usize {
        self.inbox.lock().streams.len()
    }

    pub(super) fn close_inbox(&self) -> VecDeque<Arc<Inner>> {
        let mut inbox = self.inbox.lock();
        inbox.closed = true;
        std::mem::take(&mut inbox.streams)
    }

    /// How much data to read into one chunk: as much as a frame carries, or of small frames many.
    pub(super) fn chunk_data(&self) -> usize {
        let size = if self.frame_max < CHUNK / 2 { CHUNK } else { self.frame_max };
        size - HEADER
    }

    pub(super) fn round_trip(&self) -> Option<Duration> {
        Some(self.round_trip.load(Ordering::Relaxed)).filter(|n| *n > 0).map(Duration::from_nanos)
    }

    pub(super) fn set_round_trip(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.round_trip.store(nanos.max(1), Ordering::Relaxed);
    }
}

/// A stream.
pub(super) struct Inner {
    pub(super) id: u32,
    pub(super) shared: Arc<Shared>,
    pub(super) state: Mutex<State>,
}

impl Inner {
    pub(super) fn new(id: u32, shared: Arc<Shared>, reservation: Reservation) -> Arc<Self> {
        Arc::new(Self { id, shared, state: Mutex::new(State::new(Some(reservation), None)) })
    }

    /// A stream that has already ended and is unknown to any remote.
    pub(super) fn ended(shared: Arc<Shared>, end: End) -> Arc<Self> {
        Arc::new(Self { id: 0, shared, state: Mutex::new(State::new(None, Some(end))) })
    }

    /// Ends the stream early: queued data is discarded, received data stays readable.
    pub(super) fn end(&self, end: End) {
        let mut state = self.state.lock();
        state.end.get_or_insert(end);
        state.discard_queue(&self.shared);
        let wakers = (state.reader.take(), state.writer.take());
        drop(state);
        wake(wakers.0);
        wake(wakers.1);
    }
}

pub(super) fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// Stores the task's waker in `slot`.
pub(super) fn park(slot: &mut Option<Waker>, cx: &Context<'_>) {
    match slot {
        Some(waker) if waker.will_wake(cx.waker()) => {}
        _ => *slot = Some(cx.waker().clone()),
    }
}

/// Why a stream ended before both directions were finished.
#[derive(Debug, Clone, Copy)]
pub(super) struct End {
    pub(super) kind: io::ErrorKind,
    pub(super) text: &'static str,
}

impl End {
    pub(super) const RESET: Self = Self { kind: io::ErrorKind::ConnectionReset, text: "the remote reset the stream" };
    pub(super) const LOST: Self =
        Self { kind: io::ErrorKind::ConnectionAborted, text: "the connection ended before the stream" };

    pub(super) fn error(self) -> io::Error {
        io::Error::new(self.kind, self.text)
    }
}

/// Our FIN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fin {
    Open,
    /// To be sent after the queued data.
    Requested,
    Sent,
}

pub(super) struct State {
    /// Received data, not yet taken by the reader.
    pub(super) received: VecDeque<Part>,
    /// Received bytes that the reader has not consumed, announced bytes of a partly received frame included.
    buffered: u32,
    /// Bytes the remote may still send. `credit + buffered <= window` at all times.
    credit: u32,
    /// The current size of the receive window.
    window: u32,
    /// When the window was last considered for growth, and what was consumed since then.
    epoch: Instant,
    consumed: u32,
    /// A window update is to be sent.
    pub(super) update_due: bool,
    pub(super) fin_received: bool,

    /// Frames to be sent: room for the header, then data. Their send window is already taken.
    queue: VecDeque<Vec<u8>>,
    queued: usize,
    send_window: u32,
    pub(super) fin: Fin,
    /// SYN or ACK, carried by the next frame, or 0.
    pub(super) greeting: u16,
    /// Outbound and not yet acknowledged.
    pub(super) unacknowledged: bool,

    pub(super) end: Option<End>,
    /// The handle is gone.
    pub(super) dropped: bool,
    /// In the connection's inbox.
    pub(super) scheduled: bool,
    /// In the connection's ring of senders.
    pub(super) sending: bool,
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
    reservation: Option<Reservation>,
}

impl State {
    fn new(reservation: Option<Reservation>, end: Option<End>) -> Self {
        Self {
            received: VecDeque::new(),
            buffered: 0,
            credit: INITIAL_WINDOW,
            window: INITIAL_WINDOW,
            epoch: Instant::now(),
            consumed: 0,
            update_due: false,
            fin_received: false,
            queue: VecDeque::new(),
            queued: 0,
            send_window: INITIAL_WINDOW,
            fin: Fin::Open,
            greeting: 0,
            unacknowledged: false,
            end,
            dropped: false,
            scheduled: false,
            sending: false,
            reader: None,
            writer: None,
            reservation,
        }
    }

    /// Marks the stream as waiting in the inbox; true if the caller has to put it there.
    #[must_use]
    pub(super) fn schedule(&mut self) -> bool {
        !std::mem::replace(&mut self.scheduled, true)
    }

    /// Both directions have ended with FIN.
    pub(super) fn finished(&self) -> bool {
        self.fin == Fin::Sent && self.fin_received
    }

    /// A data frame of `n` bytes was announced; false if it exceeds the window.
    pub(super) fn announce(&mut self, n: u32) -> bool {
        let Some(credit) = self.credit.checked_sub(n) else { return false };
        self.credit = credit;
        self.buffered += n;
        true
    }

    /// Appends announced data.
    pub(super) fn receive(&mut self, pool: &Pool, mut data: &[u8]) {
        // Data behind a FIN can reach no reader that saw the end.
        if self.dropped || self.fin_received {
            return;
        }
        if let Some(tail) = self.received.back_mut() {
            let n = tail.append(pool, data);
            data = &data[n..];
        }
        while !data.is_empty() {
            let (now, rest) = data.split_at(data.len().min(CHUNK));
            self.received.push_back(pool.copy(now));
            data = rest;
        }
    }

    /// The same for a part of a chunk. A small one is copied, as it shall not hold a whole chunk.
    pub(super) fn receive_part(&mut self, pool: &Pool, part: Part) {
        if part.len() < BODY || self.dropped || self.fin_received {
            self.receive(pool, &part);
            pool.put(part.into_chunk());
        } else {
            self.received.push_back(part);
        }
    }

    /// The reader has consumed `n` bytes. Enlarges the window if it limits the throughput; true if the caller has to
    /// put the stream into the inbox for a window update.
    #[must_use]
    pub(super) fn consume(&mut self, shared: &Shared, n: usize) -> bool {
        // What the reader took was announced before, as `u32`.
        self.buffered -= n as u32;
        if self.fin_received || self.end.is_some() {
            return false;
        }
        self.consumed += n as u32;
        if self.consumed >= self.window / 2 {
            self.consider_growth(shared);
        }
        if self.update_due || self.window - self.credit - self.buffered < UPDATE.min(self.window / 2) {
            return false;
        }
        self.update_due = true;
        self.schedule()
    }

    /// Half of the window was consumed: enlarges it if it may limit the throughput.
    fn consider_growth(&mut self, shared: &Shared) {
        let now = Instant::now();
        let elapsed = now - self.epoch;
        self.epoch = now;
        self.consumed = 0;
        let Some(round_trip) = shared.round_trip() else { return };
        let factors: &[u32] = match elapsed {
            _ if elapsed < round_trip => &[4, 2],
            _ if elapsed < round_trip * GROWTH_ROUND_TRIPS => &[2],
            _ => &[],
        };
        let Some(reservation) = &mut self.reservation else { return };
        for factor in factors {
            let larger = self.window.saturating_mul(*factor).min(shared.window_max);
            if reservation.grow((larger - self.window) as usize) {
                self.window = larger;
                return;
            }
        }
    }

    /// The increment of the window update that is due, if the remote can use one.
    pub(super) fn take_update(&mut self) -> Option<u32> {
        if !std::mem::take(&mut self.update_due) || self.fin_received {
            return None;
        }
        let increment = self.window - self.credit - self.buffered;
        self.credit += increment;
        Some(increment).filter(|n| *n > 0)
    }

    /// The current size of the receive window.
    #[cfg(any(test, fuzzing))]
    pub(super) fn window(&self) -> u32 {
        self.window
    }

    /// What is true at any moment.
    #[cfg(any(test, fuzzing))]
    pub(super) fn check(&self) {
        let received: usize = self.received.iter().map(|part| part.len()).sum();
        let queued: usize = self.queue.iter().map(|frame| frame.len() - HEADER).sum();
        assert!(u64::from(self.credit) + u64::from(self.buffered) <= u64::from(self.window));
        assert!(received <= self.buffered as usize && queued == self.queued);
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn buffer_capacity(&self) -> usize {
        let received: usize = self.received.iter().map(Part::capacity).sum();
        received + self.queue.iter().map(Vec::capacity).sum::<usize>()
    }

    /// Adds to the send window; false if it overflows.
    pub(super) fn add_send_window(&mut self, n: u32) -> bool {
        self.send_window.checked_add(n).map(|sum| self.send_window = sum).is_some()
    }

    /// Why nothing can be written any more, if so.
    pub(super) fn check_writing(&self) -> io::Result<()> {
        match (self.end, self.fin) {
            (Some(end), _) => Err(end.error()),
            (None, Fin::Open) => Ok(()),
            _ => Err(io::Error::new(io::ErrorKind::BrokenPipe, "the stream is closed for writing")),
        }
    }

    /// How much window and queue take now; 0 if the writer has to wait.
    pub(super) fn room(&self, shared: &Shared) -> usize {
        let crowded = shared.queued.load(Ordering::Relaxed) >= CONNECTION_QUEUE;
        let limit = if crowded { SEND_QUEUE_CROWDED } else { SEND_QUEUE };
        limit.saturating_sub(self.queued).min(self.send_window as usize)
    }

    /// Queues `data`, for which there was [room](Self::room).
    pub(super) fn push(&mut self, shared: &Shared, mut data: &[u8]) {
        self.count_queued(shared, data.len());
        while !data.is_empty() {
            let n = match self.queue.back_mut() {
                Some(tail) if tail.len() < shared.frame_max => shared.pool.append(tail, data, shared.frame_max),
                _ => {
                    let n = data.len().min(shared.frame_max - HEADER);
                    let mut chunk = shared.pool.take(HEADER + n);
                    chunk.extend_from_slice(&[0; HEADER]);
                    chunk.extend_from_slice(&data[..n]);
                    self.queue.push_back(chunk);
                    n
                }
            };
            data = &data[n..];
        }
    }

    /// The same for the first `n` bytes of data in `chunk`, which are behind room for a frame's header. More than a frame
    /// carries is copied, and so is little: thousands of small messages that wait shall not hold a chunk each.
    pub(super) fn push_chunk(&mut self, shared: &Shared, mut chunk: Vec<u8>, n: usize) {
        let least = if self.queue.is_empty() { SMALL } else { CHUNK / 2 };
        if HEADER + n < least || HEADER + n > shared.frame_max {
            self.push(shared, &chunk[HEADER..HEADER + n]);
            shared.pool.put(chunk);
        } else {
            self.count_queued(shared, n);
            chunk.truncate(HEADER + n);
            self.queue.push_back(chunk);
        }
    }

    fn count_queued(&mut self, shared: &Shared, n: usize) {
        self.queued += n;
        // There was room for it.
        self.send_window -= n as u32;
        shared.queued.fetch_add(n, Ordering::Relaxed);
    }

    /// True while there is data or a FIN to send.
    pub(super) fn has_frames(&self) -> bool {
        !self.queue.is_empty() || self.fin == Fin::Requested
    }

    /// The next data frame with room for its header, and whether it carries FIN.
    pub(super) fn next_frame(&mut self, shared: &Shared) -> Option<(Vec<u8>, bool)> {
        let chunk = match self.queue.pop_front() {
            Some(chunk) => chunk,
            None if self.fin == Fin::Requested => vec![0; HEADER],
            None => return None,
        };
        let n = chunk.len() - HEADER;
        self.queued -= n;
        shared.queued.fetch_sub(n, Ordering::Relaxed);
        let fin = self.queue.is_empty() && self.fin == Fin::Requested;
        if fin {
            self.fin = Fin::Sent;
        }
        Some((chunk, fin))
    }

    /// Forgets the data that is queued for sending.
    pub(super) fn discard_queue(&mut self, shared: &Shared) {
        shared.queued.fetch_sub(std::mem::take(&mut self.queued), Ordering::Relaxed);
        for chunk in std::mem::take(&mut self.queue) {
            shared.pool.put(chunk);
        }
    }

    /// The handle is gone: forgets everything buffered and gives back the reservation. True if the caller has to put
    /// the stream into the inbox for a reset.
    #[must_use]
    pub(super) fn drop_handle(&mut self, shared: &Shared) -> bool {
        self.dropped = true;
        self.discard_queue(shared);
        for part in std::mem::take(&mut self.received) {
            shared.pool.put(part.into_chunk());
        }
        self.reservation = None;
        self.reader = None;
        self.writer = None;
        self.end.is_none() && !self.finished() && self.schedule()
    }
}
