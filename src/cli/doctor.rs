//! `hubcache doctor`: whether all is well on this machine, and what helps where it is not.
//!
//! It works in two halves. *Looking* ([`look`]) gathers what is there, each look bounded and most of them at once; it
//! changes nothing, starts nobody, and asks the process that owns the data directory rather than opening that. *Judging*
//! (the modules beside it) makes checks of what was found, and is pure. A look depends on no judgement; the only order is
//! that whoever owns the directory is asked first, because that says where the server listens.

mod announced;
mod answers;
mod check;
mod clients;
mod environment;
mod look;
mod machine;
mod server;
mod trust;
mod upstream;

use std::io::{self, Write};

use clap::{ArgMatches, Command};
use serde_json::json;

use super::exit::{Exit, Failure, io_failure, output};
use super::flags::{self, Scope};
use super::ls::json_arg;
use super::{print, setup, transfer};
use crate::config::{Config, Loaded, Origin};
use crate::model::{Hub, Place, Timestamp};
use crate::store::Look;
use announced::Announced;
use answers::Answers;
use check::{Check, Verdict, count};
use clients::{Around, Clients};
use environment::{Environment, Here};
use look::answers::{Answered, TunnelTrouble, reachable};
use look::{aside, ports};
use server::{Port, Taken};
use trust::Trust;
use upstream::Asked;

/// Its name.
pub const NAME: &str = "doctor";

const LONG_ABOUT: &str = "\
Tell whether all is well on this machine, and for each thing that is not, what helps. Nothing is changed, nothing is \
started, and each look takes 5 seconds at most.

Each check is good, warns, fails, or is skipped, with why. In this order:
  settings                   they can be read, and do not contradict the environment
  data-directory             it is there or can be made, is private and on a local disk; who has it open
  disk                       what is free above store.min_free
  clock                      it agrees with the hubs: 60 s off warns, 5 min fails
  port-listen, port-listen-tls, port-admin
                             they are free, or the server that runs listens there
  server, tunnel, ready      it answers where clients reach it, in tunnels as well, and takes clients
  upstream-HUB               each hub, and Remote Settings, is reached as the server reaches it
  certificate-authority, certificate-tls, certificate-system, certificate-VARIABLE, certificate-firefox
                             it can issue, for how long, and who trusts it (with --intercept)
  head-latency, xet-leak, redirect-leak
                             what a client gets for a file that is held
  remote-settings, collection-NAME
                             what is held of it, and until when Firefox takes it
  client-firefox, client-huggingface-hub, client-transformersjs
                             how those that are found reach this server now, from this directory and environment

Run it as the user and in the environment of the client that does not work, or of the server. It ends with 69 when a check \
fails; warnings are told and end with 0.";

const EXAMPLES: &str = "\
Examples:
  hubcache doctor
  hubcache doctor --quiet                 # only what warns or fails
  hubcache doctor --intercept             # as a server that is started so would be
  hubcache doctor --at cache.example.org:8470
  hubcache doctor --json | jq -r '.checks[] | select(.verdict == \"fails\") | .name'
  HF_ENDPOINT=http://127.0.0.1:8470 hubcache doctor";

pub fn command() -> Command {
    let command = Command::new(NAME)
        .about("Tell whether all is well on this machine, and what helps")
        .long_about(LONG_ABOUT)
        .after_long_help(EXAMPLES)
        .arg(setup::at_arg("Where clients reach this server [default: where it listens]"))
        .arg(transfer::quiet_arg().help("Leave out what is good or was skipped"))
        .arg(json_arg("Print an object: ok, checks (each with name, verdict, found, fix)"));
    flags::add(command, Scope::All)
}

pub fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let at = setup::said_at(matches)?;
    let checks = match flags::load(matches, Scope::All) {
        Ok(loaded) => examine(loaded, at)?,
        Err(failure) => unread(failure.message()),
    };
    let (fails, warns) = (count(&checks, Verdict::Fails), count(&checks, Verdict::Warns));
    let mut out = io::BufWriter::new(io::stdout().lock());
    output(match matches.get_flag("json") {
        true => writeln!(out, "{:#}", json!({"ok": fails == 0, "checks": checks})).and_then(|()| out.flush()),
        false => write(&mut out, &checks, transfer::is_quiet(matches)).and_then(|()| out.flush()),
    })?;
    let warned = format!("{} with a warning", print::count(warns, "check"));
    match (fails, warns) {
        (0, 0) => Ok(()),
        (0, _) => {
            eprintln!("hubcache: nothing fails; {warned}");
            Ok(())
        }
        _ => {
            Err(Failure::new(Exit::Unavailable, format!("{} failed; {warned}", print::count(fails, "check"))))
        }
    }
}

fn write(out: &mut dyn Write, checks: &[Check], is_quiet: bool) -> io::Result<()> {
    let shown = |check: &&Check| !is_quiet || check.verdict > Verdict::Good;
    for Check { name, verdict, found, fix } in checks.iter().filter(shown) {
        writeln!(out, "{:<7}  {name}: {found}", verdict.name())?;
        for line in fix.iter().flat_map(|fix| fix.lines()) {
            writeln!(out, "         {line}")?;
        }
    }
    Ok(())
}

/// What there is to say where the settings are wrong.
fn unread(wrong: &str) -> Vec<Check> {
    let rest =
        ["data-directory", "disk", "clock", "server", "upstream", "certificate-authority", "head-latency"];
    let rest = rest.into_iter().chain(["remote-settings", "clients"]);
    let skipped = rest.map(|name| Check::skipped(name, "the settings cannot be read"));
    std::iter::once(machine::settings(Err(wrong))).chain(skipped).collect()
}

