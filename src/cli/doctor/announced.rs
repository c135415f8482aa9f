//! Judgement of what is held of Remote Settings: whether Firefox takes it, and for how long. Pure.

use std::time::Duration;

use super::check::Check;
use crate::cli::print;
use crate::model::{Timestamp, lasting};
use crate::remote_settings::{CollectionStatus, SettingsStatus, Signed};

const SERVER: &str = "remote-settings";
/// How long before its end a signature should be replaced.
const SOON: Duration = Duration::from_secs(7 * 24 * 3600);

/// What is known of Remote Settings.
#[derive(Debug)]
pub enum Announced {
    /// It is not watched.
    Off,
    /// Nobody runs who could say.
    Nobody,
    /// It could not be asked for.
    Unknown(String),
    /// How it stands.
    Known(Box<SettingsStatus>),
}

/// The server's part, and each collection that is watched.
pub fn announced(announced: &Announced, now: Timestamp) -> Vec<Check> {
    let status = match announced {
        Announced::Off => return vec![Check::skipped(SERVER, "it is not watched (settings.server is off)")],
        Announced::Nobody => {
            let why = "no server runs that could say; `hubcache settings status` tells what is held";
            return vec![Check::skipped(SERVER, why)];
        }
        Announced::Unknown(why) => {
            let fix = "`hubcache settings status` tells more";
            return vec![Check::fails(SERVER, format!("how it stands cannot be told: {why}"), fix)];
        }
        Announced::Known(status) => status,
    };
    let collections = status.collections.iter().map(|one| collection(one, status.watching, now));
    std::iter::once(server(status, now)).chain(collections).collect()
}

fn server(status: &SettingsStatus, now: Timestamp) -> Check {
    let server = &status.server;
    if !status.watching {
        return Check::good(SERVER, format!("{server} is not asked; what is held is served"));
    }
    match (&status.trouble, status.left_alone_until, status.polled_at) {
        (Some(why), ..) => Check::warns(
            SERVER,
            format!("{server} cannot be asked: {why}"),
            "see the check `upstream-settings`; what is held is served meanwhile, and `hubcache settings sync` asks again",
        ),
        (None, Some(until), _) => Check::warns(
            SERVER,
            format!("{server} asks to be left alone until {}", print::rfc3339(until)),
            "wait; what is held is served meanwhile",
        ),
        (None, None, Some(at)) => Check::good(SERVER, format!("{server} answered {}", print::ago(at, now))),
        (None, None, None) => {
            Check::warns(SERVER, format!("{server} was not asked yet"), "hubcache settings sync")
        }
    }
}

/// The name of the check of a collection; the bucket that goes without saying is left out.
fn name(one: &CollectionStatus) -> String {
    let text = one.collection.to_string();
    let text = text.strip_prefix("main/").unwrap_or(&text);
    format!("collection-{}", text.replace(|c: char| !c.is_ascii_alphanumeric(), "-").to_ascii_lowercase())
}

