//! Types of settings: what each is written like and what it means.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::problem::nearest;
use crate::admin::HostName;
use crate::model::HubRoot;
use crate::policy::Delivery;
use crate::telemetry::log::{Format, Level};

/// A value as a layer gives it, before its meaning is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Raw {
    /// Text; the environment and flags know nothing else.
    Text(String),
    /// An integer of a file.
    Integer(i64),
    /// A list of texts of a file, or a flag that was given several times.
    List(Vec<String>),
    /// Anything else of a file, as it stands there; no setting takes it.
    Other(String),
}

impl Raw {
    /// The value as it would be written in a file.
    pub fn toml(&self) -> String {
        // JSON's escapes are a subset of those of TOML's basic strings.
        let quoted = |t: &String| serde_json::Value::from(t.as_str()).to_string();
        match self {
            Self::Text(text) => quoted(text),
            Self::Integer(n) => n.to_string(),
            Self::List(items) => format!("[{}]", items.iter().map(quoted).collect::<Vec<_>>().join(", ")),
            Self::Other(source) => source.clone(),
        }
    }
}

/// Why a value is none of its type, as far as that is worth saying; what was expected is said anyway.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Refusal(pub Option<String>);

impl Refusal {
    fn because(hint: impl Into<String>) -> Self {
        Self(Some(hint.into()))
    }
}

/// A type that a setting can have.
pub trait Setting: Sized {
    /// What stands for a value in help texts.
    const PLACEHOLDER: &'static str;
    /// Whether there can be several.
    const IS_LIST: bool = false;

    /// What is expected, to be read after that word.
    fn expects() -> String;

    /// Reads a value.
    ///
    /// # Errors
    /// A [`Refusal`] when it is none.
    fn read(raw: &Raw) -> Result<Self, Refusal>;

    /// Whether the value lies in bounds that are written like values; types without an order have none.
    fn is_within(&self, _low: &str, _high: &str) -> bool {
        true
    }
}

fn text(raw: &Raw) -> Result<&str, Refusal> {
    match raw {
        Raw::Text(text) => Ok(text.trim()),
        Raw::Integer(_) | Raw::List(_) | Raw::Other(_) => Err(Refusal::default()),
    }
}

fn text_or_integer(raw: &Raw) -> Result<String, Refusal> {
    match raw {
        Raw::Integer(n) => Ok(n.to_string()),
        _ => text(raw).map(str::to_owned),
    }
}

/// Whether `value` lies between two bounds of the table.
fn between<T: Setting + PartialOrd>(value: &T, low: &str, high: &str) -> bool {
    let bound = |b: &str| T::read(&Raw::Text(b.to_owned())).expect("a test reads every bound of the table");
    *value >= bound(low) && *value <= bound(high)
}

/// Splits digits from the unit behind them.
fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, text[end..].trim_start()))
}

impl Setting for Duration {
    const PLACEHOLDER: &'static str = "DURATION";

    fn expects() -> String {
        "a duration such as 800ms, 60s, 10m, 12h or 7d (without a unit: seconds)".into()
    }

    fn read(raw: &Raw) -> Result<Self, Refusal> {
        let text = text_or_integer(raw)?;
        let (number, unit) = number_and_unit(&text).ok_or_else(Refusal::default)?;
        let milliseconds = match unit {
            "ms" => 1,
            "" | "s" => 1_000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 604_800_000,
            _ => return Err(Refusal::default()),
        };
        number.checked_mul(milliseconds).map(Self::from_millis).ok_or_else(|| Refusal::because("too long"))
    }

    fn is_within(&self, low: &str, high: &str) -> bool {
        between(self, low, high)
    }
}

/// An amount of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl Size {
    /// The amount as a length in memory; more than the address space can have is the address space.
    pub fn in_memory(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl Setting for Size {
    const PLACEHOLDER: &'static str = "SIZE";

    fn expects() -> String {
        "a size such as 64MiB or 1GB (without a unit: bytes)".into()
    }

    fn read(raw: &Raw) -> Result<Self, Refusal> {
        let text = text_or_integer(raw)?;
        let (number, unit) = number_and_unit(&text).ok_or_else(Refusal::default)?;
        let bytes = match unit.to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "kb" => 1_000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            "tb" => 1_000_000_000_000,
            "kib" => 1 << 10,
            "mib" => 1 << 20,
            "gib" => 1 << 30,
            "tib" => 1 << 40,
            // Half the world reads 64M as a power of two and the other half as one of ten.
            short @ ("k" | "m" | "g" | "t" | "ki" | "mi" | "gi" | "ti") => {
                let letter = short[..1].to_ascii_uppercase();
                return Err(Refusal::because(format!("did you mean {number}{letter}iB?")));
            }
            _ => return Err(Refusal::default()),
        };
        number.checked_mul(bytes).map(Self).ok_or_else(|| Refusal::because("too large"))
    }

    fn is_within(&self, low: &str, high: &str) -> bool {
        between(self, low, high)
    }
}

