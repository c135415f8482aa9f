//! What commands do.

mod blobs;
mod explain;
mod listing;
mod needs;
mod prune;
mod settings;
mod take;
mod transfer;

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::{Command, Context, Failure, Progress, Reply, Row, Selector, Summary, chain, status};
use crate::model::{Decided, Pin, Sha256, Timestamp};
use crate::store::{self, Compared, Store};
use crate::telemetry::audit::{Deed, Doer, Record};

// Often enough for a bar that moves, rarely enough to cost nothing.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// Carries out a command and sends what it has to tell to `sink`, the end included.
///
/// When nobody listens any more, it stops early.
pub async fn execute(context: Context, command: Command, sink: mpsc::Sender<Reply>) {
    let store = context.cache.store().clone();
    let result = match command {
        Command::Ls { selector } => {
            blocking(store, sink.clone(), move |job| job.list(&selector, Detail::Names)).await
        }
        Command::Show { selector } => {
            blocking(store, sink.clone(), move |job| job.list(&selector, Detail::All)).await
        }
        Command::Rm { selector, dry_run: true } => {
            blocking(store, sink.clone(), move |job| job.would_remove(&selector)).await
        }
        Command::Rm { selector, dry_run: false } => remove(&context, selector).await,
        Command::Verify { selector } => blocking(store, sink.clone(), move |job| job.verify(&selector)).await,
        Command::Status => blocking(store, sink.clone(), move |job| job.status(&context)).await,
        Command::Sync => settings::sync(&context, &sink).await,
        Command::Settings => settings::status(&context, &sink).await,
        Command::Needs { keep } => needs::needs(&context, keep, &sink).await,
        Command::Hold { model } => settings::hold(&context, &model, &sink).await,
        Command::Release { model } => settings::release(&context, &model, &sink).await,
        Command::History { model } => settings::history(&context, model.as_deref(), &sink).await,
        Command::Pin { selector, owner, reason, lasting_ms } => {
            let at = Timestamp::now();
            let until = lasting_ms.map(|ms| at.plus(Duration::from_millis(ms)));
            settings::pin(&context, selector, Pin { at, owner, reason, until }, &sink).await
        }
        Command::Unpin { selector } => settings::unpin(&context, selector, &sink).await,
        Command::Prune { to, plan } => prune::prune(&context, to, plan, &sink).await,
        Command::Survey { repo, revision } => transfer::survey(&context, &repo, &revision, &sink).await,
        Command::Bring { files } => transfer::bring(&context, files, &sink).await,
        Command::Take { files } => {
            context.audit(|| {
                let detail =
                    format!("{} files of this machine's disk, to be held without a hub", files.len());
                Record {
                    who: Some(Doer::operator()),
                    ..Record::changed(Timestamp::now(), "imported", detail)
                }
            });
            take::take(&context, files, &sink).await
        }
        Command::Learn { repo, commit, names, absent, imported } => {
            if let Some(imported) = imported {
                context.cache.note_imported(&repo, &commit, &imported).await;
            }
            take::learn(&context, &repo, &commit, names, absent).await
        }
        Command::Read { file } => transfer::read(&context, &file, &sink).await,
        Command::Adopt { settings } => settings::adopt(&context, *settings, &sink).await,
        Command::Blobs { blobs, from } => {
            blocking(store, sink.clone(), move |job| job.send_blobs(&blobs, from)).await
        }
        Command::Session { .. } => Err(Failure {
            error: "a session needs a process that owns the data directory for as long as it lasts"
                .to_owned(),
            exit: Failure::UNAVAILABLE,
        }),
        Command::Explain { request } => {
            blocking(store, sink.clone(), move |job| job.explain(&context, &request)).await
        }
    };
    let last = match result {
        Ok(done) => Reply::Done { done },
        Err(failure) => Reply::Failed(failure),
    };
    // The listener may have left, and then there is nobody to tell.
    let _ = sink.send(last).await;
}

