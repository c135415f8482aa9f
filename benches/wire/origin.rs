//! A hub with a far, slow or failing network between it and those who ask.
//!
//! It has the files of [`Content`] at every revision of one repository, in the layout of Hugging Face, and counts what
//! it is asked and what it sends. A network's shape is made here: a pause before a connection is heard and before
//! each head, and buckets for the bytes. The kernel completes connections by itself, so a client that connects learns
//! of the first pause only from its first answer.

use std::io::{self, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use serde_json::json;

use super::bucket::Bucket;
use super::content::{Content, hex};
use super::http::{HEAD_MAX, Head, read_head};

/// The repository that is served.
const REPOSITORY: &str = "/acme/bench/resolve/";
/// The commit at which every branch stands.
const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
/// What one write gives to the kernel; less where bytes are limited, so that pauses are short.
const WRITE: usize = 512 << 10;
const LIMITED_WRITE: usize = 64 << 10;
/// A connection on which nothing moves for so long is closed.
const IDLE: Duration = Duration::from_secs(120);
const STACK: usize = 256 << 10;

/// What is served, and the shape of the network.
pub struct Shape {
    /// The address to listen at.
    pub listen: String,
    /// How many files there are, each of `size` bytes.
    pub files: u64,
    /// The length of each file.
    pub size: u64,
    /// The pause before a connection is heard, and before each head.
    pub round_trip: Duration,
    /// Bytes a second on one connection.
    pub rate_connection: Option<u64>,
    /// Bytes a second in all.
    pub rate_total: Option<u64>,
    /// When this byte of a file is to be sent for the first time, all connections are cut.
    pub die_at: Option<u64>,
    /// Whether a range is answered with the range.
    pub ranges: bool,
}

#[derive(Default)]
struct Counters {
    connections: AtomicU64,
    requests: AtomicU64,
    heads: AtomicU64,
    bytes: AtomicU64,
}

struct Origin {
    shape: Shape,
    digests: Vec<String>,
    total: Bucket,
    counters: Counters,
    /// Set once, at the death.
    died: AtomicBool,
    /// What is to be cut then.
    open: Mutex<Vec<TcpStream>>,
}

/// Listens, prints where, and serves until it is killed.
pub fn run(shape: Shape) -> io::Result<()> {
    let listener = TcpListener::bind(&shape.listen)?;
    let digests = digests(&shape);
    let total = Bucket::new(shape.rate_total);
    let (counters, died, open) = (Counters::default(), AtomicBool::new(false), Mutex::new(Vec::new()));
    let origin = Arc::new(Origin { shape, digests, total, counters, died, open });
    println!("{}", json!({"listen": listener.local_addr()?.to_string()}));
    loop {
        let (stream, _) = listener.accept()?;
        let origin = Arc::clone(&origin);
        let thread = thread::Builder::new().stack_size(STACK);
        // A connection ends as its client likes; that is no failure of the origin.
        thread
            .spawn(move || origin.connection(&stream).and_then(|()| stream.shutdown(Shutdown::Both)).ok())?;
    }
}

/// The SHA-256 of every file, worked out on all processors.
fn digests(shape: &Shape) -> Vec<String> {
    let digest = |number| hex(&Content { number, size: shape.size }.sha256());
    thread::scope(|scope| {
        let threads: Vec<_> = (0..shape.files).map(|number| scope.spawn(move || digest(number))).collect();
        threads.into_iter().map(|t| t.join().expect("digesting does not panic")).collect()
    })
}

/// What a request asks for.
struct Asked {
    number: usize,
    range: Range<u64>,
    status: &'static str,
    is_head: bool,
}

impl Origin {
    fn connection(&self, mut stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(IDLE))?;
        stream.set_write_timeout(Some(IDLE))?;
        if self.shape.die_at.is_some() {
            self.open().push(stream.try_clone()?);
        }
        let bucket = Bucket::new(self.shape.rate_connection);
        let mut buffer = vec![0; HEAD_MAX];
        let mut is_new = true;
        while let Some((head, _)) = read_head(&mut stream, &mut buffer)? {
            if head.first.starts_with("GET /stats") {
                self.tell(stream, &head)?;
                continue;
            }
            if std::mem::take(&mut is_new) {
                self.counters.connections.fetch_add(1, Ordering::Relaxed);
                thread::sleep(self.shape.round_trip);
            }
            thread::sleep(self.shape.round_trip);
            self.answer(stream, &head, &bucket)?;
        }
        Ok(())
    }

    fn open(&self) -> MutexGuard<'_, Vec<TcpStream>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the counters, and begins anew to count where that is asked for.
    fn tell(&self, mut stream: &TcpStream, head: &Head) -> io::Result<()> {
        let reset = head.first.contains("?reset");
        let read = |counter: &AtomicU64| {
            if reset { counter.swap(0, Ordering::Relaxed) } else { counter.load(Ordering::Relaxed) }
        };
        let counters = &self.counters;
        let body = json!({
            "connections": read(&counters.connections),
            "requests": read(&counters.requests),
            "heads": read(&counters.heads),
            "bytes": read(&counters.bytes),
        })
        .to_string();
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    }

    fn answer(&self, mut stream: &TcpStream, head: &Head, bucket: &Bucket) -> io::Result<()> {
        let Some(asked) = self.asked(head) else {
            return stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
        };
        stream.write_all(self.head_of(&asked).as_bytes())?;
        if asked.is_head {
            self.counters.heads.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        self.counters.requests.fetch_add(1, Ordering::Relaxed);
        self.send(stream, &asked, bucket)
    }

    fn asked(&self, head: &Head) -> Option<Asked> {
        let mut words = head.first.split(' ');
        let is_head = match words.next()? {
            "GET" => false,
            "HEAD" => true,
            _ => return None,
        };
        let path = words.next()?.split('?').next()?;
        let (_, name) = path.strip_prefix(REPOSITORY)?.split_once('/')?;
        let number = name.strip_prefix("file-")?.strip_suffix(".bin")?.parse().ok()?;
        if number >= self.digests.len() {
            return None;
        }
        let size = self.shape.size;
        let range =
            head.field("range").filter(|_| self.shape.ranges).and_then(|text| parse_range(text, size));
        let status = if range.is_some() { "206 Partial Content" } else { "200 OK" };
        Some(Asked { number, range: range.unwrap_or(0..size), status, is_head })
    }

    fn head_of(&self, asked: &Asked) -> String {
        let (size, sha256) = (self.shape.size, &self.digests[asked.number]);
        let Asked { range, status, .. } = asked;
        let accepts = if self.shape.ranges { "bytes" } else { "none" };
        let part = format!("Content-Range: bytes {}-{}/{size}\r\n", range.start, range.end.max(1) - 1);
        let part = if status.starts_with("206") { part } else { String::new() };
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/octet-stream\r\nContent-Length: {}\r\n{part}\
             Accept-Ranges: {accepts}\r\nETag: \"{sha256}\"\r\nX-Repo-Commit: {COMMIT}\r\n\
             X-Linked-Etag: \"{sha256}\"\r\nX-Linked-Size: {size}\r\n\r\n",
            range.end - range.start,
        )
    }

    fn send(&self, mut stream: &TcpStream, asked: &Asked, bucket: &Bucket) -> io::Result<()> {
        let limited = self.shape.rate_connection.is_some() || self.shape.rate_total.is_some();
        let most = if limited { LIMITED_WRITE } else { WRITE };
        let content = Content { number: asked.number as u64, size: self.shape.size };
        let mut rest = asked.range.clone();
        while !rest.is_empty() {
            let piece = content.piece(&rest, most.min(self.until_death(rest.start)));
            bucket.take(piece.len());
            self.total.take(piece.len());
            let mut left = &*piece;
            while !left.is_empty() {
                let written = stream.write(left)?;
                self.counters.bytes.fetch_add(written as u64, Ordering::Relaxed);
                left = &left[written..];
            }
            rest.start += piece.len() as u64;
            self.die(rest.start);
        }
        Ok(())
    }

    /// How many bytes from `at` on are sent before death comes.
    fn until_death(&self, at: u64) -> usize {
        let ahead = self.shape.die_at.and_then(|die_at| die_at.checked_sub(at));
        let ahead = ahead.filter(|ahead| *ahead > 0 && !self.died.load(Ordering::SeqCst));
        ahead.and_then(|ahead| usize::try_from(ahead).ok()).unwrap_or(usize::MAX)
    }

    /// Cuts all connections if this is the byte, and reached for the first time.
    fn die(&self, at: u64) {
        if self.shape.die_at == Some(at) && !self.died.swap(true, Ordering::SeqCst) {
            for stream in self.open().drain(..) {
                // Those that have ended are cut already.
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
    }
}

/// A range of the forms `bytes=A-B` and `bytes=A-` that lies in the file.
fn parse_range(text: &str, size: u64) -> Option<Range<u64>> {
    let (start, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    let start = start.parse().ok()?;
    let end = if last.is_empty() { size } else { last.parse::<u64>().ok()?.saturating_add(1).min(size) };
    (start < end).then_some(start..end)
}
