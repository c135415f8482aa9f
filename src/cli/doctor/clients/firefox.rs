//! How a Firefox reaches model hubs.

use std::path::PathBuf;

use url::Url;

use super::{Around, with};
use crate::cli::doctor::check::Check;
use crate::cli::doctor::environment::place_of_proxy;
use crate::cli::doctor::policies::Policies;
use crate::model::{Host, Place};

const NAME: &str = "client-firefox";
const SETUP: &str = "hubcache setup firefox";

/// A Firefox of this machine.
#[derive(Clone, Debug, Default)]
pub struct Firefox {
    /// The directory that it is installed in.
    pub install: PathBuf,
    /// Its name and version, as `application.ini` has them.
    pub version: String,
    /// The policies that it reads.
    pub policies: Option<Policies>,
    /// What the profiles of this user say.
    pub preferences: Preferences,
}

/// Preferences that matter here, of any profile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preferences {
    /// `browser.ml.modelHubRootUrl`.
    pub hub_root: Option<String>,
    /// `network.proxy.autoconfig_url`.
    pub pac: Option<String>,
    /// The place of `network.proxy.ssl` and `network.proxy.ssl_port`.
    pub proxy: Option<String>,
}

/// By what it is led to a server.
enum Led {
    /// As its proxy.
    Proxy(String),
    /// As its hub.
    Hub(String),
    /// By a proxy that is another server's.
    Elsewhere(String),
    /// By nothing.
    Nowhere,
}

pub fn judge(firefox: &Firefox, around: Around<'_>) -> Check {
    let client = format!("{} ({})", firefox.version, firefox.install.display());
    let check = match led(firefox, around) {
        Led::Proxy(what) => {
            let check = around.led_here(NAME, &client, &what);
            with(check, [around.relayed(NAME), untrusting(firefox, around)])
        }
        Led::Hub(what) => around.led_here(NAME, &client, &what),
        Led::Elsewhere(what) => Check::warns(NAME, format!("{client} goes past this server ({what})"), SETUP),
        Led::Nowhere => Check::warns(
            NAME,
            format!(
                "{client} goes to the hubs directly: neither policies, preferences nor this environment lead it here"
            ),
            SETUP,
        ),
    };
    with(check, [refused(firefox, around)])
}

fn led(firefox: &Firefox, around: Around<'_>) -> Led {
    let here = around.here;
    let said = firefox.policies.as_ref().and_then(|policies| policies.said.as_ref().ok());
    let of_policies = said
        .and_then(|said| said.proxy.as_ref())
        .filter(|(mode, _)| !["none", "system"].contains(&mode.as_str()));
    if let Some((mode, place)) = of_policies {
        let what = format!("policy Proxy, {mode}");
        let is_here = place.as_deref().and_then(place_of_proxy).is_some_and(|place| here.is(&place));
        return if is_here { Led::Proxy(what) } else { Led::Elsewhere(what) };
    }
    let Preferences { hub_root, pac, proxy } = &firefox.preferences;
    let leads = |value: &Option<String>| {
        value.as_deref().and_then(place_of_proxy).is_some_and(|place| here.is(&place))
    };
    if leads(pac) || leads(proxy) {
        return Led::Proxy("preference network.proxy of a profile".to_owned());
    }
    // Of the variables Firefox reads only this spelling, where the desktop has no proxy settings of its own.
    let variable = around.environment.get("https_proxy");
    if variable.and_then(place_of_proxy).is_some_and(|place| here.is(&place)) {
        return Led::Proxy("https_proxy".to_owned());
    }
    if leads(hub_root) {
        return Led::Hub(
            "preference browser.ml.modelHubRootUrl of a profile; features that name their hub themselves do not read it"
                .to_owned(),
        );
    }
    match around.environment.get("MOZ_MODELS_HUB").and_then(place_of_proxy) {
        Some(place) if here.is(&place) => Led::Hub("MOZ_MODELS_HUB, which only its tests read".to_owned()),
        _ => Led::Nowhere,
    }
}

fn untrusting(firefox: &Firefox, around: Around<'_>) -> Option<Check> {
    let trusts = firefox.policies.as_ref().is_some_and(|policies| around.trust.in_policies(policies));
    (!trusts).then(|| {
        let found = "its policies do not have it trust the authority, so it refuses tunnels unless that was imported by hand";
        Check::warns(NAME, found, format!("{SETUP} --write DIR"))
    })
}

