//! The hubs, asked as the server asks them.

use std::sync::Arc;

use super::super::upstream::Asked;
use super::PATIENCE;
use crate::admin::control::{Condition, Status, chain};
use crate::config::Config;
use crate::model::{Hub, Timestamp};
use crate::telemetry::Telemetry;
use crate::upstream::Client;

/// Asks every hub that is used, all at once.
pub async fn upstream(config: &Config, status: Option<&Status>) -> Vec<Asked> {
    let hubs = Hub::ALL.into_iter().filter(|hub| *hub != Hub::Settings || config.settings.is_some());
    let mut settings = config.upstream.clone();
    let own = match status {
        Some(status) => [Some(status.listen), Some(status.admin), status.listen_tls],
        None => [Some(config.listen.address), Some(config.admin.address), None],
    };
    settings.egress = Arc::new(config.egress.clone().listening_at(own.into_iter().flatten().collect()));
    settings.connect_timeout = settings.connect_timeout.min(PATIENCE);
    let condition = |hub| {
        let hubs = status.map(|status| status.hubs.as_slice()).unwrap_or_default();
        hubs.iter().find(|status| status.hub == hub).map(|status| status.condition.clone())
    };
    let client = match Client::new(settings, Telemetry::new(env!("CARGO_PKG_VERSION"))) {
        Ok(client) => client,
        Err(error) => {
            let unusable = (chain(&error), "correct --ca-bundle FILE (upstream.ca_bundle)".to_owned());
            let asked = |hub| Asked {
                hub,
                greeting: Err(unusable.clone()),
                condition: condition(hub),
                at: Timestamp::now(),
            };
            return hubs.map(asked).collect();
        }
    };
    futures_util::future::join_all(hubs.map(|hub| greet(&client, hub, condition(hub)))).await
}

async fn greet(client: &Client, hub: Hub, condition: Option<Condition>) -> Asked {
    let greeting = client.greet(hub, PATIENCE).await;
    let greeting =
        greeting.map_err(|why| (format!("{} is no URL: {why}", client.root(hub)), "correct it".to_owned()));
    Asked { hub, greeting, condition, at: Timestamp::now() }
}