async fn remove(context: &Context, selector: Selector) -> Result<Summary, Failure> {
    let store = context.cache.store();
    let removed = store.remove(&selector.clone().into()).await.map_err(|e| Failure::io("not removed", &e))?;
    let store::Removed { entries, partials, documents, blobs, bytes } = removed;
    context.audit(|| Record {
        at: Timestamp::now(),
        deed: Deed::Evicted,
        who: Some(Doer::operator()),
        hub: selector.hub,
        repo: selector.repo,
        revision: selector.revision,
        path: selector.path,
        bytes: Some(bytes),
        outcome: Some("removed".to_owned()),
        detail: Some(format!("{entries} files, {documents} API answers")),
        ..Record::default()
    });
    Ok(Summary { entries, partials, documents, blobs, bytes, damaged: 0 })
}

/// Runs `work` where reading from the disk stops nobody else.
async fn blocking<W>(store: Store, sink: mpsc::Sender<Reply>, work: W) -> Result<Summary, Failure>
where
    W: FnOnce(&Job) -> Result<Summary, Failure> + Send + 'static,
{
    let job = Job { store, sink };
    let ended = tokio::task::spawn_blocking(move || work(&job)).await;
    ended.unwrap_or_else(|panic| Err(Failure::io("the command failed", &panic)))
}

/// What is told of the answers of a hub's API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Detail {
    /// Which ones are held.
    Names,
    /// What they are like, too.
    All,
}

struct Job {
    store: Store,
    sink: mpsc::Sender<Reply>,
}

impl Job {
    /// Whether somebody still listens.
    fn tell(&self, reply: Reply) -> ControlFlow<()> {
        match self.sink.blocking_send(reply) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    }

    fn would_remove(&self, selector: &Selector) -> Result<Summary, Failure> {
        let (entries, mut blobs) = self.tell_all(selector)?;
        // What another file shares stays.
        blobs.0.retain(|_, seen| seen.here >= seen.references);
        let (partials, documents) = (self.partials(selector)?, self.documents(selector)?);
        Ok(Summary { entries, partials, documents, ..blobs.summary() })
    }

    fn status(&self, context: &Context) -> Result<Summary, Failure> {
        let Some(server) = &context.server else {
            let error = "no server runs here that could tell".to_owned();
            return Err(Failure { error, exit: Failure::UNAVAILABLE });
        };
        let status = Box::new(status::of(context, server, Timestamp::now()));
        let _ = self.tell(Reply::Status { status });
        Ok(Summary::default())
    }

    /// Tells about every selected file.
    fn tell_all(&self, selector: &Selector) -> Result<(u64, Blobs), Failure> {
        let mut blobs = Blobs::default();
        let mut entries = 0;
        self.rows(selector, |row, references| {
            entries += 1;
            blobs.add(&row, references);
            self.tell(Reply::Entry { entry: row })
        })?;
        Ok((entries, blobs))
    }

    /// How many of the selected files are unfinished.
    fn partials(&self, selector: &Selector) -> Result<u64, Failure> {
        let selector = store::Selector::from(selector.clone());
        let all = self.store.partials().map_err(|error| Failure::io("the index cannot be read", &error))?;
        Ok(all.iter().filter(|(key, _)| selector.matches(key)).count() as u64)
    }

    /// How many answers of a hub's API go with the selected files.
    fn documents(&self, selector: &Selector) -> Result<u64, Failure> {
        let mut count = 0;
        let counted = self.store.document_keys(&selector.clone().into(), &mut |_| {
            count += 1;
            ControlFlow::Continue(())
        });
        counted.map(|()| count).map_err(|error| Failure::io("the index cannot be read", &error))
    }

