//! Very many streams at once through one forward. The target is a process of its own, as each of the two ends of a stream
//! takes a descriptor.

use std::pin::pin;

use futures::{StreamExt, stream};
use tokio::{
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

use crate::{
    Plan, Result,
    figures::Sample,
    load::{EXCHANGE_TIMEOUT, OPENING, SETTLE, connect_from, exchange},
    process::Process,
    system::System,
    target::ECHO,
    tunnel::role,
};

/// Streams that are being opened, or asked whether they live, at the same time.
const IN_FLIGHT: usize = 256;

/// Opens as many streams as the plan says, or as many as can be opened in the time it gives.
pub async fn measure(plan: &Plan, system: &dyn System, sample: &mut Sample) -> Result<()> {
    let (_target, address) = Process::serving(role(&["target"])?)?;
    let tunnel = system.start(address.parse()?)?;
    let memory = || match &tunnel.pair {
        Some(pair) => Ok::<_, crate::Error>(Some([pair.listen.memory()?, pair.forward.memory()?])),
        None => Ok(None),
    };
    let open = |count, in_flight| {
        let opening = stream::iter(0..count)
            .map(|number| timeout(EXCHANGE_TIMEOUT, connect_from(number, tunnel.address, ECHO)))
            .buffer_unordered(in_flight)
            .take_until(sleep(plan.patience));
        opening.filter_map(|opened| async { opened.ok()?.ok() }).collect::<Vec<TcpStream>>()
    };
    // Code that only the first streams bring into memory is not theirs.
    drop(open(OPENING, OPENING).await);
    sleep(SETTLE).await;
    let before = memory()?;
    let clock = Instant::now();
    let mut streams = open(plan.many, IN_FLIGHT).await;
    sample.insert("many_time", clock.elapsed().as_secs_f64());
    sample.insert("many_open", streams.len() as f64);
    sleep(plan.pause).await;
    if let (Some(before), Some(after)) = (before, memory()?) {
        let count = streams.len().max(1) as f64;
        sample.insert("many_listen", (after[0] - before[0]) / count);
        sample.insert("many_forward", (after[1] - before[1]) / count);
    }
    let asking = stream::iter(&mut streams)
        .map(|stream| async { exchange(stream, &mut [7; 64]).await.is_ok() })
        .buffer_unordered(IN_FLIGHT)
        .take_until(sleep(plan.patience));
    let alive = pin!(asking.filter(|alive| std::future::ready(*alive))).count().await;
    sample.insert("many_alive", alive as f64);
    Ok(())
}
