use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::time::Duration;

use super::*;
use crate::model::Hub;
use crate::policy::Delivery;

/// A machine with a system directory, a home and a file for `--config`.
struct Machine {
    dir: tempfile::TempDir,
    sources: Sources,
}

impl Machine {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let sources = Sources {
            system: dir.path().join("etc"),
            variables: vec![("HOME".into(), dir.path().join("home").into())],
            ..Sources::default()
        };
        Self { dir, sources }
    }

    fn file(&self, path: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    fn variable(&mut self, name: &str, value: impl Into<OsString>) {
        self.sources.variables.push((name.into(), value.into()));
    }

    fn flag(&mut self, id: &str, value: &str) {
        let flag = format!("--{}", Key::find(id).unwrap().flag());
        self.sources.flags.push(FlagValue::new(flag, id, Raw::Text(value.into())));
    }

    fn load(&self) -> Loaded {
        load(&self.sources).unwrap()
    }

    /// The lines of the refusal, with the machine's own directory cut off.
    fn mistakes(&self) -> Vec<String> {
        let dir = format!("{}/", self.dir.path().display());
        let problems = load(&self.sources).unwrap_err().0;
        problems.iter().map(|p| format!("{}: {}", p.origin, p.text).replace(&dir, "")).collect()
    }
}

#[test]
fn nothing_needs_to_be_configured() {
    let machine = Machine::new();
    let Loaded { config, files, .. } = machine.load();
    assert_eq!(files, Vec::<PathBuf>::new());
    assert_eq!(config.listen.address.to_string(), "127.0.0.1:8470");
    assert_eq!(config.admin.address.to_string(), "127.0.0.1:8471");
    assert_eq!(config.store.dir, machine.dir.path().join("home/.local/state/hubcache"));
    assert_eq!(config.store.volume_max_bytes, 64 << 30);
    assert_eq!(config.cache.orphan_max_bytes, None);
    assert_eq!(config.policy.stale_max, None);
    assert_eq!(config.policy.delivery_mozilla, Delivery::Verified);
    let settings = config.settings.unwrap();
    assert_eq!(settings.server.as_str(), Hub::Settings.default_root());
    assert_eq!((settings.roots.len(), settings.collections.len()), (1, 4));
    for hub in Hub::MODELS {
        assert_eq!(config.upstream.roots.root(hub).as_str(), hub.default_root());
        assert!(config.upstream.roots.equivalents(hub).is_empty());
    }
}

#[test]
fn every_default_and_every_bound_is_a_value_of_its_key() {
    for key in KEYS {
        if key.id != "store.dir" {
            assert_eq!(key.check(&Raw::Text(key.default.into())), Ok(()), "{}", key.id);
        }
        let (low, high) = key.bounds.unwrap_or((key.default, key.default));
        for bound in [low, high].into_iter().filter(|_| key.bounds.is_some()) {
            assert_eq!(key.check(&Raw::Text(bound.into())), Ok(()), "{} {bound}", key.id);
        }
        assert!(key.help.starts_with(' ') && key.help.trim_end().ends_with('.'), "{}: {}", key.id, key.help);
    }
}

/// Another value than the default, as text.
fn other_value(key: &Key) -> &'static str {
    let candidates =
        ["none", "9s", "9m", "300MiB", "7", "127.0.0.9:1", "/somewhere", "https://h.example", "example.org"];
    let words =
        ["stream", "verified", "json", "debug", "true", "refuse", "open", "anonymous", "proxy.example:3128"];
    let more = [
        "false",
        "ignore",
        "all",
        "off",
        "last-known",
        "pickle",
        "X-Own",
        "abababababababababababababababababababababababababababababababab",
    ];
    let mut all = candidates.into_iter().chain(words).chain(more);
    all.find(|v| *v != key.default && key.check(&Raw::Text((*v).into())).is_ok()).unwrap()
}

