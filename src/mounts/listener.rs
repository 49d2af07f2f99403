//! The listening side: each stream of a peer gets a connection of its own to the target.

use std::{
    io::{self, IoSlice},
    sync::Arc,
};

use super::{
    Access, Kind, Mount, MountEnd, Shared, State, Tunnel, carry, local, run_mount, stays_local, streams::Origin,
};
use crate::{
    address::LocalAddress,
    error::{Error, Result, Status, quote},
    fault,
    network::{Admission as _, Inbound, Registration},
    options::{Options, Scope},
    process,
    protocol::ProtocolName,
};

/// Registers a listener. Contacts nobody.
pub fn listen(shared: &Arc<Shared>, protocol: &str, target: &str, options: &Options) -> Result<Arc<Mount>> {
    let (values, local_only) = {
        let node = shared.options.read();
        (node.child(Scope::Listener, options)?, node.text("network") == "local")
    };
    let protocol = ProtocolName::parse(protocol, values.bool("protocol.custom"))?;
    let target = LocalAddress::parse_target(target)?;
    if local_only {
        stays_local("target address", &target)?;
    }
    let access = Arc::new(Access::new(&values));
    let registration = shared.network.register(&protocol, access.clone()).ok_or_else(|| {
        Error::new(
            Status::AlreadyRegistered,
            format!("a listener for protocol {} is already registered; close it first", quote(protocol.as_str())),
        )
    })?;
    let end = MountEnd::Listener { target, own: shared.network.peer_id(), access };
    let mount = Mount::new(protocol, end, values, shared.hub.clone());
    run_mount(shared, &mount, accept(shared.clone(), mount.clone(), registration));
    mount.report(State::Listening, None);
    Ok(mount)
}

async fn accept(shared: Arc<Shared>, mount: Arc<Mount>, mut registration: Registration) -> Result<()> {
    debug_assert_eq!(mount.kind(), Kind::Listener);
    let _serving = process::descriptors().serve_targets();
    loop {
        tokio::select! {
            biased;
            () = mount.closed.cancelled() => break,
            inbound = registration.streams.recv() => {
                fault::point("mount");
                let Some(inbound) = inbound else { break };
                let serve = serve(shared.clone(), mount.clone(), inbound);
                shared.tasks.spawn_on(serve, &shared.runtime);
            }
        }
    }
    drop(registration);
    shared.network.offers_changed();
    Ok(())
}

/// Connects one stream to the target. A stream that is dropped on the way is reset.
async fn serve(shared: Arc<Shared>, mount: Arc<Mount>, Inbound { stream }: Inbound) {
    let MountEnd::Listener { target, access, .. } = &mount.end else { return };
    let peer = stream.peer();
    let origin = Origin::Peer(peer);
    let permit = match shared.streams.permit(&mount, peer, &shared.options.read()) {
        Ok(permit) => permit,
        Err(error) => return mount.refuse(&origin, &error),
    };
    // Whoever changes the access ends the streams that have a permit, and this one was admitted before it had one.
    if !access.admits(&peer) {
        return;
    }
    let Some(descriptor) = process::descriptors().try_take() else {
        return mount.refuse(&origin, &no_descriptor());
    };
    let (time, report) = {
        let options = mount.options();
        (options.duration("target.timeout"), options.bool("report-peer-id"))
    };
    let connecting = async {
        let local = local::connect(target, time).await?;
        if report {
            let line = format!("{peer}\n");
            write_all(&local, line.as_bytes()).await.map_err(|error| {
                Error::system(Status::TargetRefused, format_args!("target {target} did not take the peer id"), &error)
            })?;
        }
        Ok(local)
    };
    let local = tokio::select! {
        biased;
        _ = permit.ending.asked() => return,
        local = connecting => local,
    };
    match local {
        Ok(local) => carry(&shared, &mount, Tunnel { local, stream, origin, permit, descriptor }).await,
        Err(error) => mount.refuse(&origin, &error),
    }
}

/// The budget of descriptors is used up.
pub fn no_descriptor() -> Error {
    Error::new(
        Status::Limit,
        format!(
            "the process's limit of open files leaves the library {} sockets, and all are in use",
            process::descriptors().max()
        ),
    )
}

async fn write_all(local: &local::LocalStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = std::future::poll_fn(|cx| local.poll_write_vectored(cx, &[IoSlice::new(bytes)])).await?;
        bytes = &bytes[written..];
    }
    Ok(())
}
