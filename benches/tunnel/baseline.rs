//! The least that makes a tunnel of libp2p's own parts, all of them with their default settings: TLS or Noise, yamux,
//! `libp2p-stream` and a copying loop. Only the idle timeout is longer, as nothing here would dial again.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use futures::StreamExt;
use libp2p::{
    Multiaddr, Stream, StreamProtocol, Swarm, SwarmBuilder, multiaddr::Protocol, noise, swarm::SwarmEvent, tcp, tls,
    yamux,
};
use libp2p_stream as stream;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};
use tokio_util::compat::FuturesAsyncReadCompatExt;

use crate::{
    Result,
    machine::locked,
    process::serve,
    system::{Kind, System},
    tunnel::{Side, Tunnel},
};

const PROTOCOL: StreamProtocol = StreamProtocol::new("/x/bench");

pub struct Baseline;

impl System for Baseline {
    fn name(&self) -> &'static str {
        "baseline"
    }

    fn label(&self) -> Option<&'static str> {
        None
    }

    fn kind(&self) -> Kind {
        Kind::Reference
    }

    fn version(&self) -> Result<String> {
        let version = |name| locked(name).unwrap_or("?");
        Ok(format!("libp2p {}, libp2p-stream {}", version("libp2p"), version("libp2p-stream")))
    }

    fn start(&self, target: SocketAddr) -> Result<Tunnel> {
        Tunnel::of_roles(self, target)
    }

    /// `address` is the target of the listening side, the peer of the forwarding side.
    fn role(&self, side: Side, address: &str) -> Result<()> {
        let started = Instant::now();
        let runtime = tokio::runtime::Runtime::new()?;
        let ready = runtime.block_on(async {
            match side {
                Side::Listen => listen(address.to_owned()).await,
                Side::Forward => forward(address.parse()?).await,
            }
        })?;
        serve(&ready, started)
    }
}

fn swarm() -> Result<Swarm<stream::Behaviour>> {
    let swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default(), (tls::Config::new, noise::Config::new), yamux::Config::default)?
        .with_behaviour(|_| stream::Behaviour::new())?
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(3600)))
        .build();
    Ok(swarm)
}

async fn listen(target: String) -> Result<String> {
    let mut swarm = swarm()?;
    let mut incoming = swarm.behaviour().new_control().accept(PROTOCOL)?;
    swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse()?)?;
    let address = loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            break address.with(Protocol::P2p(*swarm.local_peer_id()));
        }
    };
    tokio::spawn(async move { while swarm.next().await.is_some() {} });
    tokio::spawn(async move {
        while let Some((_, stream)) = incoming.next().await {
            let target = target.clone();
            tokio::spawn(async move {
                if let Ok(connection) = TcpStream::connect(target).await {
                    splice(connection, stream).await;
                }
            });
        }
    });
    Ok(address.to_string())
}

async fn forward(peer: Multiaddr) -> Result<String> {
    let Some(Protocol::P2p(id)) = peer.iter().last() else { return Err("the peer has no id".into()) };
    let mut swarm = swarm()?;
    let control = swarm.behaviour().new_control();
    swarm.dial(peer)?;
    tokio::spawn(async move { while swarm.next().await.is_some() {} });
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let mut control = control.clone();
            tokio::spawn(async move {
                if let Ok(stream) = control.open_stream(id, PROTOCOL).await {
                    splice(client, stream).await;
                }
            });
        }
    });
    Ok(address.to_string())
}

async fn splice(mut local: TcpStream, stream: Stream) {
    let _ = local.set_nodelay(true);
    // An end by error shows at the other side as a connection that ended early; the load counts it.
    let _ = copy_bidirectional(&mut local, &mut stream.compat()).await;
}
