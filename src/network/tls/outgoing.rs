//! Sealed records on their way to the socket.

/// Up to this size the buffer doubles when it is full, then it grows by as much.
const STEP: usize = 64 * 1024;

/// Bytes that are sealed and not written. Records are sealed to where they are sent from; the buffer is not made zero again
/// for each.
#[derive(Default)]
pub(super) struct Outgoing {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Outgoing {
    pub(super) const fn new() -> Self {
        Self { bytes: Vec::new(), start: 0, end: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Bytes of memory, all of them initialised.
    pub(super) fn size(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn unwritten(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// The socket has taken `n` bytes.
    pub(super) fn advance(&mut self, n: usize) {
        self.start += n;
    }

    pub(super) fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
    }

    /// The next `n` bytes, to be overwritten.
    pub(super) fn append(&mut self, n: usize) -> &mut [u8] {
        let start = self.end;
        self.end += n;
        if self.bytes.len() < self.end {
            let larger = if self.end < STEP { 2 * self.bytes.len() } else { self.end.next_multiple_of(STEP) };
            let larger = larger.max(self.end);
            self.bytes.reserve_exact(larger - self.bytes.len());
            self.bytes.resize(larger, 0);
        }
        &mut self.bytes[start..self.end]
    }

    /// Undoes having appended the last `n` bytes.
    pub(super) fn take_back(&mut self, n: usize) {
        self.end -= n;
    }

    pub(super) fn extend(&mut self, bytes: &[u8]) {
        self.append(bytes.len()).copy_from_slice(bytes);
    }
}