#[test]
fn every_key_is_a_line_of_a_file_a_variable_and_a_flag() {
    for key in KEYS {
        let value = other_value(key);
        let shown = |machine: &Machine| {
            // Some values are no use without another, which is not the question here.
            let read = layers::read(&machine.sources);
            assert_eq!(read.problems, [], "{}", key.id);
            let (_, chosen) = read.values.iter().find(|(k, _)| k.id == key.id).unwrap();
            assert_eq!(chosen.raw, Raw::Text(value.into()), "{}", key.id);
            chosen.origin.clone()
        };

        let machine = Machine::new();
        let path =
            machine.file("etc/config.toml", &format!("\n[{}]\n{} = {value:?}\n", key.section, key.name));
        assert_eq!(shown(&machine), Origin::File { path, line: Some(3) });

        let mut machine = Machine::new();
        machine.variable(&key.variable(), value);
        assert_eq!(shown(&machine), Origin::Variable(key.variable()));

        let mut machine = Machine::new();
        machine.flag(key.id, value);
        assert_eq!(shown(&machine), Origin::Flag(format!("--{}", key.flag())));
    }
}

#[test]
fn no_two_keys_share_a_name() {
    let distinct = |names: Vec<String>| names.len() == names.iter().collect::<HashSet<_>>().len();
    assert!(distinct(KEYS.iter().map(Key::variable).collect()));
    let aliases = KEYS.iter().filter_map(|key| key.alias.map(str::to_owned));
    // The log's format is called by its full name anyway.
    assert!(distinct(KEYS.iter().map(Key::flag).chain(aliases).collect()));
    assert!(KEYS.iter().any(|key| key.flag() == "log-format"));
}

#[test]
fn a_later_layer_wins() {
    let mut machine = Machine::new();
    let ttl = |machine: &Machine| machine.load().config.policy.ref_ttl.as_secs();
    let line = |n: u32| format!("[cache]\nref_ttl = \"{n}s\"\n");
    assert_eq!(ttl(&machine), 60);
    machine.file("etc/config.toml", &line(1));
    assert_eq!(ttl(&machine), 1);
    machine.file("etc/conf.d/20.toml", &line(3));
    machine.file("etc/conf.d/10.toml", &line(2));
    machine.file("etc/conf.d/30.toml~", &line(99));
    assert_eq!(ttl(&machine), 3);
    machine.file("home/.config/hubcache/config.toml", &line(4));
    assert_eq!(ttl(&machine), 4);
    let xdg = machine.file("xdg/hubcache/config.toml", &line(5));
    machine.variable("XDG_CONFIG_HOME", xdg.parent().unwrap().parent().unwrap());
    assert_eq!(ttl(&machine), 5);
    machine.sources.explicit = Some(machine.file("mine.toml", "cache.ref_ttl = 6\n"));
    assert_eq!(ttl(&machine), 6);
    machine.variable("HUBCACHE_CACHE__REF_TTL", "7s");
    assert_eq!(ttl(&machine), 7);
    machine.flag("cache.ref_ttl", "8s");
    machine.flag("cache.ref_ttl", "9s");
    assert_eq!(ttl(&machine), 9);
    assert_eq!(machine.load().files.len(), 5);
}

#[test]
fn what_a_layer_does_not_say_is_left_to_the_one_before() {
    let machine = Machine::new();
    machine.file("etc/config.toml", "[cache]\nref_ttl = 1\nhold = 2\n");
    machine.file(
        "etc/conf.d/a.toml",
        "[cache]\nhold = 3\n[hub.mozilla]\nequivalent = [\"http://a\", \"http://b\"]\n",
    );
    let config = machine.load().config;
    assert_eq!(config.policy.ref_ttl, Duration::from_secs(1));
    assert_eq!(config.policy.hold, Duration::from_secs(3));
    assert_eq!(config.upstream.roots.equivalents(Hub::Mozilla).len(), 2);
}

