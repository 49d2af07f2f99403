use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    sync::atomic::AtomicUsize,
};

use rustix::{
    fs::{OFlags, fcntl_getfl, fcntl_setfl},
    pipe::pipe,
};

use super::*;

/// What `tracing` knows is global: tests that set or look at it take turns.
pub(super) fn alone() -> parking_lot::MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock()
}

/// A log of its own, which no event of the other tests reaches.
fn log() -> &'static Logger {
    Box::leak(Box::default())
}

/// What is in the pipe now.
fn drain(reader: &OwnedFd) -> String {
    let flags = fcntl_getfl(reader).unwrap();
    fcntl_setfl(reader, flags | OFlags::NONBLOCK).unwrap();
    let mut text = Vec::new();
    let _ = File::from(reader.try_clone().unwrap()).read_to_end(&mut text);
    fcntl_setfl(reader, flags).unwrap();
    String::from_utf8(text).unwrap()
}

fn drained(log: &'static Logger) {
    log.flush(Duration::from_secs(20));
}

#[test]
fn levels_are_read_by_name() {
    for (at, name) in Level::NAMES.iter().enumerate() {
        let level = Level::parse(name).unwrap();
        assert_eq!((level as usize, level.as_str()), (at, *name));
    }
    for name in ["", "INFO", "warning", "1"] {
        assert_eq!(Level::parse(name), None);
    }
}

#[test]
fn other_crates_are_heard_when_something_is_wrong_or_all_is_asked_for() {
    for (gate, level, target, is_wanted) in [
        (Level::Off, Level::Error, "p2pmount", false),
        (Level::Info, Level::Info, "p2pmount", true),
        (Level::Info, Level::Info, "p2pmount::mounts", true),
        (Level::Info, Level::Debug, "p2pmount::mounts", false),
        (Level::Debug, Level::Info, "p2pmounted", false),
        (Level::Debug, Level::Info, "libp2p_swarm", false),
        (Level::Debug, Level::Warn, "libp2p_swarm", true),
        (Level::Error, Level::Warn, "libp2p_swarm", false),
        (Level::Trace, Level::Debug, "libp2p_swarm", true),
        (Level::Trace, Level::Trace, "libp2p_swarm", false),
        (Level::Trace, Level::Trace, "p2pmount::frames", true),
    ] {
        assert_eq!(wanted(gate, level, target), is_wanted, "{gate:?} {level:?} {target}");
    }
}

#[test]
fn events_cost_nothing_until_level_and_output_are_set_and_again_after() {
    let _alone = alone();
    let shown = AtomicUsize::new(0);
    struct Shown<'a>(&'a AtomicUsize);
    impl std::fmt::Display for Shown<'_> {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            self.0.fetch_add(1, Ordering::Relaxed);
            f.write_str("own")
        }
    }
    let events = || {
        tracing::info!(target: "p2pmount::test", value = %Shown(&shown), "marked");
        tracing::debug!(target: "p2pmount::test", value = %Shown(&shown), "marked too low");
        tracing::info!(target: "other", value = %Shown(&shown), "marked foreign");
        tracing::warn!(target: "other", "marked foreign warning");
        let _span = tracing::error_span!(target: "p2pmount::test", "marked", value = %Shown(&shown)).entered();
    };
    assert_eq!(level(), Level::Off);
    events();

    set_level(Level::Info).unwrap();
    assert_eq!((level(), LevelFilter::current()), (Level::Info, LevelFilter::OFF));
    events();
    assert_eq!(shown.load(Ordering::Relaxed), 0);

    let (reader, writer) = pipe().unwrap();
    set_output(Some(writer)).unwrap();
    assert_eq!(LevelFilter::current(), LevelFilter::INFO);
    events();
    assert_eq!(shown.load(Ordering::Relaxed), 1);

    set_output(None).unwrap();
    assert_eq!((level(), LevelFilter::current()), (Level::Info, LevelFilter::OFF));
    events();
    assert_eq!(shown.load(Ordering::Relaxed), 1);

    let text = drain(&reader);
    let lines: Vec<&str> = text.lines().filter(|line| line.contains("marked")).collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(lines[0].ends_with("Z INFO p2pmount::test marked value=own"), "{text}");
    assert!(lines[1].ends_with("Z WARN other marked foreign warning"), "{text}");

    set_level(Level::Off).unwrap();
    assert_eq!(level(), Level::Off);
}