/// A number of things.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Count(pub u32);

impl Count {
    /// The number for sizes of collections.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl Setting for Count {
    const PLACEHOLDER: &'static str = "NUMBER";

    fn expects() -> String {
        "a whole number".into()
    }

    fn read(raw: &Raw) -> Result<Self, Refusal> {
        text_or_integer(raw)?.parse().map(Self).map_err(|_| Refusal::default())
    }

    fn is_within(&self, low: &str, high: &str) -> bool {
        between(self, low, high)
    }
}

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

impl Setting for Format {
    const PLACEHOLDER: &'static str = "FORMAT";

    fn expects() -> String {
        "text or json".into()
    }

    fn read(raw: &Raw) -> Result<Self, Refusal> {
        match text(raw)? {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            other => Err(did_you_mean(other, ["text", "json"])),
        }
    }
}

impl Setting for Delivery {
    const PLACEHOLDER: &'static str = "DELIVERY";

    fn expects() -> String {
        "stream or verified".into()
    }

    fn read(raw: &Raw) -> Result<Self, Refusal> {
        match text(raw)? {
            "stream" => Ok(Self::Stream),
            "verified" => Ok(Self::Verified),
            other => Err(did_you_mean(other, ["stream", "verified"])),
        }
    }
}

fn did_you_mean<const N: usize>(word: &str, known: [&'static str; N]) -> Refusal {
    Refusal(nearest(word, known).map(|k| format!("did you mean {k}?")))
}

impl<T: Setting> Setting for Option<T> {
    const PLACEHOLDER: &'static str = T::PLACEHOLDER;

    fn expects() -> String {
        format!("{}, or none", T::expects())
    }

    fn read(raw: &Raw) -> Result<Self, Refusal> {
        match raw {
            Raw::Text(text) if text == "none" => Ok(None),
            _ => T::read(raw).map(Some),
        }
    }

    fn is_within(&self, low: &str, high: &str) -> bool {
        self.as_ref().is_none_or(|value| value.is_within(low, high))
    }
}

impl<T: Setting> Setting for Vec<T> {
    const PLACEHOLDER: &'static str = T::PLACEHOLDER;
    const IS_LIST: bool = true;

    fn expects() -> String {
        format!("a list, in which each is {}", T::expects())
    }

    fn read(raw: &Raw) -> Result<Self, Refusal> {
        let items = match raw {
            Raw::Text(text) => vec![text.clone()],
            Raw::List(items) => items.clone(),
            Raw::Integer(_) | Raw::Other(_) => return Err(Refusal::default()),
        };
        let parts = items.iter().flat_map(|item| item.split(',')).map(str::trim).filter(|p| !p.is_empty());
        parts.map(|part| T::read(&Raw::Text(part.to_owned()))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: Setting>(text: &str) -> Result<T, Refusal> {
        T::read(&Raw::Text(text.to_owned()))
    }

    #[test]
    fn durations_have_units() {
        let good = [("800ms", 800), ("60s", 60_000), ("60", 60_000), ("10m", 600_000), ("2 h", 7_200_000)];
        for (text, ms) in good {
            assert_eq!(read::<Duration>(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        assert_eq!(Duration::read(&Raw::Integer(5)), Ok(Duration::from_secs(5)));
        for bad in ["", "s", "-1s", "1.5s", "60 x", "1y", "99999999999999999999", "9999999999999999w", "١s"]
        {
            assert!(read::<Duration>(bad).is_err(), "{bad:?}");
        }
        assert!(Duration::read(&Raw::Integer(-5)).is_err());
    }

    #[test]
    fn sizes_have_binary_and_decimal_units() {
        for (text, bytes) in [("64MiB", 64 << 20), ("1GB", 1_000_000_000), ("512", 512), ("1tib", 1 << 40)] {
            assert_eq!(read(text), Ok(Size(bytes)), "{text}");
        }
        assert_eq!(read::<Size>("64M"), Err(Refusal::because("did you mean 64MiB?")));
        for bad in ["", "MiB", "-1", "1.5GB", "1EiB", "99999999999TiB"] {
            assert!(read::<Size>(bad).is_err(), "{bad:?}");
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

    #[test]
    fn a_list_is_an_array_or_has_commas() {
        let want: Vec<_> = ["a", "b"].into_iter().filter_map(HostName::parse).collect();
        assert_eq!(read("a, b,"), Ok(want.clone()));
        assert_eq!(Vec::read(&Raw::List(vec!["a".into(), "b".into()])), Ok(want));
        assert_eq!(read::<Vec<HostName>>(""), Ok(vec![]));
        assert!(read::<Vec<HostName>>("a,b:80").is_err());
    }

    #[test]
    fn none_is_a_value_only_where_there_can_be_none() {
        assert_eq!(read::<Option<Duration>>("none"), Ok(None));
        assert_eq!(read::<Option<Duration>>("1s"), Ok(Some(Duration::from_secs(1))));
        assert!(read::<Duration>("none").is_err());
    }
}
