//! Requests that two servers could read differently. Whatever is sent to the program, what reaches the origin is exactly
//! one request with one framing, or none.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::support;
use support::daemon::Daemon;

const PATIENCE: Duration = Duration::from_secs(20);

/// An origin that reads with no leniency at all, and answers every request that it can read.
struct Origin {
    url: String,
    seen: Arc<Mutex<Vec<Result<String, String>>>>,
}

impl Origin {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen: Arc<Mutex<Vec<_>>> = Arc::default();
        let kept = seen.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let seen = kept.clone();
                thread::spawn(move || serve(stream, &seen));
            }
        });
        Self { url, seen }
    }

    /// The request lines that came since the last time, or what was wrong with what came.
    fn take(&self) -> Vec<Result<String, String>> {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }
}

fn serve(mut stream: TcpStream, seen: &Mutex<Vec<Result<String, String>>>) {
    let mut buffer = Vec::new();
    let more = |buffer: &mut Vec<u8>, stream: &mut TcpStream| {
        let mut piece = [0; 16384];
        match stream.read(&mut piece) {
            Ok(count @ 1..) => {
                buffer.extend_from_slice(&piece[..count]);
                true
            }
            _ => false,
        }
    };
    loop {
        let end = loop {
            if let Some(at) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                break at;
            }
            if !more(&mut buffer, &mut stream) {
                if !buffer.is_empty() {
                    seen.lock()
                        .unwrap()
                        .push(Err(format!("half a head: {:?}", String::from_utf8_lossy(&buffer))));
                }
                return;
            }
        };
        let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
        buffer.drain(..end + 4);
        let read = match framing(&head) {
            Ok(Framing::Nothing) => true,
            Ok(Framing::Length(length)) => loop {
                if buffer.len() >= length {
                    buffer.drain(..length);
                    break true;
                }
                if !more(&mut buffer, &mut stream) {
                    break false;
                }
            },
            Ok(Framing::Chunked) => loop {
                match chunked(&buffer) {
                    Ok(Some(used)) => {
                        buffer.drain(..used);
                        break true;
                    }
                    Ok(None) if more(&mut buffer, &mut stream) => {}
                    Ok(None) => break false,
                    Err(why) => {
                        seen.lock().unwrap().push(Err(why));
                        return;
                    }
                }
            },
            Err(why) => {
                seen.lock().unwrap().push(Err(format!("{why}: {head:?}")));
                return;
            }
        };
        // A request that broke off is none.
        if !read {
            return;
        }
        seen.lock().unwrap().push(Ok(head.lines().next().unwrap_or_default().to_owned()));
        if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").is_err() {
            return;
        }
    }
}

enum Framing {
    Nothing,
    Length(usize),
    Chunked,
}

fn framing(head: &str) -> Result<Framing, String> {
    let mut lines = head.split("\r\n");
    let request: Vec<_> = lines.next().unwrap_or_default().split(' ').collect();
    if request.len() != 3 || request[2] != "HTTP/1.1" || !request[1].starts_with('/') {
        return Err("the request line".to_owned());
    }
    let (mut framing, mut hosts) = (Framing::Nothing, 0);
    for line in lines {
        let (name, value) = line.split_once(':').ok_or("no colon")?;
        let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if name.is_empty() || !name.bytes().all(is_token) {
            return Err(format!("the name {name:?}"));
        }
        if value.bytes().any(|b| b != b'\t' && b.is_ascii_control()) {
            return Err(format!("the value {value:?}"));
        }
        let told = match name.to_ascii_lowercase().as_str() {
            "host" => {
                hosts += 1;
                continue;
            }
            "content-length" => Framing::Length(value.trim().parse().map_err(|_| "the length".to_owned())?),
            "transfer-encoding" if value.trim() == "chunked" => Framing::Chunked,
            "transfer-encoding" => return Err("the encoding".to_owned()),
            _ => continue,
        };
        if !matches!(framing, Framing::Nothing) {
            return Err("two framings".to_owned());
        }
        framing = told;
    }
    if hosts == 1 { Ok(framing) } else { Err(format!("{hosts} hosts")) }
}

