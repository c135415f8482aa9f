//! Faults: what a scripted hub does wrong, to which requests, and how often.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;

use super::Listener;
use super::answer::{Answer, Framing, gzip};
use super::content::{digests, pointer};
use super::journal::matches;
use super::request::Request;

/// One thing to do wrong.
///
/// Offsets named `At` count in the file, so that a resumed body can be hit where it stands in the whole; those
/// named `After` count in the body at hand. Both leave a body alone that has no such byte.
#[derive(Clone, Debug)]
pub enum What {
    /// Another answer altogether.
    Status {
        /// Its status.
        status: u16,
        /// Its headers; `Content-Length` comes by itself.
        headers: Vec<(String, String)>,
        /// Its body.
        body: Bytes,
    },
    /// Bytes that need not be HTTP, and then the end of the connection; none at all is a hang-up.
    Raw(Bytes),
    /// Silence before the head.
    DelayHead(Duration),
    /// At the content network: every address of that file signed so far is refused from now on.
    ExpiredUrl,
    /// Once the answer is settled, a branch moves.
    MoveBranch {
        /// The repository's id, with its prefix.
        repository: String,
        /// The branch.
        branch: String,
        /// Where it moves to.
        commit: String,
    },
    /// A header replaced, or removed when there is no value.
    Header(String, Option<String>),

    /// 200 with a page of HTML in place of the content.
    Html,
    /// 200 with the file's git LFS pointer in place of the content.
    LfsPointer,
    /// A changed entity tag, the same each time.
    NewEtag,
    /// No digest of the content anywhere: no linked tag, no `x-goog-hash`, and an opaque entity tag.
    NoPromises,
    /// As Google Cloud Storage serves an object that was uploaded gzip-encoded: the digests are those of the
    /// encoded form, which a client gets that takes gzip; others get it decoded, without length or ranges.
    StoredGzip,
    /// Range is ignored: 200 and the whole.
    NoRange,

    /// So many bytes a second.
    Rate(u64),
    /// A pause before this byte.
    StallAt(u64, Duration),
    /// A pause before this byte of the body.
    StallAfter(u64, Duration),
    /// The connection closes in good order before this byte.
    CutAt(u64),
    /// The connection closes in good order before this byte of the body.
    CutAfter(u64),
    /// The connection is reset before this byte, after the client's kernel has all bytes before it.
    ResetAt(u64),
    /// The connection is reset before this byte of the body.
    ResetAfter(u64),
    /// This byte is another one.
    WrongByteAt(u64),
    /// `Content-Length` is off by so much; all bytes come, and then the connection closes.
    ContentLength(i64),
    /// A 206 whose bytes stand so much further on than they were asked for.
    Shifted206 {
        /// How far; negative is to the front.
        by: i64,
        /// Whether `Content-Range` says so, or what was asked for.
        admitted: bool,
    },
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// gzip although it was not asked for; a range is ignored.
    GzipAnyway,
    /// Neither length nor chunks: the connection's end is the body's.
    NoContentLength,
}

impl What {
    /// A bare status with a line of text.
    pub fn status(status: u16) -> Self {
        Self::status_with(status, &[], "scripted\n")
    }

    /// A status with headers and a body.
    pub fn status_with(status: u16, headers: &[(&str, &str)], body: &str) -> Self {
        let headers = headers.iter().map(|&(n, v)| (n.to_owned(), v.to_owned())).collect();
        Self::Status { status, headers, body: Bytes::copy_from_slice(body.as_bytes()) }
    }

    /// A connection that closes without an answer.
    pub fn hang_up() -> Self {
        Self::Raw(Bytes::new())
    }

    /// When it bears on an exchange.
    fn stage(&self) -> Stage {
        match self {
            Self::Status { .. }
            | Self::Raw(_)
            | Self::DelayHead(_)
            | Self::ExpiredUrl
            | Self::MoveBranch { .. }
            | Self::Header(..) => Stage::Request,
            Self::NewEtag | Self::NoPromises => Stage::Head,
            Self::Html | Self::LfsPointer | Self::StoredGzip | Self::NoRange => Stage::Content,
            _ => Stage::Body,
        }
    }

