//! Bounds on the memory that receive windows promise to remotes.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// A bound in bytes on all receive windows of a node, shared by its connections.
///
/// Every stream reserves its initial window when it opens. Windows grow only while a quarter of the budget stays free,
/// so that a few fast transfers never keep new streams out.
#[derive(Debug)]
pub struct Budget {
    max: usize,
    used: AtomicUsize,
}

impl Budget {
    /// A budget of `max` bytes.
    pub fn new(max: usize) -> Self {
        Self { max, used: AtomicUsize::new(0) }
    }

    /// Takes `n` bytes; false if fewer are left.
    pub fn try_reserve(&self, n: usize) -> bool {
        self.reserve_up_to(n, self.max)
    }

    /// Gives back `n` bytes that were reserved before.
    pub fn release(&self, n: usize) {
        self.used.fetch_sub(n, Ordering::Relaxed);
    }

    /// Bytes reserved now.
    #[cfg(any(test, fuzzing))]
    pub fn in_use(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// The same for windows that grow.
    pub fn try_reserve_growth(&self, n: usize) -> bool {
        self.reserve_up_to(n, self.max - self.max / 4)
    }

    fn reserve_up_to(&self, n: usize, bound: usize) -> bool {
        let more = |used: usize| used.checked_add(n).filter(|sum| *sum <= bound);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }
}

/// What one stream has reserved; given back when dropped.
#[derive(Debug)]
pub(super) struct Reservation {
    node: Option<Arc<Budget>>,
    growth: Arc<Budget>,
    initial: usize,
    grown: usize,
}

impl Reservation {
    /// Reserves the initial window in the node's budget; `growth` is the connection's budget for growing windows.
    pub(super) fn new(node: Option<&Arc<Budget>>, growth: &Arc<Budget>, initial: usize) -> Option<Self> {
        if node.is_some_and(|budget| !budget.try_reserve(initial)) {
            return None;
        }
        Some(Self { node: node.cloned(), growth: growth.clone(), initial, grown: 0 })
    }

    /// Reserves `n` bytes more, in both budgets or in neither.
    pub(super) fn grow(&mut self, n: usize) -> bool {
        if !self.growth.try_reserve(n) {
            return false;
        }
        if self.node.as_ref().is_some_and(|budget| !budget.try_reserve_growth(n)) {
            self.growth.release(n);
            return false;
        }
        self.grown += n;
        true
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.growth.release(self.grown);
        if let Some(budget) = &self.node {
            budget.release(self.initial + self.grown);
        }
    }
}