/// How long a whole chunked body at the beginning is.
fn chunked(bytes: &[u8]) -> Result<Option<usize>, String> {
    let mut at = 0;
    loop {
        let Some(end) = bytes[at..].windows(2).position(|w| w == b"\r\n") else { return Ok(None) };
        let line = std::str::from_utf8(&bytes[at..at + end]).map_err(|e| e.to_string())?;
        if line.is_empty() || !line.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(format!("the chunk size {line:?}"));
        }
        let size = usize::from_str_radix(line, 16).map_err(|e| e.to_string())?;
        at += end + 2;
        if bytes.len() < at + size + 2 {
            return Ok(None);
        }
        if &bytes[at + size..at + size + 2] != b"\r\n" {
            return Err("no line end behind a chunk, or trailers".to_owned());
        }
        at += size + 2;
        if size == 0 {
            return Ok(Some(at));
        }
    }
}

/// Sends `bytes`, nothing more if they are not whole, and reads whatever is answered until the connection ends.
fn send(address: &str, bytes: &[u8], is_whole: bool) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // It may say no, and close, before all of it was sent.
    let _ = stream.write_all(bytes);
    // So that what is never completed comes to an end; a client that wants an answer does not do it.
    if !is_whole {
        let _ = stream.shutdown(Shutdown::Write);
    }
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// A second request that nobody may take for one.
const SMUGGLED: &str = "GET /api/smuggled HTTP/1.1\r\nHost: x\r\n\r\n";

