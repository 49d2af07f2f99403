//! Flows over paths that exist in numbers only.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    time::{Duration, Instant},
};

use super::*;

const PACKET: u64 = 1452;
const KB: f64 = 1e3;
const MB: f64 = 1e6;

/// A path with a bottleneck, and what went over it. Times are seconds, sizes bytes.
struct Link {
    rate: f64,
    round_trip: f64,
    buffer: f64,
    /// One packet in so many is lost by chance.
    loses: Option<u64>,
    chance: u64,
    /// When the bottleneck has sent what waits there.
    free_at: f64,
    longest_queue: f64,
    dropped: u64,
}

impl Link {
    /// `buffer` in bandwidth-delay products.
    fn new(rate: f64, round_trip: f64, buffer: f64) -> Self {
        let buffer = rate * round_trip * buffer;
        Link { rate, round_trip, buffer, loses: None, chance: 1, free_at: 0.0, longest_queue: 0.0, dropped: 0 }
    }

    fn losing(self, one_in: u64) -> Self {
        Link { loses: Some(one_in), ..self }
    }

    /// When a packet that is sent at `now` is acknowledged.
    fn send(&mut self, now: f64) -> Option<f64> {
        self.chance = self.chance.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let waiting = (self.free_at - now).max(0.0);
        if waiting * self.rate + PACKET as f64 > self.buffer.max(10.0 * PACKET as f64) {
            self.dropped += 1;
            return None;
        }
        self.longest_queue = self.longest_queue.max(waiting);
        self.free_at = now + waiting + PACKET as f64 / self.rate;
        let lost = self.loses.is_some_and(|one_in| (self.chance >> 33).is_multiple_of(one_in));
        (!lost).then_some(self.free_at + self.round_trip)
    }
}

/// A sender that always has more to send.
struct Flow {
    control: Congestion,
    next: u64,
    /// The packets in flight, and when they were sent.
    flight: BTreeMap<u64, f64>,
    arrived: u64,
    sent: u64,
    /// Packets leave a quarter faster than the window in a round trip, but for a few (RFC 9002 section 7.7): when the next
    /// one may, and whether that is waited for.
    may_send_at: f64,
    waits: bool,
}

/// Packets that may leave at once.
const BURST: f64 = 10.0;
/// Stands for a packet where there is none, only the time to send more.
const NONE: u64 = u64::MAX;

struct World {
    began: Instant,
    now: f64,
    link: Link,
    flows: Vec<Flow>,
    /// Acknowledgements that come: when (in nanoseconds), of which flow, of which packet.
    coming: BinaryHeap<Reverse<(u64, usize, u64)>>,
}

impl World {
    fn new(link: Link, flows: usize) -> Self {
        let began = Instant::now();
        let flow = |_| Flow {
            control: Congestion::new(began, PACKET as u16),
            next: 0,
            flight: BTreeMap::new(),
            arrived: 0,
            sent: 0,
            may_send_at: 0.0,
            waits: false,
        };
        World { began, now: 0.0, link, flows: (0..flows).map(flow).collect(), coming: BinaryHeap::new() }
    }

    fn at(&self, time: f64) -> Instant {
        self.began + Duration::from_secs_f64(time)
    }

    fn send(&mut self, index: usize) {
        let flow = &mut self.flows[index];
        while (flow.flight.len() as u64 + 1) * PACKET < flow.control.window() {
            if flow.may_send_at > self.now {
                if !std::mem::replace(&mut flow.waits, true) {
                    self.coming.push(Reverse(((flow.may_send_at * 1e9) as u64 + 1, index, NONE)));
                }
                return;
            }
            let round_trip = flow.control.path.latest().as_secs_f64().max(self.link.round_trip);
            let step = PACKET as f64 * round_trip / (1.25 * flow.control.window() as f64);
            flow.may_send_at = flow.may_send_at.max(self.now - BURST * step) + step;
            flow.flight.insert(flow.next, self.now);
            flow.sent += 1;
            if let Some(time) = self.link.send(self.now) {
                self.coming.push(Reverse(((time * 1e9) as u64, index, flow.next)));
            }
            flow.next += 1;
        }
    }

    /// Goes on for so many seconds; what part of the link each flow has had, and what part of all packets had no room.
    fn run(&mut self, seconds: f64) -> (Vec<f64>, f64) {
        let until = self.now + seconds;
        let (dropped, sent) = (self.link.dropped, self.sent());
        let before: Vec<_> = self.flows.iter().map(|flow| flow.arrived).collect();
        loop {
            for index in 0..self.flows.len() {
                self.send(index);
            }
            let Some(Reverse((time, index, packet))) = self.coming.pop() else {
                // Nothing of what is in flight arrives.
                self.now += 3.0 * self.link.round_trip;
                for index in 0..self.flows.len() {
                    self.lose(index, u64::MAX);
                }
                continue;
            };
            self.now = time as f64 / 1e9;
            if self.now >= until {
                self.coming.push(Reverse((time, index, packet)));
                break;
            }
            let now = self.at(self.now);
            if packet == NONE {
                self.flows[index].waits = false;
            } else if let Some(sent) = self.flows[index].flight.remove(&packet) {
                let sent = self.at(sent);
                let flow = &mut self.flows[index];
                flow.arrived += PACKET;
                flow.control.on_arrival(now, sent, PACKET, false);
                // Three packets behind it have arrived: it is lost.
                self.lose(index, packet.saturating_sub(2));
            }
        }
        let arrived = self.flows.iter().zip(before).map(|(flow, before)| (flow.arrived - before) as f64);
        let shares = arrived.map(|bytes| bytes / (self.link.rate * seconds)).collect();
        (shares, (self.link.dropped - dropped) as f64 / (self.sent() - sent) as f64)
    }

