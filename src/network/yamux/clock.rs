//! Pings, the round-trip time, and the time limits of a connection.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::Context,
    time::{Duration, Instant},
};

use tokio::time::Sleep;

use super::KeepAlive;

/// While window updates are sent the round-trip time is measured this often.
const MEASURE: Duration = Duration::from_secs(10);
/// A connection that moves next to nothing for so long is at rest.
const REST: Duration = if cfg!(test) { Duration::from_millis(20) } else { Duration::from_secs(10) };
/// A ping that met more traffic than this waited in queues; it can only lower the estimate.
const QUIET: u64 = 64 * 1024;

#[derive(Debug, Clone, Copy)]
struct Ping {
    value: u32,
    sent: Instant,
    /// The connection's traffic when the ping was queued.
    traffic: u64,
}

/// What a look at the clock asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Tick {
    Nothing,
    /// Nothing was received for the keep-alive interval: send a ping, free spare memory.
    Idle,
}

pub(super) struct Clock {
    keep_alive: Option<KeepAlive>,
    write_timeout: Option<Duration>,
    sleep: Option<Pin<Box<Sleep>>>,
    armed: Option<Instant>,
    received: Instant,
    /// Since when a write waits for the socket.
    blocked: Option<Instant>,
    traffic: u64,
    /// When it was last looked after whether the connection is at rest, and the traffic until then.
    looked: Instant,
    seen: u64,
    ping: Option<Ping>,
    pinged: Option<Instant>,
    next_value: u32,
    round_trip: Option<Duration>,
}

impl Clock {
    pub(super) fn new(keep_alive: Option<KeepAlive>, write_timeout: Option<Duration>) -> Self {
        Self {
            keep_alive,
            write_timeout,
            sleep: None,
            armed: None,
            received: Instant::now(),
            blocked: None,
            traffic: 0,
            looked: Instant::now(),
            seen: 0,
            ping: None,
            pinged: None,
            next_value: 0,
            round_trip: None,
        }
    }

    pub(super) fn on_read(&mut self, n: usize) {
        self.received = Instant::now();
        self.traffic += n as u64;
    }

    pub(super) fn on_written(&mut self, n: usize) {
        self.traffic += n as u64;
        self.blocked = None;
    }

    pub(super) fn on_blocked(&mut self) {
        self.blocked.get_or_insert_with(Instant::now);
    }

    pub(super) fn on_flushed(&mut self) {
        self.blocked = None;
    }

    /// Whether next to nothing was moved for some time: true once in each such time. Pings of the peer, or of libp2p, do not
    /// count; where there are some the connection is never idle.
    pub(super) fn rested(&mut self) -> bool {
        if self.received.saturating_duration_since(self.looked) < REST {
            return false;
        }
        self.looked = self.received;
        let moved = self.traffic - std::mem::replace(&mut self.seen, self.traffic);
        moved < QUIET
    }

    /// The value of a ping to send now, if none is under way.
    pub(super) fn ping(&mut self) -> Option<u32> {
        if self.ping.is_some() {
            return None;
        }
        let sent = Instant::now();
        let value = self.next_value;
        self.next_value = value.wrapping_add(1);
        self.ping = Some(Ping { value, sent, traffic: self.traffic });
        self.pinged = Some(sent);
        Some(value)
    }

    /// The same, if the last ping was long enough ago to measure again.
    pub(super) fn measure(&mut self) -> Option<u32> {
        if self.pinged.is_some_and(|pinged| pinged.elapsed() < MEASURE) { None } else { self.ping() }
    }

    /// Takes an answer; the new estimate of the round-trip time, if it is the answer to our ping.
    pub(super) fn pong(&mut self, value: u32) -> Option<Duration> {
        let ping = self.ping.filter(|ping| ping.value == value)?;
        self.ping = None;
        let sample = ping.sent.elapsed();
        let quiet = self.traffic - ping.traffic < QUIET;
        let estimate = match self.round_trip {
            Some(known) if quiet => (3 * known + sample) / 4,
            Some(known) => known.min(sample),
            None => sample,
        };
        self.round_trip = Some(estimate);
        self.round_trip
    }

