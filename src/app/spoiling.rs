//! Serving through a [`Spoiler`]: a listener whose answers come from a server and go wrong on purpose.
//!
//! The process that does so opens no store: what it spoils comes from a session of the process that owns one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::signals::Signals;
use super::{Error, bind, local_address};
use crate::faults::{Rules, Spoiler, Tally};
use crate::listen::{self, Drained, Speaks};
use crate::policy::Peer;
use crate::proxy::Handled;
use crate::request::Arrival;
use crate::telemetry::Telemetry;

/// How long what is under way may take to end: a body may be stalled on purpose.
const DRAIN: Duration = Duration::from_millis(500);

/// A listener with faults.
pub struct Spoiling {
    /// Where clients connect.
    pub address: SocketAddr,
    spoiler: Arc<Spoiler>,
    stop: watch::Sender<bool>,
    serving: JoinHandle<Drained>,
}

impl Spoiling {
    /// Listens at an address, of which the port may be 0, before the server at `origin`.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub async fn start(
        address: SocketAddr,
        origin: SocketAddr,
        rules: Rules,
        limits: listen::Limits,
    ) -> Result<Self, Error> {
        let listener = bind("listen.address", address).await?;
        let address = local_address("listen.address", &listener, address)?;
        let spoiler = Arc::new(Spoiler::new(origin, rules));
        let (stop, stopped) = watch::channel(false);
        let shared = Arc::clone(&spoiler);
        let handler = move |request: http::Request<Incoming>, _: Peer, _: Arrival| {
            let spoiler = Arc::clone(&shared);
            async move { Handled::from(spoiler.handle(request).await) }
        };
        let telemetry = Telemetry::new(env!("CARGO_PKG_VERSION"));
        let service = listen::Service { handler, limits, speaks: Speaks::Plain(None), telemetry };
        let serving = tokio::spawn(listen::serve(listener, service, DRAIN, stopped));
        Ok(Self { address, spoiler, stop, serving })
    }

    /// Ends it, and tells what each rule has done.
    pub async fn stop(self) -> Vec<Tally> {
        self.stop.send_replace(true);
        // If it failed, whoever was connected has noticed.
        let _ = self.serving.await;
        self.spoiler.tally()
    }
}

/// Waits for SIGTERM or SIGINT; a second one ends the process at once.
///
/// # Errors
/// When signals cannot be waited for.
pub async fn stopped() -> Result<(), Error> {
    let mut signals = Signals::install().map_err(Error::Signals)?;
    signals.stop().await;
    signals.then_exit_at_once();
    Ok(())
}
