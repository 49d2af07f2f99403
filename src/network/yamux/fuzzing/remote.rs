//! What the remote has said and heard, by a reading of the bytes that shares nothing with the muxer's own.

use std::collections::{HashMap, VecDeque};

pub(super) const DATA: u8 = 0;
pub(super) const WINDOW: u8 = 1;
pub(super) const PING: u8 = 2;
pub(super) const GO_AWAY: u8 = 3;
pub(super) const SYN: u16 = 1;
pub(super) const ACK: u16 = 2;
pub(super) const FIN: u16 = 4;
pub(super) const RST: u16 = 8;

const INITIAL: u64 = 256 * 1024;
/// Requests that a remote may make without reading the answers; the muxer allows a few more.
const REQUESTS: usize = 4000;

/// Whether the remote may be refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Conduct {
    /// Everything said is allowed, whatever the local side has done meanwhile.
    Lawful,
    /// It depends on what the local side has done.
    Doubtful,
    /// No muxer may accept this.
    Broken,
}

/// Cuts a stream of bytes into headers and data.
#[derive(Default)]
struct Cutter {
    header: Vec<u8>,
    /// Bytes of data that are still to come.
    left: usize,
}

pub(super) struct Frame {
    pub(super) version: u8,
    pub(super) kind: u8,
    pub(super) flags: u16,
    pub(super) stream: u32,
    pub(super) length: u32,
}

impl Frame {
    pub(super) fn new(kind: u8, flags: u16, stream: u32, length: u32) -> Self {
        Self { version: 0, kind, flags, stream, length }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![self.version, self.kind];
        bytes.extend(self.flags.to_be_bytes());
        bytes.extend(self.stream.to_be_bytes());
        bytes.extend(self.length.to_be_bytes());
        bytes
    }

    fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }
}

enum Part<'a> {
    Header(Frame),
    /// Data, and how much more of it is to come.
    Data(&'a [u8], usize),
}

impl Cutter {
    /// The next part at the beginning of `bytes`, which it is removed from.
    fn next<'a>(&mut self, bytes: &mut &'a [u8]) -> Option<Part<'a>> {
        if self.left > 0 {
            let n = self.left.min(bytes.len());
            let (data, rest) = bytes.split_at(n);
            *bytes = rest;
            self.left -= n;
            return Some(Part::Data(data, self.left)).filter(|_| n > 0);
        }
        while let ([first, rest @ ..], true) = (*bytes, self.header.len() < 12) {
            self.header.push(*first);
            *bytes = rest;
        }
        let &[version, kind, f0, f1, s0, s1, s2, s3, l0, l1, l2, l3] = self.header.as_slice() else { return None };
        self.header.clear();
        let frame = Frame {
            version,
            kind,
            flags: u16::from_be_bytes([f0, f1]),
            stream: u32::from_be_bytes([s0, s1, s2, s3]),
            length: u32::from_be_bytes([l0, l1, l2, l3]),
        };
        if kind == DATA {
            self.left = frame.length as usize;
        }
        Some(Part::Header(frame))
    }
}

/// A stream as the remote knows it.
pub(super) struct Side {
    /// How often the remote opened it; 0 for a stream that the local side opened.
    pub(super) opened: usize,
    /// Bytes said up to the FIN or RST.
    pub(super) data: Vec<u8>,
    pub(super) fin_said: bool,
    pub(super) rst_said: bool,
    /// Bytes that the local side may send in all.
    granted: u64,
    /// Bytes that the remote may send in all.
    pub(super) credit: u64,
    pub(super) announced: u64,
    pub(super) heard: u64,
    pub(super) syn_heard: bool,
    ack_heard: bool,
    pub(super) fin_heard: bool,
    pub(super) rst_heard: bool,
}

impl Side {
    fn new(opened: usize) -> Self {
        Self {
            opened,
            data: Vec::new(),
            fin_said: false,
            rst_said: false,
            granted: INITIAL,
            credit: INITIAL,
            announced: 0,
            heard: 0,
            syn_heard: false,
            ack_heard: false,
            fin_heard: false,
            rst_heard: false,
        }
    }