    fn sent(&self) -> u64 {
        self.flows.iter().map(|flow| flow.sent).sum()
    }

    /// Takes what was sent before this packet for lost.
    fn lose(&mut self, index: usize, before: u64) {
        let kept = self.flows[index].flight.split_off(&before);
        let lost = std::mem::replace(&mut self.flows[index].flight, kept);
        if let Some((_, sent)) = lost.last_key_value() {
            let (now, sent) = (self.at(self.now), self.at(*sent));
            self.flows[index].control.on_congestion_event(now, sent, false, lost.len() as u64 * PACKET);
        }
    }
}

/// Rates and round trips from a slow line to a fast network.
const PATHS: [(f64, f64); 5] =
    [(125.0 * KB, 0.05), (12.5 * MB, 0.01), (12.5 * MB, 0.15), (62.5 * MB, 0.04), (125.0 * MB, 0.001)];

#[test]
fn a_path_is_filled_whatever_its_buffer() {
    for (rate, round_trip) in PATHS {
        for buffer in [0.2, 1.0, 4.0] {
            let mut world = World::new(Link::new(rate, round_trip, buffer), 1);
            world.run(5.0);
            let (shares, dropped) = world.run(20.0);
            let path = format!("{rate} B/s, {round_trip} s, buffer {buffer}");
            assert!(shares[0] > 0.8 && dropped < 0.02, "{shares:.2?}, {dropped:.4} dropped: {path}");
        }
    }
}

#[test]
fn losses_by_chance_cost_little() {
    for (rate, round_trip) in PATHS {
        let mut world = World::new(Link::new(rate, round_trip, 1.0).losing(100), 1);
        world.run(10.0);
        let (shares, _) = world.run(20.0);
        assert!(shares[0] > 0.8, "{shares:.2?} of {rate} B/s, {round_trip} s");
    }
}

#[test]
fn a_large_buffer_is_not_filled() {
    let mut world = World::new(Link::new(12.5 * MB, 0.02, 50.0), 1);
    let (shares, _) = world.run(60.0);
    // The path holds 250 KB, so twice that and the slack may be in flight.
    assert!(world.link.longest_queue < 0.1, "{:.3} s in the queue", world.link.longest_queue);
    assert!(shares[0] > 0.95, "{shares:.2?}");
}

#[test]
fn it_follows_the_path() {
    let mut world = World::new(Link::new(12.5 * MB, 0.04, 1.0), 1);
    world.run(5.0);
    world.link.rate /= 10.0;
    world.run(5.0);
    let (shares, dropped) = world.run(10.0);
    assert!(shares[0] > 0.85 && dropped < 0.01, "{shares:.2?}, {dropped:.4} dropped: a tenth of the rate");
    world.link.rate *= 50.0;
    world.link.buffer *= 5.0;
    world.run(5.0);
    let (shares, _) = world.run(10.0);
    assert!(shares[0] > 0.85, "{shares:.2?}: fifty times the rate");
    world.link.round_trip *= 5.0;
    world.link.buffer *= 5.0;
    world.run(25.0);
    let (shares, _) = world.run(10.0);
    assert!(shares[0] > 0.85, "{shares:.2?}: five times the round trip");
}

#[test]
fn flows_share_a_path() {
    for buffer in [0.2, 1.0, 4.0] {
        let mut world = World::new(Link::new(12.5 * MB, 0.04, buffer), 3);
        world.run(20.0);
        let (shares, dropped) = world.run(60.0);
        let least = shares.iter().copied().fold(1.0, f64::min);
        let all = shares.iter().sum::<f64>();
        assert!(least > 0.15 && all > 0.9 && dropped < 0.01, "{shares:.2?}, {dropped:.4} dropped with buffer {buffer}");
    }
}

#[test]
fn congestion_is_answered_from_what_was_in_flight() {
    let mut world = World::new(Link::new(12.5 * MB, 0.04, 4.0), 1);
    world.run(5.0);
    let (now, control) = (world.at(world.now), &mut world.flows[0].control);
    control.path.slow_down(20.0);
    let before = control.window();
    assert!(before < control.cubic.window() / 2, "the bound is what counts");
    // A router's mark.
    control.on_congestion_event(now, now, false, 0);
    let after = control.window() as f64 / before as f64;
    assert!((0.69..0.71).contains(&after), "{after}");
}

#[test]
fn time_without_much_to_send_is_no_time_to_grow() {
    let began = Instant::now();
    let mut cubic = Cubic::new(100 * PACKET, PACKET);
    cubic.on_congestion(began, began, false);
    let round_trip = Duration::from_millis(50);
    let mut now = began;
    for pause in [0.05, 0.05, 600.0, 0.05] {
        now += Duration::from_secs_f64(pause);
        for _ in 0..cubic.window() / PACKET {
            cubic.on_arrival(now, now, PACKET, round_trip, false);
        }
    }
    let packets = cubic.window() / PACKET;
    assert!((70..100).contains(&packets), "{packets}");
}
