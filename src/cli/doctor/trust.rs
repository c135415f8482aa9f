//! Judgement of the certificate authority: whether it can issue, for how long, and who trusts it. Pure.

use std::path::PathBuf;
use std::time::Duration;

use super::check::Check;
use super::holds::Holds;
use super::policies::Policies;
use crate::cli::print;
use crate::model::{Timestamp, lasting};

const AUTHORITY: &str = "certificate-authority";
const TLS: &str = "certificate-tls";
const SYSTEM: &str = "certificate-system";
const FIREFOX: &str = "certificate-firefox";

/// How long before its end a certificate should be replaced.
const SOON: Duration = Duration::from_secs(30 * 24 * 3600);

/// Variables that name a file of certificates, which replaces what a program trusts otherwise or adds to it.
pub const VARIABLES: [&str; 4] =
    ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "CURL_CA_BUNDLE"];

/// A certificate that cannot be used: what is wrong, and what helps.
pub type Unusable = (String, String);

/// From when until when a certificate is valid.
#[derive(Clone, Copy, Debug)]
pub struct Validity {
    /// From then on.
    pub from: Timestamp,
    /// Until then.
    pub until: Timestamp,
}

/// A variable that names a file of certificates.
#[derive(Clone, Debug)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// The file.
    pub file: PathBuf,
    /// What that has in it.
    pub holds: Holds,
}

/// Who trusts what.
#[derive(Clone, Debug)]
pub struct Trust {
    /// Whether tunnels are intercepted, by a server that runs or that would be started.
    pub intercepts: bool,
    /// Whether a server runs.
    pub runs: bool,
    /// The file of the authority's certificate.
    pub certificate: PathBuf,
    /// Whether a server makes the authority where there is none.
    pub is_own: bool,
    /// The authority; nothing where it has no files.
    pub authority: Option<Result<Validity, Unusable>>,
    /// The certificate for the listener that speaks TLS, if there is to be one.
    pub tls: Option<Result<Validity, Unusable>>,
    /// Whether who trusts what the system trusts takes what the authority issues.
    pub system: bool,
    /// The variables of this environment.
    pub variables: Vec<Variable>,
    /// Policies of Firefox, in all places where it looks.
    pub policies: Vec<Policies>,
    /// Whether a Firefox is there.
    pub has_firefox: bool,
}

impl Trust {
    /// What the file is to which a variable leads.
    pub fn of_variable(&self, name: &str) -> Option<&Holds> {
        self.variables.iter().find(|variable| variable.name == name).map(|variable| &variable.holds)
    }

    /// Whether a Firefox with these policies takes what the authority issues.
    pub fn in_policies(&self, policies: &Policies) -> bool {
        let imports = policies.said.as_ref().is_ok_and(|said| said.import_roots);
        policies.installed.contains(&Holds::Authority) || imports && self.system
    }
}

/// All that there is to say of certificates.
pub fn trust(trust: &Trust, now: Timestamp) -> Vec<Check> {
    let tls = trust.tls.as_ref().map(|tls| match tls {
        Ok(validity) => valid(
            TLS,
            "the certificate for listen.tls_address",
            *validity,
            now,
            "have another issued: listen.tls_cert, listen.tls_key",
        ),
        Err((found, fix)) => Check::fails(TLS, found, fix),
    });
    if !trust.intercepts {
        let why = "tunnels are not intercepted (intercept.enabled), so clients need no certificate";
        return tls.into_iter().chain([Check::skipped(AUTHORITY, why)]).collect();
    }
    let authority = authority(trust, now);
    let mut checks = vec![authority];
    checks.extend(tls);
    // Nobody can trust what is not there.
    if matches!(trust.authority, Some(Ok(_))) {
        checks.push(system(trust));
        checks.extend(trust.variables.iter().map(|variable| of_variable(variable, trust)));
        checks.push(firefox(trust));
    }
    checks
}

fn authority(trust: &Trust, now: Timestamp) -> Check {
    let file = trust.certificate.display();
    match &trust.authority {
        Some(Ok(validity)) => {
            let renew = "move its files away, `hubcache ca init`, start the server anew, and install the new certificate \
                         wherever the old one was";
            valid(AUTHORITY, &format!("the authority in {file}"), *validity, now, renew)
        }
        Some(Err((found, fix))) => Check::fails(AUTHORITY, found, fix),
        None if trust.is_own && !trust.runs => Check::warns(
            AUTHORITY,
            format!("there is no {file} yet: the next start makes it, and until then no client can trust it"),
            "hubcache ca init",
        ),
        None if trust.is_own => Check::fails(
            AUTHORITY,
            format!("there is no {file} any more"),
            "hubcache ca init, and start the server anew",
        ),
        None => Check::fails(
            AUTHORITY,
            format!("there is no {file}, or no key beside it"),
            "correct intercept.ca_cert and intercept.ca_key, or leave both out and use the authority of `hubcache ca init`",
        ),
    }
}

