//! Everything that is looked at, and the checks that are made of it, in their order.

use tokio::join;

use super::announced::{Announced, announced};
use super::answers::{Answers, answers};
use super::check::Check;
use super::clients::{Around, Clients, clients};
use super::environment::{Environment, Here};
use super::look::answers::{Answered, TunnelTrouble, reachable};
use super::look::{self, aside, ports};
use super::server::{Port, Ready, Taken};
use super::trust::{Trust, trust};
use super::upstream::Asked;
use super::{machine, server, upstream};
use crate::admin::control::Status;
use crate::cli::exit::{Failure, io_failure};
use crate::config::{Config, Loaded, Origin, Values};
use crate::model::{Hub, Place, Timestamp};
use crate::store::Look;

/// The checks of which nothing can be said where the settings are wrong.
const REST: [&str; 9] = [
    "data-directory",
    "disk",
    "clock",
    "server",
    "upstream",
    "certificate-authority",
    "head-latency",
    "remote-settings",
    "clients",
];

/// What there is to say where the settings are wrong.
pub fn unread(wrong: &str) -> Vec<Check> {
    let rest = REST.map(|name| Check::skipped(name, "the settings cannot be read"));
    std::iter::once(machine::settings(Err(wrong))).chain(rest).collect()
}

/// Looks at everything and judges it. `at` is where clients reach the server, if that was said.
///
/// # Errors
/// When this process cannot wait for anything.
pub fn examine(loaded: Loaded, at: Option<Place>) -> Result<Vec<Check>, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| io_failure("the command cannot be started", &error))?;
    let found = runtime.block_on(look(loaded, at));
    // A name server or a disk that does not answer may still keep a thread waiting.
    runtime.shutdown_background();
    Ok(judge(&found, Timestamp::now()))
}

/// All that was found.
struct Found {
    settings: machine::Read,
    data: machine::Data,
    ports: Vec<(Port, Taken)>,
    here: Here,
    served: Served,
    /// Nothing where no hub is ever asked.
    upstream: Option<Vec<Asked>>,
    answers: Answers,
    xet_above: Option<u64>,
    announced: Announced,
    environment: Environment,
    /// Who trusts what, and which clients there are; or why that took too long.
    around: Result<(Trust, Clients), String>,
}

/// What a server said of itself; nothing of what it was not asked.
struct Served {
    answered: Option<Answered>,
    tunnel: Option<Result<(), TunnelTrouble>>,
    ready: Option<Ready>,
}

async fn look(loaded: Loaded, said_at: Option<Place>) -> Found {
    let Loaded { mut config, values, files } = loaded;
    let dir = config.store.dir.clone();
    let looked = aside(move || Look::at(&dir).map_err(|error| error.to_string())).await.flatten();
    let looked = looked.as_ref().map_err(String::as_str);
    let owner = look::owner::owner(&config, looked).await;
    let status = owner.server();
    let is_there = said_at.is_some() || status.is_some();
    let mut here = here(&config, status, said_at);
    let own_parent = own_parent(&config, &values, &here);
    if own_parent.is_some() {
        // What clients are told is not what the server has.
        config.upstream.parent = None;
    }
    let environment: Environment = variables().collect();
    let is_offline = config.offline || config.frozen.is_some() || status.is_some_and(|status| status.offline);
    let (served, upstream, answers, announced, around) = join!(
        served(&config, status, &here.at, is_there),
        when(!is_offline, look::upstream::upstream(&config, status)),
        look::answers::answers(&config, status, &here.at),
        look::owner::announced(&config, &owner),
        around(&config, &environment, here.intercepts, status.is_some()),
    );
    here.answers = matches!(served.answered, Some(Answered::Here));
    Found {
        settings: machine::Read { files: files.len() as u64, own_parent },
        ports: taken(&config, status),
        data: look::data::data(&config, looked, owner),
        xet_above: config.cache.xet_above,
        here,
        served,
        upstream,
        answers,
        announced,
        environment,
        around,
    }
}

