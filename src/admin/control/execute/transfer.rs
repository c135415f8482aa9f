//! Bringing files here, and what hubs have.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::stream::{self, StreamExt as _};
use tokio::sync::mpsc;

use super::super::{Brought, Context, Failure, Listed, MAX_READ, MAX_WANTED, Moving, Reply, Summary, Wanted};
use crate::cache::{Fetcher, NotBrought, View};
use crate::model::{Digest, EntryKey, Hub, Repo, Resource, Revision};
use crate::store::StoreError;

/// Files that are brought at a time.
const AT_A_TIME: usize = 8;
/// How often it is told how far files are.
const TELL: Duration = Duration::from_millis(200);

type Sink = mpsc::Sender<Reply>;

/// Tells for what a revision stands, and which files that has.
pub(super) async fn survey(
    context: &Context,
    repo: &Repo,
    revision: &str,
    sink: &Sink,
) -> Result<Summary, Failure> {
    let fetcher = fetcher(context)?;
    let revision = Revision::parse(Hub::HuggingFace, revision);
    let survey = fetcher.survey(repo, &revision).await.map_err(|error| match error {
        NotBrought::Missing => {
            let error = format!("the hub has no {repo}@{}, or not for everybody", revision.as_str());
            Failure { error, exit: Failure::NO_INPUT }
        }
        other => Failure { error: other.to_string(), exit: Failure::TRY_AGAIN },
    })?;
    let at = Revision::Commit(survey.commit.clone());
    tell(sink, Reply::Resolved { resolved: survey.commit }).await;
    for file in survey.files {
        let resource = resource(Hub::HuggingFace, repo, &at, &file.path);
        let held = context.cache.look_up(&resource, View::Latest).ok().and_then(|found| found.current);
        let held =
            held.filter(|entry| is_of(&file.digest, entry.blob, entry.promises.iter().map(|p| p.digest)));
        let listed = Listed {
            path: file.path,
            size: file.size,
            digest: file.digest,
            held: held.map(|entry| entry.blob),
        };
        tell(sink, Reply::Listed { listed }).await;
    }
    Ok(Summary::default())
}

/// Whether what is held is what the hub lists.
fn is_of(
    listed: &Option<Digest>,
    blob: crate::model::Sha256,
    mut promised: impl Iterator<Item = Digest>,
) -> bool {
    match listed {
        None => true,
        Some(Digest::Sha256(sha256)) => *sha256 == blob,
        Some(other) => promised.any(|digest| digest == *other),
    }
}

/// Brings files here, and tells of each how far it is and what became of it.
pub(super) async fn bring(context: &Context, files: Vec<Wanted>, sink: &Sink) -> Result<Summary, Failure> {
    if files.len() > MAX_WANTED {
        return Err(Failure { error: format!("at most {MAX_WANTED} files at a time"), exit: Failure::USAGE });
    }
    let resources: Vec<Resource> = files
        .iter()
        .map(|file| {
            let revision = Revision::parse(file.hub, &file.revision);
            resource(file.hub, &file.repo, &revision, &file.path)
        })
        .collect();
    let roots = context.cache.roots();
    let places: HashMap<EntryKey, usize> =
        resources.iter().enumerate().map(|(at, r)| (r.key(roots.root(r.hub)), at)).collect();
    let jobs: Vec<(usize, (Wanted, Resource))> = files.into_iter().zip(resources).enumerate().collect();
    let brought = stream::iter(jobs)
        .map(|(at, (file, resource))| {
            let (context, sink) = (context.clone(), sink.clone());
            async move {
                let brought = Box::new(one(&context, at, &file, &resource).await);
                // When nobody listens any more, what has begun goes on all the same.
                sink.send(Reply::Brought { brought }).await.is_ok()
            }
            .boxed()
        })
        .buffer_unordered(AT_A_TIME)
        .take_while(|heard| std::future::ready(*heard))
        .for_each(|_| std::future::ready(()));
    let telling = async {
        let Some(fetcher) = &context.fetcher else { return std::future::pending().await };
        loop {
            tokio::time::sleep(TELL).await;
            for running in fetcher.running() {
                if let Some(at) = places.get(&running.key) {
                    let (arrived_bytes, size_bytes) = (running.arrived_bytes, running.size_bytes);
                    tell(sink, Reply::Moving { moving: Moving { at: *at, arrived_bytes, size_bytes } }).await;
                }
            }
        }
    };
    tokio::select! {
        () = brought => {}
        () = telling => {}
    }
    Ok(Summary::default())
}

