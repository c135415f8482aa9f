//! From what the layers say to what each module needs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::keys::{
    Admin, Audit, Cache, Egress, EntitlementSettings, HubHuggingFace, HubMozilla, Intercept, Limits, Listen,
    Log, Models, Scrub, Settings, Store, Tokens, Upstream,
};
use super::{Access, Config, Frozen, Pinned, Problem, Values};
use crate::model::{Hub, HubRoot, OnAnnounce, Roots, known_hosts};
use crate::policy::egress::Pattern;
use crate::policy::rate::Timetable;
use crate::policy::{self, ModelRules};
use crate::proxy::{BoundSettings, KeeperSettings, XET_HOSTS};
use crate::{admin, cache, listen, remote_settings, store, telemetry, upstream};

/// The settings of every module; all values were checked before.
pub fn config(values: &Values) -> Config {
    let said = Cache::from(values);
    let hubs = Upstream::from(values);
    let (store, limits) = (store(Store::from(values)), Limits::from(values));
    let (mozilla, huggingface) = (HubMozilla::from(values), HubHuggingFace::from(values));
    let settings = settings(Settings::from(values), mozilla.on_announce, huggingface.on_announce);
    let server = settings.as_ref().map(|settings| settings.server.clone());
    let lock = hubs.lock.clone().filter(|_| hubs.frozen).map(Pinned::Lock);
    let (missing_report, faults) = (hubs.missing_report.clone(), hubs.faults.clone());
    let frozen = hubs.bundle.clone().map(Pinned::Bundle).or(lock);
    let frozen = frozen.map(|pinned| Frozen { pinned, missing_report, faults });
    let said_of_listeners = Listen::from(values);
    let access = access(&said_of_listeners, Tokens::from(values));
    let models = Arc::new(models(Models::from(values)));
    Config {
        offline: hubs.offline,
        frozen,
        listen: listen(said_of_listeners, Intercept::from(values), &store),
        access,
        audit: Audit::from(values).file,
        egress: egress(Egress::from(values), &said),
        admin: admin(Admin::from(values)),
        store,
        upstream: upstream(hubs, &limits, said.ref_ttl, mozilla, huggingface, server),
        settings,
        policy: policy(&said, Arc::clone(&models)),
        cache: cache(&said, &limits, models, EntitlementSettings::from(values)),
        bounds: bounds(limits),
        scrub: scrub(Scrub::from(values)),
        log: log(Log::from(values)),
        again: Vec::new(),
    }
}

/// Values that are right each for itself and wrong together.
pub fn contradictions(values: &Values) -> Vec<Problem> {
    let mut problems = Vec::new();
    let (listen, admin) = (Listen::from(values), Admin::from(values));
    if listen.address == admin.address && listen.address.port() != 0 {
        let text = format!(
            "admin.address is {}, and so is listen.address; the two doors need one each",
            admin.address
        );
        problems.push(Problem { origin: values.origin("admin.address").clone(), text });
    }
    problems.extend(half_given(values));
    for (key, address) in
        [("listen.address", Some(listen.address)), ("listen.tls_address", listen.tls_address)]
    {
        if let Some(address) = address.filter(|a| !a.ip().to_canonical().is_loopback())
            && listen.access == policy::Access::Local
        {
            let text = format!(
                "{key} is {address}, which other machines can reach; --access (listen.access) says who may use it: token or \
                 mtls, which need --tokens FILE, or --access anonymous, with which whoever reaches it may, without being \
                 asked who that is"
            );
            problems.push(Problem { origin: values.origin(key).clone(), text });
        }
    }
    problems.extend(half_guarded(values, &listen));
    let upstream = Upstream::from(values);
    problems.extend(half_frozen(values, &upstream));
    if upstream.backoff > upstream.backoff_max {
        let text = "upstream.backoff is longer than upstream.backoff_max".to_owned();
        problems.push(Problem { origin: values.origin("upstream.backoff").clone(), text });
    }
    problems
}

/// What is needed to know who somebody is.
fn half_guarded(values: &Values, listen: &Listen) -> Vec<Problem> {
    let (asks, has_authorities) = (!listen.access.is_open(), listen.client_ca.is_some());
    let has_tokens = Tokens::from(values).tokens.is_some();
    let found = [
        (
            asks && !has_tokens,
            "listen.access",
            "needs the file of tokens and rules, without which nobody may do anything: --tokens FILE (access.tokens); \
             `hubcache token add NAME --tokens FILE` makes it",
        ),
        (
            listen.access == policy::Access::Mtls && !has_authorities,
            "listen.access",
            "is mtls, which needs the authorities that vouch for clients: --client-ca FILE (listen.client_ca)",
        ),
        (
            has_authorities && listen.tls_address.is_none(),
            "listen.client_ca",
            "is for the TLS listener: --listen-tls ADDR --cert FILE --key FILE",
        ),
        (
            has_authorities && !asks,
            "listen.client_ca",
            "is of no use where nobody is asked who they are: --access mtls or --access token (listen.access)",
        ),
        (
            asks && Upstream::from(values).faults.is_some(),
            "upstream.faults",
            "is for a server that asks nobody who they are: listen.access local or anonymous",
        ),
    ];
    let found = found.into_iter().filter(|(is_wrong, ..)| *is_wrong);
    found
        .map(|(_, key, why)| Problem { origin: values.origin(key).clone(), text: format!("{key} {why}") })
        .collect()
}

