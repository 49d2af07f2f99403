//! The library's log: off until a level and an output are set, and never in the way of who logs.
//!
//! A line is made on the thread that logs and queued; a thread of its own writes it. What the queue or the output does not
//! take is dropped and counted. Everything belongs to one process: after a fork the child starts with the log off.

mod line;
mod output;

use std::{
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use once_cell::sync::OnceCell;
use parking_lot::Mutex;
use tracing::{
    Event, Metadata, Subscriber,
    level_filters::LevelFilter,
    span,
    subscriber::{self, Interest},
};

use self::output::{Output, Written};
use crate::{
    error::{Error, Result, Status},
    process::{self, PerProcess},
};

/// Lines that wait at most for their output.
const QUEUE: usize = 1024;
/// How long an output that is replaced may take for the lines that wait for it.
const FLUSH_MAX: Duration = Duration::from_millis(150);
/// How long the write that is under way then may take.
const RETIRE_MAX: Duration = Duration::from_millis(50);
/// Where this library's own events come from.
const OWN: &str = "p2pmount";

/// How much is logged. Each level includes those before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    #[default]
    Off,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl Level {
    const ALL: [Level; 6] = [Level::Off, Level::Error, Level::Warn, Level::Info, Level::Debug, Level::Trace];
    /// The names of the levels, in their order.
    pub const NAMES: [&'static str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

    /// The level of that name.
    pub fn parse(name: &str) -> Option<Level> {
        Level::NAMES.iter().position(|known| *known == name).map(|at| Level::ALL[at])
    }

    pub fn as_str(self) -> &'static str {
        Level::NAMES[self as usize]
    }

    fn of(level: tracing::Level) -> Level {
        match level {
            tracing::Level::ERROR => Level::Error,
            tracing::Level::WARN => Level::Warn,
            tracing::Level::INFO => Level::Info,
            tracing::Level::DEBUG => Level::Debug,
            tracing::Level::TRACE => Level::Trace,
        }
    }

    fn filter(self) -> LevelFilter {
        match self {
            Level::Off => LevelFilter::OFF,
            Level::Error => LevelFilter::ERROR,
            Level::Warn => LevelFilter::WARN,
            Level::Info => LevelFilter::INFO,
            Level::Debug => LevelFilter::DEBUG,
            Level::Trace => LevelFilter::TRACE,
        }
    }
}

/// Sets how much is logged. Fails with [`Status::BadOption`] in a program that has a `tracing` subscriber of its own.
pub fn set_level(level: Level) -> Result<()> {
    logger().set_level(level)
}

/// The level that was set, also while there is no output.
pub fn level() -> Level {
    logger().level()
}

/// Sets where lines go, or `None` for nowhere. The descriptor's own flags are never changed.
///
/// Lines that wait for the former output are given to it for at most 200 milliseconds. When the call returns nothing more is
/// written there; only a single write in which the operating system itself is stuck may still end later.
/// Fails with [`Status::InvalidArgument`] (not open for writing) or [`Status::System`] (no thread).
pub fn set_output(output: Option<OwnedFd>) -> Result<()> {
    logger().set_output(output)
}

/// Lines that were lost, because the queue was full or the output did not take them.
pub fn dropped() -> u64 {
    logger().dropped.load(Ordering::Relaxed)
}

/// The log of this process.
fn logger() -> &'static Logger {
    static LOGGER: PerProcess<Logger> = PerProcess::new();
    LOGGER.get_or_init(Logger::default)
}

#[derive(Default)]
struct Logger {
    /// The level in force: off while there is no output.
    gate: AtomicU8,
    level: AtomicU8,
    dropped: AtomicU64,
    /// Held while level or output change.
    control: Mutex<()>,
    output: Mutex<Option<Arc<Output>>>,
    /// To the writing thread, which is started with the first output.
    queue: OnceCell<SyncSender<Message>>,
}

enum Message {
    Line(String),
    /// Answered when everything queued before has been handled.
    Flush(SyncSender<()>),
}

impl Logger {
    fn set_level(&self, level: Level) -> Result<()> {
        let _control = self.control.lock();
        if level != Level::Off {
            install()?;
        }
        self.level.store(level as u8, Ordering::Relaxed);
        self.open_gate();
        Ok(())
    }

    fn level(&self) -> Level {
        Level::ALL[usize::from(self.level.load(Ordering::Relaxed))]
    }

    fn gate(&self) -> Level {
        Level::ALL[usize::from(self.gate.load(Ordering::Relaxed))]
    }

