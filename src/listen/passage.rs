//! What follows CONNECT on the same connection: bytes both ways, or TLS and requests in it.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::clock::{Clock, expired};
use super::stream::Watched;
use super::{Interceptor, Limits};
use crate::policy::Peer;

/// Bytes that are read at a time, in each direction of a relay.
const RELAY_BUFFER: usize = 16 << 10;
/// How long a relay may be idle once the server stops.
const IDLE_AT_STOP: Duration = Duration::from_secs(1);

/// A connection that has become a tunnel; what was read of it beyond the request comes first.
pub(super) type Client = TokioIo<Upgraded>;

/// Passes bytes both ways until either side has had enough, nothing moves for too long, or the server stops.
pub(super) async fn relay(
    client: Client,
    mut server: TcpStream,
    peer: &Peer,
    mut limits: Limits,
    mut stop: watch::Receiver<bool>,
) {
    let clock = Clock::new(Instant::now());
    // As in the body of a request: every byte, in or out, is a sign of life.
    clock.request_began(true, Instant::now());
    let mut client = Watched::new(client, clock.clone());
    let copied =
        tokio::io::copy_bidirectional_with_sizes(&mut client, &mut server, RELAY_BUFFER, RELAY_BUFFER);
    let mut copied = pin!(copied);
    let mut alarm = pin!(sleep_until(Instant::now() + limits.idle_timeout));
    let mut stopping = false;
    let (received_bytes, sent_bytes, why) = loop {
        tokio::select! {
            biased;
            result = copied.as_mut() => match result {
                Ok((received, sent)) => break (Some(received), Some(sent), None),
                Err(error) => break (None, None, Some(error.to_string())),
            },
            overdue = expired(&clock, &limits, alarm.as_mut()) => {
                break (None, None, Some(format!("timed out: {}", overdue.name())));
            }
            _ = stop.wait_for(|stop| *stop), if !stopping => {
                stopping = true;
                limits.idle_timeout = limits.idle_timeout.min(IDLE_AT_STOP);
                alarm.as_mut().reset(Instant::now());
            }
        }
    };
    tracing::debug!(peer = %peer.addr, received_bytes, sent_bytes, why, "a tunnel ended");
}

/// Speaks TLS with the client as `host`; nothing if it does not come to that.
pub(super) async fn intercept(
    client: Client,
    host: &Arc<str>,
    interceptor: &Interceptor,
    peer: &Peer,
    limits: &Limits,
) -> Option<TlsStream<Client>> {
    let config = match interceptor.config(host, SystemTime::now()) {
        Ok(config) => config,
        Err(error) => {
            tracing::error!(%host, %error, "no certificate can be issued");
            return None;
        }
    };
    let stream = handshake(TlsAcceptor::from(config), client, peer, limits).await?;
    // A name that the certificate is not for is refused by every client that asked for it, so this one is.
    let (_, tls) = stream.get_ref();
    if tls.server_name().is_some_and(|name| !name.eq_ignore_ascii_case(host)) {
        tracing::debug!(peer = %peer.addr, %host, "the client asked for another name within the tunnel");
        return None;
    }
    Some(stream)
}

/// The TLS handshake, which must be over in the time that a head may take.
pub(super) async fn handshake<S: AsyncRead + AsyncWrite + Unpin>(
    acceptor: TlsAcceptor,
    stream: S,
    peer: &Peer,
    limits: &Limits,
) -> Option<TlsStream<S>> {
    match tokio::time::timeout(limits.header_timeout, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => Some(stream),
        Ok(Err(error)) => {
            let alert = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
            if matches!(alert, Some(rustls::Error::AlertReceived(_))) {
                tracing::warn!(
                    peer = %peer.addr,
                    %error,
                    "a client does not accept the certificate; where it is to trust this server's authority, install \
                     what `hubcache ca export` prints"
                );
            } else {
                tracing::debug!(peer = %peer.addr, %error, "the TLS handshake failed");
            }
            None
        }
        Err(_) => {
            tracing::debug!(peer = %peer.addr, "the TLS handshake timed out");
            None
        }
    }
}
