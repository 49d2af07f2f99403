//! What the remote sends.

use std::sync::Arc;

use super::{
    Stream,
    chunk::{BODY, Part, Pool},
    core::{Body, Core, Role},
    frame::{ACK, FIN, HEADER, Header, Kind, RST, SYN, Violation},
    io::Input,
    state::{End, Inner, State, wake},
};

/// Longest data frame that is accepted in bytes, also for streams that are unknown.
const FRAME_MAX: u32 = 16 * 1024 * 1024;

impl Core {
    /// Handles all that has arrived: whether a long frame was among it. The data of a frame is delivered as it arrives, in
    /// parts.
    pub(super) fn parse(&mut self, input: &mut Input) -> Result<bool, Violation> {
        let (parsed, long) = self.parse_bytes(input.unparsed(), usize::MAX)?;
        input.advance(parsed);
        Ok(long)
    }

    /// Handles the first `n` bytes of `chunk`, read in the expectation of a long frame. If there is much of one it stays
    /// there; what comes behind that goes to `input`.
    pub(super) fn parse_chunk(&mut self, chunk: Vec<u8>, n: usize, input: &mut Input) -> Result<(), Violation> {
        let (parsed, long) = self.parse_bytes(&chunk[..n], BODY)?;
        if long {
            input.expect_long_frames();
        } else {
            input.miss_long_frame();
        }
        let left = self.body.as_ref().map_or(0, |body| body.left);
        let end = n.min(parsed.saturating_add(left));
        input.push(&chunk[end..n]);
        if end > parsed {
            self.receive_part(Part::new(chunk, parsed..end));
        } else {
            self.shared.pool.put(chunk);
        }
        Ok(())
    }

    /// Handles what `bytes` begin with, up to data of which `keep` bytes or more are there: how much that is, and whether a long
    /// frame was among it.
    fn parse_bytes(&mut self, bytes: &[u8], keep: usize) -> Result<(usize, bool), Violation> {
        let (mut parsed, mut long) = (0, false);
        loop {
            let rest = &bytes[parsed..];
            let Some(body) = self.body.take() else {
                let Some(header) = rest.first_chunk() else { return Ok((parsed, long)) };
                self.dispatch(Header::decode(header)?)?;
                parsed += HEADER;
                continue;
            };
            long |= body.left >= BODY;
            let n = rest.len().min(body.left);
            if n >= keep || (n == 0 && body.left > 0) {
                self.body = Some(body);
                return Ok((parsed, long));
            }
            self.body = self.deliver(body, n, |state, pool| state.receive(pool, &rest[..n]));
            parsed += n;
        }
    }

    /// Delivers a part of a data frame.
    fn receive_part(&mut self, part: Part) {
        let n = part.len();
        match self.body.take() {
            Some(body) if body.stream.is_some() => {
                self.body = self.deliver(body, n, |state, pool| state.receive_part(pool, part));
            }
            body => {
                self.body = body.and_then(|body| self.deliver(body, n, |_, _| ()));
                self.shared.pool.put(part.into_chunk());
            }
        }
    }

    /// The next `n` bytes of a data frame; `receive` gives them to its stream. Returns what is still to come.
    fn deliver(&mut self, mut body: Body, n: usize, receive: impl FnOnce(&mut State, &Pool)) -> Option<Body> {
        body.left -= n;
        let finished = body.stream.as_ref().is_some_and(|inner| {
            let mut state = inner.state.lock();
            receive(&mut state, &self.shared.pool);
            if body.left == 0 && body.fin {
                state.fin_received = true;
            }
            let finished = state.finished();
            let reader = state.reader.take();
            drop(state);
            wake(reader);
            finished
        });
        if body.left > 0 {
            return Some(body);
        }
        if finished && let Some(inner) = body.stream {
            self.remove(inner.id);
        }
        None
    }