    fn set_output(&'static self, fd: Option<OwnedFd>) -> Result<()> {
        let new = fd.map(Output::new).transpose()?.map(Arc::new);
        let _control = self.control.lock();
        if new.is_some() {
            self.start_writer()?;
        } else {
            self.set_gate(Level::Off);
        }
        // With the old output still in place for the lines that wait for it.
        self.flush(FLUSH_MAX);
        let old = std::mem::replace(&mut *self.output.lock(), new);
        if let Some(old) = old {
            old.retire(RETIRE_MAX);
        }
        self.open_gate();
        Ok(())
    }

    fn open_gate(&self) {
        let open = self.output.lock().is_some();
        self.set_gate(if open { self.level() } else { Level::Off });
    }

    fn set_gate(&self, level: Level) {
        self.gate.store(level as u8, Ordering::Relaxed);
        // `tracing` keeps the highest level of all subscribers in a global of its own, the only thing an event costs that
        // is not logged.
        if INSTALLED.load(Ordering::Relaxed) {
            tracing::callsite::rebuild_interest_cache();
        }
    }

    fn submit(&self, line: String) {
        let queued = self.queue.get().is_some_and(|queue| queue.try_send(Message::Line(line)).is_ok());
        if !queued {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until the lines queued so far have been handled, at most for `max`.
    fn flush(&self, max: Duration) {
        let Some(queue) = self.queue.get() else { return };
        let deadline = Instant::now() + max;
        let (handled, when_handled) = sync_channel(1);
        let mut message = Message::Flush(handled);
        while let Err(TrySendError::Full(back)) = queue.try_send(message) {
            if Instant::now() >= deadline {
                return;
            }
            message = back;
            thread::sleep(Duration::from_millis(2));
        }
        let _ = when_handled.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }

    fn start_writer(&'static self) -> Result<()> {
        let start = || {
            let (queue, lines) = sync_channel(QUEUE);
            let run = move || {
                process::thread_start();
                self.write_lines(&lines);
            };
            let started = thread::Builder::new().name("p2p-log".into()).spawn(run);
            started.map(|_| queue).map_err(|e| Error::system(Status::System, "the log's thread can not be started", &e))
        };
        self.queue.get_or_try_init(start).map(|_| ())
    }

    fn write_lines(&self, lines: &Receiver<Message>) {
        while let Ok(message) = lines.recv() {
            match message {
                Message::Line(line) => {
                    if !self.write_line(line.as_bytes()) {
                        self.dropped.fetch_add(1, Ordering::Relaxed);
                    }
                }
                Message::Flush(handled) => {
                    let _ = handled.try_send(());
                }
            }
        }
    }

    fn write_line(&self, line: &[u8]) -> bool {
        loop {
            // Not held during the write, which can take its time.
            let output = self.output.lock().clone();
            match output.map(|output| output.write(line)) {
                Some(Written::Whole) => return true,
                // Its successor is already in place.
                Some(Written::Retired) => {}
                Some(Written::Failed) | None => return false,
            }
        }
    }
}

/// Our subscriber is the process's. This outlives a fork, as `tracing`'s own state does.
static INSTALLED: AtomicBool = AtomicBool::new(false);

/// Called with the log's `control` held.
fn install() -> Result<()> {
    if INSTALLED.load(Ordering::Relaxed) {
        return Ok(());
    }
    subscriber::set_global_default(Bridge).map_err(|_| {
        let why =
            "the log level can not be set: the program has a tracing subscriber of its own, which gets the events";
        Error::new(Status::BadOption, why)
    })?;
    INSTALLED.store(true, Ordering::Relaxed);
    Ok(())
}

/// Whether an event is logged: other crates are heard when something is wrong, or when everything is asked for. Their own
/// traces never are: they tell of every packet, more than the queue takes, and our lines would be lost with them.
fn wanted(gate: Level, level: Level, target: &str) -> bool {
    let own = || target.strip_prefix(OWN).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
    level <= gate && (level <= Level::Warn || (gate == Level::Trace && level <= Level::Debug) || own())
}

/// Brings `tracing`'s events to the log of the process they happen in.
struct Bridge;

impl Subscriber for Bridge {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        // Never `always`: that is remembered across a fork, into a process whose log is off.
        if metadata.is_event() { Interest::sometimes() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && wanted(logger().gate(), Level::of(*metadata.level()), metadata.target())
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(logger().gate().filter())
    }

    fn event(&self, event: &Event<'_>) {
        logger().submit(line::format(SystemTime::now(), event));
    }

    // Spans are not logged: none is ever enabled.
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[cfg(test)]
mod tests;
