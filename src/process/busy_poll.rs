//! Looking for what is about to come, in place of sleeping until it has.
//!
//! To put a thread to sleep and wake it takes the system longer than everything that is done with a small message. So while
//! small messages follow each other closely, a thread that has nothing to do asks the system for a while what else has come
//! (busy polling). Whoever else wants the processor has it in between. Where messages come seldom, or are large, it sleeps.

use std::{
    cell::Cell,
    future::{pending, poll_fn},
    sync::atomic::{AtomicU32, Ordering},
    task::{Poll, Waker},
    thread,
    time::{Duration, Instant},
};

use tokio::runtime::{Builder, Runtime};

/// Of the last 16 waits so many must have been short.
const SHORT: u32 = 12;
/// What brings as much at a time is not waited for in this way: it is worth the wake-up. A network's full packets may come one by
/// one.
const LARGE: usize = 1200;
/// Who keeps the processor for so long needs it. Those that a message is for, or comes from, do not.
const NEEDED: Duration = Duration::from_millis(1);
/// Then the thread does not look again for so long.
const PAUSE: Duration = Duration::from_secs(1);

/// In microseconds; at first as the option `busy_poll` says.
static LIMIT: AtomicU32 = AtomicU32::new(100);

/// How long a thread looks again before it sleeps; zero switches that off.
pub fn set_busy_poll(limit: Duration) {
    LIMIT.store(limit.as_micros().try_into().unwrap_or(u32::MAX), Ordering::Relaxed);
}

thread_local! {
    /// The largest of what has arrived since the thread last had nothing to do.
    static ARRIVED: Cell<Option<usize>> = const { Cell::new(None) };
    static WAITING: Cell<Waits> = const { Cell::new(Waits::new()) };
    /// Makes the runtime go round once more.
    static AGAIN: Cell<Option<Waker>> = const { Cell::new(None) };
}

/// So many bytes were read from a socket at a time.
pub fn arrived(bytes: usize) {
    ARRIVED.set(ARRIVED.get().max(Some(bytes)));
}

/// The largest of what has arrived since this was last asked on this thread.
pub fn take_arrived() -> Option<usize> {
    ARRIVED.take()
}

/// Has the only thread of the runtime that is built poll busily.
pub(super) fn install(builder: &mut Builder) {
    builder.on_thread_park(before_sleep);
}

/// Runs `runtime` on this thread for ever.
pub(super) fn run(runtime: &Runtime) {
    let again = poll_fn(|cx| {
        AGAIN.set(Some(cx.waker().clone()));
        Poll::<()>::Pending
    });
    let _again = runtime.spawn(again);
    runtime.block_on(pending::<()>());
}

/// The runtime does not sleep if a task is ready then, but looks what else has come, and comes here again.
fn before_sleep() {
    let limit = LIMIT.load(Ordering::Relaxed);
    if limit == 0 {
        return;
    }
    let limit = Duration::from_micros(limit.into());
    let mut waits = WAITING.get();
    let now = Instant::now();
    if waits.looks_again(now, take_arrived(), limit)
        && let Some(waker) = AGAIN.take()
    {
        thread::yield_now();
        waits.gave_way(now, now.elapsed(), limit);
        waker.wake_by_ref();
        AGAIN.set(Some(waker));
    }
    WAITING.set(waits);
}

/// How long the thread waited lately.
#[derive(Clone, Copy)]
struct Waits {
    /// Since when; `None` before the first time.
    since: Option<Instant>,
    /// A bit for each of the last waits, set where it was short and what came was small.
    short: u16,
    looking: bool,
    /// Not to look before this time.
    pause: Option<Instant>,
}

impl Waits {
    const fn new() -> Self {
        Waits { since: None, short: 0, looking: false, pause: None }
    }

    /// There is nothing to do `now`, after what `arrived`: whether to look again, for `limit` at most, or to sleep.
    fn looks_again(&mut self, now: Instant, arrived: Option<usize>, limit: Duration) -> bool {
        let short = now - *self.since.get_or_insert(now) < limit;
        match arrived {
            Some(LARGE..) => self.short = 0,
            Some(_) => self.short = self.short << 1 | u16::from(short),
            None => {
                self.looking &= short;
                return self.looking;
            }
        }
        self.since = Some(now);
        self.pause = self.pause.filter(|end| now < *end);
        self.looking = self.short.count_ones() >= SHORT && self.pause.is_none();
        self.looking
    }

    /// It looked `now`, and others had the processor for `time` then. Where they need it, a thread that sleeps has it back
    /// sooner than one that has left it to them.
    fn gave_way(&mut self, now: Instant, time: Duration, limit: Duration) {
        if time > limit.max(NEEDED) {
            self.looking = false;
            self.pause = Some(now + PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::{Options, Scope, Values};

    const LIMIT: Duration = Duration::from_micros(100);
    const SMALL: Option<usize> = Some(64);

    /// A thread that has waited often enough for a short time to look for what comes, and when.
    fn looking() -> (Waits, Instant) {
        let mut waits = Waits::new();
        let mut now = Instant::now();
        assert!(!waits.looks_again(now, None, LIMIT), "nothing is known yet");
        for wait in 1..=SHORT {
            now += LIMIT / 2;
            assert_eq!(waits.looks_again(now, SMALL, LIMIT), wait == SHORT, "after {wait} short waits");
        }
        (waits, now)
    }

    #[test]
    fn it_looks_until_the_limit_and_then_sleeps() {
        let (mut waits, now) = looking();
        assert!(waits.looks_again(now + LIMIT * 99 / 100, None, LIMIT));
        assert!(!waits.looks_again(now + LIMIT, None, LIMIT));
        assert!(!waits.looks_again(now + LIMIT / 2, None, LIMIT), "it sleeps until something comes");
    }

    #[test]
    fn a_few_long_waits_among_short_ones_do_not_matter_and_many_do() {
        let (mut waits, mut now) = looking();
        for long in 1..=5 {
            now += LIMIT;
            assert_eq!(waits.looks_again(now, SMALL, LIMIT), long < 5, "after {long} long waits");
        }
    }

    #[test]
    fn what_is_large_is_not_waited_for_nor_what_comes_next() {
        let (mut waits, mut now) = looking();
        for arrived in [Some(LARGE), SMALL, None] {
            now += LIMIT / 10;
            assert!(!waits.looks_again(now, arrived, LIMIT), "{arrived:?}");
        }
    }

    #[test]
    fn where_others_need_the_processor_it_sleeps_for_a_while() {
        let (mut waits, mut now) = looking();
        waits.gave_way(now, NEEDED, LIMIT);
        assert!(waits.looks_again(now + LIMIT / 2, None, LIMIT));
        waits.gave_way(now, 2 * NEEDED, LIMIT);
        assert!(!waits.looks_again(now + LIMIT / 2, None, LIMIT));
        for end in [LIMIT / 2, PAUSE - LIMIT, PAUSE] {
            assert_eq!(waits.looks_again(now + end, SMALL, LIMIT), end == PAUSE, "{end:?}");
        }
        now += PAUSE;
        assert!(waits.looks_again(now, None, LIMIT));
    }

    #[test]
    fn it_looks_for_as_long_as_the_option_says_from_the_start() {
        let values = Values::resolve(Scope::Process, &Options::new(), &|_| None).unwrap();
        assert_eq!(super::LIMIT.load(Ordering::Relaxed) as usize, values.size("busy_poll"));
    }
}
