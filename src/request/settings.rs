//! What Remote Settings is asked, by the paths of its server, of its attachments, and of its chains.
//!
//! | part | its own host | on this server |
//! |---|---|---|
//! | server | `firefox.settings.services.mozilla.com/v1/...` | `/rs/v1/...` |
//! | attachments | `firefox-settings-attachments.cdn.mozilla.net/...` | `/rs/attachments/...` |
//! | chains | `content-signature-2.cdn.mozilla.net/...` | `/rs/chains/...` |
//!
//! The prefix is needed: for a server at the root of localhost Firefox takes another root of signatures to be meant.

use http::Uri;

use super::path::{Reject, Segment, split};
use crate::model::{Collection, SettingsPart};

/// Before the parts on this server.
pub const SETTINGS_PREFIX: &str = "/rs";

/// A question to Remote Settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsTarget {
    /// The part, and whether it was named by its own host.
    pub part: SettingsPart,
    /// Whether the part was named by its own host, and not by its path on this server.
    pub at_host: bool,
    /// Of the server: which version of its interface, 1 or 2.
    pub version: u8,
    /// What it is asked.
    pub ask: SettingsAsk,
    /// Path and query below the part, in the client's own encoding.
    pub path_and_query: String,
}

/// What Remote Settings is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettingsAsk {
    /// What the server is.
    Server,
    /// Which collections have changed.
    Changes(Filter, Window),
    /// What has changed in a collection.
    Changeset(Collection, Window),
    /// The bundle of collections that a new Firefox begins with.
    Bundle,
    /// An attachment, by its location.
    Attachment(String),
    /// The chain of a signature, by the path of its URL.
    Chain(String),
    /// Something else.
    Other,
}

/// About which collections the list of changes is to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of this bucket only.
    pub bucket: Option<String>,
    /// Of this name only.
    pub collection: Option<String>,
}

impl Filter {
    /// Whether a collection is one of those.
    pub fn has(&self, collection: &Collection) -> bool {
        self.bucket.as_ref().is_none_or(|bucket| *bucket == collection.bucket)
            && self.collection.as_ref().is_none_or(|name| *name == collection.name)
    }
}

/// Which changes are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// Those after this moment.
    pub since: Option<u64>,
    /// The moment of which the client has heard.
    pub expected: Option<u64>,
}

/// The name of the startup bundle below the base of attachments.
const BUNDLE: &str = "bundles/startup.json.mozlz4";

/// Reads a request of one of the parts by its own host.
///
/// # Errors
/// Says what is wrong with the path.
pub fn at_host(part: SettingsPart, uri: &Uri) -> Result<SettingsTarget, Reject> {
    let segments = split(uri.path())?;
    let (ask, version) = ask(part, &segments, uri.query())?;
    let path_and_query = suffix(uri, usize::from(part == SettingsPart::Server));
    Ok(SettingsTarget { part, at_host: true, version, ask, path_and_query })
}

/// Reads a request below [`SETTINGS_PREFIX`], which is the first segment.
///
/// # Errors
/// Says what is wrong with the path.
pub(super) fn below_prefix(uri: &Uri, segments: &[Segment]) -> Result<SettingsTarget, Reject> {
    let (part, skipped) = match segments.get(1).map(|s| s.text.as_str()) {
        Some("attachments") => (SettingsPart::Attachments, 2),
        Some("chains") => (SettingsPart::Chains, 2),
        _ => (SettingsPart::Server, 1),
    };
    let (ask, version) = ask(part, segments.get(skipped..).unwrap_or_default(), uri.query())?;
    // Behind the prefix and the name of the part, or the version of the server.
    let path_and_query = suffix(uri, 2);
    Ok(SettingsTarget { part, at_host: false, version, ask, path_and_query })
}

/// What is asked of a part by the path below it, and of which version of the server.
fn ask(part: SettingsPart, segments: &[Segment], query: Option<&str>) -> Result<(SettingsAsk, u8), Reject> {
    if segments.iter().any(|segment| segment.encoded_slash) {
        return Err(Reject::EncodedSlash);
    }
    let texts: Vec<&str> = segments.iter().map(|segment| segment.text.as_str()).collect();
    match part {
        SettingsPart::Server => match texts.as_slice() {
            [version @ ("v1" | "v2"), rest @ ..] => {
                Ok((of_server(rest, query), if *version == "v1" { 1 } else { 2 }))
            }
            _ => Err(Reject::Incomplete),
        },
        SettingsPart::Attachments => {
            let location = texts.join("/");
            Ok(if location == BUNDLE {
                (SettingsAsk::Bundle, 0)
            } else {
                (SettingsAsk::Attachment(location), 0)
            })
        }
        SettingsPart::Chains => Ok((SettingsAsk::Chain(format!("/{}", texts.join("/"))), 0)),
    }
}

