//! Remote Settings, and what operators decide of revisions.

use tokio::sync::mpsc;

use super::super::{Context, Failure, Reply, Selector, Summary};
use crate::model::{Happening, Timestamp};
use crate::proxy::Mirror;
use crate::remote_settings as rs;
use crate::store::StoreError;

type Sink = mpsc::Sender<Reply>;

/// Asks the server, and tells how it stands then.
pub(super) async fn sync(context: &Context, sink: &Sink) -> Result<Summary, Failure> {
    let Some(watcher) = &mirror(context)?.watcher else {
        let error = "this is offline, and asks nobody".to_owned();
        return Err(Failure { error, exit: Failure::UNAVAILABLE });
    };
    match context.server {
        Some(_) => watcher.sync().await,
        // Nothing else polls.
        None => watcher.poll().await,
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
    let told = rs::hold(context.cache.store(), model, Timestamp::now()).await;
    done(context, told, sink).await
}

pub(super) async fn release(context: &Context, model: &str, sink: &Sink) -> Result<Summary, Failure> {
    let told = rs::release(context.cache.store(), model, Timestamp::now()).await;
    done(context, told, sink).await
}

pub(super) async fn pin(context: &Context, selector: Selector, sink: &Sink) -> Result<Summary, Failure> {
    let told = rs::pin(context.cache.store(), &selector.into(), Timestamp::now()).await;
    done(context, told, sink).await
}

pub(super) async fn unpin(context: &Context, selector: Selector, sink: &Sink) -> Result<Summary, Failure> {
    let told = rs::unpin(context.cache.store(), &selector.into()).await;
    done(context, told, sink).await
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
    if let Some(mirror) = &context.mirror {
        mirror.remote.decided(&told);
    }
    for happening in told {
        tell(sink, Reply::Happened { happening }).await;
    }
    Ok(Summary::default())
}

async fn tell(sink: &Sink, reply: Reply) {
    // The listener may have left, and then there is nobody to tell.
    let _ = sink.send(reply).await;
}

fn mirror(context: &Context) -> Result<&Mirror, Failure> {
    context.mirror.as_ref().ok_or_else(|| Failure {
        error: "Remote Settings is off (settings.server)".to_owned(),
        exit: Failure::UNAVAILABLE,
    })
}

fn unreadable(error: StoreError) -> Failure {
    Failure::io("the index cannot be read", &error)
}
