//! Judgement of what clients get for a file that is held: how soon, and whether anything leads them past this server.
//! Pure.

use std::time::Duration;

use http::{HeaderMap, StatusCode, header};
use serde_json::Value;
use url::Url;

use super::check::Check;
use crate::hub;
use crate::model::{Place, lasting};

const LATENCY: &str = "head-latency";
const XET: &str = "xet-leak";
const REDIRECT: &str = "redirect-leak";

/// When Firefox gives up, and works with what it has itself.
const FIREFOX_PATIENCE: Duration = Duration::from_secs(1);
/// What a server on the same machine stays far below.
const SLOW: Duration = Duration::from_millis(200);

/// The answer to HEAD of a file that is held.
#[derive(Clone, Debug)]
pub struct Heard {
    /// The file, for people.
    pub file: String,
    /// Its size in bytes.
    pub size: u64,
    /// Where it was asked for.
    pub url: Url,
    /// The status.
    pub status: StatusCode,
    /// The fields.
    pub headers: HeaderMap,
    /// From the connection to the last byte of the head.
    pub took: Duration,
    /// The list of the commit's files, as clients get it, if that is held too.
    pub tree: Option<Value>,
}

/// What clients get, or why that was not looked at.
#[derive(Clone, Debug)]
pub enum Answers {
    /// No server runs.
    NoServer,
    /// The server asks its clients who they are, and nobody here has a token for this.
    Unknown,
    /// Nothing is held that could be asked for.
    NothingHeld,
    /// There was no answer.
    Silent(String),
    /// There was one.
    Heard(Box<Heard>),
}

/// All that there is to say; files above `xet_above` may be had from the Xet store.
pub fn answers(answers: &Answers, xet_above: Option<u64>) -> Vec<Check> {
    let heard = match answers {
        Answers::Heard(heard) => heard,
        Answers::NoServer => return skipped("no server runs that could be asked"),
        Answers::Unknown => {
            return skipped(
                "the server asks its clients who they are (listen.access), and this command shows no token",
            );
        }
        Answers::NothingHeld => {
            return skipped(
                "nothing is held that could be asked for; after `hubcache preload MODEL` there is",
            );
        }
        Answers::Silent(why) => {
            let found = format!("HEAD of a file that is held had no answer: {why}");
            let rest = skipped("there was no answer").into_iter().skip(1);
            return [Check::fails(LATENCY, found, "see the log of the server, and `hubcache status`")]
                .into_iter()
                .chain(rest)
                .collect();
        }
    };
    vec![latency(heard), xet(heard, xet_above), redirect(heard)]
}

fn skipped(why: &str) -> Vec<Check> {
    [LATENCY, XET, REDIRECT].map(|name| Check::skipped(name, why)).into()
}

fn latency(heard: &Heard) -> Check {
    let Heard { file, status, took, .. } = heard;
    if !status.is_success() && !status.is_redirection() {
        let found = format!("HEAD of {file}, which is held, answers {status}");
        return Check::fails(
            LATENCY,
            found,
            format!("hubcache explain --method HEAD '{}' tells why", heard.url),
        );
    }
    let found = format!("HEAD of {file} took {}", lasting(*took));
    let fix = "lower cache.head_budget, which bounds the wait for the hub; see `hubcache status` for a hub that is slow, and \
               whether this machine is busy";
    match *took {
        took if took > FIREFOX_PATIENCE => {
            Check::fails(LATENCY, format!("{found}, and Firefox gives up after 1 s"), fix)
        }
        took if took > SLOW => Check::warns(LATENCY, format!("{found}, of the 1 s that Firefox waits"), fix),
        _ => Check::good(LATENCY, found),
    }
}

const HAND_ON: &str = "\
what stands before the server has to hand its answers on as they are; where clients name another place, have them name \
this server (hubcache setup)";

fn xet(heard: &Heard, above: Option<u64>) -> Check {
    let is_free = |size: u64| above.is_some_and(|above| size > above);
    if let Some(field) = hub::xet_field(&heard.headers).filter(|_| !is_free(heard.size)) {
        let found =
            format!("HEAD of {} has {field}: clients with hf_xet fetch it past this server", heard.file);
        return Check::fails(XET, found, HAND_ON);
    }
    let hint = heard.tree.as_ref().and_then(|tree| hint(tree, &is_free));
    match (hint, &heard.tree) {
        (Some(path), _) => {
            let found = format!(
                "the list of files has xetHash of {path}: clients with hf_xet fetch it past this server"
            );
            Check::fails(XET, found, HAND_ON)
        }
        (None, Some(_)) => Check::good(XET, "neither HEAD nor the list of files leads to the Xet store"),
        (None, None) => Check::good(XET, "HEAD does not lead to the Xet store"),
    }
}

/// The file of which a list has the Xet hash, if there is one.
fn hint(tree: &Value, is_free: &impl Fn(u64) -> bool) -> Option<String> {
    let has = |entry: &&Value| entry.get("xetHash").is_some() && !entry["size"].as_u64().is_some_and(is_free);
    let entry = tree.as_array()?.iter().find(has)?;
    Some(entry["path"].as_str().unwrap_or("a file").to_owned())
}

