//! Amounts in the file of rules, each a text with its unit, or a whole number.

use std::fmt;
use std::time::Duration;

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

use crate::model::quantity::{self, BadQuantity};

/// A duration.
pub(super) struct Lasting(pub(super) Duration);

/// A number of bytes.
pub(super) struct Size(pub(super) u64);

/// Bytes in a second, at least one.
pub(super) struct Speed(pub(super) u64);

impl<'de> Deserialize<'de> for Lasting {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = |text: &str| quantity::duration(text).map(Self);
        deserializer.deserialize_any(Amount { expected: quantity::DURATION_EXPECTED, read })
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = |text: &str| quantity::size(text).map(Self);
        deserializer.deserialize_any(Amount { expected: quantity::SIZE_EXPECTED, read })
    }
}

impl<'de> Deserialize<'de> for Speed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = |text: &str| match text.strip_suffix("/s").map(quantity::size) {
            Some(Ok(bytes @ 1..)) => Ok(Self(bytes)),
            Some(Err(bad)) => Err(bad),
            Some(Ok(0)) | None => Err(BadQuantity::default()),
        };
        deserializer.deserialize_any(Amount { expected: "bytes in a second such as 64KiB/s", read })
    }
}

/// Reads one.
struct Amount<T> {
    expected: &'static str,
    read: fn(&str) -> Result<T, BadQuantity>,
}

impl<T> Visitor<'_> for Amount<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        (self.read)(&number.to_string()).map_err(|_| E::invalid_value(Unexpected::Signed(number), &self))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        (self.read)(text.trim()).map_err(|bad| match bad.0 {
            Some(hint) => E::custom(format!("expected {}: {hint}", self.expected)),
            None => E::invalid_value(Unexpected::Str(text), &self),
        })
    }
}
