//! Which files the deny list of Remote Settings forbids.
//!
//! The collection `ml-model-allow-deny-list` has records with a `filter` (`ALLOW` or `DENY`) and a `urlPrefix`. Firefox
//! compares the lower-case URL of a file with each prefix, and DENY wins; here the URL is decoded before that. What is
//! allowed beyond that is up to Firefox; here only DENY counts.

use serde_json::Value;

use crate::model::Hub;

/// The name of the collection.
pub const DENY_LIST: &str = "ml-model-allow-deny-list";

/// The prefixes that are denied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DenyList {
    denied: Vec<Denied>,
}

/// One record that denies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    /// The record.
    pub id: String,
    /// What URLs begin with that it matches, in lower case.
    prefix: String,
    /// What the record says of itself.
    pub description: String,
}

/// To whose requests the list applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DenyFor {
    /// To those for the Mozilla hub, and to Firefox's.
    Firefox,
    /// To all.
    All,
}

impl DenyFor {
    /// Whether the list applies to a request.
    pub fn applies(self, hub: Hub, is_firefox: bool) -> bool {
        self.concerns(hub) || is_firefox
    }

    /// Whether it applies to all requests for a hub.
    pub fn concerns(self, hub: Hub) -> bool {
        match hub {
            Hub::Mozilla => true,
            Hub::HuggingFace => self == Self::All,
            Hub::Settings => false,
        }
    }
}

impl DenyList {
    /// Reads the records of the collection; what is no rule is none.
    pub fn of<'a>(records: impl IntoIterator<Item = &'a Value>) -> Self {
        let read = |record: &Value| {
            let text = |name: &str| record.get(name).and_then(Value::as_str);
            let prefix = text("urlPrefix").filter(|p| !p.is_empty()).map(plain)?;
            let is_deny = text("filter").is_some_and(|filter| filter.eq_ignore_ascii_case("DENY"));
            is_deny.then(|| Denied {
                id: text("id").unwrap_or_default().to_owned(),
                prefix,
                description: text("description").unwrap_or_default().to_owned(),
            })
        };
        Self { denied: records.into_iter().filter_map(read).collect() }
    }

    /// Whether nothing is denied.
    pub fn is_empty(&self) -> bool {
        self.denied.is_empty()
    }

    /// The record that denies what has any of these URLs.
    pub fn denies<'a>(&self, urls: impl IntoIterator<Item = &'a str>) -> Option<&Denied> {
        let urls: Vec<String> = urls.into_iter().map(plain).collect();
        self.denied.iter().find(|denied| urls.iter().any(|url| url.starts_with(&denied.prefix)))
    }
}

/// A URL in the one spelling in which it is compared: decoded, since encoding what need not be does not make another URL,
/// and in lower case, as Firefox compares.
fn plain(url: &str) -> String {
    percent_encoding::percent_decode_str(url).decode_utf8_lossy().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_prefix_denies_whatever_begins_with_it_in_any_case() {
        let records = json!([
            {"id": "1", "filter": "ALLOW", "urlPrefix": "https://model-hub.mozilla.org/"},
            {"id": "2", "filter": "DENY", "urlPrefix": "https://model-hub.mozilla.org/Acme/evil"},
            {"id": "3", "filter": "deny", "urlPrefix": "https://huggingface.co/acme/evil/"},
            {"id": "4", "filter": "DENY", "urlPrefix": ""},
            {"id": "5", "filter": "DENY"},
            {"id": "6"},
        ]);
        let list = DenyList::of(records.as_array().unwrap());
        for (url, record) in [
            ("https://model-hub.mozilla.org/acme/evil/v1.0/model.onnx", Some("2")),
            ("https://MODEL-HUB.mozilla.org/ACME/EVIL-too/v1.0/x", Some("2")),
            ("https://huggingface.co/acme/evil/resolve/main/x", Some("3")),
            ("https://huggingface.co/acme/%65vil/raw/main/x", Some("3")),
            ("https://huggingface.co/%41cme%2Fevil/x", Some("3")),
            ("https://huggingface.co/acme/evilish/resolve/main/x", None),
            ("https://model-hub.mozilla.org/acme/good/v1.0/x", None),
        ] {
            assert_eq!(list.denies([url]).map(|d| d.id.as_str()), record, "{url}");
        }
        assert_eq!(list.denies(["http://inner/x", "https://huggingface.co/acme/evil/x"]).unwrap().id, "3");
        assert!(DenyList::of(&[]).is_empty());
    }

    #[test]
    fn the_list_is_for_the_mozilla_hub_and_for_firefox_unless_it_is_for_all() {
        let table = [
            (DenyFor::Firefox, Hub::Mozilla, false, true),
            (DenyFor::Firefox, Hub::HuggingFace, false, false),
            (DenyFor::Firefox, Hub::HuggingFace, true, true),
            (DenyFor::All, Hub::HuggingFace, false, true),
            (DenyFor::All, Hub::Settings, false, false),
        ];
        for (rule, hub, is_firefox, applies) in table {
            assert_eq!(rule.applies(hub, is_firefox), applies, "{rule:?} {hub} {is_firefox}");
        }
    }
}
