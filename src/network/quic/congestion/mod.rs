//! How much may be in flight.
//!
//! Cubic (RFC 9438) alone has two faults. It fills whatever buffer the path has before it stops: 7 MiB in the receiver's UDP
//! socket, where nothing else is in the way. And it takes every loss for congestion: a path that loses one packet in
//! a hundred carries next to nothing. So it is bounded here by what the path holds ([`path`]), and hears only of losses
//! that come with another sign of congestion: round trips that are longer, or more than one packet in fifty lost (what
//! BBR, draft-ietf-ccwg-bbr, bears, too). While there is no sign of congestion at all, it tries now and then whether more
//! fits, and goes on for as long as it does.

mod cubic;
mod path;
#[cfg(test)]
mod tests;

use std::{any::Any, sync::Arc, time::Instant};

use quinn::congestion::{Controller, ControllerFactory};
use quinn_proto::RttEstimator;

use self::{cubic::Cubic, path::Path};

/// The fewest packets that the bound leaves: with less, the peer waits for more before it acknowledges.
const LEAST: u64 = 4;
/// Most bytes in flight before anything was acknowledged (RFC 9002 section 7.2).
const INITIAL_WINDOW: u64 = 12_000;

/// Makes what each path of a connection needs.
pub(super) struct Factory;

impl ControllerFactory for Factory {
    fn build(self: Arc<Self>, now: Instant, mtu: u16) -> Box<dyn Controller> {
        Box::new(Congestion::new(now, mtu))
    }
}

#[derive(Clone)]
struct Congestion {
    cubic: Cubic,
    path: Path,
    mtu: u64,
}

impl Congestion {
    fn new(now: Instant, mtu: u16) -> Self {
        Congestion { cubic: Cubic::new(INITIAL_WINDOW, mtu.into()), path: Path::new(now), mtu: mtu.into() }
    }

    /// `bytes` sent at `sent` have arrived. `idle`: not all that may be in flight was (application-limited).
    fn on_arrival(&mut self, now: Instant, sent: Instant, bytes: u64, idle: bool) {
        self.path.on_arrival(now, sent, bytes, idle);
        if !idle && self.cubic.window() < self.path.bound() {
            let room = self.path.may_have_room() && !self.has_congestion();
            self.cubic.on_arrival(now, sent, bytes, self.path.latest(), room);
        }
    }

    fn has_congestion(&self) -> bool {
        self.path.has_queue() || self.path.loses_much(self.mtu)
    }
}

impl Controller for Congestion {
    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool, _: &RttEstimator) {
        self.on_arrival(now, sent, bytes, app_limited);
    }

    fn on_congestion_event(&mut self, now: Instant, sent: Instant, persistent: bool, lost: u64) {
        self.path.on_loss(lost);
        // Without a loss it is a router that says so (explicit congestion notification).
        if persistent || lost == 0 || self.has_congestion() {
            self.cubic.limit(self.path.most());
            self.cubic.on_congestion(now, sent, persistent);
        }
    }

    fn on_mtu_update(&mut self, mtu: u16) {
        self.mtu = mtu.into();
        self.cubic.set_packet(self.mtu);
    }

    fn window(&self) -> u64 {
        self.cubic.window().min(self.path.bound().max(LEAST * self.mtu))
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        INITIAL_WINDOW
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}