    /// Opened more than once: what is heard may belong to any of them.
    pub(super) fn ambiguous(&self) -> bool {
        self.opened > 1
    }
}

pub(super) struct Remote {
    /// The muxer is the server: the remote's ids are odd.
    odd: bool,
    said: Cutter,
    heard: Cutter,
    /// The stream whose data is being said or heard.
    saying: Option<(u32, bool)>,
    hearing: u32,
    pub(super) sides: HashMap<u32, Side>,
    pub(super) conduct: Conduct,
    /// Frames that want an answer.
    requests: usize,
    /// Pings that are not answered, of either side.
    pings_said: VecDeque<u32>,
    pub(super) pings_heard: VecDeque<u32>,
    pub(super) go_away_heard: Option<u32>,
    pub(super) frames_heard: usize,
}

/// Byte `position` of what the local side sends on a stream.
pub(super) fn pattern(stream: u32, position: u64) -> u8 {
    (position.wrapping_mul(31) ^ (position >> 8) ^ u64::from(stream)) as u8
}

impl Remote {
    pub(super) fn new(odd: bool) -> Self {
        Self {
            odd,
            said: Cutter::default(),
            heard: Cutter::default(),
            saying: None,
            hearing: 0,
            sides: HashMap::new(),
            conduct: Conduct::Lawful,
            requests: 0,
            pings_said: VecDeque::new(),
            pings_heard: VecDeque::new(),
            go_away_heard: None,
            frames_heard: 0,
        }
    }

    /// The local side has opened a stream.
    pub(super) fn opened_locally(&mut self, id: u32) {
        self.sides.insert(id, Side::new(0));
    }

    pub(super) fn is_own(&self, id: u32) -> bool {
        id != 0 && (id % 2 == 1) == self.odd
    }

    /// A stream that the remote has not opened yet.
    pub(super) fn new_id(&self) -> u32 {
        let own = self.sides.keys().filter(|id| self.is_own(**id));
        own.max().map_or(if self.odd { 1 } else { 2 }, |last| last.wrapping_add(2))
    }

    /// One of the streams there were, counted from the newest, or 0.
    pub(super) fn known_id(&self, choice: u8) -> u32 {
        let mut ids: Vec<u32> = self.sides.keys().copied().collect();
        ids.sort_unstable();
        if ids.is_empty() { 0 } else { ids[ids.len() - 1 - usize::from(choice) % ids.len()] }
    }

    fn worsen(&mut self, conduct: Conduct) {
        self.conduct = self.conduct.max(conduct);
    }

    // --- what the remote says ----------------------------------------------------------------------------------------

    pub(super) fn say(&mut self, mut bytes: &[u8]) {
        while self.conduct != Conduct::Broken
            && let Some(part) = self.said.next(&mut bytes)
        {
            match part {
                Part::Header(frame) => self.say_frame(&frame),
                Part::Data(data, left) => self.say_data(data, left),
            }
        }
    }

    fn say_frame(&mut self, frame: &Frame) {
        if frame.version != 0 || frame.kind > GO_AWAY || (frame.kind == DATA && frame.length > 16 << 20) {
            return self.worsen(Conduct::Broken);
        }
        match frame.kind {
            PING if frame.has(ACK) => {}
            PING => {
                self.pings_said.push_back(frame.length);
                self.request();
            }
            GO_AWAY => {}
            _ => self.say_stream_frame(frame),
        }
    }

    fn request(&mut self) {
        self.requests += 1;
        if self.requests > REQUESTS {
            self.worsen(Conduct::Doubtful);
        }
    }

