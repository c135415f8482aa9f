//! A client that uses the program as its proxy: CONNECT, TLS in the tunnel, and HTTP/1.1 in that.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

const PATIENCE: Duration = Duration::from_secs(60);

/// What was answered: the head as text, and the body.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Status line and fields.
    pub head: String,
    /// The bytes behind them, as they came.
    pub body: Vec<u8>,
}

impl Answer {
    /// A field of it.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        lines.find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Sends `bytes` to `address` and reads all that comes back.
pub fn raw(address: &str, bytes: &[u8]) -> Answer {
    let mut stream = open(address);
    // The server may have said no before everything was sent.
    let _ = stream.write_all(bytes);
    read(&mut stream)
}

fn open(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the program listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
    stream
}

/// A tunnel to `target` by way of the proxy at `address`, or what it said instead.
pub fn tunnel(address: &str, target: &str, fields: &str) -> Result<TcpStream, Answer> {
    let mut stream = open(address);
    let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{fields}\r\n");
    stream.write_all(request.as_bytes()).expect("the program takes a request");
    let head = head(&mut stream);
    match status(&head) {
        200 => Ok(stream),
        status => {
            let mut body = Vec::new();
            let _ = stream.read_to_end(&mut body);
            Err(Answer { status, head, body })
        }
    }
}

/// TLS with `host` over `stream`, trusting the certificates in the file `ca` and no others.
pub fn over<S: Read + Write>(
    stream: S,
    host: &str,
    ca: &Path,
) -> Result<StreamOwned<ClientConnection, S>, io::Error> {
    over_with(stream, host, Arc::new(config(ca)))
}

/// The same by a configuration, which remembers sessions.
pub fn over_with<S: Read + Write>(
    mut stream: S,
    host: &str,
    config: Arc<ClientConfig>,
) -> Result<StreamOwned<ClientConnection, S>, io::Error> {
    let name = ServerName::try_from(host.to_owned()).expect("a host");
    let mut connection = ClientConnection::new(config, name).expect("the name can be asked for");
    while connection.is_handshaking() {
        connection.complete_io(&mut stream)?;
    }
    Ok(StreamOwned::new(connection, stream))
}

/// What is trusted: the certificates in the file `ca` and no others.
pub fn config(ca: &Path) -> ClientConfig {
    let pem = std::fs::read(ca).expect("the certificate can be read");
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        roots.add(certificate.expect("the file is PEM")).expect("the certificate can be used");
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has all versions")
        .with_root_certificates(roots)
        .with_no_client_auth()
}

/// Sends `request`, a head or more, which must end the connection, and reads the answer.
pub fn exchange(stream: &mut (impl Read + Write), request: &str) -> Answer {
    stream.write_all(request.as_bytes()).and_then(|()| stream.flush()).expect("the program takes a request");
    read(stream)
}

/// GET of `path` at `host` in a tunnel to `host`.
pub fn get(address: &str, host: &str, path: &str, fields: &str, ca: &Path) -> Answer {
    let stream = tunnel(address, &format!("{host}:443"), "").expect("the tunnel is opened");
    let mut stream = over(stream, host, ca).expect("the certificate is trusted");
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{fields}\r\n");
    exchange(&mut stream, &request)
}

/// Reads the answer to what was sent; its status is 0 where there is none.
pub fn read(stream: &mut impl Read) -> Answer {
    let head = head(stream);
    let mut body = Vec::new();
    // How it ended is told by its length.
    let _ = stream.read_to_end(&mut body);
    Answer { status: status(&head), head, body }
}

fn head(stream: &mut impl Read) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n > 0) {
        head.push(byte[0]);
    }
    String::from_utf8_lossy(&head).into_owned()
}

/// 0 where there is none.
fn status(head: &str) -> u16 {
    head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or_default()
}

/// A body with nothing in it.
pub fn empty() -> http_body_util::Empty<bytes::Bytes> {
    http_body_util::Empty::new()
}

/// HTTP/2 in TLS with `host` over `stream`.
pub async fn http2(
    stream: TcpStream,
    host: &str,
    ca: &Path,
) -> hyper::client::conn::http2::SendRequest<http_body_util::Empty<bytes::Bytes>> {
    stream.set_nonblocking(true).expect("a socket can be made non-blocking");
    let stream = tokio::net::TcpStream::from_std(stream).expect("within a runtime");
    let mut config = config(ca);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let name = ServerName::try_from(host.to_owned()).expect("a host");
    let stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    let stream = stream.expect("the certificate is trusted");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let executor = hyper_util::rt::TokioExecutor::new();
    let io = hyper_util::rt::TokioIo::new(stream);
    let (sender, connection) =
        hyper::client::conn::http2::handshake(executor, io).await.expect("HTTP/2 is spoken");
    tokio::spawn(connection);
    sender
}
