//! What Firefox needs of models and of Remote Settings, and keeping that as a lock pins it.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::super::{Context, Failure, Reply, Summary};
use super::settings::{Sink, exclusively, mirror, tell, unreadable};
use crate::cache::{NotTaken, Offered, Source};
use crate::model::{
    EntryKey, Hub, LockedSettings, Needed, Openness, Repo, RepoKind, Resource, Revision, Timestamp,
};
use crate::remote_settings::{self as rs, Lockable, OPTIONS};

/// Tells what Firefox needs by the state that is held now; with `keep` that state stays here, whatever is announced.
pub(super) async fn needs(context: &Context, keep: bool, sink: &Sink) -> Result<Summary, Failure> {
    let (needed, mut locked) = at_once(context, keep).await?;
    for needed in needed {
        tell(sink, Reply::Needed { needed }).await;
    }
    // Each is a line of its own, so that no line becomes too long.
    let attachments = std::mem::take(&mut locked.attachments);
    tell(sink, Reply::Locked { locked: Box::new(locked) }).await;
    for (location, attached) in attachments {
        tell(sink, Reply::Attached { location, attached }).await;
    }
    Ok(Summary::default())
}

/// Reads one state, and keeps it before there can be another.
async fn at_once(context: &Context, keep: bool) -> Result<(Vec<Needed>, LockedSettings), Failure> {
    let remote = Arc::clone(&mirror(context)?.remote);
    let _alone = exclusively(context).await;
    let needed = remote.held().needs().ok_or_else(|| Failure {
        error: format!("nothing is held of main/{OPTIONS}"),
        exit: Failure::NO_INPUT,
    })?;
    let root = context.cache.roots().root(Hub::Mozilla);
    let judged = |needed: Needed| {
        let denied = remote.denied_to_some(&at_hub(&needed), root).map(|denied| denied.id);
        Needed { denied, ..needed }
    };
    let needed = needed.into_iter().map(judged).collect();
    let read = tokio::task::spawn_blocking(move || remote.lockable()).await;
    let lockable = read.map_err(|error| Failure::io("the index cannot be read", &error))?;
    let lockable = lockable.map_err(unreadable)?;
    if keep {
        keep_parts(context, &lockable).await?;
    }
    Ok((needed, lockable.locked))
}

/// Below what the files are that are needed.
fn at_hub(needed: &Needed) -> Resource {
    let (hub, kind) = (Hub::Mozilla, RepoKind::Model);
    let repo = Repo { kind, id: needed.repo.clone() };
    Resource { hub, repo, revision: Revision::parse(hub, &needed.revision), path: String::new() }
}

/// Holds the parts as files, and pins them.
async fn keep_parts(context: &Context, lockable: &Lockable) -> Result<(), Failure> {
    let root = context.cache.roots().root(Hub::Settings);
    let mut keys: Vec<EntryKey> = Vec::new();
    for (file, bytes) in &lockable.parts {
        let source = Source::Memory(bytes.clone());
        let since = Timestamp::now();
        let access = Openness::Public { confirmed_at: since };
        let offered = Offered { source, promises: vec![], sha256: None, since, access };
        let taken = context.cache.take(file, offered, Arc::new(|_, _| ControlFlow::Continue(()))).await;
        taken.map_err(|error| not_kept(&file.to_string(), &error))?;
        keys.push(file.key(root));
    }
    let told = rs::keep(context.cache.store(), &keys, Timestamp::now()).await;
    let told = told.map_err(|error| Failure::io("what is locked cannot be pinned", &error))?;
    if let Some(mirror) = &context.mirror {
        mirror.remote.decided(&told);
    }
    Ok(())
}

fn not_kept(file: &str, error: &NotTaken) -> Failure {
    Failure::io(&format!("{file} cannot be kept"), error)
}
