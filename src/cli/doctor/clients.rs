//! Judgement of the clients of this machine: how each would reach the server now, and what contradicts that. Pure.

mod firefox;
mod huggingface;
mod transformersjs;

use super::check::Check;
use super::environment::{Environment, Here};
use super::trust::Trust;

pub use firefox::{Firefox, Preferences};
pub use huggingface::Python;
pub use transformersjs::TransformersJs;

/// The clients that were found.
#[derive(Clone, Debug, Default)]
pub struct Clients {
    /// Firefoxes.
    pub firefoxes: Vec<Firefox>,
    /// Python environments with huggingface_hub.
    pub pythons: Vec<Python>,
    /// Directories of Node.js with transformers.js.
    pub transformersjs: Vec<TransformersJs>,
}

/// What every client is judged by.
#[derive(Clone, Copy, Debug)]
pub struct Around<'a> {
    /// The environment in which they would be started.
    pub environment: &'a Environment,
    /// The server that they should use.
    pub here: &'a Here,
    /// Who trusts its authority.
    pub trust: &'a Trust,
}

/// A check for each client; of those that are not there nothing is said.
pub fn clients(found: &Clients, around: Around<'_>) -> Vec<Check> {
    let mut checks: Vec<Check> =
        found.firefoxes.iter().map(|client| firefox::judge(client, around)).collect();
    checks.extend(found.pythons.iter().map(|client| huggingface::judge(client, around)));
    checks.extend(found.transformersjs.iter().map(|client| transformersjs::judge(client, around)));
    if checks.is_empty() {
        let looked_for = "no Firefox, no huggingface_hub and no transformers.js is found from here";
        checks.push(Check::skipped("clients", looked_for));
    }
    checks
}

impl Around<'_> {
    /// A client that is led here by `what`.
    fn led_here(&self, name: &str, client: &str, what: &str) -> Check {
        let found = format!("{client} reaches this server ({what})");
        match self.here.answers {
            true => Check::good(name, found),
            false => {
                let found = format!("{client} is led to this server ({what}), which does not answer");
                Check::fails(name, found, "hubcache serve")
            }
        }
    }

    /// What is wrong with the server where clients use it as their proxy: that it does not look into tunnels.
    fn relayed(&self, name: &str) -> Option<Check> {
        (!self.here.intercepts).then(|| {
            let found = "the server only relays tunnels, so nothing of it is kept";
            Check::fails(name, found, "hubcache serve --intercept (intercept.enabled)")
        })
    }
}

/// `check` with each of these that is something.
fn with<const N: usize>(check: Check, more: [Option<Check>; N]) -> Check {
    more.into_iter().flatten().fold(check, Check::and)
}
