//! Buffers that streams and their connection hand to each other.

use std::ops::{Deref, Range};

use parking_lot::Mutex;

use super::frame::HEADER;

/// Size of the largest frame that is sent, and of a chunk that is full of received data, in bytes.
pub(super) const CHUNK: usize = 64 * 1024;
/// What is allocated for a chunk: a byte more, which a record of TLS takes for a moment.
pub(super) const ALLOCATED: usize = CHUNK + 1;
/// Chunks kept for reuse by one connection.
const KEPT: usize = 32;
/// What is still to come of a frame that is read to where it stays, and what a chunk has to hold of it to stay there, at
/// least: three full TLS records with the frame's header, and not much less than there is room for.
pub(super) const BODY: usize = CHUNK / 4 * 3 - HEADER;
/// Below this size a buffer is allocated to measure: a chunk of full size would mostly stay empty.
pub(super) const SMALL: usize = 4 * 1024;

/// Received data: a part of a chunk. What else is in the chunk stays there, so that it need not be made zero again.
pub(super) struct Part {
    chunk: Vec<u8>,
    range: Range<usize>,
}

impl Part {
    pub(super) fn new(chunk: Vec<u8>, range: Range<usize>) -> Self {
        Self { chunk, range }
    }

    pub(super) fn into_chunk(self) -> Vec<u8> {
        self.chunk
    }

    /// Bytes of memory.
    #[cfg(any(test, fuzzing))]
    pub(super) fn capacity(&self) -> usize {
        self.chunk.capacity()
    }

    /// Appends as much of `data` as a full chunk has room for, over what else is there: how much that is.
    pub(super) fn append(&mut self, pool: &Pool, data: &[u8]) -> usize {
        let n = data.len().min(CHUNK.saturating_sub(self.range.end));
        let (over, behind) = data[..n].split_at(n.min(self.chunk.len() - self.range.end));
        self.chunk[self.range.end..][..over.len()].copy_from_slice(over);
        pool.append(&mut self.chunk, behind, CHUNK);
        self.range.end += n;
        n
    }
}

impl Deref for Part {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.chunk[self.range.clone()]
    }
}

impl From<Vec<u8>> for Part {
    fn from(chunk: Vec<u8>) -> Self {
        let range = 0..chunk.len();
        Self { chunk, range }
    }
}

/// A connection's unused full chunks.
#[derive(Default)]
pub(super) struct Pool(Mutex<Vec<Vec<u8>>>);

impl Pool {
    /// An empty buffer with room for `n` bytes, at most [`CHUNK`], and for more if `n` is not small.
    pub(super) fn take(&self, n: usize) -> Vec<u8> {
        if n < SMALL {
            return Vec::with_capacity(n.max(256));
        }
        self.take_full()
    }

    /// An empty buffer of full size.
    pub(super) fn take_full(&self) -> Vec<u8> {
        let mut chunk = self.reuse();
        chunk.clear();
        chunk
    }

    /// A buffer of full size with at least `n` bytes of anything in it, to be overwritten.
    pub(super) fn take_filled(&self, n: usize) -> Vec<u8> {
        let mut chunk = self.reuse();
        if chunk.len() < n {
            chunk.resize(n, 0);
        }
        chunk
    }

    /// Received `data`, at most [`CHUNK`] bytes.
    pub(super) fn copy(&self, data: &[u8]) -> Part {
        if data.len() < SMALL {
            let mut chunk = self.take(data.len());
            chunk.extend_from_slice(data);
            return chunk.into();
        }
        let mut chunk = self.take_filled(data.len());
        chunk[..data.len()].copy_from_slice(data);
        Part::new(chunk, 0..data.len())
    }

    fn reuse(&self) -> Vec<u8> {
        let reused = self.0.lock().pop();
        reused.unwrap_or_else(|| Vec::with_capacity(ALLOCATED))
    }

    /// Returns a buffer; only full-sized ones are kept, with what is in them.
    pub(super) fn put(&self, chunk: Vec<u8>) {
        if chunk.capacity() < ALLOCATED {
            return;
        }
        let mut kept = self.0.lock();
        if kept.len() < KEPT {
            kept.push(chunk);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.lock().len()
    }

    /// Frees all unused chunks.
    pub(super) fn trim(&self) {
        *self.0.lock() = Vec::new();
    }

    /// Appends to `tail` as much of `data` as fits into a chunk of at most `limit` bytes, enlarging a small chunk at
    /// most once; returns how many bytes were taken.
    pub(super) fn append(&self, tail: &mut Vec<u8>, data: &[u8], limit: usize) -> usize {
        let n = data.len().min(limit.saturating_sub(tail.len()));
        if tail.capacity() - tail.len() < n {
            let wanted = tail.len() + n;
            // Doubling keeps the copies of a slowly growing chunk linear.
            let mut larger = self.take((2 * wanted).min(CHUNK));
            larger.extend_from_slice(tail);
            *tail = larger;
        }
        tail.extend_from_slice(&data[..n]);
        n
    }
}
