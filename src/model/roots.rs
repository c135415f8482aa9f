//! Where the hubs are.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Hub, HubRoot};

/// Where each hub is, and which other roots count as the same; a clone is cheap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roots(Arc<BTreeMap<Hub, Places>>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Places {
    root: HubRoot,
    equivalents: Vec<HubRoot>,
    mirrors: Vec<HubRoot>,
}

impl Roots {
    /// Takes a root, its equivalents, and its mirrors, which are equivalents too, for each hub of which there is
    /// something to say.
    pub fn new(said: impl IntoIterator<Item = (Hub, HubRoot, Vec<HubRoot>, Vec<HubRoot>)>) -> Self {
        let default = |hub: Hub| HubRoot::parse(hub.default_root()).expect("the built-in roots are URLs");
        let places = |hub| Places { root: default(hub), equivalents: Vec::new(), mirrors: Vec::new() };
        let mut all: BTreeMap<_, _> = Hub::ALL.into_iter().map(|hub| (hub, places(hub))).collect();
        all.extend(said.into_iter().map(|(hub, root, mut equivalents, mirrors)| {
            equivalents.extend(mirrors.iter().cloned());
            (hub, Places { root, equivalents, mirrors })
        }));
        Self(Arc::new(all))
    }

    /// Where a hub is.
    pub fn root(&self, hub: Hub) -> &HubRoot {
        &self.0[&hub].root
    }

    /// Other roots whose entries count as this hub's own.
    pub fn equivalents(&self, hub: Hub) -> &[HubRoot] {
        &self.0[&hub].equivalents
    }

    /// Where else a hub is asked while it is down, in this order.
    pub fn mirrors(&self, hub: Hub) -> &[HubRoot] {
        &self.0[&hub].mirrors
    }

    /// Whether a hub is asked over TLS.
    pub fn any_over_tls(&self) -> bool {
        let mut asked =
            self.0.values().flat_map(|places| std::iter::once(&places.root).chain(&places.mirrors));
        asked.any(|root| root.as_str().starts_with("https:"))
    }
}

impl Default for Roots {
    fn default() -> Self {
        Self::new([])
    }
}
