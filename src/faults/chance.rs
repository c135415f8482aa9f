//! How often a rule was met and has struck, and the dice.

use fastrand::Rng;

use super::rules::{Rule, Rules};

/// What is counted for each rule.
#[derive(Clone, Debug)]
pub(super) struct Counts(Vec<Count>);

#[derive(Clone, Debug)]
struct Count {
    met: u64,
    struck: u64,
    /// Its own, so that what it does depends on its own requests alone.
    dice: Rng,
}

impl Counts {
    /// Nothing has happened yet.
    pub(super) fn new(rules: &Rules) -> Self {
        let mut seeded = Rng::with_seed(rules.seed);
        Self(rules.rules.iter().map(|_| Count { met: 0, struck: 0, dice: seeded.fork() }).collect())
    }

    /// A request for the rule at `index` has come; if it strikes, how often it has.
    pub(super) fn meet(&mut self, index: usize, rule: &Rule) -> Option<u64> {
        let count = &mut self.0[index];
        count.met += 1;
        let is_due = count.met > rule.skip && rule.times.is_none_or(|times| count.struck < times);
        if !is_due || count.dice.f64() >= rule.probability {
            return None;
        }
        count.struck += 1;
        Some(count.struck)
    }

    /// How often the rule at `index` was met, and has struck.
    pub(super) fn of(&self, index: usize) -> (u64, u64) {
        (self.0[index].met, self.0[index].struck)
    }
}
