//! What the client asked for: the request target and the header fields that decide how to answer.
//!
//! Everything here is parsed once, at the edge, into types that cannot be wrong. Paths are split before they are
//! decoded, because a revision such as `refs%2Fpr%2F1` is one segment.

mod api;
mod classify;
mod credential;
mod fields;
mod hop;
mod named;
mod passed;
mod path;
mod settings;

pub use api::asked_paths;
pub use classify::{Target, classify};
pub use credential::{Presented, SeenAs, Shown, take_credential};
pub use fields::{Conditions, Range, Selected, client_is_firefox, forces_revalidation, is_preflight, select};
pub use hop::drop_hop_by_hop;
pub use named::{Arrival, Named, hub_at, named};
pub use passed::{is_description, is_xet_read_token, is_xet_token, may_write, passed_model};
pub use path::{Reject, encode_path, encode_segment};
pub use settings::{Filter, SETTINGS_PREFIX, SettingsAsk, SettingsTarget, Window};
