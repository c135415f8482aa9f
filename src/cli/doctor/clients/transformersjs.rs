//! How transformers.js reaches Hugging Face.

use std::path::PathBuf;

use super::{Around, with};
use crate::cli::doctor::check::Check;
use crate::cli::doctor::holds::Holds;

const NAME: &str = "client-transformersjs";
const SETUP: &str = "hubcache setup transformersjs";

/// A package of transformers.js.
#[derive(Clone, Debug, Default)]
pub struct TransformersJs {
    /// Its directory.
    pub package: PathBuf,
    /// Its version.
    pub version: String,
}

/// The code that uses it may name this server; that is not known here.
pub fn judge(found: &TransformersJs, around: Around<'_>) -> Check {
    let client = format!("transformers.js {} ({})", found.version, found.package.display());
    let environment = around.environment;
    let proxy = environment.proxy().and_then(|(name, place)| Some((name, place?)));
    let Some((variable, _)) = proxy.filter(|(_, place)| around.here.is(place)) else {
        let why = format!(
            "{client} goes where its code says (env.remoteHost), else to huggingface.co; `{SETUP}` prints what to put there"
        );
        return Check::skipped(NAME, why);
    };
    if environment.get("NODE_USE_ENV_PROXY") != Some("1") {
        let found = format!(
            "{client} does not read {variable}: Node.js does only with NODE_USE_ENV_PROXY=1, from version 24 on"
        );
        return Check::warns(
            NAME,
            found,
            format!("eval \"$(hubcache setup nodejs)\"; for earlier versions: {SETUP}"),
        );
    }
    let trusts = around.trust.of_variable("NODE_EXTRA_CA_CERTS") == Some(&Holds::Authority);
    let untrusting = (around.here.intercepts && !trusts).then(|| {
        let found = "NODE_EXTRA_CA_CERTS does not name the authority, so it refuses the certificate";
        Check::fails(NAME, found, "eval \"$(hubcache setup nodejs)\"")
    });
    let check = around.led_here(NAME, &client, &format!("{variable}, from Node.js 24 on"));
    with(check, [around.relayed(NAME), untrusting])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::check::Verdict::{Fails, Good, Skipped, Warns};
    use crate::cli::doctor::environment::{Environment, tests::here};
    use crate::cli::doctor::trust::{Trust, Variable, tests::all_trust};

    #[test]
    fn node_uses_a_proxy_only_when_it_is_told_to() {
        let proxy = ("HTTPS_PROXY", "http://127.0.0.1:8470");
        let used = ("NODE_USE_ENV_PROXY", "1");
        let variable = Variable { name: "NODE_EXTRA_CA_CERTS", file: "/x".into(), holds: Holds::Authority };
        let trusting = Trust { variables: vec![variable], ..all_trust() };
        for (variables, trust, verdict, has) in [
            (&[][..], all_trust(), Skipped, "hubcache setup transformersjs"),
            (&[proxy], trusting.clone(), Warns, "hubcache setup nodejs"),
            (&[proxy, used], trusting, Good, "HTTPS_PROXY"),
            (&[proxy, used], all_trust(), Fails, "NODE_EXTRA_CA_CERTS"),
        ] {
            let environment: Environment = variables.iter().copied().collect();
            let around = Around { environment: &environment, here: &here(), trust: &trust };
            let check = judge(&TransformersJs::default(), around);
            let all = format!("{}\n{}", check.found, check.fix.clone().unwrap_or_default());
            assert!(check.verdict == verdict && all.contains(has), "{has}\n{check:#?}");
        }
    }
}
