use std::convert::Infallible;
use std::time::{Duration, Instant};

use http::Response;
use http_body_util::{Either, Full, StreamBody};
use hyper::body::Frame;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use bytes::Bytes;
use http::Request;
use hyper::body::Incoming;

use super::*;
use crate::listen::Limits;
use crate::proxy::Handled;
use crate::request::Arrival;

type TestBody = Either<Full<Bytes>, Endless>;
type Endless = StreamBody<Zeros>;

/// A body without an end that says when it is dropped.
struct Zeros(Option<oneshot::Sender<()>>);

impl futures_util::Stream for Zeros {
    type Item = Result<Frame<Bytes>, Infallible>;

    fn poll_next(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        std::task::Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[0; 65536])))))
    }
}

impl Drop for Zeros {
    fn drop(&mut self) {
        if let Some(sender) = self.0.take() {
            let _ = sender.send(());
        }
    }
}

struct Server {
    addr: SocketAddr,
    stop: watch::Sender<bool>,
    done: JoinHandle<Drained>,
}

fn limits() -> Limits {
    Limits {
        header_timeout: Duration::from_secs(20),
        idle_timeout: Duration::from_secs(20),
        write_timeout: Duration::from_secs(20),
        max_connections: 100,
        max_per_client: 100,
    }
}

async fn start<F, Fut>(limits: Limits, drain: Duration, handler: F) -> Server
where
    F: Fn(Request<Incoming>, Peer, Arrival) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Handled<TestBody>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (stop, stopped) = watch::channel(false);
    let done = tokio::spawn(serve(
        listener,
        Service { handler, limits, speaks: Speaks::Plain(None), telemetry: Telemetry::new("0") },
        drain,
        stopped,
    ));
    Server { addr, stop, done }
}

async fn hello(_: Request<Incoming>, _: Peer, _: Arrival) -> Handled<TestBody> {
    Response::new(Either::Left(Full::new(Bytes::from_static(b"hello")))).into()
}

async fn request(stream: &mut TcpStream) {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
}

/// Reads one response with the body `hello`.
async fn read_hello(stream: &mut TcpStream) {
    let mut text = Vec::new();
    while !text.ends_with(b"hello") {
        assert_ne!(stream.read_buf(&mut text).await.unwrap(), 0, "{}", String::from_utf8_lossy(&text));
    }
}

/// Reads to the end of the stream, however it ends.
async fn until_closed(stream: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    let end = async { while stream.read_buf(&mut all).await.is_ok_and(|n| n > 0) {} };
    tokio::time::timeout(Duration::from_secs(10), end).await.expect("the server closes the connection");
    all
}

#[tokio::test]
async fn a_head_that_does_not_end_is_cut() {
    let header_timeout = Duration::from_millis(200);
    let server = start(Limits { header_timeout, ..limits() }, Duration::ZERO, hello).await;
    let began = Instant::now();
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nX-Slow: ").await.unwrap();
    until_closed(&mut stream).await;
    assert!(began.elapsed() >= header_timeout);
}

#[tokio::test]
async fn between_requests_the_idle_time_counts_and_not_that_of_the_head() {
    let (header_timeout, idle_timeout) = (Duration::from_millis(50), Duration::from_millis(500));
    let server = start(Limits { header_timeout, idle_timeout, ..limits() }, Duration::ZERO, hello).await;
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    request(&mut stream).await;
    read_hello(&mut stream).await;
    let answered = Instant::now();
    until_closed(&mut stream).await;
    let waited = answered.elapsed();
    assert!(waited >= Duration::from_millis(400), "closed after {waited:?}");
}

