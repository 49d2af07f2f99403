//! Room for what the peer sends ahead of the readers of a connection.

use std::sync::Arc;

use crate::network::yamux::Budget;

/// How large the connection's receive window has to be, so that readers who stall never make others wait.
pub(super) struct Room {
    streams: usize,
    /// The window of each stream, and of all together as long as they are few.
    each: usize,
    few: usize,
    /// The connection's window beyond that, taken from the budget.
    more: usize,
    budget: Arc<Budget>,
}

impl Room {
    pub fn new(each: usize, few: usize, budget: Arc<Budget>) -> Self {
        Room { streams: 0, each, few, more: 0, budget }
    }

    /// There is one more stream, or one less. The connection's window, if it should change: that is seldom, as it changes in
    /// steps.
    pub fn count(&mut self, opened: bool) -> Option<usize> {
        self.streams = if opened { self.streams + 1 } else { self.streams - 1 };
        let wanted = self.streams.saturating_mul(self.each).saturating_sub(self.few);
        if wanted > self.more {
            let step = wanted - self.more;
            let ahead = step + wanted / 4;
            self.more += [ahead, step].into_iter().find(|step| self.budget.try_reserve_growth(*step))?;
        } else if self.more > 0 && wanted <= self.more / 2 {
            self.budget.release(self.more - wanted);
            self.more = wanted;
        } else {
            return None;
        }
        Some(self.few + self.more)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.budget.release(self.more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_the_window_of_every_stream() {
        let budget = Arc::new(Budget::new(1 << 20));
        let mut room = Room::new(10, 100, budget.clone());
        let mut window = 100;
        for streams in 1..=1000 {
            window = room.count(true).unwrap_or(window);
            assert!(window >= streams * 10 && window <= 100 + streams * 13, "{window} for {streams}");
            assert_eq!(budget.in_use(), window - 100);
        }
        for streams in (0..1000).rev() {
            window = room.count(false).unwrap_or(window);
            assert!(window >= streams * 10 && window <= 100 + streams * 20 + 20, "{window} for {streams}");
        }
        assert_eq!(budget.in_use(), 0);
    }

    #[test]
    fn the_budget_bounds_it() {
        let budget = Arc::new(Budget::new(400));
        let mut room = Room::new(10, 100, budget.clone());
        let windows: Vec<_> = (0..100).filter_map(|_| room.count(true)).collect();
        // A quarter of the budget is left to others.
        assert_eq!(*windows.last().unwrap(), 100 + 300);
        drop(room);
        assert_eq!(budget.in_use(), 0);
    }
}