    fn dispatch(&mut self, header: Header) -> Result<(), Violation> {
        header.log(self.shared.connection, "received");
        match header.kind {
            Kind::Ping => self.on_ping(header),
            Kind::GoAway => {
                tracing::debug!(code = header.length, "yamux: the remote takes no more streams");
                self.remote_away = true;
                wake(self.outbound_waker.take());
                Ok(())
            }
            Kind::Data | Kind::WindowUpdate => self.on_stream_frame(header),
        }
    }

    fn on_ping(&mut self, header: Header) -> Result<(), Violation> {
        if !header.has(ACK) {
            return self.push_control(Header::new(Kind::Ping, ACK, 0, header.length));
        }
        if let Some(time) = self.clock.pong(header.length) {
            self.shared.set_round_trip(time);
        }
        Ok(())
    }

    fn on_stream_frame(&mut self, header: Header) -> Result<(), Violation> {
        let data = header.kind == Kind::Data;
        if data && header.length > FRAME_MAX {
            return Err(Violation(format!("a data frame of {} bytes", header.length)));
        }
        if header.has(SYN) {
            self.open_inbound(header.stream)?;
        }
        let inner = self.streams.get(&header.stream).cloned();
        if let Some(inner) = &inner {
            if header.has(ACK) {
                self.on_acknowledged(inner);
            }
            if header.has(RST) {
                inner.end(End::RESET);
                self.remove(header.stream);
            } else if data {
                if !inner.state.lock().announce(header.length) {
                    return Err(Violation(format!("data beyond the receive window of stream {}", header.stream)));
                }
            } else {
                self.on_window_update(inner, header)?;
            }
        }
        if data {
            // Data behind a reset or for an unknown stream was on its way when the stream ended here.
            let stream = inner.filter(|_| !header.has(RST));
            self.body = Some(Body { stream, left: header.length as usize, fin: header.has(FIN) });
        }
        Ok(())
    }

    fn open_inbound(&mut self, id: u32) -> Result<(), Violation> {
        let odd = id % 2 == 1;
        if id == 0 || odd != (self.role == Role::Server) {
            return Err(Violation(format!("it opened stream {id}, which is not one of its ids")));
        }
        if self.streams.contains_key(&id) {
            return Err(Violation(format!("it opened stream {id} twice")));
        }
        let reservation = if self.streams.len() >= self.config.max_streams {
            Err("connection.streams")
        } else if self.waiting.len() >= self.config.accept_backlog {
            Err("connection.backlog")
        } else {
            self.reserve().ok_or("buffers.max")
        };
        let reservation = match reservation {
            Ok(reservation) => reservation,
            Err(limit) => {
                tracing::warn!(limit, "a stream that the peer opened was refused");
                return self.push_control(Header::new(Kind::WindowUpdate, RST, id, 0));
            }
        };
        let inner = Inner::new(id, self.shared.clone(), reservation);
        self.streams.insert(id, inner.clone());
        self.waiting.push_back(Stream::new(inner));
        wake(self.inbound_waker.take());
        Ok(())
    }

    fn on_acknowledged(&mut self, inner: &Arc<Inner>) {
        if std::mem::take(&mut inner.state.lock().unacknowledged) {
            self.unacknowledged -= 1;
            wake(self.outbound_waker.take());
        }
    }

    fn on_window_update(&mut self, inner: &Arc<Inner>, header: Header) -> Result<(), Violation> {
        let mut state = inner.state.lock();
        if !state.add_send_window(header.length) {
            return Err(Violation(format!("a window update overflows the window of stream {}", header.stream)));
        }
        let writer = if header.length > 0 { state.writer.take() } else { None };
        let mut reader = None;
        if header.has(FIN) {
            state.fin_received = true;
            reader = state.reader.take();
        }
        let finished = state.finished();
        drop(state);
        wake(writer);
        wake(reader);
        if finished {
            self.remove(header.stream);
        }
        Ok(())
    }
}