fn valid(name: &str, what: &str, validity: Validity, now: Timestamp, renew: &str) -> Check {
    let Validity { from, until } = validity;
    if now < from {
        let found = format!("{what} is valid only from {} on", print::rfc3339(from));
        return Check::fails(name, found, "see the check `clock`, and set it: timedatectl set-ntp true");
    }
    if now > until {
        return Check::fails(name, format!("{what} has expired at {}", print::rfc3339(until)), renew);
    }
    let left = until.0 - now.0;
    let found = format!("{what} is valid until {}", print::rfc3339(until));
    match Duration::from_millis(left) {
        left if left < SOON => Check::warns(name, format!("{found}, {} more", lasting(left)), renew),
        _ => Check::good(name, found),
    }
}

fn system(trust: &Trust) -> Check {
    let file = trust.certificate.display();
    match trust.system {
        true => Check::good(SYSTEM, "the system trusts the authority"),
        false => Check::warns(
            SYSTEM,
            "the system does not trust the authority; programs that read no variable for it refuse what comes through a tunnel",
            format!(
                "Debian: sudo cp {file} /usr/local/share/ca-certificates/hubcache.crt && sudo update-ca-certificates; \
                 Fedora: sudo trust anchor {file}"
            ),
        ),
    }
}

/// A bundle that has the authority and all that the system trusts.
fn bundle(name: &str) -> String {
    format!("hubcache setup shell --write DIR, and {name}=DIR/ca-bundle.pem")
}

fn of_variable(variable: &Variable, trust: &Trust) -> Check {
    let Variable { name, file, holds } = variable;
    let check = format!("certificate-{}", name.to_ascii_lowercase().replace('_', "-"));
    let shown = file.display();
    let fix = match *name {
        "NODE_EXTRA_CA_CERTS" => format!("{name}={}", trust.certificate.display()),
        name => bundle(name),
    };
    match holds {
        Holds::Authority => {
            Check::good(&check, format!("{name} names {shown}, which has the authority in it"))
        }
        Holds::Missing => Check::fails(&check, format!("{name} names {shown}, which is not there"), fix),
        Holds::Unusable(why) => {
            Check::fails(&check, format!("{name} names {shown}, which cannot be used: {why}"), fix)
        }
        Holds::Others => Check::warns(
            &check,
            format!("{name} names {shown}, which does not have the authority in it"),
            fix,
        ),
    }
}

