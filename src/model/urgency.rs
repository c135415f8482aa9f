//! Whether anybody waits.

/// How much a download matters now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Urgency {
    /// A client waits for it.
    #[default]
    Awaited,
    /// Nobody does: it was announced, preloaded, left over from an earlier run, or found damaged.
    Background,
}
