//! What is wrong with settings, where, and what may have been meant.

use std::fmt;
use std::path::PathBuf;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The table of settings.
    Default,
    /// A file, and the line in it where one can be named.
    File {
        /// Its path.
        path: PathBuf,
        /// Counted from one.
        line: Option<usize>,
    },
    /// An environment variable.
    Variable(String),
    /// A flag, with its dashes.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line: Some(line) } => write!(f, "{}:{line}", path.display()),
            Self::File { path, line: None } => write!(f, "{}", path.display()),
            Self::Variable(name) | Self::Flag(name) => f.write_str(name),
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub origin: Origin,
    /// What, and what would be right.
    pub text: String,
}

/// Everything that is wrong, in the order of the layers.
#[derive(Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        write!(f, "{count} {} in the settings", if count == 1 { "mistake" } else { "mistakes" })?;
        for problem in &self.0 {
            write!(f, "\n  {}: {}", problem.origin, problem.text)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// The one of `known` that `word` is probably a slip of, if any is near enough.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_ascii_lowercase();
    let limit = ((word.chars().count() + 1) / 3).clamp(1, 3);
    known
        .into_iter()
        .map(|k| (distance(&word, &k.to_ascii_lowercase()), k))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, k)| k)
}

/// How many letters must be added, removed, changed or swapped with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    // rows[i][j] is the distance of the first i letters of a from the first j of b.
    // Where either has none, it is the length of the other.
    let row = |i| (0..=b.len()).map(|j| if i == 0 { j } else { i }).collect();
    let mut rows: Vec<Vec<usize>> = (0..=a.len()).map(row).collect();
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let change = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = change.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_near_and_another_word_is_not() {
        let known = ["cache.ref_ttl", "cache.lanes", "log.level"];
        assert_eq!(nearest("cache.ref_tl", known), Some("cache.ref_ttl"));
        assert_eq!(nearest("cahce.lanes", known), Some("cache.lanes"));
        assert_eq!(nearest("LOG.LEVEL", known), Some("log.level"));
        assert_eq!(nearest("cache.colour", known), None);
        assert_eq!(nearest("", known), None);
        assert_eq!(nearest("chace", ["cache"]), Some("cache"));
        assert_eq!(nearest("jsn", ["text", "json"]), Some("json"));
    }
}
