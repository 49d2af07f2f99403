//! Random use of many streams, checked against what must be true of each.

use std::sync::Arc;

use parking_lot::Mutex;

use super::*;
use crate::network::yamux::{
    Budget,
    fuzzing::{read_either, write_either},
};

/// A small generator (xorshift64*), so that every failure can be repeated by its seed.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(super) fn below(&mut self, n: usize) -> usize {
        (self.next() >> 16) as usize % n
    }
}

/// What one end of a stream did and saw.
#[derive(Debug, Default, Clone)]
struct Report {
    written: u64,
    closed: bool,
    read: u64,
    /// `Ok` after a clean end.
    end: Option<Result<(), io::ErrorKind>>,
    /// Dropped by choice before both directions were finished.
    gave_up: bool,
}

/// Reads, writes, closes and gives up at random until both directions are over.
async fn use_stream(mut stream: Stream, mut random: Random, seeds: (u64, u64), may_give_up: bool) -> Report {
    let mut report = Report::default();
    let total = [0, 1, 1000, 100_000, 500_000][random.below(5)] as u64;
    let give_up = if may_give_up && random.below(3) == 0 { random.below(60) } else { usize::MAX };
    let mut failed = false;
    for step in 0.. {
        if report.end.is_some() && (report.closed || failed) {
            return report;
        }
        if step == give_up {
            report.gave_up = true;
            return report;
        }
        let most = [10, 1000, 20_000][random.below(3)];
        let chunk = 1 + random.below(most);
        let read_first = random.below(2) == 0;
        poll_fn(|cx| {
            // The other direction is polled only if this one waits: its earlier wake-up must not have got lost.
            for read in [read_first, !read_first] {
                let polled = if read {
                    poll_reader(cx, &mut stream, &mut report, chunk, seeds.1)
                } else {
                    poll_writer(cx, &mut stream, &mut report, &mut failed, total, chunk, seeds.0)
                };
                if polled.is_ready() {
                    return Poll::Ready(());
                }
            }
            Poll::Pending
        })
        .await;
        if random.below(8) == 0 {
            tokio::task::yield_now().await;
        }
    }
    report
}

fn poll_reader(cx: &mut Context<'_>, stream: &mut Stream, report: &mut Report, chunk: usize, seed: u64) -> Poll<()> {
    if report.end.is_some() {
        return Poll::Pending;
    }
    let mut buf = vec![0; chunk];
    read_either(stream, cx, &mut buf).map(|result| match result {
        Ok(0) => report.end = Some(Ok(())),
        Ok(n) => {
            for (i, byte) in buf[..n].iter().enumerate() {
                assert_eq!(*byte, pattern(seed, report.read + i as u64));
            }
            report.read += n as u64;
        }
        Err(error) => report.end = Some(Err(error.kind())),
    })
}

fn poll_writer(
    cx: &mut Context<'_>,
    stream: &mut Stream,
    report: &mut Report,
    failed: &mut bool,
    total: u64,
    chunk: usize,
    seed: u64,
) -> Poll<()> {
    if report.closed || *failed {
        return Poll::Pending;
    }
    let n = chunk.min((total - report.written) as usize);
    if n == 0 {
        return Pin::new(stream).poll_close(cx).map(|result| match result {
            Ok(()) => report.closed = true,
            Err(_) => *failed = true,
        });
    }
    let buf: Vec<u8> = (0..n as u64).map(|i| pattern(seed, report.written + i)).collect();
    write_either(stream, cx, &buf).map(|result| match result {
        Ok(n) => report.written += n as u64,
        Err(_) => *failed = true,
    })
}

/// What must be true of one direction.
fn check(seed: u64, sender: &Report, receiver: &Report, cut: bool) {
    let context = format!("seed {seed}: {sender:?} -> {receiver:?}");
    assert!(receiver.read <= sender.written, "{context}");
    match receiver.end {
        // No clean end without FIN, and none before the last byte.
        Some(Ok(())) => {
            assert_eq!(receiver.read, sender.written, "{context}");
            assert!(sender.closed || sender.gave_up || cut, "{context}");
        }
        Some(Err(io::ErrorKind::ConnectionReset)) => assert!(sender.gave_up, "{context}"),
        Some(Err(kind)) => assert!(cut && kind == io::ErrorKind::ConnectionAborted, "{context}"),
        None => assert!(receiver.gave_up, "{context}"),
    }
}

async fn run(seed: u64) {
    let mut random = Random::new(seed);
    // Of both sides.
    let budget = Arc::new(Budget::new(1 << 30));
    let config = Config {
        budget: Some(budget.clone()),
        max_streams: [3, 100][random.below(2)],
        frame_size: [100, 5000, 65_524][random.below(3)],
        receive_window_max: [256 * 1024, 1024 * 1024][random.below(2)],
        ..Config::default()
    };
    let capacity = [20, 1000, 50_000][random.below(3)];
    let cut = random.below(4) == 0;
    let (a, mut b) = pair_over(config, capacity);
    let reports = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = Vec::new();
    for n in 0..if capacity == 20 { 4 } else { 20 } {
        let mut out = a.open().await;
        // The slot on the other side may become free a little later than ours.
        if out.write_all(&[n]).await.is_err() {
            continue;
        }
        let Some(mut inn) = b.inbound.recv().await else { break };
        let mut id = [0];
        if inn.read_exact(&mut id).await.is_err() {
            continue;
        }
        let (there, here) = (2 * u64::from(n), 2 * u64::from(n) + 1);
        let (random_out, random_inn) = (Random::new(random.next()), Random::new(random.next()));
        let may_give_up = random.below(2) == 0;
        let reports = reports.clone();
        tasks.push(tokio::spawn(async move {
            let out = tokio::spawn(use_stream(out, random_out, (there, here), may_give_up));
            let inn = tokio::spawn(use_stream(inn, random_inn, (here, there), may_give_up));
            let both = (out.await.unwrap(), inn.await.unwrap());
            reports.lock().push(both);
        }));
    }
    if cut {
        a.task.abort();
    }
    for task in tasks {
        task.await.unwrap();
    }
    for (out, inn) in reports.lock().iter() {
        check(seed, out, inn, cut);
        check(seed, inn, out, cut);
    }
    assert_eq!(budget.in_use(), 0, "seed {seed}");
}

async fn run_all(seeds: std::ops::Range<u64>) {
    for seed in seeds {
        if tokio::time::timeout(Duration::from_secs(30), run(seed)).await.is_err() {
            panic!("seed {seed} hangs");
        }
    }
}

#[tokio::test]
async fn random_use_loses_nothing_and_mistakes_no_end() {
    run_all(0..80).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn random_use_by_parallel_tasks_loses_nothing_and_mistakes_no_end() {
    run_all(80..160).await;
}
