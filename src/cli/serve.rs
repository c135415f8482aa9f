//! `hubcache serve`: the proxy itself.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{ArgMatches, Command};

use super::bundle::Bundle;
use super::exit::{Exit, Failure, io_failure};
use super::flags::{self, Scope};
use super::report::Report;
use super::scratch::Scratch;
use super::session::{self, Beyond, Session};
use super::{faults, lock, print};
use crate::admin::control::Lacking;
use crate::app::{self, Ready, Spoiling};
use crate::config::{self, Config, Pinned};
use crate::faults::Rules;
use crate::proxy::{Freezing, Frozen};

const LONG_ABOUT: &str = "\
Serve model files to clients: from the data directory what is held, from the hub what is not, each file downloaded \
once and verified before it is kept.

When clients can connect, one line of JSON on stdout says so and where; the log goes to stderr. SIGTERM or SIGINT \
stops: no new connections, running responses get some time to end, unfinished downloads go on at the next start. A \
second signal exits at once and loses nothing that was stored.";

const EXAMPLES: &str = "\
Examples:
  With the defaults: 127.0.0.1:8470, data in the user's state directory
    hubcache serve

  For a whole network, with its own directory, and metrics for a collector that calls it by name
    hubcache serve --listen 0.0.0.0:8470 --access anonymous --data /srv/hubcache \\
      --admin 0.0.0.0:8471 --admin-hosts cache.example.org

  As the proxy of stock Firefoxes and Hugging Face clients, which keep naming the hubs (see `hubcache setup`)
    hubcache serve --intercept
    hubcache ca export > hubcache-ca.pem

  In front of an inner mirror with a private certificate authority
    hubcache serve --hub huggingface=https://hf.example.org --ca-bundle /etc/ssl/example.pem

  For a test suite: exactly what a lock file pins, with no network
    hubcache serve --frozen --lock hubcache.lock --missing-report missing.txt

  In a lab without a network: what a bundle holds, out of it, with no import
    hubcache serve --bundle lab.tar

  The same as for a test suite with faults on purpose, for tests of clients
    hubcache serve --frozen --lock hubcache.lock --faults faults.toml

  On free ports, which the line on stdout tells
    hubcache serve --listen 127.0.0.1:0 --admin 127.0.0.1:0
    {\"event\":\"ready\",\"listen\":\"127.0.0.1:40123\",\"admin\":\"127.0.0.1:40124\",\"pid\":4711}

Settings are read from /etc/hubcache/config.toml, /etc/hubcache/conf.d/*.toml, $XDG_CONFIG_HOME/hubcache/config.toml,
--config FILE, the environment and flags; what is read later wins. `hubcache config show --origin` shows the result.";

pub fn command() -> Command {
    let command = Command::new("serve")
        .about("Serve model files to clients")
        .long_about(LONG_ABOUT)
        .after_help("More flags, one for every setting: `hubcache serve --help`")
        .after_long_help(EXAMPLES);
    flags::add(command, Scope::All)
}

pub fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let loaded = flags::load(matches, Scope::All)?;
    app::keep_memory();
    let _log = app::start_log(&loaded.config.log);
    for file in &loaded.files {
        tracing::info!(file = %file.display(), "settings were read");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime =
        runtime.map_err(|error| io_failure("the threads of the server cannot be started", &error))?;
    let Some(config::Frozen { pinned, missing_report: report, faults }) = loaded.config.frozen.clone() else {
        return Ok(runtime.block_on(app::run(loaded.config, None, None, announce))?);
    };
    let path = match pinned {
        Pinned::Lock(path) => path,
        Pinned::Bundle(path) => return serve_bundle(&runtime, loaded.config, &path, report.as_deref()),
    };
    if let Some(faults) = faults {
        let spoilt = Spoilt { lock: path, report, rules: faults::rules(&faults)?, faults };
        return runtime.block_on(serve_spoilt(&loaded.config, spoilt));
    }
    let frozen = Frozen::new(lock::read(&path)?, &path, &loaded.config.store.dir, Freezing::Server);
    let report = report.map(|path| Report::create(&path)).transpose()?;
    tracing::info!(lock = %path.display(), "frozen: what the lock file pins is served, and nothing else");
    let ended = runtime.block_on(app::run(loaded.config, Some(Arc::clone(&frozen)), None, announce));
    let told = tell_missing(&frozen, report);
    ended?;
    told
}

/// Serves what a bundle holds, out of it. What is written is an index, in a directory of this process.
fn serve_bundle(
    runtime: &tokio::runtime::Runtime,
    mut config: Config,
    path: &Path,
    report: Option<&Path>,
) -> Result<(), Failure> {
    let bundle = Bundle::open(path, false)?;
    let elsewhere = bundle.elsewhere().len();
    if elsewhere > 0 {
        let why = format!(
            "{} is a delta, without {} that it builds on; `hubcache import` it where these are held",
            path.display(),
            print::count(elsewhere as u64, "file")
        );
        return Err(Failure::new(Exit::Data, why));
    }
    let scratch = Scratch::new()?;
    config.store.dir = scratch.data();
    config.store.min_free_bytes = 0;
    let frozen = Frozen::new(bundle.contents.lock.clone(), path, &config.store.dir, Freezing::Bundle);
    let report = report.map(Report::create).transpose()?;
    tracing::info!(bundle = %path.display(), data = %config.store.dir.display(), "what the bundle holds is served, and nothing else");
    let lent = bundle.lent()?;
    let ended = runtime.block_on(app::run(config, Some(Arc::clone(&frozen)), Some(lent), announce));
    let told = tell_missing(&frozen, report);
    ended?;
    told
}

/// A lock that is served with faults.
struct Spoilt {
    lock: PathBuf,
    report: Option<PathBuf>,
    faults: PathBuf,
    rules: Rules,
}

/// Serves with faults what a session of the owner of the data directory has: this process opens no store.
async fn serve_spoilt(config: &Config, spoilt: Spoilt) -> Result<(), Failure> {
    let Spoilt { lock, report, faults, rules } = spoilt;
    let report = report.map(|path| Report::create(&path)).transpose()?;
    let wish = session::wish(config, &lock, lock::text(&lock)?);
    let session = Session::open(config, wish).await?;
    let (address, origin) = (config.listen.address, session.place.address);
    let spoiling = Spoiling::start(address, origin, rules, config.listen.limits).await?;
    tracing::warn!(rules = %faults.display(), "answers go wrong on purpose");
    announce(Ready::at(spoiling.address));
    app::stopped().await?;
    faults::tell(&faults, &spoiling.stop().await);
    let Beyond { lacking, .. } = session.end().await?;
    report.map_or(Ok(()), |report| report.write(&lacking))
}

/// Says what was asked for and not served.
fn tell_missing(frozen: &Frozen, report: Option<Report>) -> Result<(), Failure> {
    let lacking: Vec<Lacking> = frozen.lacking().into_iter().map(Lacking::from).collect();
    if !lacking.is_empty() {
        tracing::warn!(files = lacking.len(), "not everything that was asked for is pinned and held");
    }
    report.map_or(Ok(()), |report| report.write(&lacking))
}

/// Whoever started the server waits for this line.
fn announce(ready: Ready) {
    tracing::info!(listen = %ready.listen, listen_tls = ready.listen_tls.map(tracing::field::display), admin = ready.admin.map(tracing::field::display), "ready");
    let line = serde_json::to_string(&ready).expect("addresses and numbers are JSON");
    let mut stdout = io::stdout().lock();
    if let Err(error) = writeln!(stdout, "{line}").and_then(|()| stdout.flush()) {
        // Nobody listens to it; clients may connect all the same.
        tracing::warn!(%error, "the line that says ready could not be written");
    }
}
