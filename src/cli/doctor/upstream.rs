//! Judgement of the way to the hubs: who is reached, who is not and why, and who answers in a hub's place. Pure.

use http::{HeaderMap, StatusCode, header};

use super::check::Check;
use super::machine::Told;
use crate::admin::control::{Condition, chain};
use crate::model::{Hub, Place, Timestamp, lasting};
use crate::upstream::{Failure, Greeting, Heard, Trouble};

/// A hub that was asked.
#[derive(Debug)]
pub struct Asked {
    /// Which one.
    pub hub: Hub,
    /// What came of it, or why it could not be asked and what helps.
    pub greeting: Result<Greeting, (String, String)>,
    /// How the running server stands with it.
    pub condition: Option<Condition>,
    /// This machine's time when the answer came.
    pub at: Timestamp,
}

/// The name of the check of a hub.
pub fn name(hub: Hub) -> String {
    format!("upstream-{hub}")
}

/// The setting that says where a hub is.
fn setting(hub: Hub) -> &'static str {
    match hub {
        Hub::Mozilla => "hub.mozilla.url (--hub mozilla=URL)",
        Hub::HuggingFace => "hub.huggingface.url (--hub huggingface=URL)",
        Hub::Settings => "settings.server (--settings URL)",
    }
}

/// Whether a hub is reached as the server reaches it.
pub fn upstream(asked: &Asked) -> Check {
    let name = &name(asked.hub);
    let greeting = match &asked.greeting {
        Ok(greeting) => greeting,
        Err((why, fix)) => return Check::fails(name, why, fix),
    };
    let check = match &greeting.said {
        Ok(heard) => answered(name, asked.hub, greeting, heard),
        Err(failure) => unanswered(name, asked.hub, greeting, failure),
    };
    match &asked.condition {
        Some(Condition::Down { down_seconds, last_failure }) => check.and(Check::warns(
            name,
            format!(
                "the running server has found it down for {}: {last_failure}",
                lasting(std::time::Duration::from_secs(*down_seconds))
            ),
            "where it is reached from here, the server may have another environment (HTTPS_PROXY) or other settings",
        )),
        Some(Condition::HeldOff { left_seconds }) => check.and(Check::warns(
            name,
            format!(
                "it asked the running server to be left alone for {} more (429)",
                lasting(std::time::Duration::from_secs(*left_seconds))
            ),
            "wait; what is held is served meanwhile, and clients that send a token are asked for with it",
        )),
        Some(Condition::Up | Condition::Offline) | None => check,
    }
}

fn answered(name: &str, hub: Hub, greeting: &Greeting, heard: &Heard) -> Check {
    let (url, status) = (&greeting.url, heard.status);
    let through = greeting.through.as_ref().map(|place| format!(" through {place}")).unwrap_or_default();
    if status == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
        return refused_by_parent(name, greeting, "it wants credentials (407)");
    }
    let page = match &heard.led_to {
        _ if is_of_hub(&heard.headers) => None,
        Some(to) => Some(format!(
            "redirects to {}",
            Place::of_url(to).map_or_else(|| to.to_string(), |p| p.to_string())
        )),
        // What keeps files only may say in HTML that it has not this one.
        None if hub == Hub::Mozilla && status == StatusCode::NOT_FOUND => None,
        None => is_page(&heard.headers).then(|| format!("answers a page of HTML ({status})")),
    };
    if let Some(what) = page {
        return Check::fails(
            name,
            format!("{url}{through} {what}, which no hub does: a captive portal, or a filter of the network"),
            format!(
                "sign in to the network, or have its administrators let {} pass; if a mirror is meant, correct {}",
                greeting.url.host_str().unwrap_or_default(),
                setting(hub)
            ),
        );
    }
    if status.is_server_error() {
        return Check::fails(
            name,
            format!("{url}{through} answers {status}"),
            "the hub is out of order: wait. What is held is served meanwhile",
        );
    }
    if status == StatusCode::TOO_MANY_REQUESTS {
        let fix = "the hub limits this address: wait, or have clients send a token; what is held is served meanwhile";
        return Check::warns(name, format!("{url}{through} answers {status}"), fix);
    }
    Check::good(name, format!("{} answers{through}", origin(greeting)))
}

fn origin(greeting: &Greeting) -> String {
    greeting.url.origin().ascii_serialization()
}

/// Whether fields are there that only hubs send.
fn is_of_hub(headers: &HeaderMap) -> bool {
    let is_one = |name: &str| {
        name.starts_with("x-goog-")
            || ["x-error-code", "x-repo-commit", "x-guploader-uploadid"].contains(&name)
    };
    headers.keys().any(|name| is_one(name.as_str()))
}

