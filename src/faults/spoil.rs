//! What a fault makes of an answer. Pure: its fields are changed, and how its body is to come is said.

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, response};

use super::body::{Manner, Then};
use super::rules::{Fault, Strike};

const LINKED_ETAG: HeaderName = HeaderName::from_static("x-linked-etag");
const LINKED_SIZE: HeaderName = HeaderName::from_static("x-linked-size");

/// What rules look at in a good answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answered {
    /// Whether nothing can follow, whatever length is announced.
    head_only: bool,
    /// The length that is announced.
    length: Option<u64>,
    /// Where in the file the body begins, if it is of one piece.
    start: Option<u64>,
    has_etag: bool,
}

impl Answered {
    /// `None` for an answer that is not good, which no rule is for.
    pub(super) fn of(method: &Method, head: &response::Parts) -> Option<Self> {
        if !head.status.is_success() {
            return None;
        }
        let headers = &head.headers;
        let is_empty = matches!(head.status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT);
        let start = match head.status {
            StatusCode::PARTIAL_CONTENT => start_of_range(headers),
            _ => Some(0),
        };
        Some(Self {
            head_only: *method == Method::HEAD || is_empty,
            length: number(headers, &header::CONTENT_LENGTH).filter(|_| !is_empty),
            start,
            has_etag: headers.contains_key(header::ETAG) || headers.contains_key(LINKED_ETAG),
        })
    }

    /// Whether the client would see that fault in it.
    pub(super) fn suffers(&self, fault: &Fault) -> bool {
        match *fault {
            Fault::Status { .. } | Fault::Delay(_) => false,
            Fault::Slow(_) => self.has_body(),
            // A body whose length nobody has announced is taken for a long one.
            Fault::Stall(after) | Fault::Cut(after) => {
                self.has_body() && self.length.is_none_or(|length| after < length)
            }
            Fault::WrongByte(at) => self.has_body() && self.place(at).is_some(),
            Fault::WrongLength(by) => {
                self.length.is_some_and(|length| length.saturating_add_signed(by) != length)
            }
            Fault::Etag => self.has_etag,
        }
    }

    fn has_body(&self) -> bool {
        !self.head_only && self.length != Some(0)
    }

    /// Where in the body the byte at this offset in the file is.
    fn place(&self, at: u64) -> Option<u64> {
        let within = at.checked_sub(self.start?)?;
        (within < self.length?).then_some(within)
    }
}

/// Changes the fields of an answer that suffers from what strikes; how its body is to come.
pub(super) fn spoil(strike: &Strike<'_>, answer: &Answered, headers: &mut HeaderMap) -> Manner {
    match *strike.fault {
        Fault::Slow(bytes_per_second) => return Manner::Slow { bytes_per_second },
        Fault::Stall(after) => return Manner::Until { size: after, then: Then::Stall },
        Fault::Cut(after) => return Manner::Until { size: after, then: Then::Break },
        Fault::WrongByte(at) => {
            return answer.place(at).map_or(Manner::AsItIs, |at| Manner::WrongByte { at });
        }
        Fault::WrongLength(by) => {
            for name in [header::CONTENT_LENGTH, LINKED_SIZE] {
                if let Some(told) = number(headers, &name) {
                    headers.insert(name, told.saturating_add_signed(by).into());
                }
            }
            if let Some(length) = answer.length.filter(|_| !answer.head_only) {
                return Manner::Announced { size: length, as_size: length.saturating_add_signed(by) };
            }
        }
        Fault::Etag => {
            for name in [header::ETAG, LINKED_ETAG] {
                if let Some(other) = headers.get(&name).and_then(|tag| another(tag, strike.time)) {
                    headers.insert(name, other);
                }
            }
        }
        Fault::Status { .. } | Fault::Delay(_) => {}
    }
    Manner::AsItIs
}

fn number(headers: &HeaderMap, name: &HeaderName) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

/// The first byte that `Content-Range` names.
fn start_of_range(headers: &HeaderMap) -> Option<u64> {
    let text = headers.get(header::CONTENT_RANGE)?.to_str().ok()?;
    text.strip_prefix("bytes ")?.trim_start().split_once('-')?.0.parse().ok()
}

/// Another tag of the same form: clients take the tags of the hubs for the digests that they are. Each time it is
/// one that has not been there before.
fn another(tag: &HeaderValue, time: u64) -> Option<HeaderValue> {
    const DIGITS: usize = 8;
    let text = tag.to_str().ok()?;
    let (opaque, quote) = text.strip_suffix('"').map_or((text, ""), |opaque| (opaque, "\""));
    let hexadecimal = opaque.len().checked_sub(DIGITS).and_then(|at| opaque.split_at_checked(at));
    let other = match hexadecimal.map(|(kept, last)| (kept, u32::from_str_radix(last, 16))) {
        Some((kept, Ok(last))) => format!("{kept}{:08x}{quote}", last ^ (time as u32)),
        Some((_, Err(_))) | None => format!("{opaque}-{time}{quote}"),
    };
    HeaderValue::try_from(other).ok()
}

#[cfg(test)]
mod tests;
