//! A connection, its local side and its remote.

use std::{
    cell::{RefCell, RefMut},
    collections::HashMap,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use libp2p::core::StreamMuxer;
use tokio::runtime::Runtime;

use super::{
    super::{
        Budget, Config, Muxer,
        chunk::CHUNK,
        core::Role,
        frame::{GO_AWAY_NORMAL, GO_AWAY_PROTOCOL_ERROR, INITIAL_WINDOW},
        io::OUTPUT_LARGE,
        state::SEND_QUEUE,
    },
    Input,
    local::{Flag, Local, Poller},
    remote::{Conduct, Remote},
    socket::{Ends, Socket},
};

/// Streams that the local side holds at a time; it takes no more.
const HANDLES: usize = 24;
/// Room of a remote that reads everything.
const ALL: usize = usize::MAX / 2;

thread_local! {
    /// Where the muxer's timers live. None of them ever fires: time does not pass.
    static RUNTIME: Runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime of this thread alone");
}

pub(super) struct Session {
    socket: Socket,
    muxer: Muxer<Socket>,
    config: Config,
    budget: Arc<Budget>,
    remote: Remote,
    locals: Vec<Local>,
    /// Streams that were dropped before their end, and what had been written.
    dropped: HashMap<u32, bool>,
    woken: Arc<Flag>,
    opener: Poller,
    acceptor: Poller,
    error: Option<io::Error>,
    ending: u8,
}

impl Session {
    pub(super) fn new(input: &mut Input<'_>) -> Self {
        let window = INITIAL_WINDOW as usize;
        let role = input.one_of([Role::Server, Role::Client]);
        let budget = Arc::new(Budget::new(window * input.one_of([64, 4, 1000, 0])));
        let config = Config {
            max_streams: input.one_of([64, 2, 8, 0]),
            receive_window_max: input.one_of([16 << 20, INITIAL_WINDOW, 1_000_000]),
            connection_window_max: input.one_of([128 << 20, 0, 600_000]),
            frame_size: input.one_of([CHUNK, 100, 1500]),
            accept_backlog: input.one_of([256, 1, 4]),
            ack_backlog: input.one_of([256, 1, 2]),
            keep_alive: None,
            write_timeout: None,
            budget: Some(budget.clone()),
        };
        let socket = Socket::default();
        let shape = input.byte();
        socket.0.borrow_mut().room = if shape & 1 == 0 { ALL } else { 0 };
        let mut muxer = Muxer::new(socket.clone(), config.clone(), role);
        if shape & 0x80 != 0 {
            muxer = muxer.reading_ahead(|_| false);
        }
        Self {
            muxer,
            socket,
            config,
            budget,
            remote: Remote::new(role == Role::Server),
            locals: Vec::new(),
            dropped: HashMap::new(),
            woken: Arc::default(),
            opener: Poller::default(),
            acceptor: Poller::default(),
            error: None,
            ending: shape >> 1,
        }
    }

    pub(super) fn remote(&mut self) -> &mut Remote {
        &mut self.remote
    }

    fn ends(&self) -> RefMut<'_, Ends> {
        RefCell::borrow_mut(&self.socket.0)
    }

    /// Bytes of the remote's arrive.
    pub(super) fn say(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.remote.say(bytes);
        self.ends().input.extend(bytes);
        self.poll();
    }

    /// The local side does something.
    pub(super) fn act(&mut self, step: u8, input: &mut Input<'_>) {
        let place = if self.locals.is_empty() { None } else { Some(usize::from(step / 16) % self.locals.len()) };
        match (step % 16, place) {
            (0 | 1, _) => self.open(),
            (2 | 3, _) => self.accept(),
            (4, _) => self.poll(),
            // The remote reads: a little, more, everything from now on, nothing any more.
            (5, _) => self.read_output(usize::from(step / 16) * 7),
            (6, _) => self.read_output(usize::from(step / 16) << 13),
            (7, _) => self.read_output(ALL),
            (8, _) => self.ends().room = 0,
            // As if the round-trip took long: windows grow.
            (9, _) => self.muxer.core.shared.set_round_trip(Duration::from_secs(1000)),
            (10 | 11, Some(place)) => {
                let most = input.number();
                self.locals[place].read(most, &self.remote);
            }
            (12 | 13, Some(place)) => self.locals[place].write(input.number()),
            (14, Some(place)) => self.locals[place].close(),
            (15, Some(place)) => self.drop_local(place),
            _ => {}
        }
        self.check();
    }

    fn read_output(&mut self, more: usize) {
        let mut ends = self.ends();
        ends.room = if more == ALL { ALL } else { ends.room.saturating_add(more).min(ALL) };
        drop(ends);
        self.poll();
    }

    fn open(&mut self) {
        if self.locals.len() >= HANDLES {
            return;
        }
        let muxer = Pin::new(&mut self.muxer);
        match self.opener.poll(|cx| muxer.poll_outbound(cx)) {
            Poll::Ready(Ok(stream)) => {
                let local = Local::new(stream);
                if local.id != 0 {
                    self.remote.opened_locally(local.id);
                }
                self.locals.push(local);
            }
            Poll::Ready(Err(_)) => assert!(self.error.is_some()),
            Poll::Pending => {}
        }
    }

    fn accept(&mut self) {
        if self.locals.len() >= HANDLES {
            return;
        }
        let muxer = Pin::new(&mut self.muxer);
        match self.acceptor.poll(|cx| muxer.poll_inbound(cx)) {
            Poll::Ready(Ok(stream)) => self.locals.push(Local::new(stream)),
            Poll::Ready(Err(_)) => assert!(self.error.is_some()),
            Poll::Pending => {}
        }
    }

    fn drop_local(&mut self, place: usize) {
        let local = self.locals.swap_remove(place);
        self.dropped.insert(local.id, local.finished());
    }

    /// Lets the connection work until it waits.
    fn poll(&mut self) {
        let woken = self.woken.clone();
        let waker = Waker::from(woken.clone());
        let mut idle = 0;
        while self.error.is_none() {
            let before = self.restrict();
            let polled = RUNTIME.with(|runtime| {
                let _guard = runtime.enter();
                Pin::new(&mut self.muxer).poll(&mut Context::from_waker(&waker))
            });
            let moved = self.ends().moved - before;
            self.hear();
            match polled {
                Poll::Ready(Ok(event)) => panic!("{event:?}"),
                Poll::Ready(Err(error)) => self.error = Some(error),
                Poll::Pending if woken.take() => {
                    idle = if moved == 0 { idle + 1 } else { 0 };
                    assert!(idle < 4, "the connection wakes itself without end");
                }
                Poll::Pending => break,
            }
        }
        self.check();
    }

    /// Limits the calls to the socket; the number of bytes moved so far.
    fn restrict(&self) -> usize {
        let mut ends = self.ends();
        ends.calls = 200 + ends.input.len() + ends.room.min(64 << 20);
        ends.moved
    }

    fn hear(&mut self) {
        let output = std::mem::take(&mut self.ends().output);
        self.remote.hear(&output);
    }

    /// What must be true at any moment.
    fn check(&self) {
        let (core, config) = (&self.muxer.core, &self.config);
        assert!(core.streams.len() <= config.max_streams, "{} streams", core.streams.len());
        assert!(core.waiting.len() <= config.accept_backlog, "{} wait to be accepted", core.waiting.len());
        let unacknowledged = core.streams.values().filter(|inner| inner.state.lock().unacknowledged).count();
        assert_eq!(core.unacknowledged, unacknowledged);
        assert!(unacknowledged <= config.ack_backlog);

        let (mut windows, mut grown) = (0, 0);
        for stream in self.locals.iter().map(Local::stream).chain(&core.waiting) {
            let capacity = stream.buffer_capacity();
            let state = stream.inner().state.lock();
            state.check();
            if stream.inner().id == 0 {
                continue;
            }
            let window = state.window() as usize;
            windows += window;
            grown += window - INITIAL_WINDOW as usize;
            // What was received, what is queued, and a chunk at each end that is not full.
            assert!(capacity <= window + 2 * SEND_QUEUE + 4 * CHUNK, "{capacity} bytes in the buffers of a stream");
            assert!(window <= config.receive_window_max as usize);
        }
        assert_eq!(self.budget.in_use(), windows, "of the budget");
        assert_eq!(core.shared.growth.in_use(), grown, "of the connection's windows");
        assert!(grown <= config.connection_window_max);
        let (bytes, streams) = core.queued();
        assert!(bytes <= OUTPUT_LARGE + 2 * CHUNK, "{bytes} bytes in queues");
        assert!(streams <= 4 * config.max_streams + 256, "{streams} streams in queues");
    }

    // --- the end -----------------------------------------------------------------------------------------------------

    /// Lets everything come to rest, then ends the connection in one of four ways.
    pub(super) fn end(mut self) {
        if self.ending & 1 == 0 {
            self.settle();
        }
        match self.ending >> 1 & 3 {
            0 => self.close(),
            1 => self.ends().finished = true,
            2 => self.ends().broken = true,
            _ => {}
        }
        self.ends().room = ALL;
        self.poll();
        let lost = self.ending >> 1 & 3 != 3;
        assert!(!lost || self.error.is_some(), "the connection lives on");
        self.tear_down();
    }

    /// The remote reads everything, the local side reads all its streams.
    fn settle(&mut self) {
        self.read_output(ALL);
        // Reading makes room for window updates, which have to get out.
        for local in &mut self.locals {
            while local.read(CHUNK, &self.remote) {}
        }
        self.poll();
        match &self.error {
            Some(error) => {
                assert_eq!(error.kind(), io::ErrorKind::InvalidData);
                assert_ne!(self.remote.conduct, Conduct::Lawful, "refused without reason: {error}");
                assert_eq!(self.remote.go_away_heard, Some(GO_AWAY_PROTOCOL_ERROR));
            }
            None => self.check_settled(),
        }
        for local in &self.locals {
            assert!(self.error.is_none() || local.end.is_some(), "stream {} waits for a dead connection", local.id);
        }
    }

    fn check_settled(&self) {
        assert!(self.ends().input.is_empty(), "{} bytes are not read", self.ends().input.len());
        assert_ne!(self.remote.conduct, Conduct::Broken, "the remote broke the protocol");
        assert!(!self.muxer.core.has_output(), "something is not sent");
        for local in &self.locals {
            let Some(side) = self.remote.sides.get(&local.id).filter(|side| !side.ambiguous()) else { continue };
            let id = local.id;
            if side.rst_said {
                assert!(local.end.is_some(), "stream {id}: the reset was lost");
                continue;
            }
            assert_eq!(local.read, side.data.len(), "stream {id}: bytes were lost");
            assert_eq!(local.end, side.fin_said.then_some(Ok(())), "stream {id}");
            assert_eq!(local.written, side.heard, "stream {id}: bytes were not sent");
        }
        for (id, finished) in &self.dropped {
            let Some(side) = self.remote.sides.get(id).filter(|side| !side.ambiguous()) else { continue };
            let known = side.opened > 0 || side.syn_heard;
            let over = *finished || side.rst_said || (side.fin_said && side.fin_heard);
            assert!(side.rst_heard || over || !known, "stream {id}: dropped without a reset");
        }
    }

    /// The local side closes the connection.
    fn close(&mut self) {
        self.read_output(ALL);
        if self.error.is_some() {
            return;
        }
        let mut idle = 0;
        loop {
            let moved = self.restrict();
            let waker = Waker::from(self.woken.clone());
            let closed = Pin::new(&mut self.muxer).poll_close(&mut Context::from_waker(&waker));
            let moved = self.ends().moved - moved;
            self.hear();
            match closed {
                Poll::Ready(Ok(())) => break,
                Poll::Ready(Err(error)) => panic!("{error}"),
                Poll::Pending => {
                    assert!(self.woken.take() && moved > 0 || idle < 4, "the connection never closes");
                    idle += 1;
                }
            }
        }
        assert!(self.ends().closed);
        assert_eq!(self.remote.go_away_heard, Some(GO_AWAY_NORMAL));
        for local in &self.locals {
            let Some(side) = self.remote.sides.get(&local.id) else { continue };
            if !side.rst_said && !side.ambiguous() {
                assert_eq!(local.written, side.heard, "stream {}: bytes were not sent", local.id);
            }
        }
    }

    /// Drops the connection, then the streams.
    fn tear_down(self) {
        let Self { muxer, mut locals, remote, budget, .. } = self;
        let shared = Arc::downgrade(&muxer.core.shared);
        drop(muxer);
        for local in &mut locals {
            while local.read(CHUNK, &remote) {}
            assert!(local.end.is_some(), "stream {} waits for a dropped connection", local.id);
            local.write(1);
            local.close();
            assert!(local.closed || local.write_error.is_some(), "stream {} can be written to", local.id);
        }
        drop(locals);
        assert_eq!(budget.in_use(), 0, "bytes of the budget are lost");
        assert!(shared.upgrade().is_none(), "the connection's memory is held");
    }
}
