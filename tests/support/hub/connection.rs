//! One connection of a scripted hub: reads requests and writes answers byte by byte, so that it can end, pause
//! or bend them anywhere.

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until};

use super::answer::{Answer, Framing};
use super::fault::{Exchange, What};
use super::gate::Post;
use super::journal::{End, Number};
use super::request::Request;
use super::{Listener, Shared, huggingface, mozilla};

/// How much of a body goes into one write.
const PIECE: usize = 64 * 1024;

/// Longest head that is read.
const MAX_HEAD: usize = 64 * 1024;

/// Serves requests until either side has had enough.
pub(super) async fn serve(shared: &Shared, listener: Listener, stream: TcpStream) {
    // Without it a small write would wait for the answer to the one before.
    let _ = stream.set_nodelay(true);
    let mut wire = Wire { stream, input: Vec::new() };
    while let Ok(Some(request)) = wire.read_request().await {
        let number = shared.journal.arrived(listener, &request);
        let (end, stays) = exchange(shared, listener, &mut wire, &request, number).await;
        shared.journal.ended(number, end);
        if end != End::Complete || !stays {
            break;
        }
    }
}

/// Answers one request; tells how that ended, and whether the connection may carry another.
async fn exchange(
    shared: &Shared,
    listener: Listener,
    wire: &mut Wire,
    request: &Request,
    number: Number,
) -> (End, bool) {
    let mut answer = route(shared, listener, request);
    let file = answer.file.clone();
    shared.journal.about(number, file.as_deref());
    let exchange = Exchange { listener, request, file: file.as_deref() };

    let struck = shared.faults().for_request(&exchange);
    let mut delay = Duration::ZERO;
    for what in &struck {
        match what {
            What::Status { status, headers, body } => {
                answer = Answer::new(*status, "text/plain; charset=utf-8", body.clone());
                for (name, value) in headers {
                    answer.set(name, value);
                }
            }
            What::DelayHead(d) => delay += *d,
            What::ExpiredUrl => {
                shared.world().expire(request.path());
                answer = huggingface::expired_answer();
            }
            What::MoveBranch { repository, branch, commit } => {
                shared.world().set_branch(repository, branch, commit);
            }
            _ => {}
        }
    }
    shared.faults().alter_content(&exchange, &mut answer);
    let whole = answer.body.clone();
    let mut answer = answer.negotiated(request);
    let body_faults = shared.faults().for_body(&exchange, &answer);
    let mut script = Script::new(&body_faults, answer.offset);
    bend(&body_faults, &mut answer, &whole);
    for what in &struck {
        if let What::Header(name, value) = what {
            answer.remove(name);
            answer.headers.extend(value.clone().map(|v| (name.clone(), v)));
        }
    }

    let gates = shared.gates().at_head(request, exchange.file);
    let head_is_free = async {
        sleep(delay).await;
        for gate in gates {
            gate.pass().await;
        }
    };
    if !wire.stays_while(head_is_free).await {
        return (End::ClientGone, false);
    }
    if let Some(bytes) = struck.iter().find_map(|what| if let What::Raw(b) = what { Some(b) } else { None }) {
        let _ = wire.stream.write_all(bytes).await;
        let _ = wire.stream.shutdown().await;
        return (End::Cut, false);
    }
    let gates = shared.gates().in_body(request, exchange.file, answer.offset, answer.body.len() as u64);
    script.stops.extend(gates.into_iter().map(|(at, post)| (at, Stop::Gate(post))));

    let stays = answer.framing == Framing::Length(0) || answer.framing == Framing::Chunked;
    let stays = stays && !request.closes();
    shared.journal.answered(number, &answer);
    if wire.stream.write_all(head(&answer, stays).as_bytes()).await.is_err() {
        return (End::ClientGone, false);
    }
    if request.method == "HEAD" || answer.status == 304 {
        return (End::Complete, stays);
    }
    let count: &Counter<'_> = &|write| shared.journal.sending(number, write);
    (wire.send_body(&answer, script, count).await, stays)
}

