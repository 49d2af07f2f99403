//! The service behind every tunnel. The first byte of a connection says what it is for and comes back at once.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    task::JoinHandle,
    time::timeout,
};

use crate::{Result, process};

/// Everything else comes back, too.
pub const ECHO: u8 = b'e';
/// Everything else is counted and forgotten.
pub const SINK: u8 = b's';
/// More bytes come as fast as they are taken.
pub const SOURCE: u8 = b'g';
/// One write or read of bulk data.
pub const CHUNK: usize = 128 * 1024;
/// Longest time for the end of a client to reach the target.
const QUIET_TIMEOUT: Duration = Duration::from_secs(3);

struct Shared {
    sunk: AtomicU64,
    /// Connections that are open.
    live: watch::Sender<usize>,
    /// Tells every connection to end.
    over: watch::Sender<()>,
}

pub struct Target {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

impl Target {
    pub async fn start() -> Result<Target> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(([127, 0, 0, 1], 0).into())?;
        let listener = socket.listen(4096)?;
        let address = listener.local_addr()?;
        let shared =
            Arc::new(Shared { sunk: AtomicU64::new(0), live: watch::Sender::new(0), over: watch::Sender::new(()) });
        let accepting = tokio::spawn(accept(listener, shared.clone()));
        Ok(Target { address, shared, accepting })
    }

    /// Bytes that all sinks have taken.
    pub fn sunk(&self) -> u64 {
        self.shared.sunk.load(Ordering::Relaxed)
    }

    /// Returns when no connection is left, so that one measurement does not weigh on the next. Called when the clients have
    /// gone: what is open a while later is counted, and ended from this side.
    pub async fn quiet(&self) -> usize {
        let mut live = self.shared.live.subscribe();
        if timeout(QUIET_TIMEOUT, live.wait_for(|live| *live == 0)).await.is_ok() {
            return 0;
        }
        let left = *self.shared.live.borrow();
        self.shared.over.send_replace(());
        let _ = live.wait_for(|live| *live == 0).await;
        left
    }
}

/// A target as a process of its own: it and its clients may hold as many descriptors each as one process may.
pub fn run() -> Result<()> {
    let started = Instant::now();
    let runtime = tokio::runtime::Runtime::new()?;
    let target = runtime.block_on(Target::start())?;
    process::serve(&target.address.to_string(), started)
}

impl Drop for Target {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((connection, _)) = listener.accept().await {
        shared.live.send_modify(|live| *live += 1);
        let shared = shared.clone();
        let mut over = shared.over.subscribe();
        tokio::spawn(async move {
            // What goes wrong shows at the client.
            tokio::select! {
                _ = serve(connection, &shared.sunk) => {}
                _ = over.changed() => {}
            }
            shared.live.send_modify(|live| *live -= 1);
        });
    }
}

async fn serve(mut connection: TcpStream, sunk: &AtomicU64) -> std::io::Result<()> {
    connection.set_nodelay(true)?;
    let purpose = connection.read_u8().await?;
    connection.write_u8(purpose).await?;
    // Most connections of the load carry one byte.
    let mut buffer = vec![0; if purpose == ECHO { 256 } else { CHUNK }];
    loop {
        if purpose == SOURCE {
            connection.write_all(&buffer).await?;
            continue;
        }
        let read = connection.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        match purpose {
            SINK => drop(sunk.fetch_add(read as u64, Ordering::Relaxed)),
            _ => connection.write_all(&buffer[..read]).await?,
        }
    }
}
