//! A plain HTTP/1.1 client for tests: no pool, no redirects, no clean-up of URLs, and an exact account of how and
//! when a body arrived and whether it came to its announced end.

use std::fmt::Write as _;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

/// Longest silence before a test is given up, unless it says otherwise.
const PATIENCE: Duration = Duration::from_secs(60);

/// GETs `url` and reads all of it.
///
/// # Panics
/// When no complete head arrives; how the body ended is in [`Reply::ended`].
pub fn get(url: &str) -> Reply {
    Request::get(url).send()
}

/// HEADs `url`.
pub fn head(url: &str) -> Reply {
    Request::new("HEAD", url).send()
}

/// GETs a range of `url`, given as in `0-0`, `7-` or `-5`.
pub fn get_range(url: &str, range: &str) -> Reply {
    Request::get(url).range(range).send()
}

/// Runs `count` copies of `run` on threads that start together, and returns what they returned.
pub fn at_once<T: Send>(count: usize, run: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let start = std::sync::Barrier::new(count);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..count)
            .map(|i| {
                let (start, run) = (&start, &run);
                scope.spawn(move || {
                    start.wait();
                    run(i)
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().expect("the copy does not panic")).collect()
    })
}

/// A request to be sent on a connection of its own.
#[derive(Clone, Debug)]
pub struct Request {
    method: String,
    authority: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    patience: Duration,
}

impl Request {
    /// A GET; what follows the authority in `url` is sent as it stands.
    pub fn get(url: &str) -> Self {
        Self::new("GET", url)
    }

    /// A request with any method.
    pub fn new(method: &str, url: &str) -> Self {
        let rest = url.strip_prefix("http://").expect("tests speak plain HTTP");
        let at = rest.find('/').unwrap_or(rest.len());
        let (authority, target) = rest.split_at(at);
        let target = if target.is_empty() { "/" } else { target };
        Self {
            method: method.to_owned(),
            authority: authority.to_owned(),
            target: target.to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
            patience: PATIENCE,
        }
    }

    /// Sends `target` in place of the one in the URL: absolute forms, `*`, or nonsense.
    pub fn target(mut self, target: &str) -> Self {
        target.clone_into(&mut self.target);
        self
    }

    /// Adds a header; a `Host` given here replaces the one made from the URL.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds a Range, given as in `0-0`, `7-` or `-5`.
    pub fn range(self, range: &str) -> Self {
        self.header("Range", &format!("bytes={range}"))
    }

    /// Adds a bearer token.
    pub fn token(self, token: &str) -> Self {
        self.header("Authorization", &format!("Bearer {token}"))
    }

    /// Sends a body with its length.
    pub fn body(mut self, body: &[u8]) -> Self {
        self.body = body.to_vec();
        self
    }

    /// How long a silence is borne.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Sends it and reads the whole reply.
    ///
    /// # Panics
    /// When no complete head arrives.
    pub fn send(&self) -> Reply {
        self.open().expect("the reply has a head").finish()
    }

    /// Sends it and reads the whole reply; an error when no complete head arrives.
    pub fn try_send(&self) -> io::Result<Reply> {
        Ok(self.open()?.finish())
    }

    /// Sends it, reads the head, and leaves the body to be read at the test's pace.
    pub fn open(&self) -> io::Result<Incoming> {
        let mut stream = TcpStream::connect(&self.authority)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(self.patience))?;
        let begun = Instant::now();
        stream.write_all(self.head().as_bytes())?;
        stream.write_all(&self.body)?;
        Incoming::read_head(stream, begun, self.method == "HEAD")
    }

    fn head(&self) -> String {
        let mut out = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        let has = |name: &str| self.headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
        if !has("host") {
            let _ = write!(out, "Host: {}\r\n", self.authority);
        }
        for (name, value) in &self.headers {
            let _ = write!(out, "{name}: {value}\r\n");
        }
        if !self.body.is_empty() {
            let _ = write!(out, "Content-Length: {}\r\n", self.body.len());
        }
        if !has("connection") {
            out.push_str("Connection: close\r\n");
        }
        out.push_str("\r\n");
        out
    }
}

/// How a body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// At its announced end.
    Clean,
    /// Before it: closed, reset, or silent for longer than the test's patience.
    Broken,
    /// The test stopped reading.
    Abandoned,
}