/// Requests with something wrong in the head, or behind it.
fn malformed() -> Vec<Vec<u8>> {
    let post = "POST /api/a HTTP/1.1\r\nHost: x\r\n";
    let mut all: Vec<String> = Vec::new();
    // Lines.
    all.extend([
        "GET /api/a HTTP/1.1\nHost: x\n\n".to_owned(),
        "GET /api/a HTTP/1.1\r\nHost: x\nX: y\r\n\r\n".to_owned(),
        "GET /api/a HTTP/1.1\r\nHost: x\r\nX: a\rb\r\n\r\n".to_owned(),
        "GET /api/a HTTP/1.1\rHost: x\r\r".to_owned(),
        "GET /api/a HTTP/1.1\r\nHost: x\r\nX: a\r\n b\r\n\r\n".to_owned(),
        "GET /api/a HTTP/1.1\r\nHost: x\r\nX: a\r\n\tb\r\n\r\n".to_owned(),
        "GET /api/a HTTP/1.1\r\n Host: x\r\n\r\n".to_owned(),
        "GET /api/a HTTP/1.1\r\nHost : x\r\n\r\n".to_owned(),
        "GET /api/a HTTP/1.1\r\nHost\t: x\r\n\r\n".to_owned(),
        "GET /api/a HTTP/1.1\r\nHost: x\r\nX Y: 1\r\n\r\n".to_owned(),
        "GET /api/a HTTP/1.1\r\nHost: x\r\n: 1\r\n\r\n".to_owned(),
        "GET /api/a HTTP/1.1\r\nHost: x\r\n(X): 1\r\n\r\n".to_owned(),
        "GET /api/a HTTP/1.1\r\nHost: x\r\nX\x7f: 1\r\n\r\n".to_owned(),
        "GET /api/a HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n".to_owned(),
        "GET /api/a HTTP/1.1\r\nHost: x\r\nnothing\r\n\r\n".to_owned(),
        "GET /api/a HTTP/1.1\r\nHost: x\r\nX: 1\r\n\n".to_owned(),
    ]);
    // Request lines.
    for line in [
        "GET  /api/a HTTP/1.1",
        "GET /api/a  HTTP/1.1",
        "GET\t/api/a HTTP/1.1",
        "GET /api/a",
        "GET /api/a HTTP/1.1 x",
        "GET /api/a b HTTP/1.1",
        "GET /api/a http/1.1",
        "GET /api/a HTTP/2.0",
        "GET /api/a HTTP/11",
        "GET /api/a HTTP/1.1\0",
        " GET /api/a HTTP/1.1",
        "G(T /api/a HTTP/1.1",
        "GET /api/a\x01 HTTP/1.1",
        "GET /api/a%0d%0aX:%20y HTTP/1.1",
        "GET http://x@huggingface.co/api/a HTTP/1.1",
        "GET http:///api/a HTTP/1.1",
        "GET http://huggingface.co:99999/api/a HTTP/1.1",
        "GET api/a HTTP/1.1",
        "GET * HTTP/1.1",
        "CONNECT /api/a HTTP/1.1",
        "CONNECT huggingface.co HTTP/1.1",
        "CONNECT x:443/api/a HTTP/1.1",
    ] {
        all.push(format!("{line}\r\nHost: x\r\n\r\n"));
    }
    // Hosts.
    for hosts in ["", "Host: x\r\nHost: x\r\n", "Host: x\r\nhost: y\r\n"] {
        all.push(format!("GET /api/a HTTP/1.1\r\n{hosts}\r\n"));
    }
    // Lengths; what a reader with another length would take for a request follows.
    for length in
        ["+5", "-5", "0x5", "5 5", "", "1e1", "5;", "5,5", "5, 6", "\"5\"", "99999999999999999999", "5\x0b"]
    {
        all.push(format!("{post}Content-Length: {length}\r\n\r\nhello{SMUGGLED}"));
    }
    for lengths in ["Content-Length: 5\r\nContent-Length: 5", "Content-Length: 5\r\ncontent-length: 50"] {
        all.push(format!("{post}{lengths}\r\n\r\nhello{SMUGGLED}"));
    }
    for name in ["Content-Length ", " Content-Length", "Content-Length\0", "\x0bContent-Length"] {
        all.push(format!("{post}{name}: 5\r\n\r\n{SMUGGLED}"));
    }
    // Encodings.
    for encoding in [
        "xchunked",
        "identity",
        "chunked, identity",
        "gzip, chunked",
        "chunked, chunked",
        "chunked\x0b",
        "\"chunked\"",
        "chunked;q=1",
        "",
        ", chunked",
        "chun\tked",
    ] {
        all.push(format!("{post}Transfer-Encoding: {encoding}\r\n\r\n0\r\n\r\n{SMUGGLED}"));
    }
    for both in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding : chunked\r\nContent-Length: 5",
        "Transfer-Encoding\0: chunked\r\nContent-Length: 5",
        "X: y\r\n Transfer-Encoding: chunked\r\nContent-Length: 5",
    ] {
        all.push(format!("{post}{both}\r\n\r\n0\r\n\r\n{SMUGGLED}"));
    }
    all.push(format!(
        "POST /api/a HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{SMUGGLED}"
    ));
    // Chunks.
    for chunks in [
        "g\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "\r\nhello\r\n0\r\n\r\n",
        "5\nhello\n0\n\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhelloXX0\r\n\r\n",
        "5\rXhello\r\n0\r\n\r\n",
        "5;a=\nb\r\nhello\r\n0\r\n\r\n",
        "FFFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\r\nX: a\nb\r\n\r\n",
        "5\r\nhello\r\n00000000000000000000\r\n\n",
    ] {
        all.push(format!("{post}Transfer-Encoding: chunked\r\n\r\n{chunks}{SMUGGLED}"));
    }
    // Too much.
    all.push(format!("GET /api/a HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "a".repeat(70_000)));
    all.push(format!("GET /api/{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(70_000)));
    all.push(format!("GET /api/a HTTP/1.1\r\nHost: x\r\n{}\r\n", "X: y\r\n".repeat(200)));
    let mut all: Vec<Vec<u8>> = all.into_iter().map(String::into_bytes).collect();
    all.push(b"GET /api/\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n".to_vec());
    all.push(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec());
    all
}

/// The same request for another path.
fn renamed(bytes: &[u8], n: usize) -> Vec<u8> {
    let old = b"/api/a";
    let Some(at) = bytes.windows(old.len()).position(|w| w == old) else { return bytes.to_vec() };
    [&bytes[..at], format!("/api/n{n}").as_bytes(), &bytes[at + old.len()..]].concat()
}

/// Requests that are odd and right: exactly one request reaches the origin.
fn odd() -> Vec<String> {
    let get = "GET /api/a HTTP/1.1\r\nHost: x\r\n";
    let post = "POST /api/a HTTP/1.1\r\nHost: x\r\n";
    vec![
        format!("\r\n{get}Connection: close\r\n\r\n"),
        format!("{get}Connection: Host, close\r\n\r\n"),
        format!("{post}Connection: Content-Length, close\r\nContent-Length: 5\r\n\r\nhello"),
        format!(
            "{post}Connection: Transfer-Encoding, close\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
        ),
        format!(
            "{post}Transfer-Encoding: Chunked\r\n\r\n5;ext=\"a;b\"\r\nhello\r\n0\r\nX-Trailer: Content-Length\r\n\r\n"
        ),
        format!("{post}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n{SMUGGLED}"),
        format!("{post}Content-Length: 0\r\nConnection: close\r\n\r\n"),
        format!(
            "{get}Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings, close\r\nHTTP2-Settings: AAMAAABk\r\n\r\n"
        ),
        "GET http://huggingface.co/api/a HTTP/1.1\r\nHost: y\r\nConnection: close\r\n\r\n".to_owned(),
    ]
}

#[test]
fn what_reaches_the_origin_is_one_request_or_none() {
    let origin = Origin::start();
    let daemon = Daemon::builder().root("huggingface", &origin.url).root("mozilla", &origin.url).start();
    let malformed = malformed();
    assert!(malformed.len() >= 75, "{}", malformed.len());
    // Each has a path of its own, by which it is known when it comes late.
    let mut shown_as = Vec::new();
    for (n, bytes) in malformed.iter().enumerate() {
        let bytes = &renamed(bytes, n);
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
        let answer = send(daemon.listen(), bytes, false);
        let answers = answer.matches("HTTP/1.1 ").count();
        assert!(answers <= 1, "{answers} answers to {shown:?}\n{answer}");
        // A body that breaks off may have been on its way already, and ends there as what it is.
        let is_chunked = shown.contains("Transfer-Encoding: chunked\r\n\r\n");
        // A client that ends its side may get no answer.
        let refused = ["HTTP/1.1 4", "HTTP/1.1 5"].iter().any(|begin| answer.starts_with(begin));
        assert!(refused || answer.is_empty() || is_chunked, "{shown:?}\n{answer}");
        shown_as.push((shown, is_chunked));
    }
    // Whatever is on its way has arrived when requests that came after it were answered.
    for _ in 0..20 {
        send(daemon.listen(), b"GET /api/last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", true);
    }
    let seen = origin.take();
    for request in &seen {
        let request = request.as_ref().unwrap_or_else(|why| panic!("the origin got {why}"));
        assert!(!request.contains("smuggled"), "{request:?}");
    }
    for (n, (shown, is_chunked)) in shown_as.into_iter().enumerate() {
        let is_it = |request: &&Result<String, String>| {
            request.as_ref().is_ok_and(|line| line.split(['/', ' ']).any(|part| part == format!("n{n}")))
        };
        let count = seen.iter().filter(is_it).count();
        assert!(count <= usize::from(is_chunked), "{shown:?} became {count}\n{seen:#?}");
    }
    for text in odd() {
        let answer = send(daemon.listen(), text.as_bytes(), true);
        assert!(answer.starts_with("HTTP/1.1 200"), "{text:?}\n{answer}");
        let seen = origin.take();
        assert_eq!(seen.len(), 1, "{text:?} became {seen:#?}");
        let request = seen[0].as_ref().unwrap_or_else(|why| panic!("{text:?} became {why}"));
        assert!(!request.contains("smuggled"), "{text:?} became {request:?}");
    }
    // The same connection is good for more after a request that was in order.
    let two = "GET /api/a HTTP/1.1\r\nHost: x\r\n\r\nPOST /api/b HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhiGET /api/c HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    assert_eq!(send(daemon.listen(), two.as_bytes(), true).matches("HTTP/1.1 200").count(), 3);
    assert_eq!(origin.take().len(), 3);
}
