//! What a stream at full speed does to others in the same tunnel.

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use tokio::{
    net::TcpStream,
    task::JoinSet,
    time::{Instant, interval_at, sleep},
};

use crate::{
    Result,
    figures::{Sample, quantile},
    load::{Subject, Way, bulk, exchange},
    target::{ECHO, SOURCE},
};

/// Streams on which little happens.
const OTHERS: u32 = 100;
/// Each of them sends so often.
const PERIOD: Duration = Duration::from_millis(20);

impl Subject<'_> {
    /// Round trips of 64 bytes on 100 streams, each 50 times a second: alone, and beside a stream that takes all it can get.
    pub async fn fairness(&self, sample: &mut Sample) -> Result<()> {
        let mut others = Vec::new();
        for _ in 0..OTHERS {
            // One after the other: some tunnels lose connections that come in a burst.
            others.push(self.connect(ECHO).await?);
        }
        let (others, alone) = self.round_trips_of(others).await?;
        let taken = Arc::new(AtomicU64::new(0));
        let mut busy = JoinSet::new();
        busy.spawn(bulk(self.connect(SOURCE).await?, Way::Down, taken.clone()));
        sleep(self.plan.warm_up).await;
        let (others, beside) = self.round_trips_of(others).await?;
        if let Some(ended) = busy.try_join_next() {
            return Err(format!("the stream at full speed ended: {:?}", ended?).into());
        }
        busy.shutdown().await;
        drop(others);
        sample.insert("fair_alone", alone);
        sample.insert("fair_beside", beside);
        sample.insert("fair_ratio", beside / alone);
        self.quiet(sample).await;
        Ok(())
    }

    /// The time that 99 % of the round trips take at most, in microseconds.
    async fn round_trips_of(&self, streams: Vec<TcpStream>) -> Result<(Vec<TcpStream>, f64)> {
        let began = Instant::now();
        let end = began + self.plan.window;
        let mut running = JoinSet::new();
        for (mut stream, at) in streams.into_iter().zip(0..) {
            let mut turns = interval_at(began + PERIOD * at / OTHERS, PERIOD);
            running.spawn(async move {
                let mut times = Vec::new();
                // What could not be sent in time is late from when it should have been.
                loop {
                    let due = turns.tick().await;
                    if due >= end {
                        return Ok::<_, crate::Error>((stream, times));
                    }
                    exchange(&mut stream, &mut [7; 64]).await?;
                    times.push(due.elapsed().as_secs_f64() * 1e6);
                }
            });
        }
        let (mut streams, mut times) = (Vec::new(), Vec::new());
        while let Some(done) = running.join_next().await {
            let (stream, its) = done??;
            streams.push(stream);
            times.extend(its);
        }
        times.sort_by(f64::total_cmp);
        Ok((streams, quantile(&times, 0.99).ok_or("no round trip")?))
    }
}
