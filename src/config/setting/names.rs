//! Settings that name something: addresses, paths, hubs, hosts, and words of a closed set.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use http::{HeaderName, header};

use super::{Raw, Refusal, Setting, text};
use crate::admin::HostName;
use crate::config::problem::nearest;
use crate::model::{Collection, HubRoot, OnAnnounce, Place, Sha256};
use crate::policy::egress::{Mode, Pattern};
use crate::policy::rate::Slot;
use crate::policy::{Access, Delivery, DenyFor, FileFormat, ModelPattern, PathPattern, Unasked, Uploads};
use crate::telemetry::log::{Format, Level};

impl Setting for SocketAddr {
    const PLACEHOLDER: &'static str = "ADDR";

    fn expects() -> String {
        "an IP address and a port such as 127.0.0.1:8470 or [::1]:0".into()
    }

    fn read(raw: &Raw) -> Result<Self, Refusal> {
        if let Raw::Integer(port) = raw {
            return Err(Refusal::because(format!("did you mean 127.0.0.1:{port}?")));
        }
        let text = text(raw)?;
        if let Some(port) = text.strip_prefix("localhost:").and_then(|p| p.parse().ok()) {
            return Ok(Self::from((Ipv4Addr::LOCALHOST, port)));
        }
        let port = text.strip_prefix(':').unwrap_or(text);
        text.parse().map_err(|_| match port.parse::<u16>() {
            Ok(port) => Refusal::because(format!("did you mean 127.0.0.1:{port}?")),
            Err(_) => Refusal::default(),
        })
    }
}

impl Setting for PathBuf {
    const PLACEHOLDER: &'static str = "PATH";

    fn expects() -> String {
        "a path".into()
    }

    fn read(raw: &Raw) -> Result<Self, Refusal> {
        match raw {
            // Not trimmed: a name may end with a blank.
            Raw::Text(path) if !path.is_empty() && !path.contains('\0') => Ok(Self::from(path)),
            _ => Err(Refusal::default()),
        }
    }
}

impl Setting for HubRoot {
    const PLACEHOLDER: &'static str = "URL";

    fn expects() -> String {
        "a URL such as https://hub.example.org".into()
    }

    fn read(raw: &Raw) -> Result<Self, Refusal> {
        Self::parse(text(raw)?).map_err(|reason| Refusal::because(format!("it {reason}")))
    }
}

impl Setting for Sha256 {
    const PLACEHOLDER: &'static str = "SHA256";

    fn expects() -> String {
        "a SHA-256: 64 hexadecimal digits, with or without colons".into()
    }

    fn read(raw: &Raw) -> Result<Self, Refusal> {
        Self::parse(&text(raw)?.replace(':', "")).ok_or_else(Refusal::default)
    }
}

impl Setting for Collection {
    const PLACEHOLDER: &'static str = "[BUCKET/]NAME";

    fn expects() -> String {
        "the name of a collection such as ml-onnx-runtime or security-state/onecrl".into()
    }

    fn read(raw: &Raw) -> Result<Self, Refusal> {
        text(raw)?.parse().map_err(|()| Refusal::default())
    }
}

/// Where Remote Settings is, if it is to be asked at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsServer(pub Option<HubRoot>);

impl Setting for SettingsServer {
    const PLACEHOLDER: &'static str = "URL";

    fn expects() -> String {
        "the URL of a server with the version of its interface such as https://settings.example.org/v1, or off".into()
    }

    fn read(raw: &Raw) -> Result<Self, Refusal> {
        match text(raw)? {
            "off" => Ok(Self(None)),
            url => {
                let root = HubRoot::parse(url).map_err(|reason| Refusal::because(format!("it {reason}")))?;
                match root.as_str().rsplit('/').next() {
                    Some("v1" | "v2") => Ok(Self(Some(root))),
                    _ => Err(Refusal::because("it must end with /v1 or /v2")),
                }
            }
        }
    }
}

impl Setting for HostName {
    const PLACEHOLDER: &'static str = "NAME";