/// A hub that it does not accept, however it is told of it.
fn refused(firefox: &Firefox, around: Around<'_>) -> Option<Check> {
    if around.environment.get("MOZ_ALLOW_EXTERNAL_ML_HUB") == Some("1") {
        return None;
    }
    let told = [
        ("preference browser.ml.modelHubRootUrl", firefox.preferences.hub_root.as_deref()),
        ("MOZ_MODELS_HUB", around.environment.get("MOZ_MODELS_HUB")),
    ];
    told.into_iter().find_map(|(name, value)| {
        let value = value?;
        let place = Place::of_url(&Url::parse(value).ok()?)?;
        let allowed = ["localhost", "model-hub.mozilla.org"];
        let is_accepted = matches!(&place.host, Host::Name(name) if allowed.contains(&name.as_str()));
        (!is_accepted).then(|| {
            Check::fails(
                NAME,
                format!("{name} is {value}, and it accepts no hub but on localhost"),
                format!(
                    "http://localhost:{}/ in its place, or MOZ_ALLOW_EXTERNAL_ML_HUB=1 in a lab",
                    place.port
                ),
            )
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::check::Verdict::{self, Fails, Good, Warns};
    use crate::cli::doctor::environment::{Environment, Here, tests::here};
    use crate::cli::doctor::holds::Holds;
    use crate::cli::doctor::policies::Said;
    use crate::cli::doctor::trust::tests::all_trust;

    fn policies(proxy: &str, installed: &[Holds]) -> Option<Policies> {
        let text = format!(r#"{{"policies": {{"Proxy": {proxy}}}}}"#);
        Some(Policies { file: "/p".into(), said: Said::of(&text), installed: installed.to_vec() })
    }

    #[track_caller]
    fn assert_is(firefox: Firefox, variables: &[(&str, &str)], here: &Here, verdict: Verdict, has: &str) {
        let environment: Environment = variables.iter().copied().collect();
        let check = judge(&firefox, Around { environment: &environment, here, trust: &all_trust() });
        let all = format!("{}\n{}", check.found, check.fix.clone().unwrap_or_default());
        assert!(check.verdict == verdict && all.contains(has), "{has}\n{check:#?}");
    }

    #[test]
    fn policies_lead_it_here_and_have_it_trust() {
        let pac = |port| {
            format!(r#"{{"Mode": "autoConfig", "AutoConfigURL": "http://127.0.0.1:{port}/proxy.pac"}}"#)
        };
        let with = |proxy: &str, installed: &[Holds]| Firefox {
            policies: policies(proxy, installed),
            ..Firefox::default()
        };
        let trusts = [Holds::Authority];
        assert_is(with(&pac(8470), &trusts), &[], &here(), Good, "policy Proxy, autoConfig");
        assert_is(with(&pac(8470), &[]), &[], &here(), Warns, "hubcache setup firefox --write");
        assert_is(with(&pac(9), &trusts), &[], &here(), Warns, "goes past");
        let manual = r#"{"Mode": "manual", "HTTPProxy": "localhost:8470"}"#;
        assert_is(with(manual, &trusts), &[], &here(), Good, "manual");
        let relays = Here { intercepts: false, ..here() };
        assert_is(with(&pac(8470), &trusts), &[], &relays, Fails, "hubcache serve --intercept");
        let silent = Here { answers: false, ..here() };
        assert_is(with(&pac(8470), &trusts), &[], &silent, Fails, "hubcache serve");
        assert_is(with(r#"{"Mode": "system"}"#, &trusts), &[], &here(), Warns, "directly");
    }

    #[test]
    fn preferences_and_the_environment_count_where_policies_say_nothing() {
        let with = |preferences| Firefox { preferences, ..Firefox::default() };
        let root = |url: &str| with(Preferences { hub_root: Some(url.to_owned()), ..Preferences::default() });
        assert_is(root("http://localhost:8470/"), &[], &here(), Good, "modelHubRootUrl");
        let local = "http://127.0.0.1:8470/";
        assert_is(root(local), &[], &here(), Fails, "http://localhost:8470/ in its place");
        assert_is(root(local), &[("MOZ_ALLOW_EXTERNAL_ML_HUB", "1")], &here(), Good, "modelHubRootUrl");
        assert_is(Firefox::default(), &[], &here(), Warns, "hubcache setup firefox");
        assert_is(
            Firefox::default(),
            &[("MOZ_MODELS_HUB", "http://localhost:8470")],
            &here(),
            Good,
            "MOZ_MODELS_HUB",
        );
        assert_is(
            Firefox::default(),
            &[("MOZ_MODELS_HUB", "http://lab:8470")],
            &here(),
            Fails,
            "MOZ_ALLOW_EXTERNAL",
        );
        assert_is(
            Firefox::default(),
            &[("https_proxy", "http://localhost:8470")],
            &here(),
            Warns,
            "imported by hand",
        );
        let pac =
            Preferences { pac: Some("http://127.0.0.1:8470/proxy.pac".into()), ..Preferences::default() };
        assert_is(with(pac), &[], &here(), Warns, "preference network.proxy");
    }
}
