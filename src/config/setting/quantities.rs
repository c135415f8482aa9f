//! Settings that are amounts: durations, sizes and counts.

use std::time::Duration;

use super::{Raw, Refusal, Setting, text};
use crate::model::quantity::{self, BadQuantity};

impl From<BadQuantity> for Refusal {
    fn from(BadQuantity(hint): BadQuantity) -> Self {
        Self(hint)
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

impl Setting for Duration {
    const PLACEHOLDER: &'static str = "DURATION";

    fn expects() -> String {
        quantity::DURATION_EXPECTED.into()
    }

    fn read(raw: &Raw) -> Result<Self, Refusal> {
        Ok(quantity::duration(&text_or_integer(raw)?)?)
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
        quantity::SIZE_EXPECTED.into()
    }

    fn read(raw: &Raw) -> Result<Self, Refusal> {
        Ok(Self(quantity::size(&text_or_integer(raw)?)?))
    }

    fn is_within(&self, low: &str, high: &str) -> bool {
        between(self, low, high)
    }
}

/// An amount of bytes, or what is found out at the first start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxSize(pub Option<Size>);

impl Setting for MaxSize {
    const PLACEHOLDER: &'static str = "SIZE";

    fn expects() -> String {
        format!("{}, or auto", Size::expects())
    }

    fn read(raw: &Raw) -> Result<Self, Refusal> {
        match raw {
            Raw::Text(text) if text.trim() == "auto" => Ok(Self(None)),
            _ => Size::read(raw).map(Some).map(Self),
        }
    }

    fn is_within(&self, low: &str, high: &str) -> bool {
        self.0.is_none_or(|size| size.is_within(low, high))
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
}