    fn say_stream_frame(&mut self, frame: &Frame) {
        let id = frame.stream;
        if frame.has(SYN) {
            if !self.is_own(id) {
                return self.worsen(Conduct::Broken);
            }
            self.request();
            let opened = self.sides.get(&id).map_or(0, |side| side.opened) + 1;
            if opened > 1 {
                // Twice, or again: that depends on whether it still lives.
                self.worsen(Conduct::Doubtful);
            }
            self.sides.insert(id, Side::new(opened));
        }
        let Some(side) = self.sides.get_mut(&id) else {
            self.saying = None;
            return;
        };
        let over = side.fin_said || side.rst_said;
        side.rst_said |= frame.has(RST);
        let mut doubtful = false;
        if frame.kind == DATA {
            side.announced += u64::from(frame.length);
            doubtful = side.announced > side.credit;
            self.saying = Some((id, frame.has(FIN))).filter(|_| !over && !frame.has(RST));
            if frame.length == 0 && frame.has(FIN) && !frame.has(RST) {
                side.fin_said = true;
            }
        } else if !frame.has(RST) {
            side.granted += u64::from(frame.length);
            doubtful = side.granted > u64::from(u32::MAX);
            side.fin_said |= frame.has(FIN);
        }
        if doubtful {
            self.worsen(Conduct::Doubtful);
        }
    }

    fn say_data(&mut self, data: &[u8], left: usize) {
        let Some((id, fin)) = self.saying else { return };
        let side = self.sides.get_mut(&id).expect("it was found at the header");
        side.data.extend_from_slice(data);
        side.fin_said |= fin && left == 0;
    }

    // --- what the remote hears ---------------------------------------------------------------------------------------

    pub(super) fn hear(&mut self, mut bytes: &[u8]) {
        while let Some(part) = self.heard.next(&mut bytes) {
            match part {
                Part::Header(frame) => self.hear_frame(&frame),
                Part::Data(data, _) => self.hear_data(data),
            }
        }
    }

    fn hear_frame(&mut self, frame: &Frame) {
        self.frames_heard += 1;
        assert_eq!(frame.version, 0);
        assert_eq!(self.go_away_heard, None, "a frame behind the go-away");
        match frame.kind {
            PING if frame.has(ACK) => {
                assert_eq!(Some(frame.length), self.pings_said.pop_front(), "a pong that nobody asked for");
            }
            PING => self.pings_heard.push_back(frame.length),
            GO_AWAY => self.go_away_heard = Some(frame.length),
            DATA | WINDOW => self.hear_stream_frame(frame),
            other => panic!("a frame of kind {other} was sent"),
        }
    }

    fn hear_stream_frame(&mut self, frame: &Frame) {
        let id = frame.stream;
        let own = self.is_own(id);
        let side = self.sides.get_mut(&id).unwrap_or_else(|| panic!("a frame for stream {id}, which nobody opened"));
        self.hearing = id;
        if !side.ambiguous() {
            assert!(!side.rst_heard, "stream {id}: a frame behind the reset");
            assert!(own || side.syn_heard || frame.has(SYN), "stream {id}: not opened by its first frame");
            assert!(!(frame.has(SYN) && (own || side.syn_heard)), "stream {id}: opened twice");
            assert!(!(frame.has(ACK) && (!own || side.ack_heard)), "stream {id}: acknowledged twice");
            assert!(!(frame.has(FIN) && side.fin_heard), "stream {id}: a second FIN");
            assert!(frame.kind != DATA || !side.fin_heard, "stream {id}: data behind the FIN");
        }
        side.syn_heard |= frame.has(SYN);
        side.ack_heard |= frame.has(ACK);
        side.fin_heard |= frame.has(FIN);
        side.rst_heard |= frame.has(RST);
        if frame.kind == WINDOW {
            side.credit += u64::from(frame.length);
        } else {
            assert!(frame.length < 64 * 1024, "stream {id}: a frame of {} bytes", frame.length);
            let sum = side.heard + u64::from(frame.length);
            assert!(
                side.ambiguous() || sum <= side.granted,
                "stream {id}: {sum} bytes in a window of {}",
                side.granted
            );
        }
    }

    fn hear_data(&mut self, data: &[u8]) {
        let side = self.sides.get_mut(&self.hearing).expect("it was found at the header");
        for byte in data {
            if !side.ambiguous() {
                assert_eq!(*byte, pattern(self.hearing, side.heard), "stream {}: byte {}", self.hearing, side.heard);
            }
            side.heard += 1;
        }
    }
}