fn here(config: &Config, status: Option<&Status>, said_at: Option<Place>) -> Here {
    let listens = status.map_or(config.listen.address, |status| status.listen);
    Here {
        at: said_at.unwrap_or_else(|| reachable(listens).into()),
        names: vec![rustix::system::uname().nodename().to_string_lossy().to_ascii_lowercase()],
        answers: false,
        intercepts: status.map_or(config.listen.intercept.enabled, |status| status.intercept),
    }
}

/// Whether this server is its own parent proxy, and then whether a setting says so.
fn own_parent(config: &Config, values: &Values, here: &Here) -> Option<bool> {
    config.upstream.parent.as_ref().filter(|parent| here.is(&parent.place))?;
    let mut chosen = values.iter().filter(|(key, _)| key.id == "upstream.proxy");
    Some(chosen.any(|(_, chosen)| chosen.origin != Origin::Default))
}

fn variables() -> impl Iterator<Item = (String, String)> {
    let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
    std::env::vars_os().map(move |(name, value)| (text(name), text(value)))
}

fn taken(config: &Config, status: Option<&Status>) -> Vec<(Port, Taken)> {
    let taken =
        |port: &Port| status.map_or_else(|| ports::taken(port), |status| ports::listens(port, status));
    ports::ports(config).into_iter().map(|port| (port.clone(), taken(&port))).collect()
}

async fn served(config: &Config, status: Option<&Status>, at: &Place, is_there: bool) -> Served {
    let certificate = &config.listen.intercept.files.certificate;
    let ready = async {
        let at = status?.admin;
        Some(Ready { at, answered: look::answers::ready(at).await })
    };
    // Who shows no token is opened none where one is asked for.
    let intercepts = status.is_some_and(|status| status.intercept && !status.access.asks());
    let (answered, tunnel, ready) = join!(
        when(is_there, look::answers::answered(at)),
        when(intercepts, look::answers::tunnel(at, certificate)),
        ready
    );
    Served { answered, tunnel, ready }
}

async fn when<T>(is_asked: bool, look: impl Future<Output = T>) -> Option<T> {
    if is_asked { Some(look.await) } else { None }
}

async fn around(
    config: &Config,
    environment: &Environment,
    intercepts: bool,
    runs: bool,
) -> Result<(Trust, Clients), String> {
    let (config, environment) = (config.clone(), environment.clone());
    aside(move || {
        let policies = look::clients::policies(&environment);
        let mut trust = look::trust::trust(&config, &environment, intercepts, runs, policies);
        let clients = look::clients::clients(&environment, &trust);
        trust.has_firefox = !clients.firefoxes.is_empty();
        (trust, clients)
    })
    .await
}

fn judge(found: &Found, now: Timestamp) -> Vec<Check> {
    let Found { data, here, served, .. } = found;
    let mut checks = vec![machine::settings(Ok(&found.settings)), machine::data(data), machine::disk(data)];
    checks.push(machine::clock(&upstream::times(found.upstream.as_deref().unwrap_or_default())));
    checks.extend(found.ports.iter().map(|(port, taken)| server::port(port, taken)));
    checks.push(server::server(&here.at, served.answered.as_ref()));
    checks.extend(served.tunnel.iter().map(|opened| server::tunnel(&here.at, opened)));
    checks.extend(served.ready.iter().map(server::ready));
    match &found.upstream {
        Some(asked) => checks.extend(asked.iter().map(upstream::upstream)),
        None => checks.extend(Hub::ALL.map(|hub| {
            Check::skipped(&upstream::name(hub), "no hub is asked (upstream.offline, upstream.frozen)")
        })),
    }
    match &found.around {
        Ok((trusting, _)) => checks.extend(trust(trusting, now)),
        Err(why) => checks.push(Check::skipped("certificate-authority", why)),
    }
    checks.extend(answers(&found.answers, found.xet_above));
    checks.extend(announced(&found.announced, now));
    match &found.around {
        Ok((trust, found_clients)) => {
            let around = Around { environment: &found.environment, here, trust };
            checks.extend(clients(found_clients, around));
        }
        Err(why) => checks.push(Check::skipped("clients", why)),
    }
    checks
}
