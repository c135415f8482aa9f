//! A check: what was looked at, what was found, and what helps.

use serde::Serialize;

/// How a check ended; later ones are worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// There was nothing to look at, or no way to look.
    Skipped,
    /// All is well.
    Good,
    /// It works, but not as it should, or not for long.
    Warns,
    /// It does not work.
    Fails,
}

impl Verdict {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Skipped => "skipped",
            Self::Good => "good",
            Self::Warns => "warns",
            Self::Fails => "fails",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// For scripts; clients of one kind that are found more than once share it.
    pub name: String,
    /// How it ended.
    pub verdict: Verdict,
    /// What was found, on one line; of one that was skipped, why.
    pub found: String,
    /// What helps, a line for each thing: a command, a setting, or who has to do what.
    pub fix: Option<String>,
}

impl Check {
    fn new(name: &str, verdict: Verdict, found: impl Into<String>, fix: Option<String>) -> Self {
        Self { name: name.to_owned(), verdict, found: found.into(), fix }
    }

    /// Nothing to be done.
    pub fn good(name: &str, found: impl Into<String>) -> Self {
        Self::new(name, Verdict::Good, found, None)
    }

    /// Something to be done, before it stops working or so that it does not go past this server.
    pub fn warns(name: &str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::new(name, Verdict::Warns, found, Some(fix.into()))
    }

    /// Something that does not work.
    pub fn fails(name: &str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::new(name, Verdict::Fails, found, Some(fix.into()))
    }

    /// Nothing was looked at.
    pub fn skipped(name: &str, why: impl Into<String>) -> Self {
        Self::new(name, Verdict::Skipped, why, None)
    }

    /// The same with something more that was found, which makes it at least as bad.
    #[must_use]
    pub fn and(mut self, more: Self) -> Self {
        self.verdict = self.verdict.max(more.verdict);
        self.found = format!("{}; {}", self.found, more.found);
        self.fix = match (self.fix, more.fix) {
            (Some(one), Some(other)) if one != other => Some(format!("{one}\n{other}")),
            (one, other) => one.or(other),
        };
        self
    }
}

/// How many of them ended so.
pub fn count(checks: &[Check], verdict: Verdict) -> u64 {
    checks.iter().filter(|check| check.verdict == verdict).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_makes_a_check_no_better_and_no_fix_is_told_twice() {
        let all = Check::good("a", "one")
            .and(Check::fails("a", "two", "mend"))
            .and(Check::warns("a", "three", "mend"))
            .and(Check::warns("a", "four", "look"));
        let want = Check::fails("a", "one; two; three; four", "mend\nlook");
        assert_eq!(all, want);
    }
}
