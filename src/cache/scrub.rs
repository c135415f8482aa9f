//! The scrub: what is held is read again and hashed, in the background and at a rate of its own.
//!
//! # States
//! *Waiting* until something is due, which is `every` after it was last hashed (a fill hashes what it stores) · *reading*
//! blobs, those first that were not hashed for longest, one at a time · for a damaged one: *condemned* by the store,
//! *told* (log, history, metric), and where there is a way to its hub *fetched again* in the background.
//!
//! # Who owns what
//! The task owns nothing but its place in the list. What is being read is leased, as by any reader. Downloads are fills
//! like others.
//!
//! # Failure cases
//! - Bytes that cannot be read are no proof of damage: it is logged, and they are tried again.
//! - No way to the hub, or a hub that does not give the file: it is gone, as is said; the next client that asks for it
//!   while the hub can be asked begins a fill.
//! - A crash: what was condemned and not yet taken out of the index is found again.
//!
//! What is in memory, in that of the system or among the pages of the database, is read there, as it would be served
//! from there; the disk under it is read once that is let go.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Cache, Fetcher};
use crate::model::{Entry, EntryKey, Event, Happening, Sha256, Timestamp};
use crate::policy::rate::Bucket;
use crate::store::{Compared, Decision};
use crate::telemetry::Telemetry;

/// Blobs that are looked up at a time.
const AT_A_TIME: usize = 1000;
/// How often it is looked whether something is due, at least and at most.
const LOOK: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(600));
/// The longest wait in one piece, so that a process that ends is not waited for.
const STEP: Duration = Duration::from_millis(200);

/// What an operator can set of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScrubSettings {
    /// How old the last reading may be; `None` for any age.
    pub every: Option<Duration>,
    /// Bytes that are read a second.
    pub rate_bytes: u64,
}

/// Reads what is held again.
pub struct Scrubber {
    settings: ScrubSettings,
    cache: Arc<Cache>,
    fetcher: Option<Arc<Fetcher>>,
    telemetry: Telemetry,
}

impl Scrubber {
    /// One for this cache; without a fetcher, what is damaged is gone.
    pub fn new(
        settings: ScrubSettings,
        cache: Arc<Cache>,
        fetcher: Option<Arc<Fetcher>>,
        telemetry: Telemetry,
    ) -> Arc<Self> {
        Arc::new(Self { settings, cache, fetcher, telemetry })
    }

    /// Reads what is due, until it is dropped.
    pub async fn run(self: Arc<Self>) {
        let Some(every) = self.settings.every else { return };
        loop {
            let next = self.round(every).await;
            tokio::time::sleep(next.clamp(LOOK.0, LOOK.1)).await;
        }
    }

    /// Reads what is due now; how long it is until more is.
    async fn round(self: &Arc<Self>, every: Duration) -> Duration {
        let age = u64::try_from(every.as_millis()).unwrap_or(u64::MAX);
        let before = Timestamp(Timestamp::now().0.saturating_sub(age));
        let store = self.cache.store().clone();
        let due = tokio::task::spawn_blocking(move || store.due_for_scrub(before, AT_A_TIME)).await;
        let due = match due {
            Ok(Ok(due)) => due,
            Ok(Err(error)) => {
                tracing::warn!(%error, "what is due to be read again cannot be looked up");
                return LOOK.1;
            }
            Err(_) => return LOOK.1,
        };
        let mut is_any_read = due.blobs.is_empty();
        for (digest, size) in due.blobs {
            is_any_read |= self.scrub(digest, size).await;
        }
        if !is_any_read {
            // The same would come again at once.
            return LOOK.1;
        }
        // By now the first of these may be due again.
        due.next.map_or(every, |next| Timestamp::now().age(next.plus(every)))
    }

