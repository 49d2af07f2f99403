//! A limit on the time of a test. One that hangs ends the process and says where it was.

use std::{
    cell::RefCell,
    io::Write,
    panic::Location,
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::Duration,
};

type Place = Arc<Mutex<String>>;

thread_local! {
    static PLACE: RefCell<Option<Place>> = const { RefCell::new(None) };
}

/// Ends the watch when dropped.
pub struct Limit {
    ended: Arc<(Mutex<bool>, Condvar)>,
    watch: Option<thread::JoinHandle<()>>,
}

/// Gives the test that calls it `seconds`.
#[track_caller]
#[must_use]
pub fn limit(seconds: u64) -> Limit {
    let name = thread::current().name().unwrap_or("a test").to_owned();
    let place = Place::default();
    PLACE.set(Some(place.clone()));
    at("start");
    let ended = Arc::new((Mutex::new(false), Condvar::new()));
    let watched = ended.clone();
    let watch = thread::spawn(move || {
        let (ended, told) = &*watched;
        let ended = ended.lock().unwrap_or_else(PoisonError::into_inner);
        let time = Duration::from_secs(seconds);
        let (ended, _) = told.wait_timeout_while(ended, time, |ended| !*ended).unwrap_or_else(PoisonError::into_inner);
        if !*ended {
            let place = place.lock().unwrap_or_else(PoisonError::into_inner);
            // Not `eprintln`: what a test prints is captured, and lost with the process.
            let _ = writeln!(std::io::stderr(), "\n{name} hangs after {seconds} s at {place}");
            std::process::abort();
        }
    });
    Limit { ended, watch: Some(watch) }
}

/// Notes where the test is, for the report of a hang.
#[track_caller]
pub fn at(what: &str) {
    let location = Location::caller();
    PLACE.with_borrow(|place| {
        if let Some(place) = place {
            *place.lock().unwrap_or_else(PoisonError::into_inner) =
                format!("{}:{}: {what}", location.file(), location.line());
        }
    });
}

impl Drop for Limit {
    fn drop(&mut self) {
        *self.ended.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.ended.1.notify_all();
        if let Some(watch) = self.watch.take() {
            let _ = watch.join();
        }
    }
}