    /// Whether a body of `length` bytes from `offset` on has the byte that this is about.
    fn hits(&self, offset: u64, length: u64) -> bool {
        match *self {
            Self::StallAt(n, _) | Self::CutAt(n) | Self::ResetAt(n) | Self::WrongByteAt(n) => {
                (offset..offset + length).contains(&n)
            }
            Self::StallAfter(n, _) | Self::CutAfter(n) | Self::ResetAfter(n) => n < length,
            _ => true,
        }
    }
}

/// The stages of an exchange at which faults are looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Any answer.
    Request,
    /// What is said of a file, in redirects too.
    Head,
    /// A file's content, before its range is cut out.
    Content,
    /// A 2xx body that is about to be sent.
    Body,
}

/// A fault, and which requests it meets: by default the first one that it can apply to.
///
/// Faults of content and bodies meet GETs that carry one (so `on("model.bin", CutAt(9))` passes over the HEAD,
/// the redirect and the 404), unless a method is named. Several faults may meet in one exchange.
#[derive(Clone, Debug)]
pub struct Fault {
    on: String,
    what: What,
    method: Option<String>,
    listener: Option<Listener>,
    ranged: Option<bool>,
    skip: usize,
    times: Option<usize>,
}

impl Fault {
    /// `what` for the first request whose decoded target, or whose file's `repository/path`, contains `on`.
    pub fn on(on: &str, what: What) -> Self {
        Self { on: on.to_owned(), what, method: None, listener: None, ranged: None, skip: 0, times: Some(1) }
    }

    /// Only requests with this method.
    pub fn method(mut self, method: &str) -> Self {
        self.method = Some(method.to_owned());
        self
    }

    /// Only GET.
    pub fn get(self) -> Self {
        self.method("GET")
    }

    /// Only HEAD.
    pub fn head(self) -> Self {
        self.method("HEAD")
    }

    /// Only requests at this listener.
    pub fn at(mut self, listener: Listener) -> Self {
        self.listener = Some(listener);
        self
    }

    /// Only requests with a Range, or only those without.
    pub fn ranged(mut self, ranged: bool) -> Self {
        self.ranged = Some(ranged);
        self
    }

    /// Lets the first `skip` requests pass.
    pub fn after(mut self, skip: usize) -> Self {
        self.skip = skip;
        self
    }

    /// So many times.
    pub fn times(mut self, times: usize) -> Self {
        self.times = Some(times);
        self
    }

    /// Every time.
    pub fn always(mut self) -> Self {
        self.times = None;
        self
    }

    fn meets(&self, exchange: &Exchange<'_>) -> bool {
        let request = exchange.request;
        let default_method = matches!(self.what.stage(), Stage::Content | Stage::Body).then_some("GET");
        self.method.as_deref().or(default_method).is_none_or(|m| m == request.method)
            && self.listener.is_none_or(|l| l == exchange.listener)
            && self.ranged.is_none_or(|r| r == request.header("range").is_some())
            && matches(&self.on, &request.target, exchange.file)
    }
}

/// Tells how often a fault struck.
#[derive(Clone, Debug)]
pub struct FaultHandle(Arc<State>);

impl FaultHandle {
    /// How often it struck.
    pub fn fired(&self) -> usize {
        self.0.fired.load(Ordering::SeqCst)
    }

    /// Ends it.
    pub fn disarm(&self) {
        self.0.disarmed.store(true, Ordering::SeqCst);
    }
}

#[derive(Debug, Default)]
struct State {
    fired: AtomicUsize,
    disarmed: AtomicBool,
}

/// A request on its way through the stages.
pub(super) struct Exchange<'a> {
    pub listener: Listener,
    pub request: &'a Request,
    pub file: Option<&'a str>,
}

/// The faults of one hub.
#[derive(Default)]
pub(super) struct Faults(Vec<(Fault, Arc<State>)>);