    fn expects() -> String {
        "a host name or an IP address, without a port".into()
    }

    fn read(raw: &Raw) -> Result<Self, Refusal> {
        Self::parse(text(raw)?).ok_or_else(Refusal::default)
    }
}

impl Setting for Level {
    const PLACEHOLDER: &'static str = "LEVEL";

    fn expects() -> String {
        "off, error, warn, info, debug or trace, or directives such as info,hubcache::upstream=debug".into()
    }

    fn read(raw: &Raw) -> Result<Self, Refusal> {
        let text = text(raw)?;
        let levels = ["off", "error", "warn", "info", "debug", "trace"];
        Self::parse(text).ok_or_else(|| did_you_mean(text, levels))
    }
}

impl Setting for Slot {
    const PLACEHOLDER: &'static str = "RATE[@HH:MM-HH:MM]";

    fn expects() -> String {
        "a size for each second, or none, alone or for some hours of the day, such as 50MiB@08:00-18:00"
            .into()
    }

    fn read(raw: &Raw) -> Result<Self, Refusal> {
        Self::parse(text(raw)?).map_err(|bad| Refusal::because(bad.to_string()))
    }
}

impl Setting for Pattern {
    const PLACEHOLDER: &'static str = "HOST[:PORT]";

    fn expects() -> String {
        "a host, *.host, an address or a network, such as *.example.com:443 or 10.0.0.0/8".into()
    }

    fn read(raw: &Raw) -> Result<Self, Refusal> {
        Self::parse(text(raw)?).map_err(|bad| Refusal::because(bad.to_string()))
    }
}

impl Setting for ModelPattern {
    const PLACEHOLDER: &'static str = "[HUB:]GLOB";

    fn expects() -> String {
        "models by a pattern such as acme/*, huggingface:acme/tiny or datasets/acme/*".into()
    }

    fn read(raw: &Raw) -> Result<Self, Refusal> {
        Self::parse(text(raw)?).map_err(|bad| Refusal::because(bad.to_string()))
    }
}

impl Setting for PathPattern {
    const PLACEHOLDER: &'static str = "GLOB";

    fn expects() -> String {
        "paths of files by a pattern such as *.exe or original/*".into()
    }

    fn read(raw: &Raw) -> Result<Self, Refusal> {
        Self::parse(text(raw)?).map_err(Refusal::because)
    }
}

impl Setting for FileFormat {
    const PLACEHOLDER: &'static str = "FORMAT";

    fn expects() -> String {
        Self::ALL.map(Self::name).join(" or ")
    }

    fn read(raw: &Raw) -> Result<Self, Refusal> {
        let text = text(raw)?;
        let found = Self::ALL.into_iter().find(|format| format.name() == text);
        found.ok_or_else(|| did_you_mean(text, Self::ALL.map(Self::name)))
    }
}

/// The field in which clients show a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialField(pub HeaderName);

impl Setting for CredentialField {
    const PLACEHOLDER: &'static str = "NAME";

    fn expects() -> String {
        "Authorization, or the name of a header field that begins with X-".into()
    }

    fn read(raw: &Raw) -> Result<Self, Refusal> {
        let name = HeaderName::try_from(text(raw)?).map_err(|_| Refusal::default())?;
        let fits = name == header::AUTHORIZATION || name.as_str().starts_with("x-");
        fits.then_some(Self(name)).ok_or_else(Refusal::default)
    }
}

/// Makes a setting of an enum whose values are words.
macro_rules! words {
    ($type:ty, $placeholder:literal, $($word:literal => $value:path),+) => {
        impl Setting for $type {
            const PLACEHOLDER: &'static str = $placeholder;

            fn expects() -> String {
                [$($word),+].join(" or ")
            }

            fn read(raw: &Raw) -> Result<Self, Refusal> {
                match text(raw)? {
                    $($word => Ok($value),)+
                    other => Err(did_you_mean(other, [$($word),+])),
                }
            }
        }
    };
}

