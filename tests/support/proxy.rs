//! A path between two nodes that can go dead: it takes what it gets and passes nothing on.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use super::TestNode;

/// A TCP path. `freeze` makes the connections of that moment dead; later ones work.
pub struct TcpProxy {
    pub address: SocketAddr,
    era: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    sockets: Arc<Mutex<Vec<TcpStream>>>,
    /// What comes from the destination is kept back.
    held: Arc<(Mutex<bool>, Condvar)>,
    pub connections: Arc<AtomicUsize>,
}

impl TcpProxy {
    pub fn to(destination: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let proxy = TcpProxy {
            address: listener.local_addr().unwrap(),
            era: Arc::default(),
            stop: Arc::default(),
            sockets: Arc::default(),
            held: Arc::default(),
            connections: Arc::default(),
        };
        let held = proxy.held.clone();
        let (era, stop) = (proxy.era.clone(), proxy.stop.clone());
        let (sockets, connections) = (proxy.sockets.clone(), proxy.connections.clone());
        thread::spawn(move || {
            while let Ok((near, _)) = listener.accept() {
                if stop.load(Ordering::Acquire) {
                    return;
                }
                let Ok(far) = TcpStream::connect(destination) else { continue };
                connections.fetch_add(1, Ordering::AcqRel);
                sockets.lock().unwrap().extend([near.try_clone().unwrap(), far.try_clone().unwrap()]);
                let there = (near.try_clone().unwrap(), far.try_clone().unwrap(), era.clone());
                thread::spawn(move || pass(there.0, there.1, &there.2, &Default::default()));
                let (era, held) = (era.clone(), held.clone());
                thread::spawn(move || pass(far, near, &era, &held));
            }
        });
        proxy
    }

    /// From now on nothing passes on the connections there are, and neither end is told.
    pub fn freeze(&self) {
        self.era.fetch_add(1, Ordering::AcqRel);
    }

    /// Keeps back what comes from the destination, or lets it go.
    pub fn hold(&self, hold: bool) {
        *self.held.0.lock().unwrap() = hold;
        self.held.1.notify_all();
    }

    /// Cuts every connection.
    pub fn cut(&self) {
        for socket in self.sockets.lock().unwrap().drain(..) {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, era: &AtomicUsize, held: &(Mutex<bool>, Condvar)) {
    let born = era.load(Ordering::Acquire);
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = from.read(&mut buffer).unwrap_or(0);
        drop(held.1.wait_while(held.0.lock().unwrap(), |held| *held).unwrap());
        if era.load(Ordering::Acquire) != born {
            // The sockets stay open: `TcpProxy::sockets` holds them.
            return;
        }
        if read == 0 || to.write_all(&buffer[..read]).is_err() {
            let _ = to.shutdown(Shutdown::Write);
            return;
        }
    }
}

impl Drop for TcpProxy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.hold(false);
        let _ = TcpStream::connect(self.address);
        self.cut();
    }
}

/// A UDP path, for one client at a time. While `frozen` it drops every datagram.
pub struct UdpProxy {
    pub address: SocketAddr,
    pub frozen: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
}

impl UdpProxy {
    pub fn to(destination: SocketAddr) -> Self {
        let near = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let far = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        far.connect(destination).unwrap();
        for socket in [&near, &far] {
            socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        }
        let proxy = UdpProxy { address: near.local_addr().unwrap(), frozen: Arc::default(), stop: Arc::default() };
        let client: Arc<Mutex<Option<SocketAddr>>> = Arc::default();
        let (near_in, far_out, known) = (near.try_clone().unwrap(), far.try_clone().unwrap(), client.clone());
        let (stop, frozen) = (proxy.stop.clone(), proxy.frozen.clone());
        thread::spawn(move || {
            let mut buffer = [0; 65536];
            while !stop.load(Ordering::Acquire) {
                let Ok((size, from)) = near_in.recv_from(&mut buffer) else { continue };
                *known.lock().unwrap() = Some(from);
                if !frozen.load(Ordering::Acquire) {
                    let _ = far_out.send(&buffer[..size]);
                }
            }
        });
        let (stop, frozen) = (proxy.stop.clone(), proxy.frozen.clone());
        thread::spawn(move || {
            let mut buffer = [0; 65536];
            while !stop.load(Ordering::Acquire) {
                let Ok(size) = far.recv(&mut buffer) else { continue };
                let to = *client.lock().unwrap();
                if let (Some(to), false) = (to, frozen.load(Ordering::Acquire)) {
                    let _ = near.send_to(&buffer[..size], to);
                }
            }
        });
        proxy
    }
}

impl Drop for UdpProxy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
    }
}

/// The way to a node, over TCP or QUIC, with what ends its address.
pub enum Path {
    Tcp(TcpProxy, String),
    Udp(UdpProxy, String),
}

impl Path {
    pub fn to(node: &TestNode) -> Self {
        let address = node.address();
        let parts: Vec<_> = address.split('/').collect();
        let destination = format!("{}:{}", parts[2], parts[4]).parse().unwrap();
        match parts[3] {
            "udp" => Path::Udp(UdpProxy::to(destination), parts[5..].join("/")),
            _ => Path::Tcp(TcpProxy::to(destination), parts[5..].join("/")),
        }
    }

    /// Where the node is reached on this way.
    pub fn address(&self) -> String {
        match self {
            Path::Tcp(proxy, end) => format!("/ip4/127.0.0.1/tcp/{}/{end}", proxy.address.port()),
            Path::Udp(proxy, end) => format!("/ip4/127.0.0.1/udp/{}/{end}", proxy.address.port()),
        }
    }

    /// What is connected now is dead from now on.
    pub fn freeze(&self) {
        match self {
            Path::Tcp(proxy, _) => proxy.freeze(),
            Path::Udp(proxy, _) => proxy.frozen.store(true, Ordering::Release),
        }
    }

    /// New connections work. (Over TCP they always do.)
    pub fn thaw(&self) {
        if let Path::Udp(proxy, _) = self {
            proxy.frozen.store(false, Ordering::Release);
        }
    }

    /// The connection is gone: both sides are told over TCP, nobody over UDP.
    pub fn cut(&self) {
        match self {
            Path::Tcp(proxy, _) => proxy.cut(),
            Path::Udp(..) => self.freeze(),
        }
    }
}
