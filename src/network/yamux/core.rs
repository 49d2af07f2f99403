//! The connection without its socket: its streams, and what they send.

use std::{
    collections::{HashMap, VecDeque},
    io,
    sync::Arc,
    task::Waker,
};

use super::{
    Config, Stream,
    budget::Reservation,
    clock::Clock,
    frame::{ACK, FIN, HEADER, Header, INITIAL_WINDOW, Kind, RST, SYN, Violation},
    io::Output,
    state::{End, Inner, Shared, wake},
};
use crate::network::frames;

/// Streams that have ended and may wait in the inbox, beside twice the number of those that live.
const SPARE: usize = 64;
/// Bytes of pongs and refusals that may wait for the socket.
const CONTROL: usize = 4096 * HEADER;

const REMOTE_AWAY: End =
    End { kind: io::ErrorKind::ConnectionRefused, text: "the remote takes no more streams on this connection" };
const NO_IDS: End = End { kind: io::ErrorKind::ConnectionRefused, text: "the connection has used all stream ids" };
const NO_BUDGET: End =
    End { kind: io::ErrorKind::OutOfMemory, text: "the memory for receive windows is used up; no stream was opened" };

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// The dialer: odd stream ids.
    Client,
    /// The listener: even stream ids.
    Server,
}

/// Whose data is being received.
pub(super) struct Body {
    /// `None` if the stream is unknown: the data is discarded.
    pub(super) stream: Option<Arc<Inner>>,
    pub(super) left: usize,
    pub(super) fin: bool,
}

pub(super) struct Core {
    pub(super) config: Config,
    pub(super) role: Role,
    pub(super) shared: Arc<Shared>,
    pub(super) streams: HashMap<u32, Arc<Inner>>,
    /// `None` when all ids are used.
    pub(super) next_id: Option<u32>,
    /// Outbound streams that are not acknowledged.
    pub(super) unacknowledged: usize,
    /// Inbound streams that nobody has taken.
    pub(super) waiting: VecDeque<Stream>,
    pub(super) remote_away: bool,
    pub(super) body: Option<Body>,
    /// Pongs and refusals that wait for room in the output.
    control: Vec<u8>,
    pub(super) output: Output,
    inbox: VecDeque<Arc<Inner>>,
    /// Streams with data to send, served in turn.
    ring: VecDeque<Arc<Inner>>,
    pub(super) clock: Clock,
    started: bool,
    pub(super) inbound_waker: Option<Waker>,
    pub(super) outbound_waker: Option<Waker>,
}

impl Core {
    pub(super) fn new(config: Config, role: Role) -> Self {
        let shared = Arc::new(Shared::new(config.receive_window_max, config.connection_window_max, config.frame_size));
        Self {
            role,
            streams: HashMap::new(),
            next_id: Some(if role == Role::Client { 1 } else { 2 }),
            unacknowledged: 0,
            waiting: VecDeque::new(),
            remote_away: false,
            body: None,
            control: Vec::new(),
            output: Output::new(shared.clone()),
            inbox: VecDeque::new(),
            ring: VecDeque::new(),
            clock: Clock::new(config.keep_alive, config.write_timeout),
            started: false,
            inbound_waker: None,
            outbound_waker: None,
            shared,
            config,
        }
    }

    /// Measures the round-trip time while the connection is still quiet.
    pub(super) fn start(&mut self) {
        if !std::mem::replace(&mut self.started, true) {
            self.push_ping();
        }
    }

    pub(super) fn push_ping(&mut self) {
        if let Some(value) = self.clock.ping() {
            self.output.push_header(Header::new(Kind::Ping, SYN, 0, value));
        }
    }

    pub(super) fn push_go_away(&mut self, code: u32) {
        self.output.push_header(Header::new(Kind::GoAway, 0, 0, code));
    }

    /// Queues an answer to the remote. Answers are bounded: a remote that asks without reading breaks the connection.
    pub(super) fn push_control(&mut self, header: Header) -> Result<(), Violation> {
        if self.control.len() >= CONTROL {
            return Err(Violation("it sends requests but does not read the answers".into()));
        }
        header.log(self.shared.connection, "sent");
        self.control.extend_from_slice(&header.encode());
        Ok(())
    }

    /// A new outbound stream, perhaps a refused one; `None` while a limit is reached.
    pub(super) fn open(&mut self) -> Option<Stream> {
        let refuse = |end| Some(Stream::new(Inner::ended(self.shared.clone(), end)));
        if self.remote_away {
            return refuse(REMOTE_AWAY);
        }
        let Some(id) = self.next_id else { return refuse(NO_IDS) };
        if self.streams.len() >= self.config.max_streams || self.unacknowledged >= self.config.ack_backlog {
            return None;
        }
        let Some(reservation) = self.reserve() else { return refuse(NO_BUDGET) };
        self.next_id = id.checked_add(2);
        let inner = Inner::new(id, self.shared.clone(), reservation);
        self.greet(&inner, SYN);
        self.streams.insert(id, inner.clone());
        self.unacknowledged += 1;
        Some(Stream::new(inner))
    }

    /// The next inbound stream. It is acknowledged only now: the remote's backlog is its measure of our pace.
    pub(super) fn accept(&mut self) -> Option<Stream> {
        loop {
            let stream = self.waiting.pop_front()?;
            if stream.inner().state.lock().end.is_none() {
                self.greet(stream.inner(), ACK);
                return Some(stream);
            }
        }
    }

    pub(super) fn reserve(&self) -> Option<Reservation> {
        Reservation::new(self.config.budget.as_ref(), &self.shared.growth, INITIAL_WINDOW as usize)
    }

