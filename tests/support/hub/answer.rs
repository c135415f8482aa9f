//! An answer before it meets the wire: status, headers, the whole body, and how Range and validators bear on it.

use std::io::Write as _;

use bytes::Bytes;

use super::request::{Request, header};

/// What one request is to be told.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
    /// The offset in the file of the body's first byte.
    pub offset: u64,
    pub framing: Framing,
    /// Whether the body is a file's content, as opposed to a redirect's text, an error or JSON.
    pub content: bool,
    /// Whether Range and If-Range are honoured.
    pub ranged: bool,
    /// `repository/path` of the file that the request is about.
    pub file: Option<String>,
}

/// How the end of a body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// `Content-Length`, off by so many bytes.
    Length(i64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// The end of the connection.
    Close,
}

impl Answer {
    /// An answer that is no file content.
    pub fn new(status: u16, content_type: &str, body: impl Into<Bytes>) -> Self {
        Self {
            status,
            headers: vec![("Content-Type".to_owned(), content_type.to_owned())],
            body: body.into(),
            offset: 0,
            framing: Framing::Length(0),
            content: false,
            ranged: false,
            file: None,
        }
    }

    /// A plain-text answer.
    pub fn text(status: u16, body: &str) -> Self {
        Self::new(status, "text/plain; charset=utf-8", body.to_owned())
    }

    /// A JSON answer.
    pub fn json(status: u16, body: &serde_json::Value) -> Self {
        Self::new(status, "application/json; charset=utf-8", body.to_string())
    }

    /// 200 with a file's content, which Range applies to.
    pub fn content(content_type: &str, body: Bytes) -> Self {
        Self { content: true, ranged: true, ..Self::new(200, content_type, body) }
            .with("Accept-Ranges", "bytes")
    }

    /// Adds a header.
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Names the file that this is about.
    pub fn about(mut self, file: &str) -> Self {
        self.file = Some(file.to_owned());
        self
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    /// Puts `value` in place of every header of that name.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        self.remove(name);
        self.headers.push((name.to_owned(), value.into()));
    }

    pub fn remove(&mut self, name: &str) {
        self.headers.retain(|(n, _)| !n.eq_ignore_ascii_case(name));
    }

    /// Encodes the body; an encoded body is another representation, which the hub sends chunked, whole and
    /// under a weak tag.
    pub fn gzip(&mut self) {
        self.body = gzip(&self.body);
        self.framing = Framing::Chunked;
        self.ranged = false;
        self.set("Content-Encoding", "gzip");
        self.set("Vary", "Accept-Encoding");
        self.remove("Accept-Ranges");
        if let Some(tag) = self.header("etag").map(|t| weak(t).to_owned()) {
            self.set("ETag", format!("W/{tag}"));
        }
    }

    /// Turns 200 into 304, 206 or 416 where the request's conditions and range say so.
    pub fn negotiated(mut self, request: &Request) -> Self {
        if self.status != 200 {
            return self;
        }
        if let (Some(tag), Some(known)) = (self.header("etag"), request.header("if-none-match"))
            && known.split(',').any(|k| k.trim() == "*" || weak(k.trim()) == weak(tag))
        {
            self.status = 304;
            self.body = Bytes::new();
            self.content = false;
            self.remove("Content-Type");
            return self;
        }
        let wanted = request.header("range").filter(|_| self.ranged && request.method == "GET");
        match wanted
            .filter(|_| self.fits(request.header("if-range")))
            .map(|r| span(r, self.body.len() as u64))
        {
            None | Some(Span::Whole) => self,
            Some(Span::Part(start, end)) => self.partial(start, end),
            Some(Span::Outside) => {
                let size = self.body.len();
                let mut out = Self::text(416, "Requested range not satisfiable");
                out.headers.extend(
                    self.headers.into_iter().filter(|(n, _)| !n.eq_ignore_ascii_case("content-type")),
                );
                out.file = self.file;
                out.with("Content-Range", format!("bytes */{size}"))
            }
        }
    }

    /// Whether an If-Range lets a range through: a strong tag or a date that still holds.
    fn fits(&self, if_range: Option<&str>) -> bool {
        let Some(given) = if_range else { return true };
        let strong_tag = self.header("etag").is_some_and(|tag| tag == given && !tag.starts_with("W/"));
        strong_tag || self.header("last-modified") == Some(given)
    }

    fn partial(mut self, start: u64, end: u64) -> Self {
        let size = self.body.len();
        self.status = 206;
        self.body = self.body.slice(start as usize..end as usize);
        self.offset = start;
        self.with("Content-Range", format!("bytes {start}-{}/{size}", end - 1))
    }
}

/// The tag without its mark of weakness.
fn weak(tag: &str) -> &str {
    tag.strip_prefix("W/").unwrap_or(tag)
}

/// What a Range header asks for.
enum Span {
    Part(u64, u64),
    /// Not understood, or several ranges: the whole file.
    Whole,
    Outside,
}

fn span(range: &str, size: u64) -> Span {
    let Some((first, last)) = range.strip_prefix("bytes=").and_then(|r| r.split_once('-')) else {
        return Span::Whole;
    };
    match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), _) if first >= size => Span::Outside,
        (Ok(first), Ok(last)) if last >= first => Span::Part(first, size.min(last.saturating_add(1))),
        (Ok(first), Err(_)) if last.is_empty() => Span::Part(first, size),
        (Err(_), Ok(0)) if first.is_empty() => Span::Outside,
        (Err(_), Ok(_)) if first.is_empty() && size == 0 => Span::Outside,
        (Err(_), Ok(tail)) if first.is_empty() => Span::Part(size.saturating_sub(tail), size),
        _ => Span::Whole,
    }
}

/// `bytes` in gzip.
pub(super) fn gzip(bytes: &[u8]) -> Bytes {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).expect("a vector takes everything");
    out.finish().expect("a vector takes everything").into()
}
