//! What a hub's URLs and header fields mean; one file a hub. Pure: heads go in, an [`Expectation`] comes out.

pub mod api;
mod hints;
mod huggingface;
mod json;
mod link;
mod mozilla;
pub mod pinned;
mod settings;
mod withdrawal;
mod xet;

pub use hints::add_xet_hints;
pub use json::NotJson;
pub use link::{lead_pages_back, strip_xet_fields, xet_field};
pub use withdrawal::{Withdrawn, withdrawn};
pub use xet::{Kept, Stripper};

use http::{HeaderMap, StatusCode, header};

use crate::model::{Expectation, Hub, Resource, Timestamp};

/// One response head on the way to a file: a redirect, or the answer at its end.
#[derive(Clone, Debug)]
pub struct Hop {
    /// The status code.
    pub status: StatusCode,
    /// The header fields.
    pub headers: HeaderMap,
    /// Whether it came from the origin of the hub's root, and not from a content network.
    pub at_hub: bool,
}

/// What made the answer of a hub unusable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misread {
    /// A branch or tag was asked for and no `X-Repo-Commit` was given.
    NoCommit,
    /// No response came at all.
    NoHops,
    /// What should be JSON is not.
    NotJson(NotJson),
}

impl std::fmt::Display for Misread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NoCommit => "the hub did not say which commit the revision stands for (X-Repo-Commit)",
            Self::NoHops => "the hub gave no answer",
            Self::NotJson(_) => "the hub's description cannot be read",
        })
    }
}

impl std::error::Error for Misread {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NotJson(e) => Some(e),
            Self::NoCommit | Self::NoHops => None,
        }
    }
}

/// The path under the hub's root at which a file is asked for, encoded; of an attachment that under the base of them.
pub fn file_path(resource: &Resource) -> String {
    match resource.hub {
        Hub::HuggingFace => huggingface::file_path(resource),
        Hub::Mozilla => mozilla::file_path(resource),
        Hub::Settings => settings::file_path(resource),
    }
}

/// What the heads on the way to `resource`, first to last, say of it.
///
/// # Errors
/// When something is missing without which the file cannot be named.
pub fn expectation(resource: &Resource, hops: &[Hop], now: Timestamp) -> Result<Expectation, Misread> {
    match resource.hub {
        Hub::HuggingFace => huggingface::expectation(resource, hops, now),
        // Attachments lie in such a bucket, too.
        Hub::Mozilla | Hub::Settings => mozilla::expectation(hops, now),
    }
}

/// Longest field value that is taken from a hub, in bytes; what is longer counts as absent. These values stand in the
/// index and are sent to clients.
const MAX_FIELD: usize = 1024;

fn text(headers: &HeaderMap, name: impl header::AsHeaderName) -> Option<String> {
    let value = headers.get(name)?.to_str().ok()?.trim();
    (!value.is_empty() && value.len() <= MAX_FIELD).then(|| value.to_owned())
}

/// Whether the body behind this head is encoded in a way that its digests and length do not speak of.
pub fn is_encoded(headers: &HeaderMap) -> bool {
    text(headers, header::CONTENT_ENCODING).is_some_and(|e| !e.eq_ignore_ascii_case("identity"))
}

/// The length of the whole file according to a successful answer: of its body, or behind the slash of its
/// Content-Range.
fn whole_size(hop: &Hop) -> Option<u64> {
    if is_encoded(&hop.headers) {
        return None;
    }
    match hop.status {
        StatusCode::OK => text(&hop.headers, header::CONTENT_LENGTH)?.parse().ok(),
        StatusCode::PARTIAL_CONTENT => content_range(&hop.headers)?.2,
        _ => None,
    }
}

/// First byte, last byte and total of a Content-Range.
pub fn content_range(headers: &HeaderMap) -> Option<(u64, u64, Option<u64>)> {
    let text = text(headers, header::CONTENT_RANGE)?;
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let total = if total == "*" { None } else { Some(total.parse().ok()?) };
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last && total.is_none_or(|t| last < t)).then_some((first, last, total))
}

/// The opaque part of an entity tag: without `W/` and quotes.
fn opaque_tag(tag: &str) -> &str {
    tag.strip_prefix("W/").unwrap_or(tag).trim_matches('"')
}
