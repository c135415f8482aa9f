//! Amounts as people write them: a number and its unit.

use std::fmt;
use std::time::Duration;

/// A text that is no amount, with a hint where there is one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BadQuantity(pub Option<String>);

impl BadQuantity {
    fn because(hint: impl Into<String>) -> Self {
        Self(Some(hint.into()))
    }
}

impl fmt::Display for BadQuantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_deref().unwrap_or("it is not one"))
    }
}

impl std::error::Error for BadQuantity {}

/// What a duration looks like, to be read after "expected".
pub const DURATION_EXPECTED: &str = "a duration such as 800ms, 60s, 10m, 12h or 7d (without a unit: seconds)";
/// What a number of bytes looks like, to be read after "expected".
pub const SIZE_EXPECTED: &str = "a size such as 64MiB or 1GB (without a unit: bytes)";

/// Reads a duration.
///
/// # Errors
/// When the text is none.
pub fn duration(text: &str) -> Result<Duration, BadQuantity> {
    let (number, unit) = number_and_unit(text).ok_or_else(BadQuantity::default)?;
    let milliseconds = match unit {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "w" => 604_800_000,
        _ => return Err(BadQuantity::default()),
    };
    number
        .checked_mul(milliseconds)
        .map(Duration::from_millis)
        .ok_or_else(|| BadQuantity::because("too long"))
}

/// Reads a number of bytes.
///
/// # Errors
/// When the text is none, or a unit in it has two meanings.
pub fn size(text: &str) -> Result<u64, BadQuantity> {
    let (number, unit) = number_and_unit(text).ok_or_else(BadQuantity::default)?;
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
            return Err(BadQuantity::because(format!("did you mean {number}{letter}iB?")));
        }
        _ => return Err(BadQuantity::default()),
    };
    number.checked_mul(bytes).ok_or_else(|| BadQuantity::because("too large"))
}

/// Splits digits from the unit behind them.
fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, text[end..].trim_start()))
}