/// The head of a reply, and its body as far as it was read.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The headers in order.
    pub headers: Vec<(String, String)>,
    /// The body without its framing.
    pub body: Vec<u8>,
    /// How the body ended.
    pub ended: Ended,
    /// When the head was complete, from the sending of the request on.
    pub head_at: Duration,
    /// When which number of bytes of the body arrived.
    pub pieces: Vec<(Duration, usize)>,
    /// When the body ended.
    pub ended_at: Duration,
}

impl Reply {
    /// The first header of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    /// Whether the body came to its announced end.
    pub fn is_whole(&self) -> bool {
        self.ended == Ended::Clean
    }

    /// Checks status, bytes and a clean end, and tells the first byte that differs instead of all of them.
    ///
    /// # Panics
    /// When it is another answer.
    #[track_caller]
    pub fn assert_is(&self, status: u16, bytes: &[u8], what: &str) {
        let (got, wanted) = (self.body.len(), bytes.len());
        let begins = String::from_utf8_lossy(&self.body[..got.min(200)]);
        assert_eq!(self.status, status, "{what}: {got} bytes that begin {begins:?}");
        let differs = self.body.iter().zip(bytes).position(|(a, b)| a != b);
        assert!(differs.is_none(), "{what}: byte {differs:?} of those that begin {begins:?}");
        assert_eq!((got, self.ended), (wanted, Ended::Clean), "{what}: length and end");
    }

    /// The longest time without a byte, the wait for the head and for the end included.
    pub fn longest_silence(&self) -> Duration {
        let mut last = Duration::ZERO;
        let mut longest = Duration::ZERO;
        let arrivals = self.pieces.iter().map(|&(at, _)| at);
        for at in [self.head_at].into_iter().chain(arrivals).chain([self.ended_at]) {
            longest = longest.max(at.saturating_sub(last));
            last = at;
        }
        longest
    }

    /// When the first byte of the body arrived.
    pub fn first_byte_at(&self) -> Option<Duration> {
        self.pieces.first().map(|&(at, _)| at)
    }

    /// The status and the body as text, for messages.
    pub fn text(&self) -> String {
        format!("{} {}", self.status, String::from_utf8_lossy(&self.body))
    }
}

/// A reply whose body is being read.
pub struct Incoming {
    stream: TcpStream,
    /// Bytes read and not yet looked at.
    buffer: Vec<u8>,
    begun: Instant,
    left: Left,
    reply: Reply,
}

/// What is still to come of a body.
#[derive(Clone, Copy, Debug)]
enum Left {
    Bytes(u64),
    /// So many bytes of the current chunk with its line end; at zero a size line is next.
    Chunk(u64),
    UntilClose,
    Nothing,
}