/// What is only for a frozen server, and what that needs or cannot have.
fn half_frozen(values: &Values, upstream: &Upstream) -> Vec<Problem> {
    let (has_faults, has_bundle) = (upstream.faults.is_some(), upstream.bundle.is_some());
    let speaks = |intercept: &Intercept, listen: &Listen| intercept.enabled || listen.tls_address.is_some();
    let found = [
        (
            upstream.frozen && upstream.lock.is_none() && !has_bundle,
            "upstream.frozen",
            "needs the lock file that is to be served: --lock FILE (upstream.lock)",
        ),
        (
            !upstream.frozen && upstream.lock.is_some(),
            "upstream.lock",
            "is served only by a frozen server: --frozen (upstream.frozen)",
        ),
        (
            !upstream.frozen && !has_bundle && upstream.missing_report.is_some(),
            "upstream.missing_report",
            "is written only by a frozen server: --frozen --lock FILE, or --bundle FILE",
        ),
        (
            has_bundle && upstream.lock.is_some(),
            "upstream.bundle",
            "has a lock file in it, and is not served with another: upstream.lock",
        ),
        (
            has_bundle && has_faults,
            "upstream.bundle",
            "is served without faults: `hubcache import` it, and serve its lock file with upstream.faults",
        ),
        (
            !upstream.frozen && has_faults,
            "upstream.faults",
            "is only for a frozen server, so that no fault gets into what is kept: --frozen --lock FILE",
        ),
        (
            has_faults && speaks(&Intercept::from(values), &Listen::from(values)),
            "upstream.faults",
            "is for plain HTTP only, without intercept.enabled and listen.tls_address",
        ),
    ];
    let found = found.into_iter().filter(|(is_wrong, ..)| *is_wrong);
    found
        .map(|(_, key, why)| Problem { origin: values.origin(key).clone(), text: format!("{key} {why}") })
        .collect()
}

/// Files of which one is no use without the other.
fn half_given(values: &Values) -> Vec<Problem> {
    let (listen, intercept) = (Listen::from(values), Intercept::from(values));
    let has = [
        ("listen.tls_address", listen.tls_address.is_some()),
        ("listen.tls_cert", listen.tls_cert.is_some()),
        ("listen.tls_key", listen.tls_key.is_some()),
        ("intercept.ca_cert", intercept.ca_cert.is_some()),
        ("intercept.ca_key", intercept.ca_key.is_some()),
    ];
    let (tls, authority) = has.split_at(3);
    let mut problems = Vec::new();
    for group in [tls, authority] {
        let given = group.iter().find(|(_, given)| *given);
        let missing = group.iter().find(|(_, given)| !given);
        if let (Some((given, _)), Some((missing, _))) = (given, missing) {
            let text = format!("{given} is given, and {missing} is not; one is no use without the other");
            problems.push(Problem { origin: values.origin(given).clone(), text });
        }
    }
    problems
}

fn listen(said: Listen, intercept: Intercept, store: &store::Settings) -> listen::Settings {
    let named = intercept.ca_cert.zip(intercept.ca_key);
    let files = named.clone().map(|(certificate, key)| listen::authority::Files { certificate, key });
    let files = files.unwrap_or_else(|| listen::authority::Files::of(&store.dir));
    let intercept = listen::Intercept { enabled: intercept.enabled, files, is_own: named.is_none() };
    let tls = said.tls_address.zip(said.tls_cert).zip(said.tls_key);
    let required = said.access == policy::Access::Mtls;
    let clients = said.client_ca.map(|authorities| listen::ClientCertificates { authorities, required });
    listen::Settings {
        address: said.address,
        tls: tls.map(|((address, certificate), key)| listen::Tls { address, certificate, key, clients }),
        intercept,
        limits: listen::Limits {
            header_timeout: said.header_timeout,
            idle_timeout: said.idle_timeout,
            write_timeout: said.write_timeout,
            max_connections: said.max_connections.as_usize(),
            max_per_client: said.max_connections_per_client.as_usize(),
        },
        drain: said.drain,
    }
}

fn access(listen: &Listen, said: Tokens) -> Access {
    let keeper = KeeperSettings { access: listen.access, field: said.header.0 };
    Access { keeper, tokens: said.tokens }
}

fn models(said: Models) -> ModelRules {
    let Models { allow, deny, deny_paths, deny_formats } = said;
    ModelRules { allow, deny, deny_paths, deny_formats }
}

fn egress(said: Egress, cache: &Cache) -> policy::Egress {
    let mut known: Vec<_> = known_hosts().map(Pattern::host).collect();
    // Whoever is told that a file is there must get there.
    if cache.xet_above.is_some() {
        known.push(Pattern::below(XET_HOSTS, 443));
    }
    policy::Egress::new(said.mode, said.allow, known)
}

