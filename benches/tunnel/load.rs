//! The load: what clients do with a tunnel while its processes are watched. Every load ends by itself.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt, stream};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::{
    Plan, Result,
    figures::{Sample, quantile},
    system::System,
    target::{CHUNK, ECHO, SINK, SOURCE, Target},
    tunnel::{Pair, Tunnel},
};

/// Longest time for one small exchange with the target.
pub const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(10);
/// Memory is read when nothing has moved for this long.
pub const SETTLE: Duration = Duration::from_millis(200);
/// Streams that are being opened at the same time when memory is measured.
pub const OPENING: usize = 16;

/// One system, ready for the load.
pub struct Subject<'a> {
    pub plan: &'a Plan,
    /// Where clients connect.
    address: SocketAddr,
    target: Target,
    /// `None`: there is no tunnel.
    pair: Option<Pair>,
    /// Whether what takes long is measured, too.
    rare: bool,
}

#[derive(Clone, Copy, PartialEq)]
pub enum Way {
    Up,
    Down,
}

/// What is measured at a time.
#[derive(Clone, Copy)]
pub enum Step {
    /// How soon the tunnel works, and what it needs then.
    Start,
    /// Memory of streams that are open and at rest.
    Memory,
    RoundTrips,
    /// What a stream at full speed does to others.
    Fairness,
    /// Bulk data on so many connections.
    Throughput(Way, usize, [&'static str; 2]),
    /// New connections, so many at a time.
    Connections(usize, [&'static str; 3]),
    /// What the load leaves behind.
    After,
}

impl Step {
    /// In the order in which they are taken.
    pub const ALL: &[Step] = &[
        Step::Start,
        Step::Memory,
        Step::RoundTrips,
        Step::Fairness,
        Step::Throughput(Way::Up, 1, ["up_1", "cpu_up_1"]),
        Step::Throughput(Way::Down, 1, ["down_1", "cpu_down_1"]),
        Step::Throughput(Way::Up, 8, ["up_8", "cpu_up_8"]),
        Step::Throughput(Way::Down, 8, ["down_8", "cpu_down_8"]),
        Step::Connections(1, ["conn_1", "conn_failed_1", "cpu_conn_1"]),
        Step::Connections(32, ["conn_32", "conn_failed_32", "cpu_conn_32"]),
        Step::After,
    ];

    /// How far a round is.
    pub fn name(self) -> &'static str {
        match self {
            Step::Start => "start",
            Step::Memory => "memory",
            Step::RoundTrips => "rtt",
            Step::Fairness => "fair",
            Step::Throughput(_, _, [key, ..]) | Step::Connections(_, [key, ..]) => key,
            Step::After => "after",
        }
    }
}

impl Subject<'_> {
    /// With processes of its own.
    pub async fn start<'a>(plan: &'a Plan, system: &dyn System, rare: bool) -> Result<Subject<'a>> {
        let target = Target::start().await?;
        let Tunnel { pair, address } = system.start(target.address)?;
        Ok(Subject { plan, address, target, pair, rare })
    }

    pub async fn take(&self, step: Step, sample: &mut Sample) -> Result<()> {
        match step {
            Step::Start => self.ready(sample).await,
            Step::Memory => self.memory(sample).await,
            Step::RoundTrips => self.round_trips(sample).await,
            Step::Fairness => self.fairness(sample).await,
            Step::Throughput(way, count, keys) => self.throughput(way, count, keys, sample).await,
            Step::Connections(in_flight, keys) => self.connections(in_flight, keys, sample).await,
            Step::After => self.after(sample).await,
        }
    }

    async fn ready(&self, sample: &mut Sample) -> Result<()> {
        let began = Instant::now();
        self.connect(ECHO).await?;
        let there_and_back = began.elapsed();
        let Some(pair) = &self.pair else { return Ok(()) };
        sample.insert("first_byte", millis(pair.forward.ready + there_and_back));
        sample.insert("ready_listen", millis(pair.listen.ready));
        sample.insert("ready_forward", millis(pair.forward.ready));
        sleep(SETTLE).await;
        sample.insert("memory_listen", pair.listen.memory()?);
        sample.insert("memory_forward", pair.forward.memory()?);
        if self.rare {
            sample.insert("idle", pair.idle(self.plan.idle).await?);
        }
        Ok(())
    }

