//! As much of HTTP/1.1 as the other parts need: heads of messages.

use std::io::{self, Read};
use std::ops::Range;

/// A head that is longer is refused.
pub const HEAD_MAX: usize = 64 << 10;

/// The head of a request or of a response.
pub struct Head {
    /// The request line or the status line.
    pub first: String,
    fields: Vec<(String, String)>,
}

impl Head {
    fn parse(text: &str) -> Self {
        let mut lines = text.split("\r\n");
        let first = lines.next().unwrap_or_default().to_owned();
        let fields = lines.filter_map(|line| line.split_once(':'));
        let fields = fields.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()));
        Self { first, fields: fields.collect() }
    }

    /// The value of a field, by its name in lower case.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The status of a response.
    pub fn status(&self) -> u16 {
        self.first.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
    }

    /// The length of the body, where the head tells it.
    pub fn length(&self) -> Option<u64> {
        self.field("content-length")?.parse().ok()
    }
}

/// Reads a head, and tells where in `buffer` lies what came of the body with it. `None` when the other side closed
/// the connection instead.
pub fn read_head(stream: &mut impl Read, buffer: &mut [u8]) -> io::Result<Option<(Head, Range<usize>)>> {
    let mut filled = 0;
    loop {
        let read = stream.read(&mut buffer[filled..])?;
        if read == 0 {
            let clean = filled == 0;
            return if clean { Ok(None) } else { Err(broken("no end of the head")) };
        }
        filled += read;
        let end = buffer[..filled].windows(4).position(|four| four == b"\r\n\r\n");
        if let Some(end) = end {
            let head = Head::parse(&String::from_utf8_lossy(&buffer[..end]));
            return Ok(Some((head, end + 4..filled)));
        }
    }
}

/// An error of the other side.
pub fn broken(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

/// Where a URL of plain HTTP leads.
#[derive(Clone, Debug)]
pub struct Place {
    /// Host and port.
    pub address: String,
    /// The path, with its slash.
    pub path: String,
}

impl Place {
    /// Takes `http://HOST:PORT/PATH`.
    pub fn parse(url: &str) -> Result<Self, String> {
        let rest = url.strip_prefix("http://").ok_or("only http:// URLs are known")?;
        let slash = rest.find('/').unwrap_or(rest.len());
        let (address, path) = rest.split_at(slash);
        let path = if path.is_empty() { "/" } else { path };
        Ok(Self { address: address.to_owned(), path: path.to_owned() })
    }
}
