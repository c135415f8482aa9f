//! Path segments: split, then decoded once, then checked.

use std::fmt;

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use crate::model::BadPlace;

/// Longest request path that is read, in bytes.
pub const MAX_PATH: usize = 8 * 1024;

/// Why a request target is refused; `Display` is the text that the client is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reject {
    /// The path is longer than 8 KiB.
    TooLong,
    /// A `%` without two hexadecimal digits behind it.
    BadEscape,
    /// Decoded bytes that are no UTF-8.
    NotUtf8,
    /// `.` or `..`, plain or encoded.
    DotSegment,
    /// Two slashes in a row, or one at the end of a file's path.
    EmptySegment,
    /// NUL or another control character.
    ControlCharacter,
    /// A backslash, plain or encoded.
    Backslash,
    /// `%2F` where no revision stands.
    EncodedSlash,
    /// `/hub/<name>/` with a name that is no hub's.
    UnknownHub(String),
    /// Something is missing behind `/hub/<name>/` or `/resolve/`.
    Incomplete,
    /// A target that names nothing here: `*`.
    NoPath,
    /// A URL that is neither http nor https.
    Scheme,
    /// A host or a port that is none.
    BadPlace(BadPlace),
    /// No `Host`, or several.
    BadHost,
    /// A tunnel within a tunnel, or over TLS.
    NoTunnel,
    /// A request for another host than that to which the connection leads.
    Misdirected,
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "the path is longer than {MAX_PATH} bytes"),
            Self::BadEscape => f.write_str("the path has a % without two hexadecimal digits behind it"),
            Self::NotUtf8 => f.write_str("the path does not decode to UTF-8"),
            Self::DotSegment => f.write_str("the path has a . or .. segment"),
            Self::EmptySegment => f.write_str("the path has an empty segment"),
            Self::ControlCharacter => f.write_str("the path has a control character"),
            Self::Backslash => f.write_str("the path has a backslash"),
            Self::EncodedSlash => f.write_str(
                "the path has an encoded slash outside of a revision; encode slashes in revisions only",
            ),
            Self::UnknownHub(name) => {
                write!(f, "there is no hub named {name:?}; known are /hub/mozilla/ and /hub/huggingface/")
            }
            Self::Incomplete => f.write_str(
                "the path names no file; a file is /<id>/resolve/<revision>/<path> or \
                 /<organization>/<model>/<revision>/<path>",
            ),
            Self::NoPath => f.write_str("the target is neither a path nor a URL"),
            Self::Scheme => f.write_str("the URL is neither http nor https"),
            Self::BadPlace(bad) => write!(f, "{bad}"),
            Self::BadHost => f.write_str("a request must have one Host field"),
            Self::NoTunnel => f.write_str("a tunnel is opened over the plain listener only"),
            Self::Misdirected => f.write_str("the connection leads to another host than the request is for"),
        }
    }
}

impl std::error::Error for Reject {}

/// One segment of a path, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) text: String,
    pub(super) encoded_slash: bool,
}

/// Splits `path` at its slashes, then decodes and checks each segment. A trailing slash gives a last, empty segment.
pub(super) fn split(path: &str) -> Result<Vec<Segment>, Reject> {
    if path.len() > MAX_PATH {
        return Err(Reject::TooLong);
    }
    let rest = path.strip_prefix('/').ok_or(Reject::NoPath)?;
    let raw: Vec<&str> = rest.split('/').collect();
    let last = raw.len() - 1;
    let mut segments = Vec::with_capacity(raw.len());
    for (at, raw) in raw.into_iter().enumerate() {
        if raw.is_empty() && at != last {
            return Err(Reject::EmptySegment);
        }
        segments.push(decode(raw)?);
    }
    Ok(segments)
}

fn decode(raw: &str) -> Result<Segment, Reject> {
    let bytes = raw.as_bytes();
    for (at, _) in raw.match_indices('%') {
        let digits = bytes.get(at + 1..at + 3).ok_or(Reject::BadEscape)?;
        if !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(Reject::BadEscape);
        }
    }
    let text = percent_decode_str(raw).decode_utf8().map_err(|_| Reject::NotUtf8)?.into_owned();
    if text.chars().any(char::is_control) {
        return Err(Reject::ControlCharacter);
    }
    if text.contains('\\') {
        return Err(Reject::Backslash);
    }
    // A decoded slash makes several names of one segment, each held to the same rule.
    if text.split('/').any(|part| part == "." || part == "..") {
        return Err(Reject::DotSegment);
    }
    let encoded_slash = text.contains('/');
    if encoded_slash && text.split('/').any(str::is_empty) {
        return Err(Reject::EmptySegment);
    }
    Ok(Segment { text, encoded_slash })
}

// RFC 3986: pchar is unreserved, sub-delims, ":" and "@"; the rest is encoded. "+" is encoded as well, since some
// servers read it as a space.
const SEGMENT: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'+')
    .add(b'/')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// Encodes a decoded text as one path segment: a slash becomes `%2F`.
pub fn encode_segment(text: &str) -> String {
    utf8_percent_encode(text, SEGMENT).to_string()
}

/// Encodes a decoded path, keeping its slashes.
pub fn encode_path(path: &str) -> String {
    path.split('/').map(encode_segment).collect::<Vec<_>>().join("/")
}