impl Faults {
    pub fn arm(&mut self, fault: Fault) -> FaultHandle {
        let state = Arc::new(State::default());
        self.0.push((fault, state.clone()));
        FaultHandle(state)
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// What goes wrong with the request as such.
    pub fn for_request(&mut self, exchange: &Exchange<'_>) -> Vec<What> {
        let cdn = exchange.listener == Listener::Cdn;
        self.take(exchange, |what| {
            what.stage() == Stage::Request && (cdn || !matches!(what, What::ExpiredUrl))
        })
    }

    /// Alters what is said of a file, and the content before its range is cut out.
    pub fn alter_content(&mut self, exchange: &Exchange<'_>, answer: &mut Answer) {
        if exchange.file.is_none() || answer.status >= 400 {
            return;
        }
        let content = answer.content;
        let struck = self.take(exchange, |what| match what {
            What::NewEtag => content,
            _ => what.stage() == Stage::Head || what.stage() == Stage::Content && content,
        });
        for what in struck {
            alter_content(&what, exchange.request, answer);
        }
    }

    /// What goes wrong with this body.
    pub fn for_body(&mut self, exchange: &Exchange<'_>, answer: &Answer) -> Vec<What> {
        if !matches!(answer.status, 200 | 206) || answer.body.is_empty() {
            return Vec::new();
        }
        let partial = answer.status == 206;
        let (offset, length) = (answer.offset, answer.body.len() as u64);
        self.take(exchange, |what| {
            what.stage() == Stage::Body
                && what.hits(offset, length)
                && (partial || !matches!(what, What::Shifted206 { .. }))
        })
    }

    /// The faults that meet the exchange and apply, each counted.
    fn take(&mut self, exchange: &Exchange<'_>, applies: impl Fn(&What) -> bool) -> Vec<What> {
        self.0.retain(|(fault, state)| fault.times != Some(0) && !state.disarmed.load(Ordering::SeqCst));
        let mut struck = Vec::new();
        for (fault, state) in &mut self.0 {
            if !applies(&fault.what) || !fault.meets(exchange) {
                continue;
            }
            if fault.skip > 0 {
                fault.skip -= 1;
                continue;
            }
            if let Some(left) = &mut fault.times {
                *left -= 1;
            }
            state.fired.fetch_add(1, Ordering::SeqCst);
            struck.push(fault.what.clone());
        }
        struck
    }
}

fn alter_content(what: &What, request: &Request, answer: &mut Answer) {
    match what {
        What::Html => {
            let page = "<!DOCTYPE html><html><body><h1>Sign in to this network</h1></body></html>";
            let file = answer.file.take();
            *answer = Answer::new(200, "text/html; charset=utf-8", page);
            answer.content = true;
            answer.file = file;
        }
        What::LfsPointer => {
            let sha256 = digests::sha256(&answer.body);
            answer.body = pointer(&sha256, answer.body.len()).into();
        }
        What::NewEtag => {
            let tag = answer.header("etag").unwrap_or("\"none\"").trim_end_matches('"').to_owned();
            answer.set("ETag", format!("{tag}-changed\""));
        }
        What::NoPromises => {
            for name in ["x-goog-hash", "x-linked-etag", "x-linked-size"] {
                answer.remove(name);
            }
            let name = answer.file.clone().unwrap_or_default();
            answer.set("ETag", format!("\"opaque-{:08x}\"", crc32c::crc32c(name.as_bytes())));
        }
        What::StoredGzip => stored_gzip(request, answer),
        What::NoRange => answer.ranged = false,
        _ => unreachable!("not a fault of content: {what:?}"),
    }
}

fn stored_gzip(request: &Request, answer: &mut Answer) {
    let encoded = gzip(&answer.body);
    let md5 = digests::md5_hex(&encoded);
    answer.set("x-goog-stored-content-encoding", "gzip");
    answer.set("x-goog-stored-content-length", encoded.len().to_string());
    answer.set(
        "x-goog-hash",
        format!("crc32c={},md5={}", digests::crc32c_base64(&encoded), digests::md5_base64(&encoded)),
    );
    answer.set("Vary", "Accept-Encoding");
    answer.ranged = false;
    if request.takes_gzip() {
        answer.set("Content-Encoding", "gzip");
        answer.set("ETag", format!("\"{md5}\""));
        answer.body = encoded;
    } else {
        answer.set("ETag", format!("W/\"{md5}\""));
        answer.framing = Framing::Chunked;
    }
}
