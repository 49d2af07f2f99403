//! Packets that go to the operating system in one call.

use std::net::{IpAddr, SocketAddr};

use quinn::udp::{EcnCodepoint, Transmit};

/// Most bytes of a batch: what UDP and the operating systems allow in one call.
const BYTES: usize = 65_000;

/// Packets of the same size to the same place. quinn gives at most ten at a time, and a call costs more than they do.
#[derive(Default)]
pub(super) struct Batch {
    head: Option<Head>,
    contents: Vec<u8>,
    /// Counts what was added and sent.
    changes: u32,
}

/// What the packets of a batch have in common.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Head {
    destination: SocketAddr,
    ecn: Option<EcnCodepoint>,
    src_ip: Option<IpAddr>,
    /// The size of each; the last one may be smaller.
    segment: usize,
}

impl Head {
    fn of(transmit: &Transmit<'_>) -> Self {
        Head {
            destination: transmit.destination,
            ecn: transmit.ecn,
            src_ip: transmit.src_ip,
            segment: transmit.segment_size.unwrap_or(transmit.contents.len()),
        }
    }
}

impl Batch {
    /// Whether these are several packets that others can follow: those at the end of what there is to send are smaller, or
    /// come alone.
    pub fn may_go_on(transmit: &Transmit<'_>) -> bool {
        transmit.segment_size.is_some_and(|segment| transmit.contents.len().is_multiple_of(segment))
    }

    pub fn is_empty(&self) -> bool {
        self.head.is_none()
    }

    /// Whether these packets can go out behind what is held, in a call of at most `segments` packets.
    pub fn takes(&self, transmit: &Transmit<'_>, segments: usize) -> bool {
        let Some(head) = self.head else { return true };
        if !self.contents.len().is_multiple_of(head.segment) {
            return false;
        }
        let size = self.contents.len() + transmit.contents.len();
        // One packet alone may be smaller than those before it.
        let segment = transmit.segment_size.unwrap_or(head.segment.max(transmit.contents.len()));
        Head { segment, ..Head::of(transmit) } == head && size <= BYTES && size.div_ceil(segment) <= segments
    }

    /// Adds packets that are taken, and does not look whether they are.
    pub fn push(&mut self, transmit: &Transmit<'_>) {
        self.head.get_or_insert_with(|| Head::of(transmit));
        self.contents.extend_from_slice(transmit.contents);
        self.changes = self.changes.wrapping_add(1);
    }

    /// Differs from what it was before something was added or sent.
    pub fn changes(&self) -> u32 {
        self.changes
    }

    /// Whether not one packet more has room.
    pub fn is_full(&self, segments: usize) -> bool {
        self.head.is_some_and(|head| {
            let size = self.contents.len() + head.segment;
            size > BYTES || size.div_ceil(head.segment) > segments
        })
    }

    pub fn transmit(&self) -> Option<Transmit<'_>> {
        let Head { destination, ecn, src_ip, segment } = self.head?;
        Some(Transmit { destination, ecn, src_ip, contents: &self.contents, segment_size: Some(segment) })
    }

    pub fn clear(&mut self) {
        self.head = None;
        self.contents.clear();
        self.changes = self.changes.wrapping_add(1);
    }

    /// Gives the memory back.
    pub fn free(&mut self) {
        *self = Batch::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packets(port: u16, segment: Option<usize>, contents: &[u8]) -> Transmit<'_> {
        let destination = SocketAddr::from(([127, 0, 0, 1], port));
        Transmit { destination, ecn: None, contents, segment_size: segment, src_ip: None }
    }

    #[test]
    fn packets_of_one_size_to_one_place_go_together() {
        let mut batch = Batch::default();
        let first = packets(1, Some(10), &[1; 30]);
        assert!(Batch::may_go_on(&first) && batch.takes(&first, 4));
        batch.push(&first);
        assert!(!batch.takes(&packets(2, Some(10), &[2; 10]), 4), "another place");
        assert!(!batch.takes(&packets(1, Some(11), &[2; 11]), 4), "another size");
        assert!(!batch.takes(&packets(1, None, &[2; 11]), 4), "larger");
        assert!(!batch.takes(&packets(1, Some(10), &[2; 11]), 4), "too many");
        let ecn = Some(EcnCodepoint::Ce);
        assert!(!batch.takes(&Transmit { ecn, ..packets(1, None, &[2; 10]) }, 4), "another mark");
        let src_ip = Some([127, 0, 0, 2].into());
        assert!(!batch.takes(&Transmit { src_ip, ..packets(1, None, &[2; 10]) }, 4), "another source");
        assert!(batch.takes(&packets(1, None, &[2; 10]), 4) && !batch.is_full(4) && batch.is_full(3));

        let last = packets(1, None, &[3; 4]);
        assert!(!Batch::may_go_on(&last) && batch.takes(&last, 4));
        batch.push(&last);
        assert!(!batch.takes(&packets(1, None, &[4; 4]), 9), "nothing comes behind a smaller one");
        let all = batch.transmit().unwrap();
        assert_eq!((all.contents.len(), all.segment_size), (34, Some(10)));
        batch.clear();
        assert!(batch.is_empty() && batch.transmit().is_none());
    }

    #[test]
    fn a_batch_is_never_larger_than_a_call_allows() {
        let mut batch = Batch::default();
        let ten = [0; 14_520];
        while batch.takes(&packets(1, Some(1452), &ten), 64) {
            batch.push(&packets(1, Some(1452), &ten));
        }
        assert_eq!(batch.transmit().unwrap().contents.len(), 4 * ten.len());
        assert!(!batch.is_full(64) && batch.is_full(40));
    }
}
