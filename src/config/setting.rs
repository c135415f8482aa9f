//! Types of settings: what each is written like and what it means.

mod names;
mod quantities;

pub use names::{Bypass, CredentialField, ProxyAddress, SettingsServer};
pub use quantities::{Count, MaxSize, Size};

/// A value as a layer gives it, before its meaning is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Raw {
    /// Text; the environment and flags know nothing else.
    Text(String),
    /// An integer of a file.
    Integer(i64),
    /// `true` or `false` of a file.
    Boolean(bool),
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
            Self::Boolean(b) => b.to_string(),
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
    /// Whether naming it is enough to turn it on.
    const IS_SWITCH: bool = false;

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
        Raw::Integer(_) | Raw::Boolean(_) | Raw::List(_) | Raw::Other(_) => Err(Refusal::default()),
    }
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
            Raw::Integer(_) | Raw::Boolean(_) | Raw::Other(_) => return Err(Refusal::default()),
        };
        let parts = items.iter().flat_map(|item| item.split(',')).map(str::trim).filter(|p| !p.is_empty());
        parts.map(|part| T::read(&Raw::Text(part.to_owned()))).collect()
    }
}

impl Setting for bool {
    const PLACEHOLDER: &'static str = "BOOL";
    const IS_SWITCH: bool = true;

    fn expects() -> String {
        "true or false".into()
    }

    fn read(raw: &Raw) -> Result<Self, Refusal> {
        match raw {
            Raw::Boolean(value) => Ok(*value),
            // The clients of Hugging Face take 1 for true in their own variables.
            Raw::Text(text) if ["true", "1"].contains(&text.trim()) => Ok(true),
            Raw::Text(text) if ["false", "0"].contains(&text.trim()) => Ok(false),
            _ => Err(Refusal::default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::admin::HostName;

    fn read<T: Setting>(text: &str) -> Result<T, Refusal> {
        T::read(&Raw::Text(text.to_owned()))
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
    fn a_switch_is_on_or_off() {
        assert_eq!((read::<bool>("1"), read::<bool>("false")), (Ok(true), Ok(false)));
        assert_eq!(bool::read(&Raw::Boolean(true)), Ok(true));
        assert!(read::<bool>("yes").is_err() && bool::read(&Raw::Integer(1)).is_err());
    }

    #[test]
    fn none_is_a_value_only_where_there_can_be_none() {
        assert_eq!(read::<Option<Duration>>("none"), Ok(None));
        assert_eq!(read::<Option<Duration>>("1s"), Ok(Some(Duration::from_secs(1))));
        assert!(read::<Duration>("none").is_err());
    }
}