fn admin(said: Admin) -> admin::Settings {
    admin::Settings { address: said.address, hosts: said.hosts }
}

fn store(said: Store) -> store::Settings {
    store::Settings {
        dir: said.dir,
        max_bytes: said.max_size.0.map(|size| size.0),
        rewrite_rate: said.rewrite_rate.0,
        volume_max_bytes: said.volume_max.0,
        cache_bytes: said.cache.in_memory(),
        small_cache_bytes: said.small_cache.0,
        partial_expiry: said.partial_expiry,
        min_free_bytes: said.min_free.0,
    }
}

fn upstream(
    said: Upstream,
    limits: &Limits,
    names_ttl: Duration,
    mozilla: HubMozilla,
    huggingface: HubHuggingFace,
    settings: Option<HubRoot>,
) -> upstream::Settings {
    let settings = settings.map(|server| (Hub::Settings, server, Vec::new(), Vec::new()));
    let models = [
        (Hub::Mozilla, mozilla.url, mozilla.equivalent, mozilla.mirrors),
        (Hub::HuggingFace, huggingface.url, huggingface.equivalent, huggingface.mirrors),
    ];
    upstream::Settings {
        roots: Roots::new(models.into_iter().chain(settings)),
        egress: Arc::default(),
        parent: None,
        credentials: BTreeMap::new(),
        ca_bundle: said.ca_bundle,
        connect_timeout: said.connect_timeout,
        head_timeout: said.head_timeout,
        stall_timeout: said.stall_timeout,
        attempts: said.attempts.0,
        backoff: said.backoff,
        backoff_max: said.backoff_max,
        names_ttl,
        max_redirects: said.max_redirects.as_usize(),
        max_file_bytes: said.max_file.0,
        max_connections_per_host: said.max_connections_per_host.as_usize(),
        background_share: limits.background_share.0,
        quota_reserve: limits.quota_reserve.0,
        rate: Timetable::new(limits.upstream_rate.clone()),
        upload_rate: Timetable::new(limits.upload_rate.clone()),
        circuit_failures: said.circuit_failures.0,
        probe_interval: said.probe_interval,
    }
}

fn settings(
    said: Settings,
    on_announce_mozilla: OnAnnounce,
    on_announce_huggingface: OnAnnounce,
) -> Option<remote_settings::Settings> {
    Some(remote_settings::Settings {
        server: said.server.0?,
        roots: said.root,
        interval: said.interval,
        collections: said.collections,
        on_announce_mozilla,
        on_announce_huggingface,
        grace: said.grace,
        retry: said.retry,
        deny_for: said.deny_for,
        attachments: said.attachments,
    })
}

fn policy(said: &Cache, models: Arc<ModelRules>) -> policy::Rules {
    policy::Rules {
        ref_ttl: said.ref_ttl,
        revalidate_budget: said.revalidate_budget,
        head_budget: said.head_budget,
        stale_max: said.stale_max,
        hold: said.hold,
        drip: said.drip,
        delivery_mozilla: said.delivery_mozilla,
        delivery_huggingface: said.delivery_huggingface,
        uploads: said.uploads,
        models,
    }
}

fn bounds(said: Limits) -> BoundSettings {
    BoundSettings {
        max_requests: said.max_requests.as_usize(),
        max_requests_per_client: said.max_requests_per_client.as_usize(),
        download_rate: Timetable::new(said.download_rate),
        download_rate_per_client: Timetable::new(said.download_rate_per_client),
    }
}

fn scrub(said: Scrub) -> cache::ScrubSettings {
    cache::ScrubSettings { every: said.every, rate_bytes: said.rate.0 }
}

fn cache(
    said: &Cache,
    limits: &Limits,
    models: Arc<ModelRules>,
    entitlement: EntitlementSettings,
) -> cache::Settings {
    let EntitlementSettings { remembered, wait, recheck, offline: unasked, last_known_for, share } =
        entitlement;
    cache::Settings {
        window_bytes: said.window.0,
        max_fills: said.max_fills.as_usize(),
        background_share: limits.background_share.0,
        max_questions: limits.max_questions.as_usize(),
        max_answers: limits.max_answers.as_usize(),
        orphan_max_bytes: said.orphan_max.map(|size| size.0),
        far_ahead_bytes: said.far_ahead.0,
        lanes: said.lanes.as_usize(),
        lanes_far: said.lanes_far.as_usize(),
        known_entries: u64::from(said.known_entries.0),
        max_followers: said.max_followers.as_usize(),
        negative_ttl: said.negative_ttl,
        mark_for: said.mark_for,
        xet_above: said.xet_above.map(|size| size.0),
        entitlement: policy::Entitlement { remembered, wait, recheck, unasked, last_known_for },
        shared: share,
        models,
    }
}

fn log(said: Log) -> telemetry::log::Settings {
    telemetry::log::Settings { format: said.format, level: said.level }
}