fn is_page(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.trim_start().to_ascii_lowercase().starts_with("text/html")
}

fn refused_by_parent(name: &str, greeting: &Greeting, why: &str) -> Check {
    let parent = greeting.through.as_ref().map_or_else(|| "the parent proxy".to_owned(), Place::to_string);
    Check::fails(
        name,
        format!("the parent proxy {parent} does not lead to {}: {why}", origin(greeting)),
        "have its administrators allow that host; upstream.proxy_credentials names a file with a user name and a password, \
         upstream.no_proxy what is reached past it",
    )
}

fn unanswered(name: &str, hub: Hub, greeting: &Greeting, failure: &Failure) -> Check {
    let what = origin(greeting);
    let host = greeting.url.host_str().unwrap_or_default();
    let fails = |found: &str, fix: String| Check::fails(name, format!("{what}: {found}"), fix);
    let parent = greeting.through.as_ref();
    let behind = chain(failure);
    let network = match parent {
        Some(place) => {
            format!("see whether the parent proxy {place} runs; upstream.proxy names another, or none")
        }
        None => format!(
            "see whether this machine has a network\nwhere hubs are reached through a proxy: upstream.proxy\n\
             where there is no network: --offline\nif {what} is wrong: {}",
            setting(hub)
        ),
    };
    match (failure, failure.trouble()) {
        (Failure::Denied(denial), _) => fails(&denial.to_string(), "as it says; or correct the URL of the hub".into()),
        (Failure::TimedOut, _) | (_, Some(Trouble::ConnectionTimeout)) => fails("no answer in time", network),
        (_, Some(Trouble::NoName)) => {
            let whose = parent.map_or_else(|| host.to_owned(), |place| place.host.to_string());
            let fix = format!(
                "see whether this machine resolves names: getent hosts {whose}\n\
                 where only a proxy does: upstream.proxy\nwhere there is no network: --offline"
            );
            fails(&format!("the name {whose} has no address (DNS)"), fix)
        }
        (_, Some(Trouble::Untimely)) => fails(
            &format!("its certificate is not valid at this machine's time: {behind}"),
            "see the check `clock`, and set it: timedatectl set-ntp true".into(),
        ),
        (_, Some(Trouble::Certificate)) => fails(
            &format!("its certificate is not trusted: {behind}"),
            "where the network intercepts TLS, give its authority with --ca-bundle FILE (upstream.ca_bundle); on a network that \
             asks to sign in, do that first"
                .into(),
        ),
        (_, Some(Trouble::Alert | Trouble::Tls)) => fails(
            &format!("TLS fails: {behind}"),
            "something on the way breaks it: a filter, a portal, or a server that does not speak TLS at that port; where it \
             intercepts TLS, give its authority with --ca-bundle FILE (upstream.ca_bundle)"
                .into(),
        ),
        (_, Some(Trouble::Parent)) => refused_by_parent(name, greeting, &behind),
        (_, Some(Trouble::ConnectionRefused)) => fails("the connection is refused", network),
        (_, Some(Trouble::Unroutable)) => fails("no way leads there", network),
        _ => fails(&behind, network),
    }
}

/// What those that answered said that the time is.
pub fn times(asked: &[Asked]) -> Vec<Told> {
    let told = asked.iter().filter_map(|asked| {
        let greeting = asked.greeting.as_ref().ok()?;
        let headers = &greeting.said.as_ref().ok()?.headers;
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let date = httpdate::parse_http_date(text(header::DATE)?).ok()?;
        // A cache on the way keeps the date, and says how old it is.
        let age = text(header::AGE).and_then(|age| age.trim().parse().ok()).unwrap_or(0);
        let time = Timestamp::from(date).plus(std::time::Duration::from_secs(age));
        Some(Told { by: origin(greeting), time, here: asked.at })
    });
    told.collect()
}

#[cfg(test)]
mod tests {
    use std::io;

    use http::HeaderValue;
    use url::Url;

    use super::*;
    use crate::cli::doctor::check::Verdict::{self, Fails, Good, Warns};

    fn asked(hub: Hub, through: Option<&str>, said: Result<Heard, Failure>) -> Asked {
        let url = Url::parse(&format!("{}/x", hub.default_root())).unwrap();
        let through = through.map(|place| Place::parse(place, None).unwrap());
        Asked { hub, greeting: Ok(Greeting { url, through, said }), condition: None, at: Timestamp(0) }
    }

