//! Where a hub can be asked: its root, and mirrors that are asked while the root is down.
//!
//! A mirror is sent no credentials, so a request that has some is made at the root only. One that fails rests for a while
//! ([`Settings::probe_interval`](super::Settings)); the root itself is watched over by its circuit.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Failure;
use crate::model::{Hub, HubRoot, Roots};

/// A hub's root, or one of its mirrors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Site {
    pub(super) hub: Hub,
    /// Which of the mirrors, if it is one.
    pub(super) mirror: Option<usize>,
}

impl Site {
    /// The root of a hub.
    pub(super) fn root(hub: Hub) -> Self {
        Self { hub, mirror: None }
    }
}

/// All sites, and which of them rest.
pub(super) struct Sites {
    all: BTreeMap<Site, HubRoot>,
    rest: Duration,
    resting: Mutex<BTreeMap<Site, Instant>>,
}

impl Sites {
    /// The roots and their mirrors; one that fails rests for so long.
    pub(super) fn new(roots: &Roots, rest: Duration) -> Self {
        let of = |hub: Hub| {
            let mirrors = roots.mirrors(hub).iter().enumerate();
            let mirrors = mirrors.map(move |(at, root)| (Site { hub, mirror: Some(at) }, root.clone()));
            std::iter::once((Site::root(hub), roots.root(hub).clone())).chain(mirrors)
        };
        let all = Hub::ALL.into_iter().flat_map(of).collect();
        Self { all, rest, resting: Mutex::default() }
    }

    /// Every site there is.
    pub(super) fn all(&self) -> impl Iterator<Item = (Site, &HubRoot)> {
        self.all.iter().map(|(site, root)| (*site, root))
    }

    /// The URL of a site.
    pub(super) fn url(&self, site: Site) -> &HubRoot {
        &self.all[&site]
    }

    /// Where a request is made, in this order; one with credentials at the root alone.
    pub(super) fn for_request(&self, hub: Hub, has_credentials: bool, now: Instant) -> Vec<Site> {
        let resting = self.resting.lock().unwrap_or_else(PoisonError::into_inner);
        let is_asked = |site: &Site| match site.mirror {
            None => true,
            Some(_) => !has_credentials && resting.get(site).is_none_or(|until| *until <= now),
        };
        self.all.keys().copied().filter(|site| site.hub == hub).filter(is_asked).collect()
    }

    /// A mirror failed.
    pub(super) fn failed(&self, site: Site, now: Instant) {
        if site.mirror.is_some() {
            // Each update is one insertion.
            let mut resting = self.resting.lock().unwrap_or_else(PoisonError::into_inner);
            resting.insert(site, now + self.rest);
        }
    }

    /// The way of a request, which begins at the root.
    pub(super) fn round(&self, hub: Hub, has_credentials: bool) -> Round<'_> {
        let mut next = self.for_request(hub, has_credentials, Instant::now()).into_iter();
        let site = next.next().unwrap_or(Site::root(hub));
        Round { sites: self, site, next, first: None }
    }
}

/// One request's way through the sites of its hub.
pub(super) struct Round<'a> {
    sites: &'a Sites,
    /// Where it is made now.
    pub(super) site: Site,
    next: std::vec::IntoIter<Site>,
    /// How it failed at the root.
    first: Option<Failure>,
}

impl Round<'_> {
    /// What became of the request at this site: nothing yet, if another is to be asked.
    pub(super) fn judge<T>(&mut self, answered: Result<T, Failure>) -> Option<Result<T, Failure>> {
        let failure = match answered {
            Err(failure) if failure.is_unanswered() => failure,
            Err(Failure::Refused(mut refusal)) => {
                refusal.by_mirror = self.site.mirror.is_some();
                return Some(Err(Failure::Refused(refusal)));
            }
            answered => return Some(answered),
        };
        self.sites.failed(self.site, Instant::now());
        tracing::debug!(site = %self.sites.url(self.site), error = %failure, "no answer");
        let first = self.first.take().unwrap_or(failure);
        match self.next.next() {
            Some(site) => {
                (self.site, self.first) = (site, Some(first));
                None
            }
            None => Some(Err(first)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_come_behind_the_root_and_rest_after_failures() {
        let url = |text: &str| HubRoot::parse(text).unwrap();
        let hub = Hub::HuggingFace;
        let roots = Roots::new([(hub, url("https://a"), vec![], vec![url("https://b"), url("https://c")])]);
        let sites = Sites::new(&roots, Duration::from_secs(2));
        let now = Instant::now();
        let asked = |credentials, now| -> Vec<String> {
            let sites_for = sites.for_request(hub, credentials, now);
            sites_for.into_iter().map(|site| sites.url(site).to_string()).collect()
        };
        assert_eq!(asked(false, now), ["https://a", "https://b", "https://c"]);
        assert_eq!(asked(true, now), ["https://a"]);
        for site in sites.for_request(hub, false, now).into_iter().take(2) {
            sites.failed(site, now);
        }
        assert_eq!(asked(false, now), ["https://a", "https://c"]);
        assert_eq!(asked(false, now + Duration::from_secs(2)).len(), 3);
        assert_eq!(sites.for_request(Hub::Mozilla, false, now).len(), 1);
    }
}
