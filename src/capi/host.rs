//! The process that the library lives in: fork, signals, environment, panics, descriptors.

use std::{
    ffi::{CStr, CString, c_char},
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
    sync::atomic::{AtomicBool, Ordering},
};

use crate::{
    error::{Error, Result, Status},
    process,
};

static PREPARED: AtomicBool = AtomicBool::new(false);

/// Once per process, before anything is made: learns of forks, keeps signals off the library's threads, panics off stderr and
/// sockets off the standard descriptors.
pub fn prepare() {
    if PREPARED.load(Ordering::Relaxed) || PREPARED.swap(true, Ordering::AcqRel) {
        return;
    }
    process::set_thread_start(block_signals);
    occupy_standard_descriptors();
    // SAFETY: the handler only writes atomics, as a child of a threaded process must (fork(2), pthread_atfork(3)).
    unsafe { libc::pthread_atfork(None, None, Some(forked)) };
    // The library carries its own copy of Rust's runtime, so this hook is nobody else's. Not in a Rust program, whose is.
    if cfg!(not(test)) {
        std::panic::set_hook(Box::new(|panic| tracing::error!("panic: {panic}")));
    }
}

/// A program that closed its standard descriptors still writes to them, by habit or by accident: none of the library's sockets
/// may get their numbers. Those that are free stay on /dev/null.
fn occupy_standard_descriptors() {
    while let Ok(file) = std::fs::File::options().read(true).write(true).open("/dev/null") {
        let number = file.as_raw_fd();
        if number > 2 {
            break;
        }
        std::mem::forget(file);
    }
}

extern "C" fn forked() {
    process::forked();
}

/// A signal must never interrupt, or be handled on, a thread that the host does not know; SIGPIPE least of all.
fn block_signals() {
    swap_signals(None);
}

/// Runs `start` with all signals blocked on this thread, so that a thread it starts never has one unblocked.
pub fn with_signals_blocked<T>(start: impl FnOnce() -> T) -> T {
    struct Restore(libc::sigset_t);
    impl Drop for Restore {
        fn drop(&mut self) {
            swap_signals(Some(self.0));
        }
    }
    // Also if `start` panics.
    let _restore = Restore(swap_signals(None));
    start()
}

/// Blocks all signals on this thread, or sets the mask given; returns the one before.
fn swap_signals(mask: Option<libc::sigset_t>) -> libc::sigset_t {
    // SAFETY: the sets are initialised by sigfillset or come from pthread_sigmask; the calls concern this thread alone.
    unsafe {
        let mut all = std::mem::zeroed();
        libc::sigfillset(&mut all);
        let mut before = std::mem::zeroed();
        libc::pthread_sigmask(libc::SIG_SETMASK, &mask.unwrap_or(all), &mut before);
        before
    }
}

unsafe extern "C" {
    // glibc and musl have it, the libc crate does not for both.
    fn secure_getenv(name: *const c_char) -> *const c_char;
}

/// A variable of the environment; none in a set-user-id program.
pub fn environment(name: &str) -> Option<String> {
    let name = CString::new(name).ok()?;
    // SAFETY: `name` ends in NUL; the value is copied before anything else runs on this thread. A host that changes its
    // environment on another thread meanwhile breaks its own use of getenv just as well.
    let value = unsafe {
        let value = secure_getenv(name.as_ptr());
        if value.is_null() {
            return None;
        }
        CStr::from_ptr(value)
    };
    Some(String::from_utf8_lossy(value.to_bytes()).into_owned())
}

/// A duplicate of a descriptor of the caller's.
pub fn duplicate(descriptor: i32) -> Result<OwnedFd> {
    let failed = |error: &std::io::Error| {
        Error::system(Status::System, format_args!("descriptor {descriptor} cannot be used"), error)
    };
    if descriptor < 0 {
        return Err(failed(&std::io::Error::from_raw_os_error(libc::EBADF)));
    }
    // SAFETY: not -1; whether it is open is what duplicating finds out, and it is not used otherwise.
    let borrowed = unsafe { BorrowedFd::borrow_raw(descriptor) };
    borrowed.try_clone_to_owned().map_err(|error| failed(&error))
}