fn collection(one: &CollectionStatus, is_watched: bool, now: Timestamp) -> Check {
    let name = &name(one);
    let bring = match is_watched {
        true => "hubcache settings sync",
        false => "run `hubcache settings sync` where there is a network, and bring that data directory here",
    };
    let checked = one.checked_at.map(|at| format!(", checked {}", print::ago(at, now))).unwrap_or_default();
    let until = one.firefox_until.map_or_else(|| "an unknown time".to_owned(), print::rfc3339);
    let check = match (one.signed, one.firefox_until.map(|until| until.0.saturating_sub(now.0))) {
        (Signed::Missing, _) => Check::fails(name, "nothing is held of it", bring),
        (Signed::Expired, _) => Check::fails(
            name,
            format!("Firefox takes its signature no longer: it expired at {until}{checked}"),
            bring,
        ),
        (Signed::Good, Some(left)) if Duration::from_millis(left) < SOON => {
            let left = lasting(Duration::from_millis(left));
            Check::warns(name, format!("Firefox takes it only until {until}, {left} more{checked}"), bring)
        }
        (Signed::Good, _) => {
            Check::good(name, format!("signed, and Firefox takes it until {until}{checked}"))
        }
    };
    match &one.trouble {
        Some(why) => check.and(Check::warns(
            name,
            format!("what the server has now is refused: {why}"),
            "what was held before is served; `hubcache settings sync` asks again, and `hubcache history` tells since when",
        )),
        None => check,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::check::Verdict::{self, Fails, Good, Skipped, Warns};
    use crate::model::HubRoot;

    const DAY: u64 = 24 * 3600 * 1000;
    const NOW: Timestamp = Timestamp(100 * DAY);

    fn one(signed: Signed, until_day: Option<u64>, trouble: Option<&str>) -> CollectionStatus {
        CollectionStatus {
            collection: "ml-inference-options".parse().unwrap(),
            signed,
            timestamp: None,
            records: 1,
            verified_at: None,
            checked_at: Some(Timestamp(99 * DAY)),
            firefox_until: until_day.map(|day| Timestamp(day * DAY)),
            trouble: trouble.map(str::to_owned),
        }
    }

    fn status(collections: Vec<CollectionStatus>) -> SettingsStatus {
        SettingsStatus {
            server: HubRoot::parse("https://settings.example.org/v1").unwrap(),
            roots: vec![],
            watching: true,
            polled_at: Some(NOW),
            trouble: None,
            left_alone_until: None,
            collections,
            others: 0,
            renewals: vec![],
            holds: vec![],
        }
    }

    #[track_caller]
    fn assert_is(check: &Check, verdict: Verdict, has: &str) {
        let all = format!("{}\n{}", check.found, check.fix.clone().unwrap_or_default());
        assert!(check.verdict == verdict && all.contains(has), "{has}\n{check:#?}");
    }

    #[test]
    fn a_collection_is_held_signed_and_taken_by_firefox() {
        for (one, verdict, has) in [
            (one(Signed::Good, Some(160), None), Good, "checked 1 d ago"),
            (one(Signed::Good, Some(106), None), Warns, "6 d more"),
            (one(Signed::Expired, Some(99), None), Fails, "hubcache settings sync"),
            (one(Signed::Missing, None, None), Fails, "hubcache settings sync"),
            (one(Signed::Missing, None, Some("no signature")), Fails, "no signature"),
            (one(Signed::Good, Some(160), Some("no signature")), Warns, "refused: no signature"),
        ] {
            let checks = announced(&Announced::Known(Box::new(status(vec![one]))), NOW);
            assert_eq!(checks[1].name, "collection-ml-inference-options");
            assert_is(&checks[1], verdict, has);
        }
    }

    #[test]
    fn whether_the_server_is_asked_is_told() {
        let known = |status: SettingsStatus| announced(&Announced::Known(Box::new(status)), NOW);
        let all = || status(vec![]);
        for (checks, verdict, has) in [
            (known(all()), Good, "just now"),
            (known(SettingsStatus { polled_at: None, ..all() }), Warns, "hubcache settings sync"),
            (known(SettingsStatus { trouble: Some("down".into()), ..all() }), Warns, "cannot be asked: down"),
            (known(SettingsStatus { left_alone_until: Some(NOW), ..all() }), Warns, "left alone"),
            (known(SettingsStatus { watching: false, ..all() }), Good, "not asked"),
            (announced(&Announced::Off, NOW), Skipped, "settings.server"),
            (announced(&Announced::Nobody, NOW), Skipped, "hubcache settings status"),
            (announced(&Announced::Unknown("io".into()), NOW), Fails, "io"),
        ] {
            assert_is(&checks[0], verdict, has);
        }
        let offline = status(vec![one(Signed::Expired, Some(99), None)]);
        assert_is(
            &known(SettingsStatus { watching: false, ..offline })[1],
            Fails,
            "where there is a network",
        );
    }
}
