//! The connection as libp2p's stream muxer: moves bytes between the socket and the [`Core`].

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures::{AsyncRead, AsyncWrite};
use libp2p::core::muxing::{StreamMuxer, StreamMuxerEvent};

use super::{
    Config, Driven,
    chunk::{ALLOCATED, BODY},
    clock::Tick,
    core::{Core, Role},
    frame::{GO_AWAY_NORMAL, GO_AWAY_PROTOCOL_ERROR, Violation},
    io::Input,
    state::park,
    stream::Stream,
};

/// Bytes moved in each direction before the task lets others run.
const TURN: usize = 512 * 1024;
/// The same for what is still read after writing has failed: more than socket buffers hold.
const LAST_TURNS: usize = 64;
/// How long a connection that ends because of a violation tries to tell the remote.
const GO_AWAY_TIME: Duration = Duration::from_secs(1);

enum Phase {
    Open,
    /// The remote broke the protocol: only the go-away is still written.
    Dying(Violation),
    /// `poll_close` was called: what was queued is written, what arrives is discarded.
    Closing,
    Closed,
}

enum Failure {
    Io(io::Error),
    Violation(Violation),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Violation> for Failure {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

/// A yamux connection over `C`, to be polled within a tokio runtime. `poll` drives everything; `poll_inbound` and
/// `poll_outbound` only hand over streams, perhaps to another task.
///
/// `poll_outbound` fails only when the connection has ended. An open that is refused for another reason gives a stream
/// whose every use fails: [`io::ErrorKind::OutOfMemory`] if the budget is used up, [`io::ErrorKind::ConnectionRefused`]
/// if the stream ids are used up or the remote takes no more streams.
///
/// `poll_close` ends all streams, and is ready when everything they had queued is written and the socket is closed.
pub struct Muxer<C> {
    pub(super) socket: C,
    phase: Phase,
    needs_flush: bool,
    input: Input,
    pub(super) core: Core,
    /// Whether the socket holds much that it has read ahead, if it does that.
    ahead: Option<fn(&C) -> bool>,
}

impl<C> Muxer<C> {
    pub(super) fn new(socket: C, config: Config, role: Role) -> Self {
        let core = Core::new(config, role);
        Self { socket, phase: Phase::Open, needs_flush: false, input: Input::new(), core, ahead: None }
    }

    /// The socket reads ahead, and gives what it has whatever the size of the reads; `ahead` says whether that is much. Long
    /// frames are then read to where they stay.
    pub fn reading_ahead(mut self, ahead: fn(&C) -> bool) -> Self {
        self.ahead = Some(ahead);
        self
    }

    /// Moves by itself from now on.
    pub fn driven(self) -> Driven<C>
    where
        C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        Driven::new(self)
    }

    /// The connection is gone: every stream learns it.
    fn fail(&mut self) {
        self.phase = Phase::Closed;
        self.core.end_streams();
    }
}

impl<C> Drop for Muxer<C> {
    fn drop(&mut self) {
        self.fail();
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> Muxer<C> {
    /// Moves everything that can be moved now.
    fn drive(&mut self, cx: &mut Context<'_>) -> Result<(), Failure> {
        self.core.start();
        let mut written = self.write(cx);
        let mut again = self.read(cx)?;
        if written.is_err() {
            // What the remote sent before it closed is still to be delivered.
            for _ in 0..LAST_TURNS {
                again = again && self.read(cx)?;
            }
        }
        if matches!(written, Ok(false)) && self.core.has_output() {
            written = self.write(cx);
        }
        again |= written?;
        let mut rested = self.core.clock.rested();
        while self.core.clock.check(cx)? == Tick::Idle {
            rested = true;
            self.core.push_ping();
            again |= self.write(cx)?;
        }
        if rested {
            self.core.shared.pool.trim();
            self.input.trim();
        }
        if again {
            cx.waker().wake_by_ref();
        }
        Ok(())
    }

    /// Writes until nothing is left or the socket is full; true if it stopped to let others run.
    fn write(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let mut total = 0;
        loop {
            self.core.fill();
            if self.core.output.is_empty() {
                break;
            }
            if total == 0 && !self.needs_flush && self.core.output.waits_for_company() {
                return Ok(true);
            }
            match self.core.output.poll_write(cx, &mut self.socket)? {
                Poll::Ready(n) => {
                    self.needs_flush = true;
                    self.core.clock.on_written(n);
                    total += n;
                }
                Poll::Pending => {
                    self.core.clock.on_blocked();
                    return Ok(false);
                }
            }
            if total >= TURN {
                return Ok(true);
            }
        }
        if self.needs_flush {
            match Pin::new(&mut self.socket).poll_flush(cx)? {
                Poll::Ready(()) => {
                    self.needs_flush = false;
                    self.core.clock.on_flushed();
                }
                Poll::Pending => self.core.clock.on_blocked(),
            }
        }
        Ok(false)
    }

    /// Reads until nothing more has arrived; true if it stopped to let others run.
    fn read(&mut self, cx: &mut Context<'_>) -> Result<bool, Failure> {
        let mut total = 0;
        // While others run, the socket holds little.
        while total < TURN || (total < 2 * TURN && self.ahead.is_some_and(|ahead| ahead(&self.socket))) {
            match self.poll_read(cx)? {
                Poll::Ready(0) => {
                    let text = "yamux: the remote closed the connection";
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text).into());
                }
                Poll::Ready(n) => {
                    total += n;
                    self.core.clock.on_read(n);
                    if self.core.parse(&mut self.input)? && self.ahead.is_some() {
                        self.input.expect_long_frames();
                    }
                }
                Poll::Pending => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Reads once: the data of long frames to where it stays.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, Failure>> {
        let room = match &self.core.body {
            // A byte more than can come: a record of TLS takes that for a moment.
            Some(body) if body.left >= BODY => (body.left + 1).min(ALLOCATED),
            None => ALLOCATED,
            _ => 0,
        };
        if room == 0 || !self.input.expects_long_frames() || !self.input.unparsed().is_empty() {
            return self.input.poll_fill(cx, &mut self.socket).map_err(Failure::Io);
        }
        let mut chunk = self.core.shared.pool.take_filled(room);
        match Pin::new(&mut self.socket).poll_read(cx, &mut chunk[..room]) {
            Poll::Ready(Ok(n)) => {
                self.core.parse_chunk(chunk, n, &mut self.input)?;
                Poll::Ready(Ok(n))
            }
            result => {
                self.core.shared.pool.put(chunk);
                result.map_err(Failure::Io)
            }
        }
    }

    /// Writes what is left. Meanwhile discards what arrives: a remote that waits for us to read might else never read
    /// itself, and closing a TCP socket with unread data is a reset, which can destroy what we have just sent.
    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut total = 0;
        // Without room in the buffer nothing would be read.
        self.input.discard();
        // The end of the remote's direction is of no interest here: ours decides. After an error the socket is left alone:
        // one whose protocol could not be confirmed (multistream-select's lazy way) must not be written to any more.
        while let Poll::Ready(n @ 1..) = self.input.poll_fill(cx, &mut self.socket)? {
            self.input.discard();
            total += n;
            if total >= TURN {
                cx.waker().wake_by_ref();
                break;
            }
        }
        while !self.core.output.is_empty() {
            match self.core.output.poll_write(cx, &mut self.socket)? {
                Poll::Ready(_) => self.needs_flush = true,
                Poll::Pending => return Poll::Pending,
            }
        }
        if self.needs_flush {
            match Pin::new(&mut self.socket).poll_flush(cx)? {
                Poll::Ready(()) => self.needs_flush = false,
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    }

    fn check_open(&self) -> io::Result<()> {
        match self.phase {
            Phase::Closed => Err(io::Error::new(io::ErrorKind::NotConnected, "yamux: the connection is closed")),
            // While the connection ends there are just no more streams; `poll` reports why.
            Phase::Open | Phase::Dying(_) | Phase::Closing => Ok(()),
        }
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> StreamMuxer for Muxer<C> {
    type Substream = Stream;
    type Error = io::Error;

    fn poll_inbound(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<Stream>> {
        let this = self.get_mut();
        this.check_open()?;
        match this.core.accept() {
            Some(stream) => Poll::Ready(Ok(stream)),
            None => {
                park(&mut this.core.inbound_waker, cx);
                Poll::Pending
            }
        }
    }

    fn poll_outbound(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<Stream>> {
        let this = self.get_mut();
        this.check_open()?;
        let stream = if let Phase::Open = this.phase { this.core.open() } else { None };
        match stream {
            Some(stream) => Poll::Ready(Ok(stream)),
            None => {
                park(&mut this.core.outbound_waker, cx);
                Poll::Pending
            }
        }
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match this.phase {
            Phase::Open => {
                this.core.take_queues();
                this.core.end_streams();
                this.core.push_go_away(GO_AWAY_NORMAL);
                this.phase = Phase::Closing;
            }
            Phase::Closed => return Poll::Ready(Ok(())),
            Phase::Dying(_) | Phase::Closing => {}
        }
        let closed = match this.poll_finish(cx) {
            Poll::Ready(Ok(())) => Pin::new(&mut this.socket).poll_close(cx),
            other => other,
        };
        if closed.is_ready() {
            this.phase = Phase::Closed;
        }
        closed
    }

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
        let this = self.get_mut();
        this.core.shared.waker.register(cx.waker());
        if let Phase::Open = this.phase {
            match this.drive(cx) {
                Ok(()) => return Poll::Pending,
                Err(Failure::Io(error)) => {
                    this.fail();
                    return Poll::Ready(Err(error));
                }
                Err(Failure::Violation(violation)) => {
                    this.core.end_streams();
                    this.core.output.abandon();
                    this.core.push_go_away(GO_AWAY_PROTOCOL_ERROR);
                    this.core.clock.arm(Instant::now() + GO_AWAY_TIME);
                    this.phase = Phase::Dying(violation);
                }
            }
        }
        this.check_dying(cx)
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> Muxer<C> {
    /// After a violation: reports it once the go-away is written, or its time is over.
    fn check_dying(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
        if let Phase::Dying(_) = self.phase {
            if self.poll_finish(cx).is_pending() && !self.core.clock.poll_armed(cx) {
                return Poll::Pending;
            }
            if let Phase::Dying(violation) = std::mem::replace(&mut self.phase, Phase::Closed) {
                // Who waits for a stream since the violation learns it, too.
                self.fail();
                return Poll::Ready(Err(violation.into()));
            }
        }
        self.check_open()?;
        Poll::Pending
    }
}
