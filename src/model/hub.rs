//! The hubs, by what hosts clients name them, and where they are.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A dialect of URLs and headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Hub {
    /// `https://model-hub.mozilla.org`: `/<organization>/<model>/<revision>/<path>` over a storage bucket.
    Mozilla,
    /// `https://huggingface.co`: `/<id>/resolve/<revision>/<path>` over git with large-file storage.
    HuggingFace,
    /// Remote Settings of Firefox: signed collections, and the files that are attached to their records. Of it a
    /// repository is a collection, a revision the SHA-256 of a file, and a path its `location`.
    Settings,
}

impl Hub {
    /// All hubs that are known.
    pub const ALL: [Self; 3] = [Self::Mozilla, Self::HuggingFace, Self::Settings];

    /// Those that hold models.
    pub const MODELS: [Self; 2] = [Self::Mozilla, Self::HuggingFace];

    /// The name in settings, paths (`/hub/<name>/`) and labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mozilla => "mozilla",
            Self::HuggingFace => "huggingface",
            Self::Settings => "settings",
        }
    }

    /// The hosts by which clients name the hub, wherever a setting says that it is.
    pub fn hosts(self) -> &'static [&'static str] {
        match self {
            Self::Mozilla => &["model-hub.mozilla.org"],
            Self::HuggingFace => &["huggingface.co", "hf.co"],
            Self::Settings => &SETTINGS_HOSTS,
        }
    }

    /// The hub that clients name by this host, which is in lower case.
    pub fn of_host(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|hub| hub.hosts().contains(&name))
    }

    /// Where the hub is unless a setting says otherwise.
    pub fn default_root(self) -> &'static str {
        match self {
            Self::Mozilla => "https://model-hub.mozilla.org",
            Self::HuggingFace => "https://huggingface.co",
            Self::Settings => "https://firefox.settings.services.mozilla.com/v1",
        }
    }
}

impl fmt::Display for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Hub {
    type Err = ();

    fn from_str(s: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|h| h.name() == s).ok_or(())
    }
}

/// The hosts of Remote Settings, in the order of [`SettingsPart::ALL`].
const SETTINGS_HOSTS: [&str; 3] = [
    "firefox.settings.services.mozilla.com",
    "firefox-settings-attachments.cdn.mozilla.net",
    "content-signature-2.cdn.mozilla.net",
];

/// What Remote Settings consists of; each part has a host of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SettingsPart {
    /// The server: collections and the list of what changed.
    Server,
    /// The files that are attached to records.
    Attachments,
    /// The certificate chains of signatures.
    Chains,
}

impl SettingsPart {
    /// All parts.
    pub const ALL: [Self; 3] = [Self::Server, Self::Attachments, Self::Chains];

    /// The host by which clients name the part.
    pub fn host(self) -> &'static str {
        match self {
            Self::Server => SETTINGS_HOSTS[0],
            Self::Attachments => SETTINGS_HOSTS[1],
            Self::Chains => SETTINGS_HOSTS[2],
        }
    }

    /// The part that clients name by this host, which is in lower case.
    pub fn of_host(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|part| part.host() == name)
    }
}

/// The hosts by which clients name hubs and Remote Settings.
pub fn known_hosts() -> impl Iterator<Item = &'static str> {
    Hub::ALL.into_iter().flat_map(Hub::hosts).copied()
}

/// The URL under which a hub is reached, without a trailing slash: the source that an entry records.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HubRoot(pub(super) Arc<str>);

impl HubRoot {
    /// Takes `http://` or `https://`, a host, and optionally a port and a path; lower-cases scheme and host.
    ///
    /// # Errors
    /// Says what is wrong with the URL: another scheme, no host, user information, a query.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let uri: http::Uri = text.parse().map_err(|_| "is not a URL")?;
        let scheme = uri.scheme_str().ok_or("lacks http:// or https://")?;
        if scheme != "http" && scheme != "https" {
            return Err("must begin with http:// or https://");
        }
        let authority = uri.authority().ok_or("lacks a host")?;
        if authority.as_str().contains('@') {
            return Err("must not contain a user name or password");
        }
        if uri.query().is_some() {
            return Err("must not contain a query");
        }
        let default_port = if scheme == "http" { 80 } else { 443 };
        let port = match authority.port_u16() {
            Some(p) if p != default_port => format!(":{p}"),
            _ => String::new(),
        };
        let host = authority.host().to_ascii_lowercase();
        let path = uri.path().trim_end_matches('/');
        Ok(Self(format!("{scheme}://{host}{port}{path}").into()))
    }

    /// The URL, without a trailing slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HubRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_is_an_http_url_and_nothing_more() {
        assert_eq!(HubRoot::parse("http://LOCALHOST:80/a/").unwrap().as_str(), "http://localhost/a");
        for bad in ["localhost", "ftp://x", "http://u:p@x", "http://x/?q", "", "http:///x"] {
            assert!(HubRoot::parse(bad).is_err(), "{bad}");
        }
    }
}
