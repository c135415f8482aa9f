//! Remote Settings, and what operators decide of revisions.

use std::ops::ControlFlow;

use tokio::sync::mpsc;

use super::super::{Context, Failure, Reply, Selector, Summary, chain};
use crate::model::{Happening, LockedSettings, Pin, Timestamp};
use crate::proxy::Mirror;
use crate::remote_settings as rs;
use crate::store::{self, StoreError};
use crate::telemetry::audit::Record;

pub(super) type Sink = mpsc::Sender<Reply>;

/// Asks the server, and tells how it stands then.
pub(super) async fn sync(context: &Context, sink: &Sink) -> Result<Summary, Failure> {
    let Some(watcher) = &mirror(context)?.watcher else {
        let error = "this is offline, and asks nobody".to_owned();
        return Err(Failure { error, exit: Failure::UNAVAILABLE });
    };
    match context.server {
        Some(_) => watcher.sync().await,
        // Nothing else polls.
        None => watcher.poll_everything().await,
    }
    status(context, sink).await
}

/// Tells how it stands.
pub(super) async fn status(context: &Context, sink: &Sink) -> Result<Summary, Failure> {
    let mirror = mirror(context)?;
    let watching = context.server.is_some() && mirror.watcher.is_some();
    let settings = mirror.remote.status(watching, Timestamp::now()).map_err(unreadable)?;
    tell(sink, Reply::Settings { settings: Box::new(settings) }).await;
    Ok(Summary::default())
}

pub(super) async fn hold(context: &Context, model: &str, sink: &Sink) -> Result<Summary, Failure> {
    let _alone = exclusively(context).await;
    let named = context.mirror.as_ref().is_some_and(|m| m.remote.held().revisions(model).next().is_some());
    if !named && !is_held(context, model)? {
        let error = format!("nothing is held of {model}, and no record of Remote Settings names it");
        return Err(Failure { error, exit: Failure::NO_INPUT });
    }
    let told = rs::hold(context.cache.store(), model, Timestamp::now()).await;
    done(context, told, sink).await
}

pub(super) async fn release(context: &Context, model: &str, sink: &Sink) -> Result<Summary, Failure> {
    let _alone = exclusively(context).await;
    let told = rs::release(context.cache.store(), model, Timestamp::now()).await;
    done(context, told, sink).await
}

pub(super) async fn pin(
    context: &Context,
    selector: Selector,
    pin: Pin,
    sink: &Sink,
) -> Result<Summary, Failure> {
    let _alone = exclusively(context).await;
    let told = rs::pin(context.cache.store(), &selector.into(), pin).await;
    done(context, told, sink).await
}

pub(super) async fn unpin(context: &Context, selector: Selector, sink: &Sink) -> Result<Summary, Failure> {
    let _alone = exclusively(context).await;
    let told = rs::unpin(context.cache.store(), &selector.into()).await;
    done(context, told, sink).await
}

/// Takes over what was imported of Remote Settings.
pub(super) async fn adopt(
    context: &Context,
    locked: LockedSettings,
    sink: &Sink,
) -> Result<Summary, Failure> {
    let mirror = mirror(context)?;
    let (store, roots) = (context.cache.store().clone(), mirror.remote.settings().roots.clone());
    let read = tokio::task::spawn_blocking(move || rs::Delivered::held(&store, &locked, &roots));
    let delivered = read.await.map_err(|panic| Failure::io("the command failed", &panic))??;
    let taken = mirror.remote.take_over(delivered, mirror.watcher.as_deref()).await;
    for taken in taken.map_err(|error| Failure::io("Remote Settings cannot be stored", &error))? {
        tell(sink, Reply::Taken { taken }).await;
    }
    Ok(Summary::default())
}

impl From<rs::Undeliverable> for Failure {
    fn from(why: rs::Undeliverable) -> Self {
        Self { error: chain(&why), exit: Self::DATA }
    }
}

/// Tells what happened, the oldest first.
pub(super) async fn history(context: &Context, model: Option<&str>, sink: &Sink) -> Result<Summary, Failure> {
    let happenings = context.cache.store().history(model).map_err(unreadable)?;
    for happening in happenings {
        tell(sink, Reply::Happened { happening }).await;
    }
    Ok(Summary::default())
}

/// Tells what an operator's decision has done, whoever else listens too.
async fn done(
    context: &Context,
    told: Result<Vec<Happening>, StoreError>,
    sink: &Sink,
) -> Result<Summary, Failure> {
    let told = told.map_err(|error| Failure::io("nothing was decided", &error))?;
    match &context.mirror {
        Some(mirror) => mirror.remote.decided(&told),
        None => told.iter().for_each(|happening| context.audit(|| Record::of(happening))),
    }
    for happening in told {
        tell(sink, Reply::Happened { happening }).await;
    }
    Ok(Summary::default())
}

/// Keeps announcements from being carried out until the guard is dropped.
pub(super) async fn exclusively(context: &Context) -> Option<tokio::sync::MutexGuard<'_, ()>> {
    match &context.mirror {
        Some(mirror) => Some(mirror.remote.exclusively().await),
        None => None,
    }
}

/// Whether anything is held of a model.
fn is_held(context: &Context, model: &str) -> Result<bool, Failure> {
    let selector = store::Selector { repo: Some(model.to_owned()), ..store::Selector::default() };
    let mut any = false;
    let read = context.cache.store().entries(&selector, &mut |_, _, _| {
        any = true;
        ControlFlow::Break(())
    });
    read.map(|()| any).map_err(unreadable)
}

pub(super) async fn tell(sink: &Sink, reply: Reply) {
    // The listener may have left, and then there is nobody to tell.
    let _ = sink.send(reply).await;
}

pub(super) fn mirror(context: &Context) -> Result<&Mirror, Failure> {
    context.mirror.as_ref().ok_or_else(|| Failure {
        error: "Remote Settings is off (settings.server)".to_owned(),
        exit: Failure::UNAVAILABLE,
    })
}

pub(super) fn unreadable(error: StoreError) -> Failure {
    Failure::io("the index cannot be read", &error)
}