fn examine(loaded: Loaded, at: Option<Place>) -> Result<Vec<Check>, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| io_failure("the command cannot be started", &error))?;
    let checks = runtime.block_on(async { judge(&look(loaded, at).await, Timestamp::now()) });
    // A name server or a disk that does not answer may still keep a thread waiting.
    runtime.shutdown_background();
    Ok(checks)
}

/// All that was found.
struct Found {
    settings: machine::Read,
    data: machine::Data,
    ports: Vec<(Port, Taken)>,
    here: Here,
    answered: Option<Answered>,
    tunnel: Option<Result<(), TunnelTrouble>>,
    ready: Option<(std::net::SocketAddr, Result<(u16, String), String>)>,
    /// Nothing where no hub is ever asked.
    upstream: Option<Vec<Asked>>,
    answers: Answers,
    xet_above: Option<u64>,
    announced: Announced,
    environment: Environment,
    /// Who trusts what, and which clients there are; or why that took too long.
    around: Result<(Trust, Clients), String>,
}

async fn look(loaded: Loaded, said_at: Option<Place>) -> Found {
    let Loaded { mut config, values, files } = loaded;
    let environment: Environment = variables().collect();
    let dir = config.store.dir.clone();
    let looked = aside(move || Look::at(&dir).map_err(|error| error.to_string())).await.flatten();
    let looked = looked.as_ref().map_err(String::as_str);
    let owner = look::owner::owner(&config, looked).await;
    let status = owner.server();
    let listens = status.map_or(config.listen.address, |status| status.listen);
    let at = said_at.clone().unwrap_or_else(|| reachable(listens).into());
    let intercepts = status.map_or(config.listen.intercept.enabled, |status| status.intercept);
    let mut here = Here { at, names: names(), answers: false, intercepts };
    let own_parent =
        config.upstream.parent.as_ref().is_some_and(|parent| here.is(&parent.place)).then(|| {
            let mut chosen = values.iter().filter(|(key, _)| key.id == "upstream.proxy");
            chosen.any(|(_, chosen)| chosen.origin != Origin::Default)
        });
    if own_parent.is_some() {
        // What clients are told is not what the server has.
        config.upstream.parent = None;
    }
    let is_offline = config.offline || config.frozen.is_some() || status.is_some_and(|status| status.offline);
    let is_there = status.is_some() || said_at.is_some();
    let certificate = &config.listen.intercept.files.certificate;
    let (answered, tunnel, ready, upstream, answers, announced, around) = tokio::join!(
        when(is_there, look::answers::answered(&here.at)),
        when(status.is_some_and(|status| status.intercept), look::answers::tunnel(&here.at, certificate)),
        when(
            status.is_some(),
            look::answers::ready(status.map_or(config.admin.address, |status| status.admin))
        ),
        when(!is_offline, look::upstream::upstream(&config, status)),
        look::answers::answers(&config, status, &here.at),
        look::owner::announced(&config, &owner),
        around(&config, &environment, intercepts, status.is_some()),
    );
    here.answers = matches!(answered, Some(Answered::Here));
    let taken =
        |port: &Port| status.map_or_else(|| ports::taken(port), |status| ports::listens(port, status));
    Found {
        settings: machine::Read { files: files.len() as u64, own_parent },
        ports: ports::ports(&config).into_iter().map(|port| (port.clone(), taken(&port))).collect(),
        ready: ready.map(|ready| (status.map_or(config.admin.address, |status| status.admin), ready)),
        xet_above: config.cache.xet_above,
        data: look::data::data(&config, looked, owner),
        here,
        answered,
        tunnel,
        upstream,
        answers,
        announced,
        environment,
        around,
    }
}

fn variables() -> impl Iterator<Item = (String, String)> {
    let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
    std::env::vars_os().map(move |(name, value)| (text(name), text(value)))
}

fn names() -> Vec<String> {
    vec![rustix::system::uname().nodename().to_string_lossy().to_ascii_lowercase()]
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
    let Found { data, here, .. } = found;
    let mut checks = vec![machine::settings(Ok(&found.settings)), machine::data(data), machine::disk(data)];
    checks.push(machine::clock(&upstream::times(found.upstream.as_deref().unwrap_or_default())));
    checks.extend(found.ports.iter().map(|(port, taken)| server::port(port, taken)));
    checks.push(server::server(&here.at, found.answered.as_ref()));
    checks.extend(found.tunnel.iter().map(|opened| server::tunnel(&here.at, opened)));
    checks.extend(found.ready.iter().map(|(at, answered)| server::ready(*at, answered)));
    match &found.upstream {
        Some(asked) => checks.extend(asked.iter().map(upstream::upstream)),
        None => checks.extend(Hub::ALL.map(|hub| {
            Check::skipped(&upstream::name(hub), "no hub is asked (upstream.offline, upstream.frozen)")
        })),
    }
    match &found.around {
        Ok((trust, _)) => checks.extend(trust::trust(trust, now)),
        Err(why) => checks.push(Check::skipped("certificate-authority", why)),
    }
    checks.extend(answers::answers(&found.answers, found.xet_above));
    checks.extend(announced::announced(&found.announced, now));
    match &found.around {
        Ok((trust, clients)) => {
            let around = Around { environment: &found.environment, here, trust };
            checks.extend(clients::clients(clients, around));
        }
        Err(why) => checks.push(Check::skipped("clients", why)),
    }
    checks
}