#[test]
fn lines_arrive_in_order_on_a_thread_of_its_own() {
    let log = log();
    let (reader, writer) = pipe().unwrap();
    log.set_output(Some(writer)).unwrap();
    for number in 0..500 {
        log.submit(format!("{number}\n"));
    }
    let lines = BufReader::new(File::from(reader)).lines().take(500);
    assert!(lines.enumerate().all(|(number, line)| line.unwrap() == number.to_string()));
    let named = |task: std::io::Result<std::fs::DirEntry>| {
        std::fs::read_to_string(task.unwrap().path().join("comm")).is_ok_and(|name| name.trim() == "p2p-log")
    };
    assert!(std::fs::read_dir("/proc/self/task").unwrap().any(named));
    assert_eq!(log.dropped.load(Ordering::Relaxed), 0);
}

#[test]
fn a_full_output_never_stalls_who_logs_and_what_is_lost_is_counted() {
    let log = log();
    let (reader, writer) = pipe().unwrap();
    let flags = fcntl_getfl(&writer).unwrap();
    let kept = writer.try_clone().unwrap();
    log.set_output(Some(writer)).unwrap();
    const LINES: usize = 5_000;
    let start = Instant::now();
    for number in 0..LINES {
        log.submit(format!("{number:>4000}\n"));
    }
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert!(log.dropped.load(Ordering::Relaxed) >= (LINES - QUEUE - 100) as u64);
    assert_eq!(fcntl_getfl(&kept).unwrap(), flags, "the descriptor's flags were changed");

    let start = Instant::now();
    log.set_output(None).unwrap();
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    drained(log);
    let read = drain(&reader);
    assert_eq!(read.lines().count() as u64 + log.dropped.load(Ordering::Relaxed), LINES as u64);
    assert!(read.lines().all(|line| line.len() == 4000));
}

#[test]
fn a_closed_output_loses_its_lines_and_the_next_one_works() {
    let log = log();
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    log.set_output(Some(writer)).unwrap();
    log.submit("lost\n".into());
    let (reader, writer) = pipe().unwrap();
    log.set_output(Some(writer)).unwrap();
    assert_eq!(log.dropped.load(Ordering::Relaxed), 1);
    log.submit("found\n".into());
    log.set_output(None).unwrap();
    assert_eq!(drain(&reader), "found\n");
    assert_eq!(log.dropped.load(Ordering::Relaxed), 1);
}

#[test]
fn nothing_is_written_after_the_output_was_taken_away() {
    let log = log();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    log.submit("line\n".into());
                }
            });
        }
        for _ in 0..5 {
            let (reader, writer) = pipe().unwrap();
            let kept = writer.try_clone().unwrap();
            log.set_output(Some(writer)).unwrap();
            File::from(reader.try_clone().unwrap()).read_exact(&mut [0; 5]).unwrap();
            log.set_output(None).unwrap();
            drain(&reader);
            let (other_reader, other) = pipe().unwrap();
            log.set_output(Some(other)).unwrap();
            File::from(other_reader).read_exact(&mut [0; 5]).unwrap();
            assert_eq!(drain(&reader), "");
            drop(kept);
            log.set_output(None).unwrap();
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_program_with_a_subscriber_of_its_own_is_told_so() {
    // Only the sentence: the subscriber is one for the whole process, and another test sets it.
    let _alone = alone();
    install().unwrap();
    INSTALLED.store(false, Ordering::Relaxed);
    let error = install().unwrap_err();
    INSTALLED.store(true, Ordering::Relaxed);
    assert_eq!(error.status, Status::BadOption);
    assert_eq!(
        error.message,
        "the log level can not be set: the program has a tracing subscriber of its own, which gets the events"
    );
}
