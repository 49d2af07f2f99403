//! The record layer of a connection after its handshake (RFC 8446, sections 4.6.3, 5 and 6).
//!
//! rustls has one, too. This one opens records from where the socket put them to where the reader wants them, and seals them
//! where they are sent from: one copy each way less, or three, and nothing is allocated for a record that the reader has room
//! for. A connection at rest holds no buffer.

use std::{
    cell::Cell,
    io::{self, IoSlice},
    ops::Range,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures::{AsyncRead, AsyncWrite};

use super::{
    handshake::{Established, Schedule},
    outgoing::Outgoing,
    record::{
        self, Broken, Content, DECODE_ERROR, ILLEGAL_PARAMETER, Key, MAX_PLAIN, MAX_RECORD, UNEXPECTED_MESSAGE, broken,
    },
};

/// Read from the socket at a time, at most.
const READ: usize = 512 * 1024;
/// Sealed and written at a time, at most. Twice as much pushes itself and what is sealed next out of the processor's near caches.
const WRITE: usize = 16 * MAX_PLAIN;
/// Taken from the writer at a time, at most.
const TAKEN: usize = 2 * WRITE;
/// What fills records of its own: for less, a record more costs what it saves.
const OWN_RECORDS: usize = 3 * MAX_PLAIN;
/// The longest handshake message that is put together: certificates have come before, these are tickets.
const MAX_MESSAGE: usize = 64 * 1024;
/// The most records in a row without data: a peer could keep us busy with them.
const MAX_WITHOUT_DATA: u32 = 32;

const NEW_SESSION_TICKET: u8 = 4;
const KEY_UPDATE: u8 = 24;
const CLOSE_NOTIFY: u8 = 0;
const USER_CANCELED: u8 = 90;
const FATAL: u8 = 2;
const WARNING: u8 = 1;

thread_local! {
    /// Records as they come from a socket, and as they go to one.
    static INCOMING: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    static OUTGOING: Cell<Outgoing> = const { Cell::new(Outgoing::new()) };
}

/// An encrypted connection.
pub struct Stream<C> {
    pub(super) socket: C,
    schedule: Box<dyn Schedule>,
    /// How many records a key seals before it is replaced.
    pub(super) limit: u64,
    pub(super) reading: Reading,
    pub(super) writing: Writing,
}

pub(super) struct Reading {
    key: Key,
    /// Received and not opened, from `start` to `end`: in the thread's buffer, as long as much of it is there.
    sealed: Vec<u8>,
    start: usize,
    end: usize,
    /// Opened and not read, from `read` on: of a record larger than the reader's buffer.
    plain: Vec<u8>,
    read: usize,
    /// The beginning of a handshake message.
    message: Vec<u8>,
    /// Records in a row that brought no data.
    without_data: u32,
    /// More may be received at a time than the reader has room for.
    ahead: bool,
    /// To be told once what came before it is read.
    failure: Option<io::Error>,
    ended: Option<End>,
}

/// How reading has ended.
#[derive(Clone, Copy)]
enum End {
    /// The peer has said so.
    Closed,
    Alert(u8),
    /// The connection has ended without a word.
    Lost,
    /// It failed, or was broken by the peer.
    Failed(io::ErrorKind),
}

pub(super) struct Writing {
    pub(super) key: Key,
    /// What the socket has not taken.
    rest: Outgoing,
    /// The peer wants new keys.
    update_due: bool,
    closed: bool,
}

impl<C> Stream<C> {
    pub(super) fn new(socket: C, established: Established) -> io::Result<Self> {
        let Established { secrets, schedule, limit, received } = established;
        Ok(Self {
            socket,
            schedule,
            limit: limit / 2,
            reading: Reading {
                key: Key::new(secrets.rx)?,
                start: 0,
                end: received.len(),
                sealed: received,
                plain: Vec::new(),
                read: 0,
                message: Vec::new(),
                without_data: 0,
                ahead: false,
                failure: None,
                ended: None,
            },
            writing: Writing { key: Key::new(secrets.tx)?, rest: Outgoing::new(), update_due: false, closed: false },
        })
    }

    /// Receives as much at a time as there is, whatever room the reader has: it reads on while
    /// [there is more](Self::has_read_ahead), or a large buffer stays here.
    pub fn read_ahead(&mut self) {
        self.reading.ahead = true;
    }

    /// Whether more than a record was received and is still to be opened.
    pub fn has_read_ahead(&self) -> bool {
        self.reading.sealed.len() == READ
    }

    #[cfg(test)]
    pub(super) fn next_to_send(&mut self) -> Result<(u64, rustls::ConnectionTrafficSecrets), rustls::Error> {
        self.schedule.next_to_send()
    }

    #[cfg(test)]
    pub(super) fn algorithm(&self) -> &'static aws_lc_rs::aead::Algorithm {
        self.writing.key.algorithm()
    }

    /// Opens records until `buffer` has no room for another, or none is there any more: how much of `records` is done with,
    /// and how much is in `buffer`.
    fn open(&mut self, records: &[u8], buffer: &mut [u8]) -> io::Result<(usize, usize)> {
        let (mut done, mut filled) = (0, 0);
        while self.reading.ended.is_none() && self.reading.plain.is_empty() {
            match self.open_one(&records[done..], &mut buffer[filled..], filled > 0) {
                Ok(Some((length, size))) => {
                    done += length;
                    filled += size;
                }
                Ok(None) => break,
                Err(error) if filled > 0 => {
                    // What came before it is good.
                    self.reading.failure = Some(error);
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok((done, filled))
    }

    /// Opens the first of `records`: its length, and how much is in `buffer`; `None` if it is not all there, or there is no
    /// room and others were `before` it.
    fn open_one(&mut self, records: &[u8], buffer: &mut [u8], before: bool) -> io::Result<Option<(usize, usize)>> {
        let Some(length) = record::length(records)? else { return Ok(None) };
        let record = &records[..length];
        let room = record::room(record)?;
        let fits = room <= buffer.len();
        if !fits && before {
            return Ok(None);
        }
        let mut own = Vec::new();
        let plain = if fits {
            &mut buffer[..room]
        } else {
            own.resize(room, 0);
            &mut own[..]
        };
        let (size, content) = self.reading.key.open(record, plain)?;
        let reading = &mut self.reading;
        reading.without_data = if content == Content::Data && size > 0 { 0 } else { reading.without_data + 1 };
        if reading.without_data > MAX_WITHOUT_DATA {
            return Err(broken(UNEXPECTED_MESSAGE, "the peer sent one TLS record without data after the other"));
        }
        if content != Content::Handshake && !reading.message.is_empty() {
            return Err(broken(UNEXPECTED_MESSAGE, "the peer sent something else in the middle of a TLS message"));
        }
        let size = match content {
            Content::Data if fits => size,
            Content::Data => {
                own.truncate(size);
                (reading.plain, reading.read) = (own, 0);
                reading.take_plain(buffer)
            }
            _ => {
                let plain = plain[..size].to_vec();
                self.control(content, &plain)?;
                0
            }
        };
        Ok(Some((length, size)))
    }

    /// A record that is not data.
    fn control(&mut self, content: Content, plain: &[u8]) -> io::Result<()> {
        if content == Content::Alert {
            match plain {
                [_, CLOSE_NOTIFY] => self.reading.ended = Some(End::Closed),
                [_, USER_CANCELED] => {}
                [_, alert] => self.reading.ended = Some(End::Alert(*alert)),
                _ => return Err(broken(DECODE_ERROR, "the peer sent a TLS alert that is none")),
            }
            return Ok(());
        }
        if plain.is_empty() {
            return Err(broken(UNEXPECTED_MESSAGE, "the peer sent an empty TLS message"));
        }
        let mut message = std::mem::take(&mut self.reading.message);
        message.extend_from_slice(plain);
        let mut done = 0;
        while let [kind, a, b, c, body @ ..] = &message[done..] {
            let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
            if length > MAX_MESSAGE {
                return Err(broken(DECODE_ERROR, "the peer sent a TLS message that is too long"));
            }
            let Some(body) = body.get(..length) else { break };
            done += 4 + length;
            match (*kind, body) {
                // Sessions are not resumed.
                (NEW_SESSION_TICKET, _) => {}
                // It is the last of its record, which the new key does not open any more (RFC 8446, 5.1).
                (KEY_UPDATE, [wanted @ (0 | 1)]) if done == message.len() => {
                    let next = self.schedule.next_to_receive().map_err(io::Error::other)?;
                    self.reading.key = Key::new(next)?;
                    self.writing.update_due |= *wanted == 1;
                }
                (KEY_UPDATE, [wanted]) if *wanted > 1 => {
                    return Err(broken(ILLEGAL_PARAMETER, "the peer sent a TLS key update that is none"));
                }
                _ => return Err(broken(UNEXPECTED_MESSAGE, "the peer sent a TLS message that has no place here")),
            }
        }
        if done < message.len() {
            message.drain(..done);
            self.reading.message = message;
        }
        Ok(())
    }

    /// Appends what has to go before the next record, then `parts`.
    fn seal<'a, P>(&mut self, content: Content, parts: P, out: &mut Outgoing) -> io::Result<()>
    where
        P: IntoIterator<Item = &'a [u8]>,
        P::IntoIter: Clone,
    {
        if self.writing.update_due || self.writing.key.used() >= self.limit {
            // Of this side's key alone.
            let update = [KEY_UPDATE, 0, 0, 1, 0];
            self.writing.key.seal(Content::Handshake, [&update[..]], out)?;
            let next = self.schedule.next_to_send().map_err(io::Error::other)?;
            self.writing.key = Key::new(next)?;
            self.writing.update_due = false;
        }
        self.writing.key.seal(content, parts, out)
    }

    /// Appends the bytes `range` of what `slices` are together.
    fn seal_data(&mut self, slices: &[IoSlice<'_>], range: Range<usize>, out: &mut Outgoing) -> io::Result<()> {
        let mut at = range.start;
        while at < range.end {
            let length = record_length(slices, at, MAX_PLAIN.min(range.end - at));
            self.seal(Content::Data, window(slices, at, length), out)?;
            at += length;
        }
        Ok(())
    }
}

/// How much of what `slices` are together the record that begins at `start` takes, at most `most`: a slice that fills records
/// of its own begins with a new one, and so is not copied.
fn record_length(slices: &[IoSlice<'_>], start: usize, most: usize) -> usize {
    let mut at = 0;
    for slice in slices {
        if at >= start + most {
            break;
        }
        if at > start && slice.len() >= OWN_RECORDS {
            return at - start;
        }
        at += slice.len();
    }
    most
}

/// Bytes `start` to `start + length` of what `slices` are together.
fn window<'a>(
    slices: &'a [IoSlice<'_>],
    start: usize,
    length: usize,
) -> impl Iterator<Item = &'a [u8]> + Clone + use<'a> {
    let mut at = 0;
    slices.iter().filter_map(move |slice| {
        let from = start.saturating_sub(at).min(slice.len());
        let to = (start + length).saturating_sub(at).min(slice.len());
        at += slice.len();
        (from < to).then(|| &slice[from..to])
    })
}

impl Reading {
    /// Bytes of memory held.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.sealed.capacity() + self.plain.capacity() + self.message.capacity()
    }

    /// A buffer of [`READ`] bytes that begins with what is received and not opened, less than a record; [`Self::keep`] takes
    /// it back.
    fn take_incoming(&mut self) -> Vec<u8> {
        let begun = self.start..self.end;
        (self.start, self.end) = (0, begun.len());
        let sealed = std::mem::take(&mut self.sealed);
        let mut incoming = INCOMING.take();
        incoming.resize(READ, 0);
        incoming[..self.end].copy_from_slice(&sealed[begun]);
        incoming
    }

    /// Keeps what is in `buffer` from `start` on, and nothing behind the end. If that is not much, the thread gets a large
    /// buffer back.
    fn keep(&mut self, buffer: Vec<u8>, start: usize) {
        let left = if self.ended.is_none() { self.end - start } else { 0 };
        if buffer.len() < READ || left > MAX_RECORD {
            (self.sealed, self.start) = (buffer, start);
            return;
        }
        self.sealed = buffer[start..start + left].to_vec();
        (self.start, self.end) = (0, left);
        INCOMING.set(buffer);
    }

    fn take_plain(&mut self, buffer: &mut [u8]) -> usize {
        let rest = &self.plain[self.read..];
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        self.read += length;
        if self.read == self.plain.len() {
            (self.plain, self.read) = (Vec::new(), 0);
        }
        length
    }

    fn result(&self) -> Option<io::Result<usize>> {
        Some(match self.ended? {
            End::Closed => Ok(0),
            End::Alert(alert) => {
                Err(io::Error::new(io::ErrorKind::ConnectionAborted, format!("the peer ended TLS with alert {alert}")))
            }
            End::Lost => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the peer closed the connection without a word; it may have crashed",
            )),
            End::Failed(kind) => Err(io::Error::new(kind, "the connection has failed before")),
        })
    }
}

