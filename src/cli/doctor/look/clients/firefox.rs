//! Firefoxes: where they are installed, their versions, and what their profiles say.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::super::super::clients::{Firefox, Preferences};
use super::super::super::environment::Environment;
use super::super::super::trust::Trust;
use super::{directories, names, text};

const PROGRAMS: [&str; 2] = ["firefox", "firefox-esr"];
const USUAL: [&str; 5] = [
    "/usr/lib/firefox",
    "/usr/lib64/firefox",
    "/usr/lib/firefox-esr",
    "/opt/firefox",
    "/snap/firefox/current/usr/lib/firefox",
];
/// The policies of all Firefoxes, which come before those of one.
const POLICIES: &str = "/etc/firefox/policies/policies.json";
/// What tells that a directory is that of a Firefox, and which.
const ABOUT: &str = "application.ini";
/// Profiles of which the preferences are read.
const MAX_PROFILES: usize = 16;

/// The files in which Firefoxes look for policies.
pub fn policies(environment: &Environment) -> Vec<PathBuf> {
    std::iter::once(PathBuf::from(POLICIES))
        .chain(installs(environment).iter().map(|dir| own_policies(dir)))
        .collect()
}

fn own_policies(install: &Path) -> PathBuf {
    install.join("distribution/policies.json")
}

/// Every Firefox that is installed.
pub fn found(environment: &Environment, trust: &Trust) -> Vec<Firefox> {
    let preferences = preferences(environment);
    let one = |install: PathBuf| {
        let own = own_policies(&install);
        let read = [Path::new(POLICIES), &own];
        let policies =
            read.iter().find_map(|file| trust.policies.iter().find(|policies| policies.file == *file));
        Some(Firefox {
            version: version(&text(&install.join(ABOUT))?)?,
            policies: policies.cloned(),
            preferences: preferences.clone(),
            install,
        })
    };
    installs(environment).into_iter().filter_map(one).collect()
}

fn installs(environment: &Environment) -> BTreeSet<PathBuf> {
    let programs = directories(environment).into_iter().flat_map(|dir| PROGRAMS.map(|name| dir.join(name)));
    // A program is often a link to where it is installed.
    let of_programs = programs.filter_map(|program| Some(program.canonicalize().ok()?.parent()?.to_owned()));
    let usual = USUAL.iter().filter_map(|dir| Path::new(dir).canonicalize().ok());
    of_programs.chain(usual).filter(|dir| dir.join(ABOUT).is_file()).collect()
}

/// Name and version in the section `[App]` of `application.ini`.
fn version(about: &str) -> Option<String> {
    let lines = about.lines().map(str::trim).skip_while(|line| *line != "[App]").skip(1);
    let app: Vec<_> =
        lines.take_while(|line| !line.starts_with('[')).filter_map(|line| line.split_once('=')).collect();
    let value = |name: &str| app.iter().find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim());
    Some(format!("{} {}", value("Name").unwrap_or("Firefox"), value("Version")?))
}

/// What the profiles of this user say; the first that says something counts.
fn preferences(environment: &Environment) -> Preferences {
    let Some(home) = environment.get("HOME") else { return Preferences::default() };
    let profiles = Path::new(home).join(".mozilla/firefox");
    let mut all = Preferences::default();
    for profile in names(&profiles).iter().take(MAX_PROFILES) {
        // What is in user.js is taken over at each start.
        for name in ["user.js", "prefs.js"] {
            let said = text(&profiles.join(profile).join(name)).map(|text| said(&text)).unwrap_or_default();
            all.hub_root = all.hub_root.or(said.hub_root);
            all.pac = all.pac.or(said.pac);
            all.proxy = all.proxy.or(said.proxy);
        }
    }
    all
}

fn said(text: &str) -> Preferences {
    let value = |wanted: &str| {
        text.lines().find_map(|line| {
            let inside = line.trim().strip_prefix("user_pref(")?.strip_suffix(");")?;
            let (name, value) = inside.split_once(',')?;
            let is_it = name.trim().trim_matches('"') == wanted;
            is_it.then(|| value.trim().trim_matches('"').to_owned())
        })
    };
    // 1 is a proxy, 2 a file that tells of one; otherwise these settings rest.
    let kind = value("network.proxy.type");
    let is = |wanted: &str| kind.as_deref() == Some(wanted);
    let place = || Some(format!("{}:{}", value("network.proxy.ssl")?, value("network.proxy.ssl_port")?));
    Preferences {
        hub_root: value("browser.ml.modelHubRootUrl"),
        pac: if is("2") { value("network.proxy.autoconfig_url") } else { None },
        proxy: if is("1") { place() } else { None },
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::cli::doctor::trust::tests::all_trust;

    #[test]
    fn a_firefox_is_told_by_what_lies_beside_it() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        let (bin, install, profile) =
            (root.join("bin"), root.join("lib/firefox"), root.join(".mozilla/firefox/a.b"));
        for dir in [&bin, &install, &profile] {
            fs::create_dir_all(dir).unwrap();
        }
        fs::write(install.join("firefox"), "").unwrap();
        std::os::unix::fs::symlink(install.join("firefox"), bin.join("firefox")).unwrap();
        let environment: Environment = [("PATH", &bin), ("HOME", &root)]
            .into_iter()
            .map(|(name, path)| (name, path.to_str().unwrap()))
            .collect();
        let ours = |all: Vec<Firefox>| all.into_iter().find(|firefox| firefox.install == install);
        assert!(ours(found(&environment, &all_trust())).is_none(), "there is nothing that tells of it");
        fs::write(
            install.join(ABOUT),
            "[App]\nVendor=Mozilla\nName=Firefox\nVersion=140.1\n[Gecko]\nVersion=9\n",
        )
        .unwrap();
        let prefs = "user_pref(\"browser.ml.modelHubRootUrl\", \"http://localhost:8470/\");\n";
        fs::write(profile.join("prefs.js"), prefs).unwrap();
        let found = ours(found(&environment, &all_trust())).unwrap();
        assert_eq!(found.version, "Firefox 140.1");
        assert_eq!(found.preferences.hub_root.as_deref(), Some("http://localhost:8470/"));
        assert!(policies(&environment).contains(&install.join("distribution/policies.json")));
    }

    #[test]
    fn proxy_preferences_count_where_their_kind_is_in_force() {
        let text = |kind| {
            format!(
                "user_pref(\"network.proxy.type\", {kind});\nuser_pref(\"network.proxy.autoconfig_url\", \"http://h/p\");\n\
                 user_pref(\"network.proxy.ssl\", \"h\");\nuser_pref(\"network.proxy.ssl_port\", 8470);\n"
            )
        };
        let of = |kind| said(&text(kind));
        assert_eq!(of(2).pac.as_deref(), Some("http://h/p"));
        assert_eq!((of(1).proxy.as_deref(), of(1).pac), (Some("h:8470"), None));
        assert_eq!(of(5), Preferences::default());
    }
}