    fn heard(status: u16, fields: &[(&'static str, &'static str)], led_to: Option<&str>) -> Heard {
        let headers = fields
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_static(value)));
        Heard {
            status: StatusCode::from_u16(status).unwrap(),
            headers: headers.collect(),
            led_to: led_to.map(|to| Url::parse(to).unwrap()),
        }
    }

    #[track_caller]
    fn assert_is(asked: &Asked, verdict: Verdict, has: &str) {
        let check = upstream(asked);
        let all = format!("{}\n{}", check.found, check.fix.clone().unwrap_or_default());
        assert!(check.verdict == verdict && all.contains(has), "{has}\n{check:#?}");
    }

    #[test]
    fn who_answers_in_a_hubs_place_is_found_out() {
        let (html, json) =
            (("content-type", "text/html; charset=utf-8"), ("content-type", "application/json"));
        let portal = Some("http://portal.example/login");
        use Hub::{HuggingFace, Mozilla, Settings};
        for (hub, said, verdict, has) in [
            (HuggingFace, heard(200, &[json], None), Good, "https://huggingface.co answers"),
            (HuggingFace, heard(401, &[json, ("x-error-code", "RepoNotFound")], None), Good, "answers"),
            (HuggingFace, heard(404, &[html], None), Fails, "correct hub.huggingface.url"),
            (HuggingFace, heard(200, &[html], None), Fails, "captive portal"),
            (HuggingFace, heard(302, &[], portal), Fails, "redirects to portal.example:80"),
            (HuggingFace, heard(307, &[json], None), Good, "answers"),
            (HuggingFace, heard(503, &[json], None), Fails, "out of order"),
            (HuggingFace, heard(429, &[json], None), Warns, "limits this address"),
            (HuggingFace, heard(407, &[html], None), Fails, "upstream.proxy_credentials"),
            (Mozilla, heard(404, &[html], None), Good, "answers"),
            (Mozilla, heard(403, &[html], None), Fails, "model-hub.mozilla.org pass"),
            (Mozilla, heard(404, &[html, ("x-goog-hash", "md5=")], None), Good, "answers"),
            (Mozilla, heard(511, &[html], None), Fails, "sign in"),
            (Settings, heard(200, &[html], None), Fails, "correct settings.server"),
            (Settings, heard(200, &[json], None), Good, "answers"),
        ] {
            assert_is(&asked(hub, None, Ok(said)), verdict, has);
        }
    }

    fn io(kind: io::ErrorKind) -> Failure {
        Failure::Unreachable(io::Error::from(kind).into())
    }

    fn tls(error: rustls::Error) -> Failure {
        Failure::Unreachable(io::Error::other(error).into())
    }

    #[test]
    fn what_stands_in_the_way_is_told_apart() {
        use rustls::{CertificateError, Error};
        let untrusted = || tls(Error::InvalidCertificate(CertificateError::UnknownIssuer));
        for (through, failure, has) in [
            (None, io(io::ErrorKind::ConnectionRefused), "where there is no network: --offline"),
            (
                Some("proxy.corp:3128"),
                io(io::ErrorKind::ConnectionRefused),
                "whether the parent proxy proxy.corp:3128 runs",
            ),
            (None, io(io::ErrorKind::NetworkUnreachable), "no way leads there"),
            (None, Failure::TimedOut, "no answer in time"),
            (None, untrusted(), "upstream.ca_bundle"),
            (None, tls(Error::InvalidCertificate(CertificateError::NotValidYet)), "`clock`"),
            (None, tls(Error::InvalidCertificate(CertificateError::Expired)), "timedatectl"),
            (None, tls(Error::DecryptError), "TLS fails"),
            (None, Failure::Unreachable("odd".into()), "odd"),
        ] {
            assert_is(&asked(Hub::HuggingFace, through, Err(failure)), Fails, has);
        }
    }

    #[test]
    fn what_the_running_server_says_of_a_hub_counts_too() {
        let with = |condition| Asked {
            condition: Some(condition),
            ..asked(Hub::HuggingFace, None, Ok(heard(200, &[("content-type", "application/json")], None)))
        };
        assert_is(&with(Condition::Up), Good, "answers");
        let down = Condition::Down { down_seconds: 90, last_failure: "no".into() };
        assert_is(&with(down), Warns, "down for 1 min 30 s: no");
        assert_is(&with(Condition::HeldOff { left_seconds: 7 }), Warns, "for 7 s more");
    }

    #[test]
    fn a_date_that_a_cache_kept_is_as_old_as_it_says() {
        let fields = &[("date", "Thu, 01 Jan 1970 00:10:00 GMT"), ("age", "60")];
        let all = [
            asked(Hub::Mozilla, None, Ok(heard(200, fields, None))),
            asked(Hub::Mozilla, None, Err(Failure::TimedOut)),
        ];
        let told = times(&all);
        assert_eq!((told.len(), told[0].time), (1, Timestamp(660_000)));
    }
}