    /// Checks the limits and arms the timer for the next one. `TimedOut` if one has passed.
    pub(super) fn check(&mut self, cx: &mut Context<'_>) -> io::Result<Tick> {
        loop {
            let Some((deadline, idle)) = self.deadline() else { return Ok(Tick::Nothing) };
            // An armed timer that fires too early is cheaper than moving it with every read.
            if self.armed.is_some_and(|armed| armed <= deadline) && !self.fired(cx) {
                return Ok(Tick::Nothing);
            }
            if Instant::now() >= deadline {
                self.armed = None;
                return match (idle, self.blocked) {
                    (true, _) => Ok(Tick::Idle),
                    (false, Some(_)) => Err(timed_out("the remote does not read")),
                    (false, None) => Err(timed_out("the remote does not answer")),
                };
            }
            self.arm(deadline);
        }
    }

    fn fired(&mut self, cx: &mut Context<'_>) -> bool {
        self.sleep.as_mut().is_none_or(|sleep| sleep.as_mut().poll(cx).is_ready())
    }

    /// Sets the timer, whatever it was set to.
    pub(super) fn arm(&mut self, deadline: Instant) {
        self.armed = Some(deadline);
        match &mut self.sleep {
            Some(sleep) => sleep.as_mut().reset(deadline.into()),
            None => self.sleep = Some(Box::pin(tokio::time::sleep_until(deadline.into()))),
        }
    }

    /// True once the armed timer has fired.
    pub(super) fn poll_armed(&mut self, cx: &mut Context<'_>) -> bool {
        self.fired(cx)
    }

    /// The next limit, and whether it is the beginning of idleness.
    fn deadline(&self) -> Option<(Instant, bool)> {
        // A limit too far away to be expressed is none.
        let alive = self.keep_alive.and_then(|keep_alive| match self.ping {
            Some(ping) => Some((ping.sent.max(self.received).checked_add(keep_alive.timeout)?, false)),
            None => Some((self.received.checked_add(keep_alive.interval)?, true)),
        });
        let write = self.write_timeout.zip(self.blocked);
        let write = write.and_then(|(limit, since)| Some((since.checked_add(limit)?, false)));
        alive.into_iter().chain(write).min()
    }
}

fn timed_out(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("yamux: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The estimate after a ping that took `millis` and met `traffic` bytes.
    fn sample(clock: &mut Clock, millis: u64, traffic: usize) -> Duration {
        let value = clock.ping().expect("a ping is under way");
        clock.on_written(traffic);
        let ping = clock.ping.as_mut().expect("the ping is under way");
        ping.sent = ping.sent.checked_sub(Duration::from_millis(millis)).expect("the clock began later");
        assert_eq!(clock.pong(value.wrapping_add(1)), None, "the answer to another ping");
        clock.pong(value).expect("an estimate")
    }

    fn near(time: Duration, millis: u64) -> bool {
        (Duration::from_millis(millis)..Duration::from_millis(millis + 20)).contains(&time)
    }

    #[test]
    fn load_can_lower_the_round_trip_time_but_never_raise_it() {
        let mut clock = Clock::new(None, None);
        assert!(near(sample(&mut clock, 100, 0), 100));
        assert!(near(sample(&mut clock, 5000, 10_000_000), 100));
        assert!(near(sample(&mut clock, 60, 10_000_000), 60));
        assert!(near(sample(&mut clock, 140, 0), 80));
    }

    #[test]
    fn limits_beyond_the_end_of_time_are_none() {
        let keep_alive = KeepAlive { interval: Duration::MAX, timeout: Duration::MAX };
        let mut clock = Clock::new(Some(keep_alive), Some(Duration::MAX));
        clock.on_blocked();
        assert_eq!(clock.deadline(), None);
    }
}