/// What an honest hub says.
fn route(shared: &Shared, listener: Listener, request: &Request) -> Answer {
    let mut world = shared.world();
    match listener {
        Listener::Cas => Answer::text(403, "the Xet store is not part of this hub"),
        Listener::Cdn => huggingface::deliver(&world, request),
        Listener::Hub if mozilla::has(&world, request) => mozilla::answer(&world, request),
        Listener::Hub => {
            let origins = huggingface::Origins {
                hub: shared.origin(Listener::Hub),
                cdn: shared.origin(Listener::Cdn),
                cas: shared.origin(Listener::Cas),
            };
            huggingface::answer(&mut world, &origins, request)
                .unwrap_or_else(|| mozilla::answer(&world, request))
        }
    }
}

/// Applies what changes the bytes of a body or how they are framed.
fn bend(faults: &[What], answer: &mut Answer, whole: &Bytes) {
    for what in faults {
        match *what {
            What::Shifted206 { by, admitted } => shift(answer, whole, by, admitted),
            What::WrongByteAt(at) => {
                let mut bytes = answer.body.to_vec();
                bytes[(at - answer.offset) as usize] ^= 0xff;
                answer.body = bytes.into();
            }
            What::GzipAnyway => {
                answer.status = 200;
                answer.offset = 0;
                answer.body = whole.clone();
                answer.remove("Content-Range");
                answer.gzip();
            }
            What::ContentLength(delta) => answer.framing = Framing::Length(delta),
            What::Chunked => answer.framing = Framing::Chunked,
            What::NoContentLength => answer.framing = Framing::Close,
            _ => {}
        }
    }
}

fn shift(answer: &mut Answer, whole: &Bytes, by: i64, admitted: bool) {
    let size = whole.len() as u64;
    let start = answer.offset.saturating_add_signed(by).min(size.saturating_sub(1));
    let end = (start + answer.body.len() as u64).min(size);
    let length = answer.body.len();
    let mut bytes = whole.slice(start as usize..end as usize).to_vec();
    answer.offset = start;
    if admitted {
        answer.set("Content-Range", format!("bytes {start}-{}/{size}", end - 1));
    } else {
        // A liar keeps to the length that it announces.
        bytes.resize(length, 0);
    }
    answer.body = bytes.into();
}

fn head(answer: &Answer, stays: bool) -> String {
    let mut out = format!("HTTP/1.1 {} {}\r\n", answer.status, phrase(answer.status));
    // A hub whose clock is wrong is told what to say.
    if answer.header("date").is_none() {
        let _ = write!(out, "Date: {}\r\n", httpdate::fmt_http_date(std::time::SystemTime::now()));
    }
    for (name, value) in &answer.headers {
        let _ = write!(out, "{name}: {value}\r\n");
    }
    match answer.framing {
        _ if answer.status == 304 => {}
        Framing::Length(delta) => {
            let length = (answer.body.len() as u64).saturating_add_signed(delta);
            let _ = write!(out, "Content-Length: {length}\r\n");
        }
        Framing::Chunked => out.push_str("Transfer-Encoding: chunked\r\n"),
        Framing::Close => {}
    }
    if !stays {
        out.push_str("Connection: close\r\n");
    }
    out.push_str("\r\n");
    out
}

fn phrase(status: u16) -> &'static str {
    http::StatusCode::from_u16(status).ok().and_then(|s| s.canonical_reason()).unwrap_or("Scripted")
}

/// How a body is sent: how fast, and where it stops, by offset in the body.
struct Script {
    rate: Option<u64>,
    stops: Vec<(u64, Stop)>,
}

enum Stop {
    Gate(Arc<Post>),
    Wait(Duration),
    Cut,
    Reset,
}

impl Stop {
    /// At one place a body is held first and ended last.
    fn rank(&self) -> u8 {
        match self {
            Self::Gate(_) => 0,
            Self::Wait(_) => 1,
            Self::Cut | Self::Reset => 2,
        }
    }
}

