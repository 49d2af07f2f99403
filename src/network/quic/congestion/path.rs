//! What acknowledgements tell of a path: how fast data arrives, how long it takes, what gets lost.

use std::time::{Duration, Instant};

/// In flight may be so many times what the path holds, and what it takes up in `SLACK` more, in bytes from the first to the
/// second of `SLACK_BYTES`: the shortest round trip says little where round trips differ much.
const GAIN: f64 = 2.0;
const SLACK: Duration = Duration::from_millis(100);
const SLACK_BYTES: [f64; 2] = [32e3, 512e3];
/// A queue is a sign of congestion when it makes round trips longer by an eighth of the shortest one, and by this much.
const QUEUE: Duration = Duration::from_millis(1);
/// Losses are a sign of congestion when more than one packet in `LOSS` is lost, and more than `FEW` of them.
const LOSS: u64 = 50;
const FEW: u64 = 4;
/// The shortest round trip is looked for again when none as short was seen for so long.
const SHORTEST_FOR: Duration = Duration::from_secs(10);
/// The fastest rate counts for so many rounds to twice as many.
const ROUNDS: u32 = 8;
/// It is tried again whether there is room for more after so many rounds, and after twice as many, up to the second number,
/// whenever there was none.
const TRY_AFTER: [u32; 2] = [8, 128];

#[derive(Clone)]
pub(super) struct Path {
    /// The shortest round trip (min_rtt), and when one as short was last seen.
    shortest: Duration,
    seen: Instant,
    /// The round trip of the newest packet that has arrived, and when that was heard of.
    latest: Duration,
    heard: Instant,
    /// While the shortest round trip is looked for with little in flight: since when, and the shortest since.
    looking: Option<(Instant, Duration)>,
    /// The fastest rates, in bytes a second, of the last rounds and of those before.
    rates: [f64; 2],
    /// Counts the rounds, of one round trip each, in which there was enough to send.
    rounds: u32,
    /// When this round began, and what has arrived since.
    began: Instant,
    arrived: u64,
    /// Whether there was too little to send at some moment of it.
    idle: bool,
    /// Whether this is a round to try if there is room for more, and whether the last one was: this one then shows if there is.
    trying: bool,
    tried: bool,
    /// The rate before the try.
    from: f64,
    /// The rounds until the next try, and those to wait when it finds nothing.
    try_in: u32,
    try_after: u32,
    /// What was lost and what has arrived in the last rounds; older ones count less and less.
    lost: u64,
    delivered: u64,
}

impl Path {
    pub fn new(now: Instant) -> Self {
        Path {
            shortest: Duration::MAX,
            seen: now,
            latest: Duration::ZERO,
            heard: now,
            looking: None,
            rates: [0.0; 2],
            rounds: 0,
            began: now,
            arrived: 0,
            idle: false,
            trying: false,
            tried: false,
            from: 0.0,
            try_in: TRY_AFTER[0],
            try_after: TRY_AFTER[0],
            lost: 0,
            delivered: 0,
        }
    }

    /// `bytes` sent at `sent` have arrived. `idle`: not all that may be in flight was.
    pub fn on_arrival(&mut self, now: Instant, sent: Instant, bytes: u64, idle: bool) {
        self.arrived += bytes;
        self.idle |= idle;
        // What came is stamped with the time at which reading began, and what was sent meanwhile is newer.
        let sample = now.saturating_duration_since(sent);
        if sample.is_zero() {
            return;
        }
        // Those that are heard of together come in any order.
        self.latest = if now == self.heard { sample.min(self.latest) } else { sample };
        self.heard = now;
        self.on_round_trip(now, sample, idle);
        if sent >= self.began {
            self.on_round(now);
        }
    }

    pub fn on_loss(&mut self, bytes: u64) {
        self.lost += bytes;
    }

    pub fn latest(&self) -> Duration {
        self.latest
    }

    fn on_round_trip(&mut self, now: Instant, sample: Duration, idle: bool) {
        if sample <= self.shortest.saturating_add(self.shortest / 8) {
            self.shortest = self.shortest.min(sample);
            self.seen = now;
            self.looking = None;
        } else if let Some((since, shortest)) = &mut self.looking {
            *shortest = sample.min(*shortest);
            // What was in flight before has to go first.
            if now >= *since + 3 * self.latest {
                self.shortest = *shortest;
                self.seen = now;
                self.looking = None;
            }
        } else if !idle && now >= self.seen + SHORTEST_FOR {
            self.looking = Some((now, sample));
        }
    }

    /// All that was in flight when the round began has had its time.
    fn on_round(&mut self, now: Instant) {
        // What was sent in this round has arrived after it was sent.
        let rate = self.arrived as f64 / (now - self.began).as_secs_f64();
        // With too little in flight the path may be faster than that.
        let little = self.idle || self.looking.is_some();
        if !little || rate > self.rate() {
            if self.rounds.is_multiple_of(ROUNDS) {
                self.rates = [0.0, self.rates[0]];
            }
            self.rates[0] = self.rates[0].max(rate);
            self.rounds = self.rounds.wrapping_add(1);
        }
        let found = self.tried && rate > self.from * 1.1;
        if found {
            self.try_after = TRY_AFTER[0];
        } else if self.tried && !little {
            self.try_after = (2 * self.try_after).min(TRY_AFTER[1]);
        }
        self.tried = self.trying && !little;
        self.try_in = self.try_in.saturating_sub(u32::from(!little));
        self.trying = !little && (found || self.try_in == 0);
        if self.trying {
            self.from = rate;
            self.try_in = self.try_after;
        }
        self.delivered += self.arrived;
        self.delivered -= self.delivered / 8;
        self.lost -= self.lost / 8;
        self.began = now;
        self.arrived = 0;
        self.idle = false;
    }

    /// The fastest rate of late, in bytes a second.
    fn rate(&self) -> f64 {
        self.rates[0].max(self.rates[1])
    }

    /// Most bytes that may be in flight now.
    pub fn bound(&self) -> u64 {
        match self.looking {
            Some(_) => (self.held() / 2.0) as u64,
            None => self.most(),
        }
    }

    /// Most bytes that may be in flight while the shortest round trip is not looked for.
    pub fn most(&self) -> u64 {
        let slack = (self.rate() * SLACK.as_secs_f64()).clamp(SLACK_BYTES[0], SLACK_BYTES[1]);
        if self.rate() == 0.0 { u64::MAX } else { (self.held() * GAIN + slack) as u64 }
    }

    /// What the path holds: the bandwidth-delay product.
    fn held(&self) -> f64 {
        self.rate() * self.shortest.as_secs_f64()
    }

    #[cfg(test)]
    pub fn slow_down(&mut self, times: f64) {
        self.rates = self.rates.map(|rate| rate / times);
    }

    /// Whether it is time to try if there is room for more.
    pub fn may_have_room(&self) -> bool {
        self.trying
    }

    pub fn has_queue(&self) -> bool {
        self.latest > self.shortest.saturating_add(QUEUE.max(self.shortest / 8))
    }

    /// Whether more gets lost than chance explains. `packet` is the size of one.
    pub fn loses_much(&self, packet: u64) -> bool {
        self.lost > (self.delivered + self.arrived + self.lost) / LOSS + FEW * packet
    }
}
