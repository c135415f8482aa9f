//! The process that owns the data directory for the runs and commands that ask, where no server runs.
//!
//! It listens on the control socket and on nothing else, but for the sessions that it opens. It leaves when nobody has been
//! connected for a while, or when it is told to by a signal.

use std::sync::Arc;
use std::time::Duration;

use super::core::Core;
use super::sessions::Sessions;
use super::signals::Signals;
use super::{Error, open, runtime_dirs, stop};
use crate::admin::control;
use crate::config::Config;

/// How long an owner that was started on demand stays when nobody is connected any more: the commands of one script
/// follow each other.
const LINGER: Duration = Duration::from_millis(300);

/// Owns the data directory for the runs and commands that ask, until nobody has asked for a while; `ready` is called
/// once they can.
///
/// # Errors
/// As at the start of a server.
pub async fn own(config: Config, ready: impl FnOnce()) -> Result<(), Error> {
    let mut signals = Signals::install().map_err(Error::Signals)?;
    let store = open(config.store.clone()).await?;
    let core = match Core::new(&config, config.upstream.clone(), store.clone(), !config.offline) {
        Ok(core) => core,
        Err(error) => {
            store.close().await;
            return Err(error);
        }
    };
    let egress = Arc::clone(&config.upstream.egress);
    let (open_session, sessions) = Sessions::of(&config, core.clone(), &egress).start();
    let bound = control::bind(&config.store.dir, &runtime_dirs()).map_err(Error::Control)?;
    let context = core.context(config.offline, None, Some(open_session));
    ready();
    tokio::select! {
        () = control::serve(bound, context, Some(LINGER)) => tracing::info!("nobody is left who needs this process"),
        () = signals.stop() => {}
    }
    signals.then_exit_at_once();
    stop(sessions).await;
    if let Some(fetcher) = core.fetcher {
        fetcher.stop().await;
    }
    store.close().await;
    Ok(())
}