impl Script {
    /// The script for a body that begins at `offset` in the file.
    fn new(faults: &[What], offset: u64) -> Self {
        let mut script = Self { rate: None, stops: Vec::new() };
        for what in faults {
            let stop = match *what {
                What::Rate(rate) => {
                    script.rate = Some(rate.max(1));
                    continue;
                }
                What::StallAt(at, d) => (at - offset, Stop::Wait(d)),
                What::StallAfter(at, d) => (at, Stop::Wait(d)),
                What::CutAt(at) => (at - offset, Stop::Cut),
                What::CutAfter(at) => (at, Stop::Cut),
                What::ResetAt(at) => (at - offset, Stop::Reset),
                What::ResetAfter(at) => (at, Stop::Reset),
                _ => continue,
            };
            script.stops.push(stop);
        }
        script
    }
}

/// Runs one write to the kernel and counts what it took.
type Counter<'a> = dyn Fn(&mut dyn FnMut() -> io::Result<usize>) -> io::Result<usize> + Sync + 'a;

/// A connection, with what was read ahead of the request at hand.
struct Wire {
    stream: TcpStream,
    input: Vec<u8>,
}

impl Wire {
    /// The next request with its body; `None` at a clean end, an error when it is none.
    async fn read_request(&mut self) -> io::Result<Option<Request>> {
        let end = loop {
            if let Some(at) = self.input.windows(4).position(|w| w == b"\r\n\r\n") {
                break at;
            }
            if self.input.len() > MAX_HEAD {
                return Err(io::ErrorKind::InvalidData.into());
            }
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Ok(None);
            }
        };
        let head = self.take(end + 4).await?;
        let head = String::from_utf8_lossy(&head[..end]).into_owned();
        let mut request = Request::parse(&head).ok_or(io::ErrorKind::InvalidData)?;
        if request.header("transfer-encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked")) {
            request.body = self.read_chunks().await?;
        } else if let Some(length) = request.header("content-length").and_then(|v| v.parse().ok()) {
            request.body = self.take(length).await?;
        }
        Ok(Some(request))
    }

    async fn read_chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.take_line().await?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(size, 16).map_err(|_| io::ErrorKind::InvalidData)?;
            if size == 0 {
                // Trailers, of which no client sends any, and the empty line.
                while !self.take_line().await?.is_empty() {}
                return Ok(body);
            }
            body.extend(self.take(size).await?);
            self.take_line().await?;
        }
    }

    async fn take_line(&mut self) -> io::Result<String> {
        let end = loop {
            if let Some(at) = self.input.windows(2).position(|w| w == b"\r\n") {
                break at;
            }
            self.read_more().await?;
        };
        let line = self.take(end + 2).await?;
        Ok(String::from_utf8_lossy(&line[..end]).into_owned())
    }

    async fn take(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.input.len() < length {
            self.read_more().await?;
        }
        Ok(self.input.drain(..length).collect())
    }

    async fn read_more(&mut self) -> io::Result<()> {
        match self.stream.read_buf(&mut self.input).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// Waits for `event`; false when the client went away first.
    async fn stays_while(&mut self, event: impl Future<Output = ()>) -> bool {
        let gone = async {
            loop {
                match self.stream.read_buf(&mut self.input).await {
                    Ok(0) | Err(_) => return,
                    // A request ahead of its turn; it is read when this one is done.
                    Ok(_) => {}
                }
            }
        };
        tokio::select! {
            biased;
            () = event => true,
            () = gone => false,
        }
    }

    /// Writes a body as `script` says, each write through `count`.
    async fn send_body(&mut self, answer: &Answer, mut script: Script, count: &Counter<'_>) -> End {
        script.stops.sort_by_key(|(at, stop)| (*at, stop.rank()));
        let mut stops = script.stops.into_iter().peekable();
        let mut pace = Pace { rate: script.rate, next: Instant::now() };
        let chunked = answer.framing == Framing::Chunked;
        let body = &answer.body;
        let mut at = 0;
        loop {
            while let Some((_, stop)) = stops.next_if(|(place, _)| *place == at as u64) {
                let stays = match stop {
                    Stop::Gate(gate) => self.stays_while(gate.pass()).await,
                    Stop::Wait(d) => self.stays_while(sleep(d)).await,
                    Stop::Cut => {
                        let _ = self.stream.shutdown().await;
                        return End::Cut;
                    }
                    Stop::Reset => {
                        self.reset().await;
                        return End::Cut;
                    }
                };
                if !stays {
                    return End::ClientGone;
                }
            }
            if at == body.len() {
                break;
            }
            let until = stops.peek().map_or(body.len(), |(place, _)| body.len().min(*place as usize));
            let piece = body.slice(at..until.min(at + pace.piece()));
            if !self.stays_while(pace.turn(piece.len())).await
                || self.send_piece(&piece, chunked, count).await.is_err()
            {
                return End::ClientGone;
            }
            at += piece.len();
        }
        if chunked && self.stream.write_all(b"0\r\n\r\n").await.is_err() {
            return End::ClientGone;
        }
        End::Complete
    }

    async fn send_piece(&mut self, piece: &Bytes, chunked: bool, count: &Counter<'_>) -> io::Result<()> {
        if chunked {
            self.stream.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).await?;
        }
        let mut rest = &piece[..];
        while !rest.is_empty() {
            self.stream.writable().await?;
            match count(&mut || self.stream.try_write(rest)) {
                Ok(written) => rest = &rest[written..],
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(e),
            }
        }
        if chunked {
            self.stream.write_all(b"\r\n").await?;
        }
        Ok(())
    }

    /// Resets the connection once the client's kernel has everything that was written: a reset throws away what
    /// is still on its way, and the test would not know how much that was.
    async fn reset(&mut self) {
        for _ in 0..2000 {
            match unsent(&self.stream) {
                Some(0) | None => break,
                Some(_) => sleep(Duration::from_millis(1)).await,
            }
        }
        // Dropping the socket now resets the connection.
        let _ = self.stream.set_zero_linger();
    }
}

