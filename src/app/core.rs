//! What every process works with that owns a data directory: a server, the owner for runs, and a command alone.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::Error;
use crate::admin::control::{Context, Opening, Server};
use crate::cache::{Cache, Fetcher};
use crate::config::Config;
use crate::policy::Rules;
use crate::proxy::{Bounds, Mirror};
use crate::remote_settings::{RemoteSettings, Watcher};
use crate::store::Store;
use crate::telemetry::Telemetry;
use crate::upstream;

/// What is held, and the ways to hubs where there are any.
#[derive(Clone)]
pub(super) struct Core {
    pub(super) telemetry: Telemetry,
    pub(super) bounds: Bounds,
    pub(super) cache: Arc<Cache>,
    pub(super) fetcher: Option<Arc<Fetcher>>,
    pub(super) mirror: Option<Mirror>,
    pub(super) rules: Rules,
}

impl Core {
    /// Over this store; with the ways to the hubs and to Remote Settings if it `asks` them.
    ///
    /// # Errors
    /// When what certificates of hubs are checked with, or what is held of Remote Settings, cannot be read.
    pub(super) fn new(
        config: &Config,
        hubs: upstream::Settings,
        store: Store,
        asks: bool,
    ) -> Result<Self, Error> {
        let telemetry = Telemetry::new(env!("CARGO_PKG_VERSION"));
        let cache = Cache::new(&config.cache, hubs.roots.clone(), store.clone());
        let fetcher = match asks {
            true => {
                let client = upstream::Client::new(hubs, telemetry.clone()).map_err(Error::Upstream)?;
                let held = Arc::clone(&cache);
                Some(Fetcher::new(config.cache.clone(), held, Arc::new(client), telemetry.clone()))
            }
            false => None,
        };
        let mirror = match &config.settings {
            Some(settings) => {
                let (settings, store, telemetry) = (settings.clone(), store.clone(), telemetry.clone());
                let remote = RemoteSettings::load(settings, store, telemetry).map_err(Error::Settings)?;
                let watcher =
                    fetcher.as_ref().map(|fetcher| Watcher::new(Arc::clone(&remote), Arc::clone(fetcher)));
                Some(Mirror { remote, watcher })
            }
            None => None,
        };
        let rules = config.policy.clone();
        let bounds = Bounds::new(&config.bounds, telemetry.clone());
        Ok(Self { telemetry, bounds, cache, fetcher, mirror, rules })
    }

    /// What commands work on.
    pub(super) fn context(
        &self,
        offline: bool,
        server: Option<Arc<Server>>,
        sessions: Option<mpsc::Sender<Opening>>,
    ) -> Context {
        Context {
            cache: Arc::clone(&self.cache),
            rules: self.rules.clone(),
            offline,
            fetcher: self.fetcher.clone(),
            mirror: self.mirror.clone(),
            server,
            sessions,
        }
    }
}
