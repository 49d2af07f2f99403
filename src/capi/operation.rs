//! Calls that go on in the background, and the blocking calls, which are the same with a wait.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{
    guard::guard,
    handles::{self, Object},
    settings,
    types::{p2p_error, p2p_mount, p2p_operation, p2p_status},
};
use crate::{
    error::{Error, Result, Status},
    events::kind,
    node::Node,
    rows::Row,
};

/// Runs `future` on the library's threads and waits for it.
pub fn wait<T: Send + 'static>(future: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    let runtime = settings::runtime()?;
    let task = runtime.spawn(future);
    runtime.block_on(task).unwrap_or_else(|_| Err(internal()))
}

/// Runs an operation of `node` in the background. `future` gets the token that cancels it and yields a mount's handle or 0;
/// its end is an event on every queue that asked for operations. `what` is its name in a sentence.
pub fn start<F>(
    node: (u64, &Arc<Node>),
    what: String,
    future: impl FnOnce(CancellationToken) -> F,
) -> Result<p2p_operation>
where
    F: Future<Output = Result<u64>> + Send + 'static,
{
    let (parent, node) = (node.0, node.1.clone());
    let runtime = settings::runtime()?;
    let cancel = CancellationToken::new();
    // Closing the node waits for this before its queues end, if it has not begun before.
    let alive = node.task();
    node.check()?;
    let task = runtime.spawn(future(cancel.clone()));
    let operation = handles::add(Object::Operation(cancel.clone()), parent);
    runtime.spawn(async move {
        let mut result = task.await.unwrap_or_else(|_| Err(internal()));
        handles::forget([operation]);
        // Whoever cancelled it was told so, even if it was done at the same moment.
        if cancel.is_cancelled() {
            if let Ok(mount) = result {
                undo(mount).await;
            }
            result = Err(Error::cancelled(what));
        }
        report(&node, operation, &result);
        drop(alive);
    });
    Ok(operation)
}

/// Nothing is left of an operation that was cancelled when it had made this mount (0: none).
async fn undo(mount: p2p_mount) {
    if let Ok((node, made)) = handles::mount(mount) {
        node.close_mount(&made, true).await;
        handles::forget([mount]);
    }
}

/// Closes a node in the background, as `handles::close` would: whoever closes it meanwhile waits for this.
pub fn start_close(handle: u64, node: Arc<Node>, drain: Option<Duration>) -> Result<p2p_operation> {
    let runtime = settings::runtime()?;
    let forget = handles::begin_close(handle, handles::NODE)?;
    let cancel = CancellationToken::new();
    let operation = handles::add(Object::Operation(cancel.clone()), 0);
    runtime.spawn(async move {
        node.close_with(drain, &cancel, || {
            handles::forget([operation]);
            drop(forget);
            let result = match cancel.is_cancelled() {
                true => Err(Error::new(Status::Cancelled, "draining was cancelled; the node is closed")),
                false => Ok(0),
            };
            report(&node, operation, &result);
        })
        .await;
    });
    Ok(operation)
}

/// The event that ends an operation.
fn report(node: &Node, operation: p2p_operation, result: &Result<u64>) {
    node.hub().emit(kind::OPERATION, || {
        Row::new("operation")
            .int("operation", operation)
            .int("mount", *result.as_ref().unwrap_or(&0))
            .failure(result.as_ref().err())
    });
}

fn internal() -> Error {
    Error::new(Status::Internal, "an internal error was contained; this is a defect of the library")
}

/// Ends an operation early; its event then says P2P_ERROR_CANCELLED and nothing of it is left. One that has ended gives
/// P2P_ERROR_BAD_HANDLE and its event stands. May be called from any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn p2p_operation_cancel(operation: p2p_operation, error: *mut p2p_error) -> p2p_status {
    guard(error, || handles::cancel(operation))
}