/// Spreads pieces over time.
struct Pace {
    rate: Option<u64>,
    next: Instant,
}

impl Pace {
    /// The size of the next piece: about 20 ms of a paced body.
    fn piece(&self) -> usize {
        self.rate.map_or(PIECE, |rate| usize::try_from(rate / 50).unwrap_or(PIECE).clamp(1, PIECE))
    }

    /// Waits until a piece of this size may go. Time lost in a pause is not made up for.
    async fn turn(&mut self, piece: usize) {
        let Some(rate) = self.rate else { return };
        sleep_until(self.next).await;
        let takes = Duration::from_secs_f64(piece as f64 / rate as f64);
        let late = self.next.elapsed();
        // A timer's lateness is made up for, a pause is not.
        self.next = if late < takes { self.next } else { Instant::now() } + takes;
    }
}

/// How many bytes the client's kernel has not acknowledged; `None` where that cannot be told.
fn unsent(stream: &TcpStream) -> Option<u64> {
    let table = std::fs::read_to_string("/proc/net/tcp").ok()?;
    let end = |address: SocketAddr| match address {
        SocketAddr::V4(a) => Some(format!("{:08X}:{:04X}", u32::from_ne_bytes(a.ip().octets()), a.port())),
        SocketAddr::V6(_) => None,
    };
    let (ours, theirs) = (end(stream.local_addr().ok()?)?, end(stream.peer_addr().ok()?)?);
    table.lines().find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let same = fields.next() == Some(&ours) && fields.next() == Some(&theirs);
        let queues = fields.nth(1).filter(|_| same)?;
        u64::from_str_radix(queues.split_once(':')?.0, 16).ok()
    })
}