    /// Whether it was read.
    async fn scrub(self: &Arc<Self>, digest: Sha256, size: u64) -> bool {
        let scrubber = Arc::clone(self);
        // The thread ends by itself soon after the task, because nobody holds it up for longer than a step.
        let alive = Arc::new(());
        let watched = Arc::downgrade(&alive);
        let read = tokio::task::spawn_blocking(move || {
            let mut bucket = Bucket::default();
            scrubber.cache.store().compare(&digest, size, |bytes| {
                scrubber.telemetry.scrubbed(bytes);
                let now = Instant::now();
                bucket.spend(
                    usize::try_from(bytes).unwrap_or(usize::MAX),
                    Some(scrubber.settings.rate_bytes),
                    now,
                );
                let until = bucket.ready_at(now);
                while watched.strong_count() > 0 {
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return ControlFlow::Continue(());
                    }
                    std::thread::sleep(left.min(STEP));
                }
                ControlFlow::Break(())
            })
        })
        .await;
        drop(alive);
        let is_read = !matches!(read, Ok(Some(Compared::Unread(_))) | Err(_));
        match read {
            Ok(Some(Compared::Intact)) => {
                self.telemetry.scrubbed_one();
                self.cache.store().scrubbed(&digest, Timestamp::now());
            }
            Ok(Some(Compared::Wrong(found))) => {
                self.telemetry.scrubbed_one();
                self.condemn(digest, &found).await;
            }
            Ok(Some(Compared::Unread(error))) => {
                tracing::warn!(%error, sha256 = %digest, "what is held cannot be read again; it is tried later");
            }
            Ok(Some(Compared::Gone) | None) | Err(_) => {}
        }
        is_read
    }

    /// Lets go of what is damaged, tells it, and has it fetched again.
    async fn condemn(&self, digest: Sha256, found: &str) {
        self.telemetry.found_damaged();
        tracing::error!(sha256 = %digest, found, "what is held is damaged; it is not served any more");
        let until = Timestamp::now().plus(self.cache.mark_for);
        let gone = match self.cache.store().condemn(&digest, until).await {
            Ok(gone) => gone,
            Err(error) => {
                tracing::error!(%error, sha256 = %digest, "what is damaged cannot be taken out of the index");
                return;
            }
        };
        let has_way =
            |key: &EntryKey| self.fetcher.is_some() && *self.cache.roots().root(key.hub) == key.root;
        let told = |(key, entry): &(EntryKey, Entry)| {
            let then = if has_way(key) {
                "it is fetched again"
            } else {
                "it is gone, for there is no way to the hub"
            };
            tracing::error!(file = %key, size_bytes = entry.size, "a damaged file was let go: {then}");
            let detail = format!("{}: sha256 {digest}, found {found}; {then}", key.path);
            Decision::Note(of(key, Event::Damaged, detail))
        };
        self.note(gone.iter().map(told).collect()).await;
        if let Some(fetcher) = &self.fetcher {
            for (key, _) in gone.into_iter().filter(|(key, _)| has_way(key)) {
                tokio::spawn(fetch_again(Arc::clone(fetcher), key));
            }
        }
    }

    async fn note(&self, notes: Vec<Decision>) {
        if let Err(error) = self.cache.store().decide(notes).await {
            tracing::warn!(%error, "that files are damaged cannot be written to the history");
        }
    }
}

/// Brings what was damaged. Nobody waits for it.
async fn fetch_again(fetcher: Arc<Fetcher>, key: EntryKey) {
    let resource = key.resource();
    match fetcher.bring(&resource).await {
        Ok(_) => {
            tracing::info!(file = %key, "a damaged file was fetched again");
            let detail = format!("{} again, because it was damaged", key.path);
            let note = Decision::Note(of(&key, Event::Fetched, detail));
            if let Err(error) = fetcher.cache().store().decide(vec![note]).await {
                tracing::warn!(%error, "that a file was fetched again cannot be written to the history");
            }
        }
        Err(error) => tracing::warn!(file = %key, %error, "a damaged file was not fetched again"),
    }
}

fn of(key: &EntryKey, event: Event, detail: String) -> Happening {
    Happening {
        at: Timestamp::now(),
        event,
        model: key.repo.to_string(),
        hub: Some(key.hub),
        revision: Some(key.revision.clone()),
        to: None,
        detail,
    }
}