    async fn memory(&self, sample: &mut Sample) -> Result<()> {
        // Code that only the first streams bring into memory is not theirs.
        drop(self.open(OPENING).await);
        self.quiet(sample).await;
        sleep(SETTLE).await;
        let before =
            self.pair.as_ref().map(|pair| Ok::<_, crate::Error>([pair.listen.memory()?, pair.forward.memory()?]));
        let before = before.transpose()?;
        let streams = self.open(self.plan.streams).await;
        sample.insert("streams_failed", (self.plan.streams - streams.len()) as f64);
        if let (Some(pair), Some([listen, forward])) = (&self.pair, before) {
            sleep(SETTLE).await;
            let count = streams.len().max(1) as f64;
            sample.insert("stream_listen", (pair.listen.memory()? - listen) / count);
            sample.insert("stream_forward", (pair.forward.memory()? - forward) / count);
        }
        drop(streams);
        self.quiet(sample).await;
        Ok(())
    }

    /// Up to `count` echoing streams; those that fail are left out.
    async fn open(&self, count: usize) -> Vec<TcpStream> {
        let opening = stream::iter(0..count).map(|_| self.connect(ECHO)).buffer_unordered(OPENING);
        let opening = opening.take_until(sleep(self.plan.patience / 4));
        opening.filter_map(|opened| async { opened.ok() }).collect().await
    }

    /// A new connection on which one byte has gone to the target and back.
    pub async fn connect(&self, purpose: u8) -> Result<TcpStream> {
        timeout(EXCHANGE_TIMEOUT, connect(self.address, purpose)).await.map_err(|_| "no answer from the target")?
    }

    async fn round_trips(&self, sample: &mut Sample) -> Result<()> {
        let mut connection = self.connect(ECHO).await?;
        let mut times = Vec::new();
        let mut message = [7; 64];
        let began = Instant::now();
        let warm = began + self.plan.window / 4;
        let end = warm + self.plan.window;
        let mut now = began;
        while now < end {
            exchange(&mut connection, &mut message).await?;
            let sent = std::mem::replace(&mut now, Instant::now());
            if sent >= warm {
                times.push((now - sent).as_secs_f64() * 1e6);
            }
        }
        times.sort_by(f64::total_cmp);
        for (key, part) in [("rtt_p50", 0.5), ("rtt_p99", 0.99)] {
            sample.insert(key, quantile(&times, part).ok_or("no round trip")?);
        }
        drop(connection);
        self.quiet(sample).await;
        Ok(())
    }