impl Incoming {
    fn read_head(mut stream: TcpStream, begun: Instant, bodiless: bool) -> io::Result<Self> {
        let mut buffer = Vec::new();
        let (head, end) = loop {
            if let Some(at) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&buffer[..at]).into_owned();
                // Interim answers come before the real one.
                if head.starts_with("HTTP/1.1 1") {
                    buffer.drain(..at + 4);
                    continue;
                }
                break (head, at + 4);
            }
            if read_into(&mut stream, &mut buffer)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        };
        buffer.drain(..end);
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|l| l.split(' ').nth(1)).and_then(|s| s.parse().ok());
        let status = status.ok_or(io::ErrorKind::InvalidData)?;
        let headers: Vec<(String, String)> = lines
            .filter_map(|l| l.split_once(':'))
            .map(|(n, v)| (n.to_owned(), v.trim().to_owned()))
            .collect();
        let reply = Reply {
            status,
            headers,
            body: Vec::new(),
            ended: Ended::Abandoned,
            head_at: begun.elapsed(),
            pieces: Vec::new(),
            ended_at: Duration::ZERO,
        };
        let left = left(&reply, bodiless)?;
        Ok(Self { stream, buffer, begun, left, reply })
    }

    /// What is known so far.
    pub fn reply(&self) -> &Reply {
        &self.reply
    }

    /// The status.
    pub fn status(&self) -> u16 {
        self.reply.status
    }

    /// Reads until `count` bytes of the body are here, or its end if that comes first.
    pub fn read_to(&mut self, count: usize) -> &[u8] {
        while self.reply.body.len() < count && self.step(count - self.reply.body.len()) {}
        &self.reply.body
    }

    /// Reads the rest.
    pub fn finish(mut self) -> Reply {
        while self.step(usize::MAX) {}
        self.reply
    }

    /// Reads the rest at about this pace.
    pub fn finish_slowly(mut self, bytes_per_second: u32) -> Reply {
        let begun = (Instant::now(), self.reply.body.len());
        let piece = (bytes_per_second as usize / 20).max(1);
        loop {
            let so_far = self.reply.body.len();
            self.read_to(so_far + piece);
            if self.reply.body.len() < so_far + piece {
                return self.reply;
            }
            let due = (self.reply.body.len() - begun.1) as f64 / f64::from(bytes_per_second);
            thread::sleep(Duration::from_secs_f64(due).saturating_sub(begun.0.elapsed()));
        }
    }

    /// Goes away without reading the rest.
    pub fn abandon(mut self) -> Reply {
        self.end(Ended::Abandoned);
        self.reply
    }

    /// Takes in some of the body, at most `limit` bytes; false at its end.
    fn step(&mut self, limit: usize) -> bool {
        match self.try_step(limit) {
            Ok(true) => true,
            Ok(false) => {
                self.end(Ended::Clean);
                false
            }
            Err(_) => {
                self.end(Ended::Broken);
                false
            }
        }
    }

    fn end(&mut self, ended: Ended) {
        // Reading on after the end changes nothing.
        if self.reply.ended_at.is_zero() {
            self.reply.ended = ended;
            self.reply.ended_at = self.begun.elapsed();
        }
    }

    fn try_step(&mut self, limit: usize) -> io::Result<bool> {
        match self.left {
            Left::Nothing | Left::Bytes(0) => Ok(false),
            Left::Bytes(left) => {
                let taken = self.take(limit.min(usize::try_from(left).unwrap_or(usize::MAX)))?;
                self.left = Left::Bytes(left - taken as u64);
                if taken == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(true) }
            }
            Left::UntilClose => Ok(self.take(limit)? > 0),
            Left::Chunk(0) => {
                let line = self.line()?;
                let size = line.split(';').next().unwrap_or_default().trim();
                let size = u64::from_str_radix(size, 16).map_err(|_| io::ErrorKind::InvalidData)?;
                if size == 0 {
                    while !self.line()?.is_empty() {}
                    self.left = Left::Nothing;
                } else {
                    self.left = Left::Chunk(size);
                }
                Ok(true)
            }
            Left::Chunk(left) => {
                let taken = self.take(limit.min(usize::try_from(left).unwrap_or(usize::MAX)))?;
                if taken == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                self.left = Left::Chunk(left - taken as u64);
                if left == taken as u64 {
                    self.line()?;
                }
                Ok(true)
            }
        }
    }

    /// Moves at most `limit` bytes into the body; 0 only at the end of the connection.
    fn take(&mut self, limit: usize) -> io::Result<usize> {
        if self.buffer.is_empty() {
            read_into(&mut self.stream, &mut self.buffer)?;
        }
        let taken = limit.min(self.buffer.len());
        if taken > 0 {
            self.reply.body.extend(self.buffer.drain(..taken));
            self.reply.pieces.push((self.begun.elapsed(), taken));
        }
        Ok(taken)
    }

    fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(at) = self.buffer.windows(2).position(|w| w == b"\r\n") {
                let line = String::from_utf8_lossy(&self.buffer[..at]).into_owned();
                self.buffer.drain(..at + 2);
                return Ok(line);
            }
            if read_into(&mut self.stream, &mut self.buffer)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

fn left(reply: &Reply, bodiless: bool) -> io::Result<Left> {
    if bodiless || matches!(reply.status, 204 | 304) {
        return Ok(Left::Nothing);
    }
    if reply.header("transfer-encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked")) {
        return Ok(Left::Chunk(0));
    }
    match reply.header("content-length") {
        Some(length) => length.parse().map(Left::Bytes).map_err(|_| io::ErrorKind::InvalidData.into()),
        None => Ok(Left::UntilClose),
    }
}

fn read_into(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<usize> {
    let mut piece = [0; 64 * 1024];
    let count = stream.read(&mut piece)?;
    buffer.extend_from_slice(&piece[..count]);
    Ok(count)
}
