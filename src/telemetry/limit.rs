//! Every limit of the program, by name.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// A limit that bites now and again would otherwise fill the log.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// A limit: the label of `hubcache_limited_total`, and the setting that moves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Limit {
    /// Connections at a time; a further one waits in the kernel's queue.
    Connections,
    /// Connections at a time of one client; a further one is closed.
    ConnectionsPerClient,
    /// Requests that are being answered; a further one is refused.
    Requests,
    /// The same of one client.
    RequestsPerClient,
    /// Downloads at a time; a further one waits for a place.
    Fills,
    /// Downloads at a time that no client waits for; a further one waits until it may.
    BackgroundFills,
    /// Requests that wait for one download; a further one is refused.
    Followers,
    /// Questions to a hub that are open; instead of a further one, what is held is served as if the hub were late.
    Questions,
    /// Answers of a hub's API that are read at a time; a further one waits.
    Answers,
    /// Connections to one host; a further request waits for one.
    HubConnections,
    /// Connections to one host for downloads that no client waits for; a further one waits.
    BackgroundConnections,
    /// Bytes a second to all clients; what is beyond waits.
    DownloadRate,
    /// Bytes a second to one client; what is beyond waits.
    DownloadRatePerClient,
    /// Bytes a second from all hubs; what is beyond waits.
    UpstreamRate,
    /// Bytes a second of requests that are handed on to hubs; what is beyond waits.
    UploadRate,
}

impl Limit {
    /// All of them, for the registry of metrics.
    pub const ALL: [Self; 15] = [
        Self::Connections,
        Self::ConnectionsPerClient,
        Self::Requests,
        Self::RequestsPerClient,
        Self::Fills,
        Self::BackgroundFills,
        Self::Followers,
        Self::Questions,
        Self::Answers,
        Self::HubConnections,
        Self::BackgroundConnections,
        Self::DownloadRate,
        Self::DownloadRatePerClient,
        Self::UpstreamRate,
        Self::UploadRate,
    ];

    /// The name in the metric.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::ConnectionsPerClient => "connections-per-client",
            Self::Requests => "requests",
            Self::RequestsPerClient => "requests-per-client",
            Self::Fills => "fills",
            Self::BackgroundFills => "background-fills",
            Self::Followers => "followers",
            Self::Questions => "questions",
            Self::Answers => "answers",
            Self::HubConnections => "hub-connections",
            Self::BackgroundConnections => "background-connections",
            Self::DownloadRate => "download-rate",
            Self::DownloadRatePerClient => "download-rate-per-client",
            Self::UpstreamRate => "upstream-rate",
            Self::UploadRate => "upload-rate",
        }
    }

    /// The setting that moves it.
    pub fn setting(self) -> &'static str {
        match self {
            Self::Connections => "listen.max_connections",
            Self::ConnectionsPerClient => "listen.max_connections_per_client",
            Self::Requests => "limits.max_requests",
            Self::RequestsPerClient => "limits.max_requests_per_client",
            Self::Fills => "cache.max_fills",
            Self::BackgroundFills | Self::BackgroundConnections => "limits.background_share",
            Self::Followers => "cache.max_followers",
            Self::Questions => "limits.max_questions",
            Self::Answers => "limits.max_answers",
            Self::HubConnections => "upstream.max_connections_per_host",
            Self::DownloadRate => "limits.download_rate",
            Self::DownloadRatePerClient => "limits.download_rate_per_client",
            Self::UpstreamRate => "limits.upstream_rate",
            Self::UploadRate => "limits.upload_rate",
        }
    }

    /// What is wrong, for whoever is refused: of these, a client can meet those that refuse.
    pub fn phrase(self) -> &'static str {
        match self {
            Self::Connections => "the server has as many connections as it may",
            Self::ConnectionsPerClient => "this client has as many connections as it may",
            Self::Requests => "the server is answering as many requests as it may",
            Self::RequestsPerClient => "this client has as many requests under way as it may",
            Self::Fills => "as many files are being fetched as may be",
            Self::BackgroundFills => "as many files are being fetched in the background as may be",
            Self::Followers => "as many requests wait for this file as may",
            Self::Questions => "as many questions to hubs are open as may be",
            Self::Answers => "as many answers of hubs are being read as may be",
            Self::HubConnections => "all connections to the hub that may be are in use",
            Self::BackgroundConnections => {
                "all connections to the hub are in use that the background may have"
            }
            Self::DownloadRate | Self::DownloadRatePerClient => "the rate to clients is reached",
            Self::UpstreamRate => "the rate from hubs is reached",
            Self::UploadRate => "the rate to hubs is reached",
        }
    }
}

/// How often each limit has bitten, and when that was last said.
#[derive(Debug)]
pub(super) struct Limited {
    counters: [Counter; Limit::ALL.len()],
    said_at: Mutex<[Option<Instant>; Limit::ALL.len()]>,
}

impl Limited {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let family = Family::<[(&'static str, &'static str); 1], Counter>::default();
        let counters = Limit::ALL.map(|limit| family.get_or_create_owned(&[("limit", limit.name())]));
        registry.register("limited", "Times that something met a limit and waited or was refused", family);
        Self { counters, said_at: Mutex::default() }
    }

    pub(super) fn count(&self, limit: Limit, now: Instant) -> bool {
        self.counters[limit as usize].inc();
        let mut said_at = self.said_at.lock().unwrap_or_else(PoisonError::into_inner);
        let said_at = &mut said_at[limit as usize];
        let is_news = said_at.is_none_or(|at| now.saturating_duration_since(at) > WARNING_INTERVAL);
        if is_news {
            *said_at = Some(now);
        }
        is_news
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Telemetry;

    #[test]
    fn each_limit_is_counted_under_its_name_and_said_once_a_minute() {
        let telemetry = Telemetry::new("0");
        let now = Instant::now();
        for (i, limit) in Limit::ALL.into_iter().enumerate() {
            assert_eq!(limit as usize, i, "{}", limit.name());
            assert!(telemetry.limited(limit, now) && !telemetry.limited(limit, now + WARNING_INTERVAL));
            assert!(telemetry.limited(limit, now + WARNING_INTERVAL * 2));
            let line = format!("hubcache_limited_total{{limit=\"{}\"}} 3", limit.name());
            assert!(telemetry.render().lines().any(|l| l == line), "{line}");
        }
    }
}
