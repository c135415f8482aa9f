//! One request on a connection of its own, as a client that follows no redirect sends it.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::in_time;
use crate::model::Place;

/// An answer.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// From before the connection to the last byte of the head.
    pub took: Duration,
}

/// Asks `place` and reads an answer of up to `limit` bytes.
pub async fn ask(place: &Place, method: Method, path: &str, limit: usize) -> Result<Reply, String> {
    in_time(async {
        let began = Instant::now();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, place.to_string())
            .header(header::USER_AGENT, concat!("hubcache-doctor/", env!("CARGO_PKG_VERSION")))
            .header(header::ACCEPT, "*/*")
            .header(header::ACCEPT_ENCODING, "identity")
            .body(Empty::<Bytes>::new())
            .map_err(|error| error.to_string())?;
        let stream = connect(place).await?;
        let shown = |error: hyper::Error| error.to_string();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(shown)?;
        // It ends with the sender, and says by the answer how.
        tokio::spawn(connection);
        let (head, body) = sender.send_request(request).await.map_err(shown)?.into_parts();
        let took = began.elapsed();
        let body = Limited::new(body, limit).collect().await.map_err(|error| error.to_string())?.to_bytes();
        Ok(Reply { status: head.status, headers: head.headers, body, took })
    })
    .await
}

/// A connection, without the delay by which small writes are put together.
pub async fn connect(place: &Place) -> Result<TcpStream, String> {
    let stream = TcpStream::connect(place.to_string()).await.map_err(|error| error.to_string())?;
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    Ok(stream)
}
