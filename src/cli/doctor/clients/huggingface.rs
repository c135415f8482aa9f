//! How huggingface_hub, and what is built on it, reaches Hugging Face.

use std::path::PathBuf;

use url::Url;

use super::{Around, with};
use crate::cli::doctor::check::Check;
use crate::cli::doctor::holds::Holds;
use crate::model::Place;

const NAME: &str = "client-huggingface-hub";
const ENDPOINT: &str = "HF_ENDPOINT";
const SETUP: &str = "eval \"$(hubcache setup hf)\"";
const SETUP_PROXY: &str = "eval \"$(hubcache setup hf --mode proxy)\"";
const HUB: &str = "huggingface.co";
/// A path at which this server is the same hub.
const HUB_PATH: &str = "/hub/huggingface";
/// HEAD of what is not held waits for the hub, and clients by themselves wait for 10 s.
const ETAG_TIMEOUT_SECONDS: f64 = 3.0;

/// A Python environment with huggingface_hub.
#[derive(Clone, Debug, Default)]
pub struct Python {
    /// The directory of its packages.
    pub packages: PathBuf,
    /// The version of huggingface_hub.
    pub version: String,
    /// The version of hf_xet, if that is there.
    pub xet: Option<String>,
}

impl Python {
    /// Major and minor version; what is no number counts as 0.
    fn numbers(&self) -> (u32, u32) {
        let mut numbers = self.version.split('.').map(|part| part.parse().unwrap_or(0));
        (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
    }
}

pub fn judge(python: &Python, around: Around<'_>) -> Check {
    let client = format!("huggingface_hub {} ({})", python.version, python.packages.display());
    let environment = around.environment;
    let check = match environment.get(ENDPOINT) {
        Some(url) => endpoint(&client, url, around),
        None => match environment.proxy() {
            Some((variable, Some(place))) if around.here.is(&place) => {
                proxy(python, &client, variable, around)
            }
            Some((variable, _)) => Check::warns(
                NAME,
                format!(
                    "{client} goes past this server: {variable} names another proxy, and {ENDPOINT} is not set"
                ),
                SETUP,
            ),
            None => Check::warns(
                NAME,
                format!("{client} goes to {HUB} directly: neither {ENDPOINT} nor HTTPS_PROXY is set here"),
                SETUP,
            ),
        },
    };
    with(check, [offline(around), impatient(around)])
}

fn endpoint(client: &str, url: &str, around: Around<'_>) -> Check {
    let here = around.here;
    let instead = format!("export {ENDPOINT}={}", here.url());
    let parsed = Url::parse(url).ok().filter(|parsed| ["http", "https"].contains(&parsed.scheme()));
    let Some((parsed, place)) = parsed.and_then(|parsed| Place::of_url(&parsed).map(|place| (parsed, place)))
    else {
        return Check::fails(NAME, format!("{client} cannot use {ENDPOINT}={url}, which is no URL"), instead);
    };
    if !here.is(&place) {
        return match here.is_local(&place.host) {
            true => Check::fails(
                NAME,
                format!("{client} asks {place} ({ENDPOINT}), and this server is at {}", here.at),
                instead,
            ),
            false => Check::warns(
                NAME,
                format!("{client} asks {place} ({ENDPOINT}), which is not this server"),
                format!("{instead}; if that is a hubcache: hubcache doctor --at {place}"),
            ),
        };
    }
    let check = around.led_here(NAME, client, ENDPOINT);
    let path = parsed.path();
    let trap = if parsed.scheme() == "https" {
        Some(Check::fails(
            NAME,
            format!("{ENDPOINT} has https, and this server speaks plain HTTP at {place}"),
            &instead,
        ))
    } else if !["", "/", HUB_PATH].contains(&path) {
        let found = format!("{ENDPOINT} has the path {path}, under which this server has no hub");
        Some(Check::fails(NAME, found, &instead))
    } else if url.ends_with('/') {
        let found = format!("{ENDPOINT} ends with a slash, and hf-hub and others put a second one behind it");
        Some(Check::warns(NAME, found, &instead))
    } else {
        None
    };
    with(check, [trap])
}

fn proxy(python: &Python, client: &str, variable: &str, around: Around<'_>) -> Check {
    let check = around.led_here(NAME, client, variable);
    let past = around.environment.past_proxy(HUB).map(|list| {
        let found = format!("{list} has {HUB} go past it");
        Check::fails(NAME, found, format!("take {HUB} out of {list}, or: {SETUP}"))
    });
    with(check, [past, around.relayed(NAME), untrusting(python, around), lists_of_before(python, around)])
}

/// Older versions read one variable, newer ones another.
fn untrusting(python: &Python, around: Around<'_>) -> Option<Check> {
    let read: &[&str] = match python.numbers() {
        (0, _) => &["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"],
        _ => &["SSL_CERT_FILE"],
    };
    let named = read.iter().find_map(|name| Some((*name, around.trust.of_variable(name)?)));
    let found = match named {
        _ if !around.here.intercepts => return None,
        Some((_, Holds::Authority)) => return None,
        Some((name, _)) => {
            format!("what {name} names does not have the authority in it, so it refuses the certificate")
        }
        None => format!("{} is not set, so it does not trust the authority", read[0]),
    };
    Some(Check::fails(NAME, found, SETUP_PROXY))
}

/// A list of files that the client kept from before, with their Xet hashes, is not asked for again.
fn lists_of_before(python: &Python, around: Around<'_>) -> Option<Check> {
    let reads_hashes = python.numbers() >= (1, 26) && python.xet.is_some();
    (reads_hashes && !around.environment.is_on("HF_HUB_DISABLE_XET")).then(|| {
        let found = "a list of files that it kept from before it used this server leads it to the Xet store";
        Check::warns(NAME, found, "export HF_HUB_DISABLE_XET=1")
    })
}

fn offline(around: Around<'_>) -> Option<Check> {
    around.environment.is_on("HF_HUB_OFFLINE").then(|| {
        let found = "HF_HUB_OFFLINE is on, so it asks nobody and works with its own cache";
        Check::warns(NAME, found, "unset HF_HUB_OFFLINE")
    })
}

fn impatient(around: Around<'_>) -> Option<Check> {
    let seconds: f64 = around.environment.get("HF_HUB_ETAG_TIMEOUT")?.parse().ok()?;
    (seconds < ETAG_TIMEOUT_SECONDS).then(|| {
        let found = format!(
            "HF_HUB_ETAG_TIMEOUT is {seconds} s, and what is not held here yet is asked of the hub first"
        );
        Check::warns(NAME, found, "unset HF_HUB_ETAG_TIMEOUT, which makes it 10 s")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::check::Verdict::{self, Fails, Good, Warns};
    use crate::cli::doctor::environment::{Environment, Here, tests::here};
    use crate::cli::doctor::trust::{Trust, Variable, tests::all_trust};

    fn python(version: &str, xet: bool) -> Python {
        Python { version: version.to_owned(), xet: xet.then(|| "1.8.0".to_owned()), ..Python::default() }
    }

    fn judged(python: &Python, variables: &[(&str, &str)], here: &Here, trust: &Trust) -> Check {
        let environment: Environment = variables.iter().copied().collect();
        judge(python, Around { environment: &environment, here, trust })
    }

    #[track_caller]
    fn assert_is(check: &Check, verdict: Verdict, has: &str) {
        let all = format!("{}\n{}", check.found, check.fix.clone().unwrap_or_default());
        assert!(check.verdict == verdict && all.contains(has), "{has}\n{check:#?}");
    }

    #[test]
    fn an_endpoint_names_this_server_exactly() {
        let right = "http://127.0.0.1:8470";
        for (variables, verdict, has) in [
            (&[("HF_ENDPOINT", right)][..], Good, "HF_ENDPOINT"),
            (&[("HF_ENDPOINT", "http://localhost:8470")], Good, "HF_ENDPOINT"),
            (&[("HF_ENDPOINT", "http://127.0.0.1:8470/hub/huggingface")], Good, "HF_ENDPOINT"),
            (&[("HF_ENDPOINT", "http://127.0.0.1:8470/")], Warns, "ends with a slash"),
            (&[("HF_ENDPOINT", "http://127.0.0.1:8470/api")], Fails, "the path /api"),
            (&[("HF_ENDPOINT", "http://127.0.0.1:9999")], Fails, "export HF_ENDPOINT=http://127.0.0.1:8470"),
            (&[("HF_ENDPOINT", "https://127.0.0.1:8470")], Fails, "has https"),
            (&[("HF_ENDPOINT", "127.0.0.1:8470")], Fails, "no URL"),
            (
                &[("HF_ENDPOINT", "https://hf-mirror.example")],
                Warns,
                "hubcache doctor --at hf-mirror.example:443",
            ),
            (&[("HF_ENDPOINT", "")], Warns, "hubcache setup hf"),
            (&[], Warns, "hubcache setup hf"),
            (&[("HF_ENDPOINT", right), ("HF_HUB_OFFLINE", "1")], Warns, "unset HF_HUB_OFFLINE"),
            (&[("HF_ENDPOINT", right), ("HF_HUB_OFFLINE", "0")], Good, "HF_ENDPOINT"),
            (&[("HF_ENDPOINT", right), ("HF_HUB_ETAG_TIMEOUT", "1")], Warns, "HF_HUB_ETAG_TIMEOUT"),
            (&[("HF_ENDPOINT", right), ("HF_HUB_ETAG_TIMEOUT", "30")], Good, "HF_ENDPOINT"),
        ] {
            assert_is(&judged(&python("2.4.0", true), variables, &here(), &all_trust()), verdict, has);
        }
        let silent = Here { answers: false, ..here() };
        assert_is(
            &judged(&python("2.4.0", true), &[("HF_ENDPOINT", right)], &silent, &all_trust()),
            Fails,
            "hubcache serve",
        );
    }

    #[test]
    fn as_a_proxy_it_must_be_trusted_by_what_that_version_reads() {
        let trusting = |name: &'static str, holds| Trust {
            variables: vec![Variable { name, file: "/x".into(), holds }],
            ..all_trust()
        };
        let (requests, openssl) = ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE");
        for (version, xet, trust, verdict, has) in [
            ("0.36.2", true, trusting(requests, Holds::Authority), Good, "HTTPS_PROXY"),
            ("0.36.2", true, trusting(openssl, Holds::Authority), Fails, "REQUESTS_CA_BUNDLE is not set"),
            ("2.4.0", false, trusting(openssl, Holds::Authority), Good, "HTTPS_PROXY"),
            ("2.4.0", false, trusting(openssl, Holds::Others), Fails, "--mode proxy"),
            ("2.4.0", false, trusting(requests, Holds::Authority), Fails, "SSL_CERT_FILE is not set"),
            ("2.4.0", true, trusting(openssl, Holds::Authority), Warns, "export HF_HUB_DISABLE_XET=1"),
            ("1.20.0", true, trusting(openssl, Holds::Authority), Good, "HTTPS_PROXY"),
        ] {
            let variables = [("HTTPS_PROXY", "http://127.0.0.1:8470")];
            assert_is(&judged(&python(version, xet), &variables, &here(), &trust), verdict, has);
        }
    }

    #[test]
    fn what_goes_past_the_proxy_is_told() {
        let proxy = ("HTTPS_PROXY", "http://127.0.0.1:8470");
        let trust = all_trust();
        let python = python("2.4.0", false);
        let past = judged(&python, &[proxy, ("NO_PROXY", "localhost,huggingface.co")], &here(), &trust);
        assert_is(&past, Fails, "take huggingface.co out of NO_PROXY");
        let other = judged(&python, &[("HTTPS_PROXY", "http://proxy.corp:3128")], &here(), &trust);
        assert_is(&other, Warns, "names another proxy");
        let relays = Here { intercepts: false, ..here() };
        assert_is(&judged(&python, &[proxy], &relays, &trust), Fails, "hubcache serve --intercept");
    }
}
