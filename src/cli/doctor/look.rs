//! Looking: what is found is told as it is, and judged elsewhere. Nothing is changed, and nothing takes longer than
//! [`PATIENCE`].

pub mod answers;
pub mod clients;
pub mod data;
mod http;
pub mod owner;
pub mod ports;
pub mod trust;
pub mod upstream;

use std::time::Duration;

/// The longest time for one look.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// What is said where that was not enough.
const TOO_LONG: &str = "no answer within 5 s";

/// What `work` gives, if it does so in time.
async fn in_time<T>(work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(|_| Err(TOO_LONG.to_owned()))
}

/// What `work` gives, which reads files and may be kept waiting by a disk that does not answer.
pub async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    in_time(async { tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string()) }).await
}