fn redirect(heard: &Heard) -> Check {
    let location = heard.headers.get(header::LOCATION).and_then(|location| location.to_str().ok());
    let led_to = location.and_then(|location| Place::of_url(&heard.url.join(location).ok()?));
    let away = led_to.filter(|place| Place::of_url(&heard.url).as_ref() != Some(place));
    let (file, status) = (&heard.file, heard.status);
    match away {
        Some(place) => {
            let found =
                format!("HEAD of {file} ({status}) leads to {place}: clients fetch it past this server");
            Check::fails(REDIRECT, found, HAND_ON)
        }
        None if status.is_redirection() => {
            let found = format!(
                "HEAD of {file} is answered with a redirect ({status}), where this server answers itself"
            );
            Check::fails(REDIRECT, found, HAND_ON)
        }
        None => Check::good(REDIRECT, format!("HEAD of {file} leads nowhere else")),
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};
    use serde_json::json;

    use super::*;
    use crate::cli::doctor::check::Verdict::{self, Fails, Good, Skipped, Warns};

    fn heard(status: u16, fields: &[(&'static str, &'static str)]) -> Heard {
        let fields = fields
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        Heard {
            file: "acme/tiny/a".into(),
            size: 10,
            url: Url::parse("http://127.0.0.1:8470/acme/tiny/resolve/main/a").unwrap(),
            status: StatusCode::from_u16(status).unwrap(),
            headers: fields.collect(),
            took: Duration::from_millis(3),
            tree: None,
        }
    }

    #[track_caller]
    fn assert_has(heard: Heard, above: Option<u64>, name: &str, verdict: Verdict, has: &str) {
        let checks = answers(&Answers::Heard(Box::new(heard)), above);
        let check = checks.iter().find(|check| check.name == name).unwrap();
        let all = format!("{}\n{}", check.found, check.fix.clone().unwrap_or_default());
        assert!(check.verdict == verdict && all.contains(has), "{has}\n{check:#?}");
    }

    #[test]
    fn firefox_gives_up_after_a_second() {
        for (took, verdict, has) in [
            (1, Good, "1 ms"),
            (200, Good, "200 ms"),
            (201, Warns, "cache.head_budget"),
            (1000, Warns, "1 s"),
            (1001, Fails, "gives up after 1 s"),
        ] {
            let heard = Heard { took: Duration::from_millis(took), ..heard(200, &[]) };
            assert_has(heard, None, LATENCY, verdict, has);
        }
        assert_has(heard(504, &[]), None, LATENCY, Fails, "hubcache explain --method HEAD");
    }

    #[test]
    fn nothing_may_lead_to_the_xet_store() {
        let hash = [("x-xet-hash", "00")];
        let link = [("link", "<https://h/t>; rel=\"xet-auth\"")];
        assert_has(heard(200, &[("link", "<a>; rel=next")]), None, XET, Good, "HEAD");
        assert_has(heard(200, &hash), None, XET, Fails, "x-xet-hash");
        assert_has(heard(200, &link), None, XET, Fails, "rel=xet-auth");
        assert_has(heard(200, &hash), Some(10), XET, Fails, "past this server");
        assert_has(heard(200, &hash), Some(9), XET, Good, "HEAD");
        let with = |tree| Heard { tree: Some(tree), ..heard(200, &[]) };
        let entry = json!([{"path": "b", "size": 3}, {"path": "c", "size": 30, "xetHash": "1"}]);
        assert_has(with(entry.clone()), None, XET, Fails, "xetHash of c");
        assert_has(with(entry), Some(20), XET, Good, "list of files");
        assert_has(with(json!([])), None, XET, Good, "list of files");
    }

    #[test]
    fn a_location_may_lead_only_here() {
        for (status, to, verdict, has) in [
            (200, "http://127.0.0.1:8470/acme/tiny/resolve/c/a", Good, "nowhere else"),
            (200, "/acme/tiny/resolve/c/a", Good, "nowhere else"),
            (200, "http://127.0.0.1:9/a", Fails, "leads to 127.0.0.1:9"),
            (302, "https://cdn.example/a", Fails, "leads to cdn.example:443"),
            (307, "/api/resolve-cache/a", Fails, "a redirect (307"),
        ] {
            assert_has(heard(status, &[("location", to)]), None, REDIRECT, verdict, has);
        }
    }

    #[test]
    fn without_an_answer_it_is_said_why() {
        let verdicts =
            |of: Answers| answers(&of, None).into_iter().map(|check| check.verdict).collect::<Vec<_>>();
        assert_eq!(verdicts(Answers::NoServer), [Skipped; 3]);
        assert_eq!(verdicts(Answers::NothingHeld), [Skipped; 3]);
        assert_eq!(verdicts(Answers::Silent("reset".into())), [Fails, Skipped, Skipped]);
        assert!(answers(&Answers::NothingHeld, None)[0].found.contains("hubcache preload"));
    }
}
