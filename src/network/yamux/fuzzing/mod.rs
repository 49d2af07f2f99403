//! The muxer against any remote: what a fuzzer calls with an input of its own making, and the tests with the inputs that
//! are kept in `fuzz/`.
//!
//! An input says how the connection is configured, what the remote sends, and what the local side does meanwhile. Whatever
//! it says must hold: nothing panics; no call works without end; what is held in memory is bounded by windows, budget and
//! limits; a remote that keeps to the protocol is never refused, one that breaks it is told so and every stream fails;
//! bytes arrive in order and whole; an end of file comes of a FIN alone; whoever waits is woken; nothing is left behind.

mod local;
mod remote;
mod session;
mod socket;

#[cfg(test)]
pub use self::{
    local::{Flag, read_direct, read_either, write_direct, write_either},
    socket::poll_write_slices,
};
use self::{
    remote::{ACK, DATA, FIN, Frame, PING, RST, SYN, WINDOW},
    session::Session,
};

/// An input that is read byte by byte; behind its end are zeros.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn number(&mut self) -> usize {
        usize::from(self.byte()) << 8 | usize::from(self.byte())
    }

    fn one_of<T: Copy, const N: usize>(&mut self, values: [T; N]) -> T {
        values[usize::from(self.byte()) % N]
    }
}

/// A remote that sends the bytes of the input as they are: configuration, the number of steps in two bytes, the steps,
/// what is sent. A step is what the local side does, or from 128 on, how many bytes arrive.
pub fn bytes(input: &[u8]) {
    let mut input = Input(input);
    let mut session = Session::new(&mut input);
    let length = input.number().min(input.0.len());
    let (steps, mut sent) = input.0.split_at(length);
    let mut steps = Input(steps);
    while !steps.0.is_empty() {
        let step = steps.byte();
        if step < 128 {
            session.act(step, &mut steps);
            continue;
        }
        let n = (1 << ((step - 128) / 8)).min(sent.len());
        let (now, later) = sent.split_at(n);
        sent = later;
        session.say(now);
    }
    session.say(sent);
    session.end();
}

/// A remote that sends frames. A step is what the local side does, or from 128 on, a frame or a part of one.
pub fn frames(input: &[u8]) {
    let mut input = Input(input);
    let mut session = Session::new(&mut input);
    let mut held = Vec::new();
    while !input.0.is_empty() {
        let step = input.byte();
        if step < 128 {
            session.act(step, &mut input);
            continue;
        }
        match step % 16 {
            // What was held back, or a part of it.
            15 => {
                let n = input.number().min(held.len());
                session.say(&held[..n]);
                held.drain(..n);
                continue;
            }
            14 => held.extend(any_frame(&mut input)),
            13 => {
                while let Some(value) = session.remote().pings_heard.pop_front() {
                    held.extend(Frame::new(PING, ACK, 0, value).bytes());
                }
            }
            choice => held.extend(frame(choice, &mut session, &mut input)),
        }
        if step < 192 {
            session.say(&std::mem::take(&mut held));
        }
    }
    session.say(&held);
    session.end();
}

/// A frame of the remote's that has a meaning, if the stream it is for is in the right state.
fn frame(choice: u8, session: &mut Session, input: &mut Input<'_>) -> Vec<u8> {
    let remote = session.remote();
    let new = remote.new_id();
    let known = remote.known_id(input.byte());
    let credit = remote.sides.get(&known).map_or(0, |side| side.credit.saturating_sub(side.announced));
    let most = usize::try_from(credit).unwrap_or(usize::MAX);
    let mut data = |flags, id, most: usize| {
        let n = input.number() * input.one_of([1, 1, 16, 64]);
        let body = vec![input.byte(); n.min(most)];
        let mut bytes = Frame::new(DATA, flags, id, body.len() as u32).bytes();
        // Varied, so that bytes in the wrong order are seen.
        bytes.extend(body.iter().enumerate().map(|(i, byte)| byte.wrapping_add(i as u8) ^ (i >> 8) as u8));
        bytes
    };
    match choice {
        0 | 1 => Frame::new(WINDOW, SYN, new, 0).bytes(),
        2 => data(SYN, new, 256 * 1024),
        3 => data(SYN | FIN, new, 256 * 1024),
        4..=6 => data(0, known, most),
        7 => data(FIN, known, most),
        8 => data(ACK, known, most),
        9 => Frame::new(WINDOW, 0, known, input.number() as u32 * 16).bytes(),
        10 => Frame::new(WINDOW, input.one_of([ACK, FIN, FIN | ACK, RST]), known, 0).bytes(),
        11 => Frame::new(WINDOW, RST, known, 0).bytes(),
        _ => Frame::new(PING, SYN, 0, input.number() as u32).bytes(),
    }
}

/// A frame without any meaning.
fn any_frame(input: &mut Input<'_>) -> Vec<u8> {
    let shape = input.byte();
    let frame = Frame {
        version: u8::from(shape == 255),
        kind: shape % 5,
        flags: u16::from(input.byte()),
        stream: u32::from(input.byte() % 32) | if shape % 64 == 63 { 1 << 31 } else { 0 },
        length: input.one_of([0, 1, 100, 65_536, 262_144, 262_145, 1 << 24, (1 << 24) + 1, 1 << 31, u32::MAX]),
    };
    let body = if frame.kind == DATA { frame.length.min(input.number() as u32) } else { 0 };
    let mut bytes = frame.bytes();
    bytes.resize(bytes.len() + body as usize, shape);
    bytes
}