fn firefox(trust: &Trust) -> Check {
    let fix = "hubcache setup firefox --write DIR, and copy DIR/policies.json to /etc/firefox/policies/";
    if let Some((file, why)) =
        trust.policies.iter().find_map(|policies| Some((&policies.file, policies.said.as_ref().err()?)))
    {
        let found = format!("{} cannot be read, so Firefox has no policies: {why}", file.display());
        return Check::fails(FIREFOX, found, fix);
    }
    if let Some(policies) = trust.policies.iter().find(|policies| trust.in_policies(policies)) {
        return Check::good(FIREFOX, format!("{} has Firefox trust the authority", policies.file.display()));
    }
    let named = trust.policies.iter().find(|policies| !policies.installed.is_empty());
    match (named, trust.policies.first(), trust.has_firefox) {
        (Some(policies), ..) => {
            let missing = policies.installed.contains(&Holds::Missing);
            let what = if missing { "of which one is not there" } else { "none of which is the authority" };
            Check::warns(
                FIREFOX,
                format!("{} has Firefox install certificates, {what}", policies.file.display()),
                fix,
            )
        }
        (None, Some(policies), _) => {
            Check::warns(FIREFOX, format!("{} says nothing of the authority", policies.file.display()), fix)
        }
        (None, None, true) => {
            Check::warns(FIREFOX, "Firefox has no policies that have it trust the authority", fix)
        }
        (None, None, false) => Check::skipped(FIREFOX, "no Firefox is found here, and no policies for one"),
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::cli::doctor::check::Verdict::{self, Fails, Good, Skipped, Warns};
    use crate::cli::doctor::policies::Said;

    const DAY: u64 = 24 * 3600 * 1000;
    const NOW: Timestamp = Timestamp(100 * DAY);

    /// An authority that the system trusts, in an environment without variables.
    pub fn all_trust() -> Trust {
        Trust {
            intercepts: true,
            runs: true,
            certificate: "/data/ca/ca.pem".into(),
            is_own: true,
            authority: Some(Ok(Validity { from: Timestamp(0), until: Timestamp(3650 * DAY) })),
            tls: None,
            system: true,
            variables: vec![],
            policies: vec![],
            has_firefox: false,
        }
    }

    #[track_caller]
    fn assert_has(given: &Trust, name: &str, verdict: Verdict, has: &str) {
        let checks = trust(given, NOW);
        let check =
            checks.iter().find(|check| check.name == name).unwrap_or_else(|| panic!("{name} in {checks:#?}"));
        let all = format!("{}\n{}", check.found, check.fix.clone().unwrap_or_default());
        assert!(check.verdict == verdict && all.contains(has), "{has}\n{check:#?}");
    }

    fn policies(text: &str, installed: &[Holds]) -> Policies {
        Policies { file: "/etc/p.json".into(), said: Said::of(text), installed: installed.to_vec() }
    }

    #[test]
    fn an_authority_is_there_fits_and_lasts() {
        let with = |authority| Trust { authority, ..all_trust() };
        let until = |days| Some(Ok(Validity { from: Timestamp(0), until: Timestamp(days * DAY) }));
        for (given, verdict, has) in [
            (all_trust(), Good, "valid until"),
            (with(until(131)), Good, "valid until"),
            (with(until(129)), Warns, "29 d more"),
            (with(until(99)), Fails, "hubcache ca init"),
            (
                with(Some(Ok(Validity { from: Timestamp(101 * DAY), until: Timestamp(200 * DAY) }))),
                Fails,
                "`clock`",
            ),
            (with(Some(Err(("another key".into(), "mend".into())))), Fails, "another key"),
            (with(None), Fails, "hubcache ca init"),
            (Trust { runs: false, ..with(None) }, Warns, "hubcache ca init"),
            (Trust { is_own: false, ..with(None) }, Fails, "intercept.ca_key"),
            (Trust { intercepts: false, ..all_trust() }, Skipped, "intercept.enabled"),
        ] {
            assert_has(&given, AUTHORITY, verdict, has);
        }
        let tls = |tls| Trust { tls: Some(tls), intercepts: false, ..all_trust() };
        assert_has(&tls(until(99).unwrap()), TLS, Fails, "listen.tls_cert");
        assert_has(&tls(Err(("no key".into(), "mend".into()))), TLS, Fails, "no key");
    }

    #[test]
    fn whoever_does_not_trust_it_is_named() {
        assert_has(&all_trust(), SYSTEM, Good, "trusts");
        assert_has(&Trust { system: false, ..all_trust() }, SYSTEM, Warns, "update-ca-certificates");
        for (holds, verdict, has) in [
            (Holds::Authority, Good, "has the authority"),
            (Holds::Others, Warns, "SSL_CERT_FILE=DIR/ca-bundle.pem"),
            (Holds::Missing, Fails, "not there"),
            (Holds::Unusable("no certificate".into()), Fails, "no certificate"),
        ] {
            let variables = vec![Variable { name: "SSL_CERT_FILE", file: "/x.pem".into(), holds }];
            assert_has(&Trust { variables, ..all_trust() }, "certificate-ssl-cert-file", verdict, has);
        }
    }

    #[test]
    fn policies_have_firefox_trust_it_in_either_way() {
        let with = |system, all: &[Policies]| Trust {
            system,
            policies: all.to_vec(),
            has_firefox: true,
            ..all_trust()
        };
        let install = r#"{"policies": {"Certificates": {"Install": ["a.pem"]}}}"#;
        let import = r#"{"policies": {"Certificates": {"ImportEnterpriseRoots": true}}}"#;
        for (given, verdict, has) in [
            (with(false, &[policies(install, &[Holds::Authority])]), Good, "/etc/p.json"),
            (with(true, &[policies(import, &[])]), Good, "/etc/p.json"),
            (with(false, &[policies(import, &[])]), Warns, "hubcache setup firefox"),
            (with(false, &[policies(install, &[Holds::Missing])]), Warns, "not there"),
            (with(false, &[policies(install, &[Holds::Others])]), Warns, "none of which"),
            (with(true, &[policies("{", &[])]), Fails, "cannot be read"),
            (with(true, &[policies("{}", &[])]), Fails, "policies"),
            (with(true, &[]), Warns, "hubcache setup firefox"),
            (Trust { has_firefox: false, ..with(true, &[]) }, Skipped, "no Firefox"),
        ] {
            assert_has(&given, FIREFOX, verdict, has);
        }
    }
}