    fn verify(&self, selector: &Selector) -> Result<Summary, Failure> {
        let mut blobs = Blobs::default();
        let mut entries = 0;
        self.rows(selector, |row, references| {
            entries += 1;
            blobs.add(&row, references);
            ControlFlow::Continue(())
        })?;
        let Summary { bytes: total_bytes, .. } = blobs.summary();
        let mut meter = Meter { done_bytes: 0, total_bytes, told: Instant::now() };
        let mut damaged = 0;
        for (digest, seen) in &blobs.0 {
            let suspect = Suspect { digest: *digest, size_bytes: seen.size_bytes };
            match self.check(suspect, &mut meter) {
                ControlFlow::Continue(Compared::Wrong(found)) => {
                    damaged += self.tell_damaged(selector, suspect, &found)?;
                }
                ControlFlow::Continue(Compared::Unread(error)) => {
                    damaged += self.tell_damaged(selector, suspect, &chain(&error))?;
                }
                ControlFlow::Continue(Compared::Intact | Compared::Gone) => {}
                ControlFlow::Break(()) => break,
            }
        }
        Ok(Summary { entries, damaged, ..blobs.summary() })
    }

    /// Reads a blob and compares it with its name; breaks off when nobody listens any more.
    fn check(&self, suspect: Suspect, meter: &mut Meter) -> ControlFlow<(), Compared> {
        let compared = self.store.compare(&suspect.digest, suspect.size_bytes, |read| {
            meter
                .advance(read)
                .map_or(ControlFlow::Continue(()), |progress| self.tell(Reply::Progress { progress }))
        });
        let Some(compared) = compared else { return ControlFlow::Break(()) };
        if let Compared::Intact = compared {
            self.store.scrubbed(&suspect.digest, Timestamp::now());
        }
        ControlFlow::Continue(compared)
    }

    /// Tells about every file that has the bytes of a damaged blob.
    fn tell_damaged(&self, selector: &Selector, suspect: Suspect, found: &str) -> Result<u64, Failure> {
        let mut count = 0;
        self.rows(selector, |row, _| {
            if row.entry.blob != suspect.digest {
                return ControlFlow::Continue(());
            }
            count += 1;
            self.tell(Reply::Damaged { damaged: row, found: found.to_owned() })
        })?;
        Ok(count)
    }

    /// Hands every selected file to `each`, with how many files share its blob.
    fn rows(
        &self,
        selector: &Selector,
        mut each: impl FnMut(Row, u64) -> ControlFlow<()>,
    ) -> Result<(), Failure> {
        let decided =
            self.store.all_decided().map_err(|error| Failure::io("the index cannot be read", &error))?;
        let decided: HashMap<_, _> = decided.into_iter().collect();
        let result = self.store.entries(&selector.clone().into(), &mut |key, entry, blob| {
            let decided = match decided.is_empty() {
                true => Decided::default(),
                false => decided.get(&key.of_revision()).cloned().unwrap_or_default(),
            };
            each(Row { key, entry, last_used: blob.last_used, decided }, blob.refs)
        });
        result.map_err(|error| Failure::io("the index cannot be read", &error))
    }
}

/// Distinct contents of the files that were seen.
#[derive(Default)]
struct Blobs(BTreeMap<Sha256, Seen>);

struct Seen {
    size_bytes: u64,
    /// How many of the files that were seen have it.
    here: u64,
    /// How many files have it at all.
    references: u64,
}

impl Blobs {
    fn add(&mut self, row: &Row, references: u64) {
        let new = Seen { size_bytes: row.entry.size, here: 0, references };
        self.0.entry(row.entry.blob).or_insert(new).here += 1;
    }

    fn summary(&self) -> Summary {
        let bytes = self.0.values().map(|seen| seen.size_bytes).sum();
        Summary { blobs: self.0.len() as u64, bytes, ..Summary::default() }
    }
}

struct Meter {
    done_bytes: u64,
    total_bytes: u64,
    told: Instant,
}

impl Meter {
    fn advance(&mut self, bytes: u64) -> Option<Progress> {
        self.done_bytes += bytes;
        if self.told.elapsed() < PROGRESS_INTERVAL {
            return None;
        }
        self.told = Instant::now();
        Some(Progress { done_bytes: self.done_bytes, total_bytes: self.total_bytes })
    }
}

/// A blob to look at.
#[derive(Clone, Copy, Debug)]
struct Suspect {
    digest: Sha256,
    size_bytes: u64,
}