impl Writing {
    /// Bytes of memory held.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.rest.size()
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> Stream<C> {
    /// Opens records that are there, or reads from the socket once and opens those; `Ok(None)` if neither was data.
    fn poll_open(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<Option<usize>>> {
        let there = std::mem::take(&mut self.reading.sealed);
        let (done, filled) = self.open(&there[self.reading.start..self.reading.end], buffer)?;
        if done > 0 {
            self.reading.keep(there, self.reading.start + done);
            return Poll::Ready(Ok(Some(filled).filter(|filled| *filled > 0)));
        }
        self.reading.sealed = there;
        let mut incoming = self.reading.take_incoming();
        let Poll::Ready(read) = self.poll_receive(cx, &mut incoming, buffer.len()) else {
            self.reading.keep(incoming, 0);
            return Poll::Pending;
        };
        if read? == 0 {
            self.reading.ended = Some(End::Lost);
            INCOMING.set(incoming);
            return Poll::Ready(Ok(None));
        }
        let (done, filled) = self.open(&incoming[..self.reading.end], buffer)?;
        self.reading.keep(incoming, done);
        Poll::Ready(Ok(Some(filled).filter(|filled| *filled > 0)))
    }

    /// Reads from the socket once, behind what is in `incoming`.
    fn poll_receive(&mut self, cx: &mut Context<'_>, incoming: &mut [u8], room: usize) -> Poll<io::Result<usize>> {
        let most =
            if self.reading.ahead { READ } else { (room + record::HEADER + record::TAG + 1).clamp(MAX_RECORD, READ) };
        let read = ready!(Pin::new(&mut self.socket).poll_read(cx, &mut incoming[self.reading.end..most]))?;
        self.reading.end += read;
        Poll::Ready(Ok(read))
    }

    /// Ready when the socket has taken everything that is sealed.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let rest = &mut self.writing.rest;
        if rest.size() == 0 {
            return Poll::Ready(Ok(()));
        }
        ready!(poll_write_out(&mut self.socket, cx, rest))?;
        let [theirs, mut ours] = [OUTGOING.take(), std::mem::take(rest)];
        ours.clear();
        OUTGOING.set(if ours.size() > theirs.size() { ours } else { theirs });
        Poll::Ready(Ok(()))
    }

    /// Writes what is sealed in `out`; the socket's leavings are kept, in the same buffer if it is not much larger.
    fn write_sealed(&mut self, cx: &mut Context<'_>, out: &mut Outgoing) -> io::Result<()> {
        if let Poll::Ready(result) = poll_write_out(&mut self.socket, cx, out) {
            return result;
        }
        if out.unwritten().len() > out.size() / 2 {
            self.writing.rest = std::mem::take(out);
        } else {
            self.writing.rest.extend(out.unwritten());
        }
        Ok(())
    }

    /// Seals what `slices` are together, by way of `out`, until the socket takes no more of it; returns how much that is, at
    /// most [`TAKEN`].
    fn write(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>], out: &mut Outgoing) -> io::Result<usize> {
        let total = slices.iter().map(|slice| slice.len()).sum::<usize>().min(TAKEN);
        let mut taken = 0;
        while taken < total && self.writing.rest.size() == 0 {
            let end = total.min(taken + WRITE);
            out.clear();
            self.seal_data(slices, taken..end, out)?;
            self.write_sealed(cx, out)?;
            taken = end;
        }
        Ok(taken)
    }