#[tokio::test]
async fn an_upload_that_stalls_is_cut() {
    let limits = Limits { idle_timeout: Duration::from_millis(200), ..limits() };
    let server = start(limits, Duration::ZERO, |request: Request<Incoming>, _: Peer, _: Arrival| async {
        let _ = http_body_util::BodyExt::collect(request.into_body()).await;
        Response::new(Either::Left(Full::new(Bytes::new()))).into()
    })
    .await;
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    stream.write_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc").await.unwrap();
    assert_eq!(until_closed(&mut stream).await, b"");
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_cut_and_the_body_dropped() {
    let (dropped, end) = oneshot::channel();
    let dropped = Arc::new(std::sync::Mutex::new(Some(dropped)));
    let limits = Limits { write_timeout: Duration::from_millis(300), ..limits() };
    let server = start(limits, Duration::ZERO, move |_: Request<Incoming>, _: Peer, _: Arrival| {
        let zeros = Zeros(dropped.lock().unwrap().take());
        async { Response::new(Either::Right(StreamBody::new(zeros))).into() }
    })
    .await;
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    request(&mut stream).await;
    tokio::time::timeout(Duration::from_secs(10), end).await.expect("cut in time").unwrap();
}

#[tokio::test]
async fn a_slow_answer_has_no_deadline() {
    let tiny = Duration::from_millis(50);
    let limits = Limits {
        header_timeout: tiny,
        idle_timeout: tiny,
        write_timeout: tiny,
        max_connections: 10,
        max_per_client: 10,
    };
    let server = start(
        limits,
        Duration::ZERO,
        |request: Request<Incoming>, peer: Peer, arrival: Arrival| async move {
            tokio::time::sleep(Duration::from_millis(400)).await;
            hello(request, peer, arrival).await
        },
    )
    .await;
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    request(&mut stream).await;
    read_hello(&mut stream).await;
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_one_to_end() {
    let server = start(Limits { max_connections: 1, ..limits() }, Duration::ZERO, hello).await;
    let mut first = TcpStream::connect(server.addr).await.unwrap();
    request(&mut first).await;
    read_hello(&mut first).await;
    let mut second = TcpStream::connect(server.addr).await.unwrap();
    request(&mut second).await;
    let early = tokio::time::timeout(Duration::from_millis(200), second.readable()).await;
    assert!(early.is_err(), "the first connection still holds the permit");
    drop(first);
    read_hello(&mut second).await;
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let server = start(limits(), Duration::ZERO, hello).await;
    let many: String = (0..200).map(|i| format!("X-{i}: 1\r\n")).collect();
    let large = format!("X-Large: {}\r\n", "a".repeat(70_000));
    for headers in [many, large] {
        let mut stream = TcpStream::connect(server.addr).await.unwrap();
        let head = format!("GET / HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let answer = until_closed(&mut stream).await;
        assert!(answer.starts_with(b"HTTP/1.1 431 "), "{}", String::from_utf8_lossy(&answer));
    }
}

#[tokio::test]
async fn a_stop_closes_idle_connections_and_lets_a_response_end() {
    let (go, gate) = watch::channel(false);
    let server = start(
        limits(),
        Duration::from_secs(10),
        move |request: Request<Incoming>, peer: Peer, arrival: Arrival| {
            let mut gate = gate.clone();
            async move {
                if request.uri().path() == "/slow" {
                    gate.wait_for(|go| *go).await.unwrap();
                }
                hello(request, peer, arrival).await
            }
        },
    )
    .await;
    let mut idle = TcpStream::connect(server.addr).await.unwrap();
    request(&mut idle).await;
    read_hello(&mut idle).await;
    let mut busy = TcpStream::connect(server.addr).await.unwrap();
    busy.write_all(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    // Served on a third connection after the others were accepted, so the busy one is in its handler's hands.
    let mut third = TcpStream::connect(server.addr).await.unwrap();
    request(&mut third).await;
    read_hello(&mut third).await;

    server.stop.send(true).unwrap();
    assert_eq!(until_closed(&mut idle).await, b"");
    assert!(TcpStream::connect(server.addr).await.is_err(), "nothing listens any more");
    go.send(true).unwrap();
    assert!(until_closed(&mut busy).await.ends_with(b"hello"));
    assert_eq!(server.done.await.unwrap(), Drained { cut: 0 });
}

#[tokio::test]
async fn what_is_not_done_when_the_drain_is_over_is_cut() {
    let server =
        start(limits(), Duration::from_millis(100), |_: Request<Incoming>, _: Peer, _: Arrival| async {
            Response::new(Either::Right(StreamBody::new(Zeros(None)))).into()
        })
        .await;
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    request(&mut stream).await;
    stream.read_u8().await.unwrap();
    server.stop.send(true).unwrap();
    assert_eq!(server.done.await.unwrap(), Drained { cut: 1 });
}
