//! The two ends of a tunnelled connection as a test holds them.

use std::{
    io::{ErrorKind, Read},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, channel},
    },
    thread,
    time::Duration,
};

use sha2::{Digest, Sha256};
use socket2::SockRef;

use super::{PATIENCE, at, block, runtime};

/// Largest piece of data that `bytes` gives.
const LARGEST: usize = 64 << 20;

/// `size` bytes without pattern, others for each `run`.
pub fn bytes(size: usize, run: usize) -> &'static [u8] {
    static POOL: OnceLock<Vec<u8>> = OnceLock::new();
    let pool = POOL.get_or_init(|| {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut pool = Vec::with_capacity(LARGEST + (1 << 20));
        while pool.len() < LARGEST + (1 << 20) {
            // xorshift64*, Vigna 2016.
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            pool.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
        }
        pool
    });
    let from = run * 4099 % (1 << 20);
    &pool[from..from + size]
}

/// The SHA-256 of `data` and its length: equal only if nothing was lost, changed or added.
pub fn digest(data: &[u8]) -> (usize, [u8; 32]) {
    (data.len(), Sha256::digest(data).into())
}

/// The server that a listener leads to. The test gets the connections and plays the server.
pub struct Target {
    pub address: SocketAddr,
    connections: Receiver<TcpStream>,
    stop: Arc<AtomicBool>,
    accepting: Option<thread::JoinHandle<()>>,
}

/// Starts an echo server for thousands of connections, which lives as long as the process.
pub fn echo_server() -> SocketAddr {
    let listener = block(tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).unwrap();
    let address = listener.local_addr().unwrap();
    runtime().spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                tokio::io::copy(&mut from, &mut to).await
            });
        }
    });
    address
}

/// Where a target shall listen.
pub struct TargetAt(pub SocketAddr);

impl Target {
    pub fn new() -> Self {
        TargetAt((Ipv4Addr::LOCALHOST, 0).into()).start()
    }

    /// The address as `listen` takes it.
    pub fn text(&self) -> String {
        self.address.to_string()
    }

    /// The next connection.
    #[track_caller]
    pub fn accept(&self) -> TcpStream {
        at("waiting for the target's next connection");
        self.connections.recv_timeout(PATIENCE).expect("no connection came to the target")
    }

    /// Whether no connection has come that was not taken.
    pub fn untouched(&self) -> bool {
        self.connections.try_recv().is_err()
    }

    /// Answers every connection with what it sends, each on its own thread, until the target is dropped.
    pub fn echo() -> Self {
        Self::serving(|mut stream| {
            let mut to = stream.try_clone().unwrap();
            let _ = std::io::copy(&mut stream, &mut to);
        })
    }

    /// Runs `serve` for each connection.
    pub fn serving(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        let serve = Arc::new(serve);
        TargetAt((Ipv4Addr::LOCALHOST, 0).into()).start_with(move |stream| {
            let serve = serve.clone();
            thread::spawn(move || serve(stream));
        })
    }
}

impl TargetAt {
    pub fn start(self) -> Target {
        let (sender, connections) = channel();
        let mut target = self.start_with(move |stream| drop(sender.send(stream)));
        target.connections = connections;
        target
    }

    fn start_with(self, mut take: impl FnMut(TcpStream) + Send + 'static) -> Target {
        let listener = TcpListener::bind(self.0).unwrap();
        let address = listener.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let accepting = thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if stopped.load(Ordering::Acquire) {
                    return;
                }
                set_patience(&stream);
                take(stream);
            }
        });
        Target { address, connections: channel().1, stop, accepting: Some(accepting) }
    }
}

impl Drop for Target {
    /// When this returns the port refuses connections.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        let _ = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

pub fn set_patience(stream: &TcpStream) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
}

/// A client of the forward at `address`.
#[track_caller]
pub fn client(address: SocketAddr) -> TcpStream {
    at("connecting a client");
    let stream = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
    set_patience(&stream);
    stream
}

/// Closes so that the other end sees ECONNRESET.
pub fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
}

#[track_caller]
pub fn read_exact(stream: &mut TcpStream, size: usize) -> Vec<u8> {
    at("reading an exact number of bytes");
    let mut data = vec![0; size];
    if let Err(error) = stream.read_exact(&mut data) {
        panic!("{size} bytes did not come: {error}");
    }
    data
}

/// Everything up to a clean end of file.
#[track_caller]
pub fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    at("reading to the end of file");
    let mut data = Vec::new();
    if let Err(error) = stream.read_to_end(&mut data) {
        panic!("no end of file after {} bytes: {error}", data.len());
    }
    data
}

/// The next thing to come is a clean end of file.
#[track_caller]
pub fn expect_end(stream: &mut TcpStream) {
    let rest = read_to_end(stream);
    assert!(rest.is_empty(), "{} bytes came instead of an end of file", rest.len());
}

/// Reads up to a reset and returns what came before it. An end of file is a failure: it would say that all was there.
#[track_caller]
pub fn expect_reset(stream: &mut TcpStream) -> Vec<u8> {
    at("reading to the reset");
    let mut data = Vec::new();
    match stream.read_to_end(&mut data) {
        Ok(_) => panic!("a clean end of file after {} bytes instead of a reset", data.len()),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error} after {} bytes", data.len());
            data
        }
    }
}

/// Nobody listens at `address`: it can be bound.
pub fn is_free(address: SocketAddr) -> bool {
    TcpListener::bind(address).is_ok()
}

/// Like `is_free`, and a client is refused.
pub fn freed(address: SocketAddr) -> bool {
    let refused = TcpStream::connect(address).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused);
    refused && is_free(address)
}

/// The half-close of a client or server.
pub trait HalfClose {
    fn half_close(&self);
}

impl HalfClose for TcpStream {
    fn half_close(&self) {
        self.shutdown(Shutdown::Write).unwrap();
    }
}