    /// Tells the peer what it has done wrong, if the socket takes it.
    fn complain(&mut self, cx: &mut Context<'_>, error: &io::Error) {
        let Some(Broken { alert, .. }) = error.get_ref().and_then(|error| error.downcast_ref()) else { return };
        if !self.writing.closed && self.seal_last(&[FATAL, *alert]).is_ok() && self.poll_drain(cx).is_ready() {
            let _ = Pin::new(&mut self.socket).poll_flush(cx);
        }
    }

    /// Seals an alert behind what the socket has not taken; nothing follows it.
    fn seal_last(&mut self, alert: &[u8]) -> io::Result<()> {
        let mut rest = std::mem::take(&mut self.writing.rest);
        let result = self.seal(Content::Alert, [alert], &mut rest);
        self.writing.rest = rest;
        self.writing.closed = result.is_ok();
        result
    }

    /// Nothing more is read.
    fn fail(&mut self, cx: &mut Context<'_>, error: io::Error) -> io::Error {
        self.reading.ended = Some(End::Failed(error.kind()));
        self.complain(cx, &error);
        error
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> AsyncRead for Stream<C> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if buffer.is_empty() {
            return Poll::Ready(Ok(0));
        }
        if !this.reading.plain.is_empty() {
            return Poll::Ready(Ok(this.reading.take_plain(buffer)));
        }
        if let Some(error) = this.reading.failure.take() {
            return Poll::Ready(Err(this.fail(cx, error)));
        }
        loop {
            if let Some(result) = this.reading.result() {
                return Poll::Ready(result);
            }
            match ready!(this.poll_open(cx, buffer)) {
                Ok(Some(filled)) => return Poll::Ready(Ok(filled)),
                Ok(None) => {}
                Err(error) => return Poll::Ready(Err(this.fail(cx, error))),
            }
        }
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<C> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.writing.closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        ready!(this.poll_drain(cx))?;
        let mut out = OUTGOING.take();
        let result = this.write(cx, slices, &mut out);
        OUTGOING.set(out);
        Poll::Ready(result)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_drain(cx))?;
        Pin::new(&mut this.socket).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.writing.closed {
            this.seal_last(&[WARNING, CLOSE_NOTIFY])?;
        }
        ready!(this.poll_drain(cx))?;
        Pin::new(&mut this.socket).poll_close(cx)
    }
}

/// Writes until nothing is left.
fn poll_write_out<C: AsyncWrite + Unpin>(
    socket: &mut C,
    cx: &mut Context<'_>,
    out: &mut Outgoing,
) -> Poll<io::Result<()>> {
    while !out.is_empty() {
        let n = ready!(Pin::new(&mut *socket).poll_write(cx, out.unwritten()))?;
        if n == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        out.advance(n);
    }
    Poll::Ready(Ok(()))
}
