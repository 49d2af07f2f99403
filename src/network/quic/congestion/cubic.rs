//! The window of Cubic (RFC 9438): slow start, then a cubic function of the time since the last congestion.

use std::time::{Duration, Instant};

/// How fast the window grows, and what it is multiplied with at congestion (RFC 9438 sections 5.1 and 4.6).
const C: f64 = 0.4;
const BETA: f64 = 0.7;

/// Sizes are bytes.
#[derive(Clone)]
pub(super) struct Cubic {
    window: f64,
    packet: f64,
    /// Slow start ends here (ssthresh).
    threshold: f64,
    /// The window before the last congestion, to which the function returns (W_max).
    before: f64,
    /// What Reno's window would be (W_est, RFC 9438 section 4.3).
    reno: f64,
    /// When the last congestion was noticed.
    noticed: Option<Instant>,
    /// The growth since then, once there is some.
    growth: Option<Growth>,
}

#[derive(Clone, Copy)]
struct Growth {
    began: Instant,
    /// When it was last looked at. What is longer ago than a round trip was no time to grow (RFC 9438 section 4.2).
    last: Instant,
    /// The window at which the function is flat, and the seconds it takes to get there (K).
    flat: f64,
    after: f64,
}

impl Cubic {
    pub fn new(window: u64, packet: u64) -> Self {
        Cubic {
            window: window as f64,
            packet: packet as f64,
            threshold: f64::INFINITY,
            before: 0.0,
            reno: 0.0,
            noticed: None,
            growth: None,
        }
    }

    pub fn window(&self) -> u64 {
        self.window as u64
    }

    pub fn set_packet(&mut self, packet: u64) {
        self.packet = packet as f64;
        self.window = self.window.max(self.least());
    }

    /// No more than this was in flight, whatever the window.
    pub fn limit(&mut self, flight: u64) {
        self.window = self.window.min(flight as f64).max(self.least());
    }

    fn least(&self) -> f64 {
        2.0 * self.packet
    }

    /// Whether what was sent then tells nothing new.
    fn is_old(&self, sent: Instant) -> bool {
        self.noticed.is_some_and(|noticed| sent <= noticed)
    }

    /// `bytes` sent at `sent` have arrived while the window was full. `room`: try a quarter more in this round trip.
    pub fn on_arrival(&mut self, now: Instant, sent: Instant, bytes: u64, round_trip: Duration, room: bool) {
        if self.is_old(sent) {
            return;
        }
        let bytes = bytes as f64;
        if self.window < self.threshold {
            self.window += bytes;
            return;
        }
        if room {
            self.window += bytes / 4.0;
            // The function goes on from here.
            self.before = self.before.max(self.window);
            self.growth = None;
            return;
        }
        let growth = self.growth.get_or_insert_with(|| {
            self.reno = self.window;
            let flat = self.before.max(self.window);
            Growth { began: now, last: now, flat, after: ((flat - self.window) / self.packet / C).cbrt() }
        });
        growth.began += now.saturating_duration_since(growth.last).saturating_sub(round_trip);
        growth.last = now;
        let Growth { began, flat, after, .. } = *growth;
        let time = (now.saturating_duration_since(began) + round_trip).as_secs_f64();
        let wanted = flat + C * (time - after).powi(3) * self.packet;
        // At most half as much again in a round trip, and never less.
        let wanted = wanted.clamp(self.window, 1.5 * self.window);
        let share = bytes / self.window;
        let reno = if self.reno < flat { 3.0 * (1.0 - BETA) / (1.0 + BETA) } else { 1.0 };
        self.reno += reno * share * self.packet;
        self.window = (self.window + (wanted - self.window) * share).max(self.reno);
    }

    /// Congestion was noticed by the fate of what was sent at `sent`. `persistent`: for a long time nothing has arrived
    /// (RFC 9002 section 7.6).
    pub fn on_congestion(&mut self, now: Instant, sent: Instant, persistent: bool) {
        if self.is_old(sent) {
            return;
        }
        self.noticed = Some(now);
        self.growth = None;
        // Less than last time: others want their share, so it is left to them sooner (RFC 9438 section 4.7).
        self.before = if self.window < self.before { self.window * (1.0 + BETA) / 2.0 } else { self.window };
        self.window = (self.window * BETA).max(self.least());
        self.threshold = self.window;
        if persistent {
            self.noticed = None;
            self.before = 0.0;
            self.window = self.least();
        }
    }
}
