//! Files that lie on this machine's disk, and what a client has noted of them.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt as _};
use tokio::sync::mpsc;

use super::super::{Brought, Context, Failure, Found, MAX_FOUND, Moving, Reply, Summary};
use crate::cache::{NotTaken, Offered, Progress, Source};
use crate::model::{Commit, Repo, Resource, Revision, Timestamp};

/// Files that are read at a time.
const AT_A_TIME: usize = 4;
/// How often it is told how far a file is.
const TELL: Duration = Duration::from_millis(200);

type Sink = mpsc::Sender<Reply>;

/// Holds files, and tells of each how far it is and what became of it. A failure of the store ends all of them.
pub(super) async fn take(context: &Context, files: Vec<Found>, sink: &Sink) -> Result<Summary, Failure> {
    if files.len() > MAX_FOUND {
        return Err(Failure { error: format!("at most {MAX_FOUND} files at a time"), exit: Failure::USAGE });
    }
    let stop = Arc::new(AtomicBool::new(false));
    let taken = stream::iter(files.into_iter().enumerate()).map(|(at, found)| {
        let (sink, stop) = (sink.clone(), Arc::clone(&stop));
        async move {
            let taken = one(context, at, found, &sink, &stop).await;
            if taken.is_err() {
                stop.store(true, Ordering::Relaxed);
            }
            taken
        }
    });
    // Each ends by itself, so that none leaves half a file behind.
    let ended: Vec<_> = taken.buffer_unordered(AT_A_TIME).collect().await;
    ended.into_iter().collect::<Result<(), Failure>>().map(|()| Summary::default())
}

async fn one(
    context: &Context,
    at: usize,
    found: Found,
    sink: &Sink,
    stop: &Arc<AtomicBool>,
) -> Result<(), Failure> {
    if stop.load(Ordering::Relaxed) || sink.is_closed() {
        return Ok(());
    }
    let Found { file, at: place, stretch, promises, since, access } = found;
    let sha256 = file.sha256;
    let source = match (place, stretch) {
        (None, _) => Source::Held,
        (Some(file), None) => Source::File(file),
        (Some(file), Some((at, length))) => Source::Stretch { file, at, length },
    };
    let revision = Revision::parse(file.hub, &file.revision);
    let resource = Resource { hub: file.hub, repo: file.repo, revision, path: file.path };
    let progress = progress(at, sink.clone(), Arc::clone(stop));
    let none = Brought { at, entry: None, was_held: false, is_missing: false, trouble: None };
    let brought = match context
        .cache
        .take(&resource, Offered { source, promises, sha256, since, access }, progress)
        .await
    {
        Ok((entry, was_held)) => Brought { entry: Some(Arc::unwrap_or_clone(entry)), was_held, ..none },
        Err(NotTaken::Store(error)) => {
            return Err(Failure::io(&format!("{resource} could not be stored"), &error));
        }
        Err(why) => Brought { trouble: Some(why.to_string()), ..none },
    };
    // The listener may have left, and then there is nobody to tell.
    let _ = sink.send(Reply::Brought { brought: Box::new(brought) }).await;
    Ok(())
}

/// Tells now and then how far a file is, and ends the reading when nobody listens any more.
fn progress(at: usize, sink: Sink, stop: Arc<AtomicBool>) -> Progress {
    let told = Mutex::new(Instant::now());
    Arc::new(move |arrived_bytes, size_bytes| {
        let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.elapsed() >= TELL {
            *told = Instant::now();
            let moving = Moving { at, arrived_bytes, size_bytes: Some(size_bytes) };
            // Where more is told than is heard, this is told the next time.
            let _ = sink.try_send(Reply::Moving { moving });
        }
        let goes_on = !stop.load(Ordering::Relaxed) && !sink.is_closed();
        if goes_on { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })
}

/// Notes what a client has noted of a commit.
pub(super) async fn learn(
    context: &Context,
    repo: &Repo,
    commit: &Commit,
    names: Vec<(String, Timestamp)>,
    absent: Vec<String>,
) -> Result<Summary, Failure> {
    let learned = context.cache.learn(repo, commit, names, absent).await;
    learned.map_err(|error| Failure::io("the index cannot be read", &error))?;
    Ok(Summary::default())
}
