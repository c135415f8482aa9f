//! May we serve it, from where, and how fast may it leave. Pure: settings, facts and the time go in, a decision
//! comes out.

pub mod access;
mod barred;
mod crowd;
mod denylist;
pub mod egress;
mod entitlement;
pub mod evict;
mod guard;
mod models;
mod network;
mod plan;
pub mod rate;
mod release;
mod settle;

use std::sync::Arc;
use std::time::Duration;

pub use access::{Access, Peer, Who};
pub use barred::{Barred, FileFormat, ModelRules, PathPattern};
pub use crowd::{Crowd, Crowded, Spot};
pub use denylist::{DENY_LIST, Denied, DenyFor, DenyList};
pub use egress::{Asker, Denial, Egress, Scope, scope};
pub use entitlement::{Entitlement, Unasked, is_for_all};
pub use guard::{Guarded, guard};
pub use models::{BadModelPattern, ModelPattern};
pub use plan::{Ask, Check, Held, Plan, plan};
pub use release::{Progress, RESERVE, Release, release};
pub use settle::{Holding, settle};

/// What an operator can set of these decisions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// How long the meaning of a branch or tag, or of Mozilla's `main`, is taken for granted.
    pub ref_ttl: Duration,
    /// How long a GET waits for the hub when something is held.
    pub revalidate_budget: Duration,
    /// How long a HEAD waits for the hub when something is held; Firefox gives up after 1 s.
    pub head_budget: Duration,
    /// How old the last word of the hub may be when it does not answer; `None` for any age.
    pub stale_max: Option<Duration>,
    /// How long `verified` delivery waits for the verdict before it streams; below Firefox's 300 s.
    pub hold: Duration,
    /// How long a body may be silent before it sends a byte of its reserve; clients give up after 10 s.
    pub drip: Duration,
    /// Delivery of files of the Mozilla layout.
    pub delivery_mozilla: Delivery,
    /// Delivery of files of the Hugging Face layout, except to Firefox.
    pub delivery_huggingface: Delivery,
    /// What becomes of requests that could change something at a hub.
    pub uploads: Uploads,
    /// Which models and files nobody is given.
    pub models: Arc<ModelRules>,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            ref_ttl: Duration::from_secs(60),
            revalidate_budget: Duration::from_secs(2),
            head_budget: Duration::from_millis(800),
            stale_max: None,
            hold: Duration::from_secs(240),
            drip: Duration::from_secs(3),
            delivery_mozilla: Delivery::Verified,
            delivery_huggingface: Delivery::Stream,
            uploads: Uploads::Pass,
            models: Arc::default(),
        }
    }
}

impl Rules {
    /// How a body is delivered: Firefox is always given `verified` delivery, because a body that ends early makes
    /// it keep an empty file for good.
    pub fn delivery(&self, hub: crate::model::Hub, client_is_firefox: bool) -> Delivery {
        match hub {
            _ if client_is_firefox => Delivery::Verified,
            crate::model::Hub::Mozilla => self.delivery_mozilla,
            crate::model::Hub::HuggingFace | crate::model::Hub::Settings => self.delivery_huggingface,
        }
    }
}

/// When the bytes of a file that is still on its way are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// As they arrive; the last byte is withheld until the verdict.
    Stream,
    /// After the verdict, or after [`Rules::hold`] as they arrive.
    Verified,
}

/// What becomes of requests that could change something at a hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uploads {
    /// They are handed on.
    Pass,
    /// They are refused.
    Refuse,
}