/// Tells what a small file says.
pub(super) async fn read(context: &Context, file: &Wanted, sink: &Sink) -> Result<Summary, Failure> {
    let resource = resource(file.hub, &file.repo, &Revision::parse(file.hub, &file.revision), &file.path);
    let failed = |error: StoreError| Failure::io("the file cannot be read", &error);
    let found = context.cache.look_up(&resource, View::Latest).map_err(failed)?;
    let held = found.current.filter(|entry| entry.size <= MAX_READ);
    let blob = held.map(|entry| context.cache.store().open_blob(&entry.blob)).transpose().map_err(failed)?;
    let Some(blob) = blob.flatten() else {
        let error = format!("{resource} is not held, or longer than {MAX_READ} bytes");
        return Err(Failure { error, exit: Failure::NO_INPUT });
    };
    let read = tokio::task::spawn_blocking(move || blob.read(0)).await;
    let bytes = read.map_err(|error| Failure::io("the file cannot be read", &error))?.map_err(failed)?;
    let text = String::from_utf8(bytes.to_vec())
        .map_err(|_| Failure { error: format!("{resource} is no text"), exit: Failure::DATA })?;
    tell(sink, Reply::Text { text }).await;
    Ok(Summary::default())
}

async fn one(context: &Context, at: usize, file: &Wanted, resource: &Resource) -> Brought {
    let none = Brought { at, entry: None, was_held: false, is_missing: false, trouble: None };
    expect_attachment(context, resource);
    let held = context.cache.look_up(resource, View::Latest).ok().and_then(|found| found.current);
    let before = held.as_ref().map(|entry| entry.blob);
    let brought = match (held, &context.fetcher) {
        // What may have changed is compared with the hub.
        (Some(entry), fetcher) if resource.revision.is_immutable() || fetcher.is_none() => Ok(entry),
        (_, Some(fetcher)) => fetcher.bring(resource).await,
        (_, None) => {
            return Brought {
                trouble: Some(
                    "it is not held, and whoever owns the data directory is offline or frozen".to_owned(),
                ),
                ..none
            };
        }
    };
    match brought {
        Ok(entry) => {
            let is_other = file.sha256.filter(|wanted| *wanted != entry.blob);
            let trouble = is_other.map(|wanted| format!("it is sha256:{}, not sha256:{wanted}", entry.blob));
            let was_held = before == Some(entry.blob);
            Brought { entry: Some(Arc::unwrap_or_clone(entry)), was_held, trouble, ..none }
        }
        Err(error) => {
            let is_missing = matches!(error, NotBrought::Missing);
            Brought { is_missing, trouble: Some(error.to_string()), ..none }
        }
    }
}

/// What comes of an attachment is held against the size that its record says, if there is one.
fn expect_attachment(context: &Context, resource: &Resource) {
    if resource.hub == Hub::Settings
        && let Some(mirror) = &context.mirror
        && let Some((file, size)) = mirror.remote.held().attachment(&resource.path)
        && file == *resource
    {
        context.cache.expect_size(resource, size);
    }
}

fn resource(hub: Hub, repo: &Repo, revision: &Revision, path: &str) -> Resource {
    Resource { hub, repo: repo.clone(), revision: revision.clone(), path: path.to_owned() }
}

async fn tell(sink: &Sink, reply: Reply) {
    // The listener may have left, and then there is nobody to tell.
    let _ = sink.send(reply).await;
}

fn fetcher(context: &Context) -> Result<&Arc<Fetcher>, Failure> {
    context.fetcher.as_ref().ok_or_else(|| Failure {
        error: "whoever owns the data directory is offline or frozen, and asks no hub".to_owned(),
        exit: Failure::UNAVAILABLE,
    })
}
