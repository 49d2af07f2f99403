//! A bound UDP port with its QUIC endpoint.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use quinn::{EndpointConfig, ServerConfig, TokioRuntime};
use tokio::{runtime::Handle, task::JoinHandle, time::timeout};

use super::{config::Config, error::Error, socket::Socket};

/// How long a port that is given back stays open for its connections' goodbyes.
const GOODBYE: Duration = Duration::from_millis(100);

/// An endpoint and its socket. Dropped, it serves its connections to their end and then gives the port back.
pub(super) struct Port {
    pub endpoint: quinn::Endpoint,
    pub socket: Arc<Socket>,
    /// Set by a dial that found the endpoint stopped, after a failure of the socket.
    pub failed: AtomicBool,
    /// What was current when the port was bound.
    pub runtime: Handle,
}

impl Port {
    /// Binds `local`; with `server` it also accepts connections.
    pub fn bind(local: SocketAddr, config: &Config, server: Option<ServerConfig>) -> Result<Self, Error> {
        let failed = |error| Error::Bind { local, error };
        let runtime = Handle::try_current().map_err(|e| failed(std::io::Error::other(e)))?;
        let socket = Socket::bind(local, config.socket_buffer_size).map_err(failed)?;
        let settings: EndpointConfig = config.endpoint((local.port() != 0).then_some(local.port()));
        let endpoint =
            quinn::Endpoint::new_with_abstract_socket(settings, server, socket.clone(), Arc::new(TokioRuntime))
                .map_err(failed)?;
        Ok(Port { endpoint, socket, failed: AtomicBool::new(false), runtime })
    }

    pub fn local(&self) -> SocketAddr {
        self.socket.local()
    }

    /// Closes every connection and gives the port back: before it returns where there is no connection, otherwise
    /// when the returned task ends.
    pub fn close(&self) -> Option<JoinHandle<()>> {
        self.endpoint.close(0u32.into(), b"");
        if self.endpoint.open_connections() == 0 {
            self.socket.close();
            return None;
        }
        let (endpoint, socket) = (self.endpoint.clone(), self.socket.clone());
        Some(self.runtime.spawn(async move {
            // The end of the wait and its timeout are equally good.
            let _ = timeout(GOODBYE, endpoint.wait_idle()).await;
            socket.close();
        }))
    }
}
