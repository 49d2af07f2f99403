//! The runtime that all nodes of the process share.

use std::{num::NonZero, sync::Arc};

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
        let threads = if threads == 0 { default_threads() } else { threads };
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
        Engine::start(threads).map_err(failed)
    })?;
    Ok(made.handle.clone())
}

impl Engine {
    fn start(threads: usize) -> std::io::Result<Engine> {
        // One thread alone needs no means to share work with others: that spares it a quarter of what it does itself between two
        // system calls.
        let mut builder = if threads == 1 { Builder::new_current_thread() } else { Builder::new_multi_thread() };
        // Where there is one processor, those who send what is waited for need it. Several threads would wake each other.
        if threads == 1 && processors() > 1 {
            busy_poll::install(&mut builder);
        }
        let runtime = builder
            .worker_threads(threads)
            // A task may move a few hundred KiB at a time. After so many of them the runtime looks which other sockets have
            // become ready: by default only after 61, which full streams make others wait for.
            .event_interval(4)
            .max_blocking_threads(8)
            .thread_name(THREAD_NAME)
            .on_thread_start(thread_start)
            .enable_all()
            .build()?;
        let handle = runtime.handle().clone();
        if threads > 1 {
            return Ok(Engine { handle, _runtime: Some(runtime) });
        }
        std::thread::Builder::new().name(THREAD_NAME.into()).spawn(move || {
            thread_start();
            busy_poll::run(&runtime);
        })?;
        Ok(Engine { handle, _runtime: None })
    }
}

/// Worker threads of the runtime, 0 before the first node.
pub fn threads() -> usize {
    RUNTIME.get().map_or(0, |engine| engine.handle.metrics().num_workers())
}

fn default_threads() -> usize {
    (processors() / 2).clamp(1, 4)
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}
