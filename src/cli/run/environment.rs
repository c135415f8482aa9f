//! What the program of a run finds in its environment.
//!
//! Everything that would have a client look elsewhere than at this run's server is set or taken away: caches that are
//! warm, switches that say there is no network, and proxies between the program and the loopback.

use std::ffi::OsString;
use std::path::PathBuf;

/// A variable with its new value, or without one.
pub type Change = (&'static str, Option<OsString>);

/// What the run has for its program.
pub struct Local {
    /// Its server.
    pub url: String,
    /// The port of that.
    pub port: u16,
    /// An empty directory.
    pub home: PathBuf,
    /// What is to be trusted, where the server is also the program's proxy.
    pub certificates: Option<PathBuf>,
}

/// Caches beside HF_HOME that clients look into, and switches with which they ask for nothing.
const TAKEN_AWAY: [&str; 12] = [
    "HUGGINGFACE_HUB_CACHE",
    "TRANSFORMERS_CACHE",
    "PYTORCH_TRANSFORMERS_CACHE",
    "PYTORCH_PRETRAINED_BERT_CACHE",
    "HF_DATASETS_CACHE",
    "HF_MODULES_CACHE",
    "HF_ASSETS_CACHE",
    "HF_XET_CACHE",
    "SENTENCE_TRANSFORMERS_HOME",
    "HF_HUB_OFFLINE",
    "TRANSFORMERS_OFFLINE",
    "HF_DATASETS_OFFLINE",
];
const PROXIES: [&str; 4] = ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"];
/// The variables of OpenSSL and Python, of requests, curl and Node.js.
const TRUST: [&str; 4] = ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"];
const LOOPBACK: &str = "localhost,127.0.0.1,::1";

/// The changes to an environment that `now` reads.
pub fn changes(local: &Local, now: &dyn Fn(&str) -> Option<OsString>) -> Vec<Change> {
    let set = |name, value: &str| (name, Some(OsString::from(value)));
    let mut changes: Vec<Change> = TAKEN_AWAY.map(|name| (name, None)).to_vec();
    changes.extend([
        set("HUBCACHE_URL", &local.url),
        set("HF_ENDPOINT", &local.url),
        // Firefox takes no other spelling of the loopback for a hub.
        set("MOZ_MODELS_HUB", &format!("http://localhost:{}/", local.port)),
        ("HF_HOME", Some(local.home.clone().into())),
        ("HF_HUB_CACHE", Some(local.home.join("hub").into())),
        ("HF_TOKEN_PATH", token_path(now)),
    ]);
    if let Some(certificates) = &local.certificates {
        changes.extend(PROXIES.map(|name| set(name, &local.url)));
        changes.extend(TRUST.map(|name| (name, Some(certificates.clone().into()))));
        changes.extend([set("NODE_USE_ENV_PROXY", "1"), ("ALL_PROXY", None), ("all_proxy", None)]);
    }
    changes.extend(["NO_PROXY", "no_proxy"].map(|name| {
        let theirs = now(name).or_else(|| now("NO_PROXY")).or_else(|| now("no_proxy"));
        (name, Some(with_loopback(theirs)))
    }));
    changes
}

fn with_loopback(theirs: Option<OsString>) -> OsString {
    let mut hosts = theirs.unwrap_or_default();
    if !hosts.is_empty() {
        hosts.push(",");
    }
    hosts.push(LOOPBACK);
    hosts
}

/// Where the user's token is, by the rules of huggingface_hub.
fn token_path(now: &dyn Fn(&str) -> Option<OsString>) -> Option<OsString> {
    let said = |name: &str| now(name).filter(|value| !value.is_empty());
    let below = |base: OsString, rest: &str| PathBuf::from(base).join(rest).into_os_string();
    said("HF_TOKEN_PATH")
        .or_else(|| said("HF_HOME").map(|home| below(home, "token")))
        .or_else(|| said("XDG_CACHE_HOME").map(|cache| below(cache, "huggingface/token")))
        .or_else(|| said("HOME").map(|home| below(home, ".cache/huggingface/token")))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn changed(now: &[(&str, &str)], certificates: Option<&str>) -> HashMap<&'static str, Option<String>> {
        let now: HashMap<String, OsString> = now.iter().map(|(n, v)| ((*n).to_owned(), v.into())).collect();
        let local = Local {
            url: "http://127.0.0.1:1234".to_owned(),
            port: 1234,
            home: "/scratch/home".into(),
            certificates: certificates.map(PathBuf::from),
        };
        let text = |value: OsString| value.into_string().unwrap();
        changes(&local, &|name| now.get(name).cloned()).into_iter().map(|(n, v)| (n, v.map(text))).collect()
    }

    #[test]
    fn clients_are_led_to_the_run_and_away_from_what_they_have() {
        let changes = changed(&[("HOME", "/home/me"), ("HF_HUB_OFFLINE", "1"), ("no_proxy", "corp")], None);
        let is = |name: &str, value: &str| assert_eq!(changes[name].as_deref(), Some(value), "{name}");
        is("HF_ENDPOINT", "http://127.0.0.1:1234");
        is("HUBCACHE_URL", "http://127.0.0.1:1234");
        is("MOZ_MODELS_HUB", "http://localhost:1234/");
        is("HF_HOME", "/scratch/home");
        is("HF_HUB_CACHE", "/scratch/home/hub");
        is("HF_TOKEN_PATH", "/home/me/.cache/huggingface/token");
        is("no_proxy", "corp,localhost,127.0.0.1,::1");
        is("NO_PROXY", "corp,localhost,127.0.0.1,::1");
        assert_eq!(changes["HF_HUB_OFFLINE"], None);
        assert!(!changes.contains_key("HTTPS_PROXY") && !changes.contains_key("SSL_CERT_FILE"));
    }

    #[test]
    fn the_token_stays_where_the_user_has_it() {
        for (now, want) in [
            (&[("HF_TOKEN_PATH", "/t"), ("HF_HOME", "/h")][..], "/t"),
            (&[("HF_HOME", "/h"), ("XDG_CACHE_HOME", "/x")], "/h/token"),
            (&[("HF_HOME", ""), ("XDG_CACHE_HOME", "/x")], "/x/huggingface/token"),
        ] {
            assert_eq!(changed(now, None)["HF_TOKEN_PATH"].as_deref(), Some(want));
        }
    }

    #[test]
    fn a_proxy_comes_with_what_is_to_be_trusted() {
        let changes = changed(&[("HTTPS_PROXY", "http://corp:3128")], Some("/scratch/certificates.pem"));
        for name in PROXIES {
            assert_eq!(changes[name].as_deref(), Some("http://127.0.0.1:1234"), "{name}");
        }
        for name in TRUST {
            assert_eq!(changes[name].as_deref(), Some("/scratch/certificates.pem"), "{name}");
        }
    }
}