fn of_server(path: &[&str], query: Option<&str>) -> SettingsAsk {
    match path {
        [] | [""] => SettingsAsk::Server,
        ["buckets", "monitor", "collections", "changes", "changeset"] => {
            let (filter, window) = queried(query);
            SettingsAsk::Changes(filter, window)
        }
        ["buckets", bucket, "collections", name, "changeset"] => match Collection::new(bucket, name) {
            Some(collection) => SettingsAsk::Changeset(collection, queried(query).1),
            None => SettingsAsk::Other,
        },
        _ => SettingsAsk::Other,
    }
}

fn queried(query: Option<&str>) -> (Filter, Window) {
    let (mut filter, mut window) = (Filter::default(), Window::default());
    for (name, value) in url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        // Some clients put moments in quotes, as in an entity tag.
        let moment = value.trim_matches('"').parse().ok();
        match &*name {
            "_since" => window.since = moment,
            "_expected" => window.expected = moment,
            "bucket" => filter.bucket = Some(value.into_owned()),
            "collection" => filter.collection = Some(value.into_owned()),
            _ => {}
        }
    }
    (filter, window)
}

/// Path and query behind the first `skipped` segments.
fn suffix(uri: &Uri, skipped: usize) -> String {
    let mut rest = uri.path();
    for _ in 0..skipped {
        rest = rest[1..].find('/').map_or("/", |at| &rest[at + 1..]);
    }
    match uri.query() {
        Some(query) => format!("{rest}?{query}"),
        None => rest.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here(path: &str) -> Result<SettingsTarget, Reject> {
        let uri: Uri = path.parse().unwrap();
        below_prefix(&uri, &split(uri.path()).unwrap())
    }

    fn window(since: Option<u64>, expected: Option<u64>) -> Window {
        Window { since, expected }
    }

    #[test]
    fn every_part_has_paths_here_and_at_its_host() {
        let runtime: Collection = "ml-onnx-runtime".parse().unwrap();
        let chain = SettingsAsk::Chain("/g/chains/202402/x.pem".to_owned());
        let one = Filter { bucket: Some("main".into()), collection: Some("x".into()) };
        let table = [
            ("/v1/", SettingsAsk::Server, "/"),
            ("/v2", SettingsAsk::Server, "/"),
            (
                "/v1/buckets/main/collections/ml-onnx-runtime/changeset?_expected=5&_since=%223%22",
                SettingsAsk::Changeset(runtime.clone(), window(Some(3), Some(5))),
                "/buckets/main/collections/ml-onnx-runtime/changeset?_expected=5&_since=%223%22",
            ),
            (
                "/v1/buckets/monitor/collections/changes/changeset?collection=x&bucket=main&_expected=0",
                SettingsAsk::Changes(one, window(None, Some(0))),
                "/buckets/monitor/collections/changes/changeset?collection=x&bucket=main&_expected=0",
            ),
            (
                "/v1/buckets/main/collections/x/records",
                SettingsAsk::Other,
                "/buckets/main/collections/x/records",
            ),
            (
                "/v1/buckets/a%20b/collections/x/changeset",
                SettingsAsk::Other,
                "/buckets/a%20b/collections/x/changeset",
            ),
        ];
        for (path, ask, rest) in table {
            let found = here(&format!("/rs{path}")).unwrap();
            assert_eq!(
                (&found.ask, found.path_and_query.as_str(), found.at_host),
                (&ask, rest, false),
                "{path}"
            );
            let found = at_host(SettingsPart::Server, &path.parse().unwrap()).unwrap();
            assert_eq!(
                (&found.ask, found.path_and_query.as_str(), found.at_host),
                (&ask, rest, true),
                "{path}"
            );
        }
        let found = here("/rs/chains/g/chains/202402/x.pem").unwrap();
        assert_eq!((found.part, found.ask), (SettingsPart::Chains, chain.clone()));
        let found = at_host(SettingsPart::Chains, &"/g/chains/202402/x.pem".parse().unwrap()).unwrap();
        assert_eq!(found.ask, chain);
        let found = here("/rs/attachments/main/x/a%20b.wasm?q").unwrap();
        assert_eq!(found.ask, SettingsAsk::Attachment("main/x/a b.wasm".to_owned()));
        assert_eq!(found.path_and_query, "/main/x/a%20b.wasm?q");
        assert_eq!(here("/rs/attachments/bundles/startup.json.mozlz4").unwrap().ask, SettingsAsk::Bundle);
    }

    #[test]
    fn what_has_no_version_or_hides_a_slash_is_refused() {
        for path in ["/rs", "/rs/", "/rs/v3/", "/rs/x"] {
            assert_eq!(here(path), Err(Reject::Incomplete), "{path}");
        }
        assert_eq!(here("/rs/attachments/a%2Fb"), Err(Reject::EncodedSlash));
    }
}