    /// Lets the next frame of a stream that is handed out carry `flag`.
    fn greet(&mut self, inner: &Arc<Inner>, flag: u16) {
        self.output.company.greet();
        let mut state = inner.state.lock();
        state.greeting = flag;
        state.unacknowledged = flag == SYN;
        let notify = state.schedule();
        drop(state);
        if notify {
            self.shared.notify(inner.clone());
        }
    }

    pub(super) fn has_output(&self) -> bool {
        !self.output.is_empty() || !self.control.is_empty() || !self.ring.is_empty() || self.shared.has_inbox()
    }

    /// Bytes, and streams, that wait in queues.
    #[cfg(any(test, fuzzing))]
    pub(super) fn queued(&self) -> (usize, usize) {
        let streams = self.shared.inbox_len() + self.inbox.len() + self.ring.len();
        (self.control.len() + self.output.len(), streams)
    }

    /// Moves frames into the output while it has room: answers, then resets and window updates, then data.
    pub(super) fn fill(&mut self) {
        if !self.output.has_room() {
            self.forget_ended();
            return;
        }
        if !self.control.is_empty() {
            self.output.push_bytes(&self.control);
            self.control.clear();
        }
        while self.output.has_room() {
            if self.inbox.is_empty() {
                self.shared.take_inbox(&mut self.inbox);
            }
            if let Some(inner) = self.inbox.pop_front() {
                self.serve(inner);
            } else if let Some(inner) = self.ring.pop_front() {
                self.send_frames(inner);
            } else {
                return;
            }
        }
    }

    /// While the remote does not read, streams that it opens and resets would gather in the inbox without end.
    fn forget_ended(&mut self) {
        if self.inbox.len() + self.shared.inbox_len() <= 2 * self.streams.len() + SPARE {
            return;
        }
        let mut newer = VecDeque::new();
        self.shared.take_inbox(&mut newer);
        self.inbox.append(&mut newer);
        self.inbox.retain(|inner| inner.state.lock().end.is_none());
    }

    /// A stream wants something.
    fn serve(&mut self, inner: Arc<Inner>) {
        let mut state = inner.state.lock();
        state.scheduled = false;
        if state.end.is_some() || (state.dropped && state.finished()) {
            return;
        }
        if state.dropped {
            // A stream that the remote has not heard of needs no reset.
            let known = state.greeting != SYN;
            drop(state);
            if known {
                self.output.push_header(Header::new(Kind::WindowUpdate, RST, inner.id, 0));
            }
            self.remove(inner.id);
            return;
        }
        let update = state.take_update();
        let data = state.has_frames();
        if update.is_some() || (state.greeting != 0 && !data) {
            let flags = std::mem::take(&mut state.greeting);
            self.output.push_header(Header::new(Kind::WindowUpdate, flags, inner.id, update.unwrap_or(0)));
        }
        let enter = data && !std::mem::replace(&mut state.sending, data);
        drop(state);
        if enter {
            self.ring.push_back(inner);
        }
        if update.is_some()
            && let Some(value) = self.clock.measure()
        {
            self.output.push_header(Header::new(Kind::Ping, SYN, 0, value));
        }
    }

    /// Gives a stream its turn, and puts it behind the others if it has more to send.
    fn send_frames(&mut self, inner: Arc<Inner>) {
        let mut state = inner.state.lock();
        state.sending = false;
        if state.end.is_some() || state.dropped {
            return;
        }
        for sent in 0..self.output.frames_per_turn() {
            if sent > 0 && !self.output.has_room() {
                break;
            }
            let Some((frame, fin)) = state.next_frame(&self.shared) else { break };
            let flags = std::mem::take(&mut state.greeting) | if fin { FIN } else { 0 };
            self.output.push_data(inner.id, flags, frame);
        }
        state.sending = state.has_frames();
        let (more, finished) = (state.sending, state.finished());
        let writer = state.writer.take();
        drop(state);
        wake(writer);
        if finished {
            self.remove(inner.id);
        } else if more {
            self.ring.push_back(inner);
        }
    }

    /// Forgets a stream that is finished or reset: its slot is free.
    pub(super) fn remove(&mut self, id: u32) {
        let Some(inner) = self.streams.remove(&id) else { return };
        if std::mem::take(&mut inner.state.lock().unacknowledged) {
            self.unacknowledged -= 1;
        }
        wake(self.outbound_waker.take());
    }

    /// Moves everything that streams have queued into the output, whatever its size.
    pub(super) fn take_queues(&mut self) {
        self.output.push_bytes(&std::mem::take(&mut self.control));
        self.inbox.extend(self.shared.close_inbox());
        while let Some(inner) = self.inbox.pop_front() {
            self.serve(inner);
        }
        while let Some(inner) = self.ring.pop_front() {
            self.send_frames(inner);
        }
    }

    /// The connection ends: every stream learns it. Nothing but the output is kept.
    pub(super) fn end_streams(&mut self) {
        for (_, inner) in std::mem::take(&mut self.streams) {
            let (connection, stream) = (self.shared.connection, inner.id);
            tracing::trace!(target: frames::TARGET, connection, stream, "yamux lost");
            inner.end(End::LOST);
        }
        self.unacknowledged = 0;
        self.shared.close_inbox();
        self.inbox.clear();
        self.ring.clear();
        self.control = Vec::new();
        self.waiting.clear();
        self.body = None;
        wake(self.inbound_waker.take());
        wake(self.outbound_waker.take());
    }
}