#[test]
fn all_mistakes_of_all_layers_are_told_at_once() {
    let mut machine = Machine::new();
    machine.file(
        "etc/config.toml",
        "[listen]\naddress = 8470\n\n[cache]\nref_tl = \"60s\"\nhold = \"soon\"\nmax_redirects = 3\n",
    );
    machine.file("etc/conf.d/broken.toml", "[cache]\nhold = \n");
    machine.file("home/.config/hubcache/config.toml", "[chace]\nhold = 1\n[store]\ncache = 1.5\nadmin = 3\n");
    machine.sources.explicit = Some(machine.file(
        "mine.toml",
        "log = 3\n[hub.mozila]\nurl = \"http://x\"\n[hub.huggingface]\nurl = \"http://me:secret@x\"\n",
    ));
    machine.variable("HUBCACHE_CACHE__LANES", "65");
    machine.variable("HUBCACHE_CACHE__LANE", "4");
    machine.variable("HUBCACHE_UNRELATED", "4");
    machine.flag("log.format", "jsn");
    machine.sources.flags.push(FlagValue::hub("nexus=http://x"));
    machine.sources.flags.push(FlagValue::hub("http://x"));
    let want = [
        "etc/config.toml:2: listen.address = 8470: expected an IP address and a port such as 127.0.0.1:8470 or \
         [::1]:0; did you mean 127.0.0.1:8470?",
        "etc/config.toml:5: cache.ref_tl: no such setting; did you mean cache.ref_ttl?",
        "etc/config.toml:6: cache.hold = \"soon\": expected a duration such as 800ms, 60s, 10m, 12h or 7d (without \
         a unit: seconds), from 0s to 1d",
        "etc/config.toml:7: cache.max_redirects: no such setting; did you mean upstream.max_redirects?",
        "etc/conf.d/broken.toml:2: not TOML: ",
        "home/.config/hubcache/config.toml:1: [chace]: no such section; did you mean [cache]?",
        "home/.config/hubcache/config.toml:4: store.cache = 1.5: expected a size such as 64MiB or 1GB",
        "home/.config/hubcache/config.toml:5: store.admin: no such setting; `hubcache config show` lists all",
        "mine.toml:1: log is a section: expected [log] and keys below it",
        "mine.toml:2: there is no hub \"mozila\"; known are mozilla and huggingface",
        "mine.toml:5: hub.huggingface.url = \"http://***@x\": expected a URL such as https://hub.example.org; it \
         must not contain a user name or password",
        "HUBCACHE_CACHE__LANES: cache.lanes = \"65\": expected a whole number, from 1 to 64",
        "HUBCACHE_CACHE__LANE: cache.lane: no such setting; did you mean HUBCACHE_CACHE__LANES?",
        "--log-format: log.format = \"jsn\": expected text or json; did you mean json?",
        "--hub: there is no hub \"nexus\"; known are mozilla and huggingface",
        "--hub: \"http://x\": expected NAME=URL such as huggingface=https://huggingface.co",
    ];
    let got = machine.mistakes();
    for (got, want) in got.iter().zip(want) {
        assert!(got.starts_with(want), "{got}\ninstead of\n{want}");
    }
    assert_eq!(got.len(), want.len(), "{got:#?}");
}

#[test]
fn a_file_that_was_asked_for_must_exist() {
    let mut machine = Machine::new();
    machine.sources.explicit = Some(machine.dir.path().join("missing.toml"));
    let mistakes = machine.mistakes();
    assert!(mistakes[0].starts_with("missing.toml: cannot be read: No such file"), "{mistakes:?}");
}

#[test]
fn the_data_directory_is_found_in_the_environment() {
    let mut machine = Machine::new();
    machine.variable("XDG_STATE_HOME", "/x/state");
    assert_eq!(machine.load().config.store.dir, PathBuf::from("/x/state/hubcache"));
    machine.variable("STATE_DIRECTORY", "/var/lib/hubcache:/var/lib/other");
    assert_eq!(machine.load().config.store.dir, PathBuf::from("/var/lib/hubcache"));
    machine.flag("store.dir", "here");
    assert_eq!(machine.load().config.store.dir, PathBuf::from("here"));

    machine.sources = Sources::default();
    assert!(machine.mistakes()[0].contains("give --data DIR"));
}

