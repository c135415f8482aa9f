//! Which request meets which fault. Pure: what is left to chance follows from the seed.

use std::time::Duration;

use bytes::Bytes;
use globset::GlobMatcher;
use http::{HeaderMap, Method, StatusCode};

use super::chance::Counts;
use super::spoil::Answered;

/// One thing to do wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Another answer, for which the server is not asked.
    Status {
        /// Its status.
        status: StatusCode,
        /// Its header fields.
        headers: HeaderMap,
        /// Its body.
        body: Bytes,
    },
    /// Silence before the head.
    Delay(Duration),
    /// So many bytes of the body in a second.
    Slow(u64),
    /// Silence after so many bytes of the body.
    Stall(u64),
    /// The end of the connection after so many bytes of the body.
    Cut(u64),
    /// One bit of the byte at this offset in the file is another.
    WrongByte(u64),
    /// The length that is announced differs by so much.
    WrongLength(i64),
    /// The entity tag is another one each time.
    Etag,
}

impl Fault {
    /// The key by which the file names it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Status { .. } => "status",
            Self::Delay(_) => "delay",
            Self::Slow(_) => "slow",
            Self::Stall(_) => "stall",
            Self::Cut(_) => "cut",
            Self::WrongByte(_) => "wrong_byte",
            Self::WrongLength(_) => "wrong_length",
            Self::Etag => "etag",
        }
    }

    /// Whether it strikes at this point: before the server is asked, or at the answer if that is one to be spoilt so.
    fn strikes(&self, answer: Option<&Answered>) -> bool {
        match (self, answer) {
            (Self::Status { .. } | Self::Delay(_), None) => true,
            (Self::Status { .. } | Self::Delay(_), Some(_)) => false,
            (_, None) => false,
            (_, Some(answer)) => answer.suffers(self),
        }
    }
}

/// A fault, and whom it meets.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    /// The whole path must fit.
    pub(super) path: GlobMatcher,
    /// The method; any without one.
    pub(super) method: Option<Method>,
    /// So many pass before it begins.
    pub(super) skip: u64,
    /// How often it strikes; without an end if it is not said.
    pub(super) times: Option<u64>,
    /// How likely it strikes each time, from 0 to 1.
    pub(super) probability: f64,
    pub(super) fault: Fault,
}

/// Everything that is to go wrong.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    pub(super) seed: u64,
    pub(super) rules: Vec<Rule>,
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    pub(super) method: &'a Method,
    /// The path without the query, decoded.
    pub(super) path: &'a str,
}

/// A fault that strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Strike<'a> {
    /// The number of its rule, from 1 on.
    pub(super) rule: usize,
    /// How often that rule has struck, this time included.
    pub(super) time: u64,
    pub(super) fault: &'a Fault,
}

/// What a rule has done so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally {
    /// Its number, from 1 on.
    pub rule: usize,
    /// The key of its fault.
    pub fault: &'static str,
    /// Its pattern.
    pub path: String,
    /// The requests that it was for, those that it let pass included.
    pub met: u64,
    /// How often it struck.
    pub struck: u64,
}

impl Rules {
    /// What meets this request: before the server is asked (without an answer), or then. The same requests in the same
    /// order meet the same, and what a rule does depends on no request that it is not for.
    pub(super) fn decide(
        &self,
        counts: &mut Counts,
        asked: &Asked<'_>,
        answer: Option<&Answered>,
    ) -> Option<Strike<'_>> {
        let is_for = |rule: &Rule| {
            rule.method.as_ref().is_none_or(|method| method == asked.method)
                && rule.path.is_match(asked.path)
                && rule.fault.strikes(answer)
        };
        self.rules.iter().enumerate().find_map(|(index, rule)| {
            let time = is_for(rule).then(|| counts.meet(index, rule)).flatten()?;
            Some(Strike { rule: index + 1, time, fault: &rule.fault })
        })
    }

    /// What each has done, by these counts.
    pub(super) fn tally(&self, counts: &Counts) -> Vec<Tally> {
        let tally = |(index, rule): (usize, &Rule)| {
            let (met, struck) = counts.of(index);
            let path = rule.path.glob().glob().to_owned();
            Tally { rule: index + 1, fault: rule.fault.name(), path, met, struck }
        };
        self.rules.iter().enumerate().map(tally).collect()
    }
}

#[cfg(test)]
mod tests;
