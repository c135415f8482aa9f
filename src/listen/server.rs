//! The accept loop and its end.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_send_buffer_size;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::{JoinError, JoinSet};

use super::Speaks;
use super::connection::{Handler, Service, drive};
use crate::model::ClientKey;
use crate::policy::{Crowd, Peer};
use crate::telemetry::{Limit, Telemetry};

/// Bytes on their way to a client on this machine, of which the kernel keeps twice as many. There is no distance to
/// bridge, and what does not fit into the processor's cache is copied out of main memory a second time.
const LOCAL_SEND_BUFFER: usize = 256 << 10;

/// How the connections that were open at the stop came to their end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Connections that were still busy when the time was up, and were cut.
    pub cut: usize,
}

/// Accepts connections and serves each as `service` says until `stop` turns true; then lets those that are in the middle
/// of a response finish it, for at most `drain`.
pub async fn serve<H: Handler>(
    listener: TcpListener,
    service: Service<H>,
    drain: Duration,
    mut stop: watch::Receiver<bool>,
) -> Drained {
    let service = Arc::new(service);
    let limits = service.limits;
    let permits = Arc::new(Semaphore::new(limits.max_connections.min(Semaphore::MAX_PERMITS)));
    // The limit of all is kept by the permits, for which new ones wait.
    let clients = Crowd::new(usize::MAX, limits.max_per_client);
    let mut connections = JoinSet::new();
    loop {
        let (stream, addr, permit) = tokio::select! {
            accepted = accept(&listener, &permits, &service.telemetry) => accepted,
            Some(ended) = connections.join_next(), if !connections.is_empty() => {
                report(ended);
                continue;
            }
            // An error means that whoever could say stop is gone.
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let client = ClientKey::of(addr.ip());
        let Ok(place) = clients.enter(client) else {
            refuse(&stream, client, &service);
            continue;
        };
        // Without it a small response would wait for the acknowledgement of the one before.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(peer = %addr, %error, "the connection was gone before it was served");
            continue;
        }
        if addr.ip().to_canonical().is_loopback()
            && let Err(error) = set_socket_send_buffer_size(&stream, LOCAL_SEND_BUFFER)
        {
            tracing::debug!(peer = %addr, %error, "the send buffer stays as it is");
        }
        let (service, stop) = (Arc::clone(&service), stop.clone());
        connections.spawn(async move {
            drive(stream, Peer::from(addr), service, stop).await;
            drop((permit, place));
        });
    }
    // Closed first, so that a client that comes now is refused at once instead of waiting in the queue.
    drop(listener);
    let all_ended = async {
        while let Some(ended) = connections.join_next().await {
            report(ended)
        }
    };
    let finished = tokio::time::timeout(drain, all_ended).await.is_ok();
    let cut = if finished { 0 } else { connections.len() };
    connections.shutdown().await;
    Drained { cut }
}

/// The next connection, together with the permit that it holds for its whole life.
async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
    telemetry: &Telemetry,
) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
    if permits.available_permits() == 0 && telemetry.limited(Limit::Connections, Instant::now()) {
        tracing::warn!("the limit of connections is reached; new ones wait (listen.max_connections)");
    }
    let permit = Arc::clone(permits).acquire_owned().await.expect("the semaphore is never closed");
    loop {
        match listener.accept().await {
            Ok((stream, addr)) => return (stream, addr, permit),
            Err(error) if belongs_to_one_connection(&error) => {}
            Err(error) => {
                // Out of file descriptors or memory: trying again at once would only burn the processor.
                tracing::error!(%error, "no connection can be accepted just now");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Tells a client, as far as that is possible at once, that it has too many connections.
fn refuse<H>(stream: &TcpStream, client: ClientKey, service: &Service<H>) {
    const LIMIT: Limit = Limit::ConnectionsPerClient;
    if service.telemetry.limited(LIMIT, Instant::now()) {
        tracing::warn!(%client, "a client has as many connections as it may; more are closed ({})", LIMIT.setting());
    }
    if matches!(service.speaks, Speaks::Plain(_)) {
        let text = format!("hubcache: {} ({})\n", LIMIT.phrase(), LIMIT.setting());
        let answer = format!(
            "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{text}",
            text.len()
        );
        // Whatever does not fit into an empty buffer is not worth waiting for.
        let _ = stream.try_write(answer.as_bytes());
    }
}

/// Whether a failed accept says nothing about the next one.
fn belongs_to_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a connection's task failed");
    }
}

#[cfg(test)]
mod tests;