#[test]
fn values_that_contradict_each_other_are_refused() {
    let mut machine = Machine::new();
    machine.flag("admin.address", "127.0.0.1:8470");
    machine.flag("upstream.backoff", "1m");
    let mistakes = machine.mistakes();
    assert!(
        mistakes[0].starts_with("--admin-address: admin.address is 127.0.0.1:8470, and so is"),
        "{mistakes:?}"
    );
    assert!(mistakes[1].starts_with("--upstream-backoff: "), "{mistakes:?}");
    machine.sources.flags.clear();
    machine.flag("listen.address", "127.0.0.1:0");
    machine.flag("admin.address", "127.0.0.1:0");
    machine.load();
}

#[test]
fn other_machines_are_let_in_only_if_that_is_said() {
    let mut machine = Machine::new();
    machine.flag("listen.address", "0.0.0.0:8470");
    let mistakes = machine.mistakes();
    assert!(mistakes[0].contains("--access anonymous"), "{mistakes:?}");
    machine.flag("listen.access", "anonymous");
    machine.load();
    machine.flag("listen.tls_address", "[::]:8443");
    machine.flag("intercept.ca_key", "/x");
    let mistakes = machine.mistakes();
    assert!(mistakes[0].contains("listen.tls_cert is not"), "{mistakes:?}");
    assert!(mistakes[1].contains("intercept.ca_cert is not"), "{mistakes:?}");
}

#[test]
fn whoever_asks_clients_who_they_are_can_find_out() {
    let mut machine = Machine::new();
    machine.flag("listen.access", "token");
    assert!(machine.mistakes()[0].contains("--tokens FILE"), "{:?}", machine.mistakes());
    machine.flag("access.tokens", "/t");
    machine.flag("access.header", "authorization");
    let access = machine.load().config.access;
    assert_eq!(
        (access.keeper.access, access.keeper.field.as_str()),
        (policy::Access::Token, "authorization")
    );
    machine.flag("listen.client_ca", "/c");
    assert!(machine.mistakes()[0].contains("is for the TLS listener"), "{:?}", machine.mistakes());
    machine.flag("listen.tls_address", "127.0.0.1:0");
    machine.flag("listen.tls_cert", "/x");
    machine.flag("listen.tls_key", "/y");
    let clients = |machine: &Machine| machine.load().config.listen.tls.unwrap().clients.unwrap();
    assert!(!clients(&machine).required, "a certificate may be shown");
    machine.flag("listen.access", "mtls");
    assert!(clients(&machine).required);
    machine.flag("listen.access", "anonymous");
    assert!(machine.mistakes()[0].contains("nobody is asked"), "{:?}", machine.mistakes());
}

#[test]
fn a_parent_proxy_is_named_by_the_settings_or_by_the_usual_variables() {
    let parent = |machine: &Machine| machine.load().config.upstream.parent;
    let mut machine = Machine::new();
    assert!(parent(&machine).is_none());
    machine.variable("HTTPS_PROXY", "http://me:pa%3Ass@proxy.corp:3128/");
    let found = parent(&machine).unwrap();
    assert_eq!(found.place.to_string(), "proxy.corp:3128");
    assert_eq!(found.credentials.clone().unwrap().expose().as_bytes(), b"Basic bWU6cGE6c3M=");
    assert!(!format!("{found:?}").contains("Basic"));
    let file = machine.file("proxy", "you:secret\n");
    machine.flag("upstream.proxy", "http://other.corp:8080");
    machine.flag("upstream.proxy_credentials", file.to_str().unwrap());
    let found = parent(&machine).unwrap();
    assert_eq!(found.place.to_string(), "other.corp:8080");
    assert_eq!(found.credentials.unwrap().expose().as_bytes(), b"Basic eW91OnNlY3JldA==");
    machine.flag("upstream.proxy", "none");
    assert!(parent(&machine).is_none());

    let mut machine = Machine::new();
    machine.variable("https_proxy", "socks5://me:secret@proxy:1080");
    let mistakes = machine.mistakes();
    assert!(mistakes[0].starts_with("https_proxy: expected the host and port"), "{mistakes:?}");
    assert!(!mistakes[0].contains("secret"), "{mistakes:?}");
}
