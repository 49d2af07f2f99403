//! The runtime that all nodes of the process share.

use std::{cell::Cell, num::NonZero, sync::Arc};

use once_cell::sync::OnceCell;
use parking_lot::Mutex;
use tokio::runtime::{Builder, Handle, Runtime};

use super::{PerProcess, busy_poll};
use crate::error::{Error, Result, Status};

static RUNTIME: PerProcess<Engine> = PerProcess::new();

/// What runs the tasks, for as long as the process lives.
struct Engine {
    handle: Handle,
    /// Unless its only thread has it.
    _runtime: Option<Runtime>,
    /// The only thread may be given help.
    may_have_second: bool,
    /// `None` if it could not be started.
    second: OnceCell<Option<Handle>>,
}

thread_local! {
    static IS_SECOND: Cell<bool> = const { Cell::new(false) };
}

/// Of the runtime's threads.
const THREAD_NAME: &str = "p2pmount";

/// What every thread of the library runs first. The C boundary blocks all signals here.
static THREAD_START: OnceCell<fn()> = OnceCell::new();

/// Has `start` run first on every thread that is made from now on; only the first call counts.
pub fn set_thread_start(start: fn()) {
    let _ = THREAD_START.set(start);
}

pub(crate) fn thread_start() {
    if let Some(start) = THREAD_START.get() {
        start();
    }
}

/// The one runtime of this process, made with `threads` workers (0: as many as suit the machine) when it is first needed.
pub fn runtime(threads: usize) -> Result<Handle> {
    let made = RUNTIME.get_or_try_init(|| {
        let automatic = threads == 0;
        let threads = if automatic { default_threads() } else { threads };
        let failed =
            |error: std::io::Error| Error::system(Status::System, "the runtime's threads cannot be started", &error);
        // The runtime panics, or waits for ever, if one of its threads cannot be started; these say why.
        let (release, wait) = std::sync::mpsc::channel::<()>();
        let wait = Arc::new(Mutex::new(wait));
        let threads_can_be_made = || -> std::io::Result<()> {
            for _ in 0..=threads {
                let wait = wait.clone();
                std::thread::Builder::new().stack_size(64 * 1024).spawn(move || wait.lock().recv())?;
            }
            Ok(())
        };
        let made = threads_can_be_made();
        drop(release);
        made.map_err(failed)?;
        let may_have_second = automatic && threads == 1 && processors() > 1;
        Engine::start(threads, may_have_second).map_err(failed)
    })?;
    Ok(made.handle.clone())
}

impl Engine {
    fn start(threads: usize, may_have_second: bool) -> std::io::Result<Engine> {
        let (handle, runtime) = if threads == 1 {
            (start_thread(false)?, None)
        } else {
            let runtime = build(&mut Builder::new_multi_thread(), threads)?;
            (runtime.handle().clone(), Some(runtime))
        };
        Ok(Engine { handle, _runtime: runtime, may_have_second, second: OnceCell::new() })
    }
}

/// Starts a thread that runs tasks. One alone needs no means to share work with others: that spares it a quarter of what it does
/// itself between two system calls.
fn start_thread(second: bool) -> std::io::Result<Handle> {
    let mut builder = Builder::new_current_thread();
    // Where there is one processor, those who send what is waited for need it. Several threads would wake each other.
    if processors() > 1 {
        busy_poll::install(&mut builder);
    }
    let runtime = build(&mut builder, 1)?;
    let handle = runtime.handle().clone();
    let runtime = Arc::new(Mutex::new(Some(runtime)));
    let given = runtime.clone();
    let started = std::thread::Builder::new().name(THREAD_NAME.into()).spawn(move || {
        IS_SECOND.set(second);
        thread_start();
        let runtime = given.lock().take();
        if let Some(runtime) = runtime {
            busy_poll::run(&runtime);
        }
    });
    started.map(|_| handle).inspect_err(|_| {
        // This may be a task of the first thread, where a runtime must not be dropped.
        if let Some(runtime) = runtime.lock().take() {
            runtime.shutdown_background();
        }
    })
}

fn build(builder: &mut Builder, threads: usize) -> std::io::Result<Runtime> {
    builder
        .worker_threads(threads)
        // A task may move a few hundred KiB at a time. After so many of them the runtime looks which other sockets have
        // become ready: by default only after 61, which full streams make others wait for.
        .event_interval(4)
        .max_blocking_threads(8)
        .thread_name(THREAD_NAME)
        .on_thread_start(thread_start)
        .enable_all()
        .build()
}

/// Worker threads of the runtime, 0 before the first node.
pub fn threads() -> usize {
    RUNTIME.get().map_or(0, |engine| {
        engine.handle.metrics().num_workers() + usize::from(matches!(engine.second.get(), Some(Some(_))))
    })
}

/// Whether the runtime has one thread, and may have a [`second_thread`].
pub fn may_have_second_thread() -> bool {
    RUNTIME.get().is_some_and(|engine| engine.may_have_second)
}

/// A thread beside the runtime's only one, started when it is first needed: for connections and streams that move much, so that
/// the others are not held up, and both processors have something to do. Timers and sockets that were made on the first thread
/// work there, too, but wake it on the way. `None` if there is to be no other.
pub fn second_thread() -> Option<Handle> {
    let engine = RUNTIME.get().filter(|engine| engine.may_have_second)?;
    let start = || {
        let started = start_thread(true);
        started.inspect_err(|error| tracing::warn!("a second thread cannot be started: {error}")).ok()
    };
    engine.second.get_or_init(start).clone()
}

/// Whether this thread is the [`second_thread`].
pub fn is_second_thread() -> bool {
    IS_SECOND.get()
}

/// Has this thread pass for the second one, or for another.
#[cfg(test)]
pub fn pretend_second_thread(second: bool) {
    IS_SECOND.set(second);
}

fn default_threads() -> usize {
    (processors() / 2).clamp(1, 4)
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}