words!(Format, "FORMAT", "text" => Format::Text, "json" => Format::Json);
words!(Delivery, "DELIVERY", "stream" => Delivery::Stream, "verified" => Delivery::Verified);
words!(Uploads, "UPLOADS", "pass" => Uploads::Pass, "refuse" => Uploads::Refuse);
words!(
    Access, "ACCESS", "local" => Access::Local, "anonymous" => Access::Anonymous, "token" => Access::Token,
    "mtls" => Access::Mtls
);
words!(Unasked, "POLICY", "deny" => Unasked::Deny, "last-known" => Unasked::LastKnown);
words!(DenyFor, "WHO", "firefox" => DenyFor::Firefox, "all" => DenyFor::All);
words!(
    OnAnnounce, "POLICY", "prefetch" => OnAnnounce::Prefetch, "evict" => OnAnnounce::Evict,
    "mark" => OnAnnounce::Mark, "ignore" => OnAnnounce::Ignore
);
words!(Mode, "MODE", "closed" => Mode::Closed, "open" => Mode::Open);

/// Where a proxy is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyAddress(pub Place);

impl Setting for ProxyAddress {
    const PLACEHOLDER: &'static str = "HOST:PORT";

    fn expects() -> String {
        "the host and port of an HTTP proxy such as proxy.example.org:3128".into()
    }

    fn read(raw: &Raw) -> Result<Self, Refusal> {
        let text = text(raw)?;
        if text.starts_with("https://") || text.starts_with("socks") {
            return Err(Refusal::because("the proxy itself is spoken to in plain HTTP"));
        }
        if text.contains('@') {
            return Err(Refusal::because("a user name and password belong into upstream.proxy_credentials"));
        }
        let place = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
        Place::parse(place, None).map(Self).map_err(|bad| Refusal::because(bad.to_string()))
    }
}

/// Hosts that are reached past a proxy, as one entry of `NO_PROXY`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bypass(pub String);

impl Setting for Bypass {
    const PLACEHOLDER: &'static str = "HOST";

    fn expects() -> String {
        "a name, an address, a network or *".into()
    }

    fn read(raw: &Raw) -> Result<Self, Refusal> {
        let text = text(raw)?;
        let fits =
            !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_:/[]*".contains(&b));
        fits.then(|| Self(text.to_owned())).ok_or_else(Refusal::default)
    }
}

fn did_you_mean<const N: usize>(word: &str, known: [&'static str; N]) -> Refusal {
    Refusal(nearest(word, known).map(|k| format!("did you mean {k}?")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: Setting>(text: &str) -> Result<T, Refusal> {
        T::read(&Raw::Text(text.to_owned()))
    }

    #[test]
    fn what_is_wrong_with_a_pattern_of_models_is_said() {
        assert!(read::<ModelPattern>("mozilla:acme/*").is_ok());
        let Refusal(Some(why)) = read::<ModelPattern>("hub:acme/*").unwrap_err() else { panic!("a reason") };
        assert!(why.contains("no hub \"hub\""), "{why}");
    }

    #[test]
    fn a_credential_has_a_field_of_its_own() {
        for good in ["X-Hubcache-Token", "authorization", "x-api-key"] {
            assert!(read::<CredentialField>(good).is_ok(), "{good}");
        }
        for bad in ["", "Host", "Range", "proxy-authorization", "X Y", "x-\u{e9}"] {
            assert!(read::<CredentialField>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses_have_a_port() {
        assert_eq!(read::<SocketAddr>("localhost:0"), Ok(SocketAddr::from(([127, 0, 0, 1], 0))));
        assert!(read::<SocketAddr>("[::1]:8470").is_ok());
        for bare in ["8470", ":8470"] {
            let refusal = read::<SocketAddr>(bare).unwrap_err();
            assert_eq!(refusal, Refusal::because("did you mean 127.0.0.1:8470?"));
        }
        for bad in ["", "127.0.0.1", "example.org:80", "127.0.0.1:99999"] {
            assert!(read::<SocketAddr>(bad).is_err(), "{bad:?}");
        }
    }
}
