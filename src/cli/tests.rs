use super::*;
use crate::admin::control::{Reference, Row};
use crate::config::KEYS;
use crate::model::{
    Commit, Decided, Entry, EntryKey, Hub, HubRoot, RefKey, Repo, RepoKind, Representation, Sha256, Standing,
    Timestamp,
};

/// A file of one KiB that was stored and used at the beginning of time.
pub fn row(repo: &str, revision: &str, path: &str, standing: Standing) -> Row {
    let hub = Hub::HuggingFace;
    let key = EntryKey {
        hub,
        root: HubRoot::parse(hub.default_root()).unwrap(),
        repo: Repo { kind: RepoKind::Model, id: repo.to_owned() },
        revision: revision.to_owned(),
        path: path.to_owned(),
    };
    let entry = Entry {
        blob: Sha256([7; 32]),
        size: 1024,
        representation: Representation { size: Some(1024), ..Representation::default() },
        validator: None,
        promises: vec![],
        standing,
        stored_at: Timestamp(0),
        checked_at: Timestamp(0),
        access: crate::model::Openness::Public { confirmed_at: Timestamp(0) },
    };
    Row { key, entry, last_used: Timestamp(0), decided: Decided::default() }
}

pub const COMMIT: &str = "8fa5a4e2f9ec3c1dbc6d35b9d81b8a0ce9f4b2a1";

/// A branch that stands for [`COMMIT`] since the beginning of time.
pub fn reference(repo: &str, name: &str) -> Reference {
    let EntryKey { hub, root, repo, .. } = row(repo, COMMIT, "", Standing::Recorded).key;
    let key = RefKey { hub, root, repo, name: name.to_owned() };
    Reference { key, commit: Commit::parse(COMMIT).unwrap(), checked_at: Timestamp(0) }
}

fn help(path: &[&str]) -> String {
    let args = ["hubcache"].iter().chain(path).chain(&["--help"]);
    command().try_get_matches_from(args).unwrap_err().to_string()
}

#[test]
fn the_commands_are_well_formed() {
    command().debug_assert();
}

#[test]
fn every_help_teaches_with_examples() {
    let commands = [
        &[][..],
        &["serve"],
        &["ls"],
        &["show"],
        &["status"],
        &["explain"],
        &["rm"],
        &["verify"],
        &["preload"],
        &["lock"],
        &["lock", "add"],
        &["lock", "update"],
        &["lock", "remove"],
        &["lock", "check"],
        &["lock", "diff"],
        &["lock", "import"],
        &["export"],
        &["import"],
        &["settings"],
        &["settings", "sync"],
        &["settings", "status"],
        &["settings", "hold"],
        &["settings", "release"],
        &["history"],
        &["pin"],
        &["unpin"],
        &["token"],
        &["token", "add"],
        &["token", "list"],
        &["token", "revoke"],
        &["config"],
        &["config", "show"],
        &["ca"],
        &["ca", "init"],
        &["setup"],
        &["setup", "firefox"],
        &["doctor"],
    ];
    for path in commands {
        let text = help(path);
        assert!(text.contains("  hubcache "), "{path:?}\n{text}");
        assert!(text.lines().all(|l| l.chars().count() <= 120), "{path:?}\n{text}");
    }
}

#[test]
fn serve_has_a_flag_for_every_setting() {
    let text = help(&["serve"]);
    for key in KEYS {
        let matches = command().try_get_matches_from(["hubcache", "serve", &format!("--{}=1", key.flag())]);
        assert!(matches.is_ok(), "--{}", key.flag());
        let variable = key.short_variable().unwrap_or_else(|| key.variable());
        assert!(text.contains(&variable), "{variable}");
    }
    for flag in ["--listen", "--admin", "--data", "--hub", "--ca-bundle", "--log-format", "--config"] {
        assert!(text.contains(&format!("{flag} <")), "{flag} in\n{text}");
    }
}

#[test]
fn wrong_usage_is_64_and_help_is_0() {
    let run = |args: &[&str]| {
        format!("{:?}", run(std::iter::once("hubcache").chain(args.iter().copied()).map(OsString::from)))
    };
    let usage = format!("{:?}", ExitCode::from(64));
    for args in
        [&["explode"][..], &["serve", "--nope"], &["rm"], &["rm", "a/b", "--all"], &["ls", "x:y"], &["show"]]
    {
        assert_eq!(run(args), usage, "{args:?}");
    }
    assert_eq!(run(&["--version"]), format!("{:?}", ExitCode::SUCCESS));
}