    /// Bulk data on `count` connections; bytes are counted where they arrive.
    async fn throughput(&self, way: Way, count: usize, keys: [&'static str; 2], sample: &mut Sample) -> Result<()> {
        let taken = Arc::new(AtomicU64::new(0));
        let mut clients = JoinSet::new();
        for _ in 0..count {
            // One after the other: some tunnels lose connections that come in a burst.
            let connection = self.connect(if way == Way::Up { SINK } else { SOURCE }).await?;
            clients.spawn(bulk(connection, way, taken.clone()));
        }
        let arrived = || if way == Way::Up { self.target.sunk() } else { taken.load(Ordering::Relaxed) };
        sleep(self.plan.warm_up).await;
        let [bytes, processor] = [arrived() as f64, self.processor()?];
        let clock = Instant::now();
        sleep(self.plan.window).await;
        let seconds = clock.elapsed().as_secs_f64();
        let [bytes, processor] = [arrived() as f64 - bytes, self.processor()? - processor];
        if let Some(ended) = clients.try_join_next() {
            return Err(format!("a connection ended in mid-transfer: {:?}", ended?).into());
        }
        clients.shutdown().await;
        if bytes == 0.0 {
            return Err("nothing arrived".into());
        }
        sample.insert(keys[0], bytes / 1e6 / seconds);
        if self.pair.is_some() {
            sample.insert(keys[1], processor / (bytes / 1e9));
        }
        self.quiet(sample).await;
        Ok(())
    }

    /// New connections, each with one byte there and back, `in_flight` at a time.
    async fn connections(&self, in_flight: usize, keys: [&'static str; 3], sample: &mut Sample) -> Result<()> {
        let stop = Arc::new(AtomicBool::new(false));
        let next = Arc::new(AtomicUsize::new(0));
        let counts = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
        let mut clients = JoinSet::new();
        let processor = self.processor()?;
        let clock = Instant::now();
        for _ in 0..in_flight {
            let (address, stop, next, counts) = (self.address, stop.clone(), next.clone(), counts.clone());
            clients.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let source = next.fetch_add(1, Ordering::Relaxed);
                    let done = timeout(EXCHANGE_TIMEOUT, connect_from(source, address, ECHO)).await;
                    counts[usize::from(!matches!(done, Ok(Ok(_))))].fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        sleep(self.plan.window).await;
        let [done, failed] = [&counts[0], &counts[1]].map(|count| count.load(Ordering::Relaxed) as f64);
        let [processor, seconds] = [self.processor()? - processor, clock.elapsed().as_secs_f64()];
        stop.store(true, Ordering::Relaxed);
        // Whoever still waits then is cut off, and was counted neither way.
        let _ = timeout(EXCHANGE_TIMEOUT, async { while clients.join_next().await.is_some() {} }).await;
        clients.shutdown().await;
        sample.insert(keys[0], done / seconds);
        sample.insert(keys[1], failed);
        if self.pair.is_some() && done > 0.0 {
            sample.insert(keys[2], processor * 1e6 / done);
        }
        self.quiet(sample).await;
        Ok(())
    }

    /// Waits for the ends of connections that the clients have closed, and counts those whose end does not come.
    pub async fn quiet(&self, sample: &mut Sample) {
        *sample.entry("left_open").or_default() += self.target.quiet().await as f64;
    }

    async fn after(&self, sample: &mut Sample) -> Result<()> {
        let Some(pair) = &self.pair else { return Ok(()) };
        sleep(SETTLE).await;
        sample.insert("after_listen", pair.listen.memory()?);
        sample.insert("after_forward", pair.forward.memory()?);
        Ok(())
    }

    /// Seconds of processor time of the tunnel.
    fn processor(&self) -> Result<f64> {
        self.pair.as_ref().map_or(Ok(0.0), Pair::processor)
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// A connection that the target has answered on.
async fn connect(address: SocketAddr, purpose: u8) -> Result<TcpStream> {
    answered(TcpStream::connect(address).await?, purpose).await
}

/// The same from one of 200 loopback addresses: ports of connections that have ended stay taken a while.
pub async fn connect_from(number: usize, address: SocketAddr, purpose: u8) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    let source = Ipv4Addr::new(127, 0, 0, 2 + (number % 200) as u8);
    socket.bind((source, 0).into())?;
    answered(socket.connect(address).await?, purpose).await
}

async fn answered(mut connection: TcpStream, purpose: u8) -> Result<TcpStream> {
    connection.set_nodelay(true)?;
    connection.write_u8(purpose).await?;
    connection.read_u8().await?;
    Ok(connection)
}

/// Sends `message` to an echoing target and takes it back.
pub async fn exchange(connection: &mut TcpStream, message: &mut [u8]) -> Result<()> {
    let exchange = async {
        connection.write_all(message).await?;
        connection.read_exact(message).await
    };
    timeout(EXCHANGE_TIMEOUT, exchange).await.map_err(|_| "no answer from the target")??;
    Ok(())
}

/// Moves bytes until it is aborted or the connection ends.
pub async fn bulk(mut connection: TcpStream, way: Way, taken: Arc<AtomicU64>) -> Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        match way {
            Way::Up => connection.write_all(&buffer).await?,
            Way::Down => match connection.read(&mut buffer).await? {
                0 => return Ok(()),
                read => drop(taken.fetch_add(read as u64, Ordering::Relaxed)),
            },
        }
    }
}
