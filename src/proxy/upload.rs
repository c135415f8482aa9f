//! Refusing requests with a body: those that could change something at a hub, and those of whoever may not.

use std::time::Duration;

use http::request::Parts;
use http::{Method, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;

use super::{Reply, status};
use crate::policy::{Rules, Uploads};
use crate::request::may_write;

/// How much of a refused body is read, in bytes.
const MAX_UNWANTED: usize = 4 << 20;
/// How long it is read.
const UNWANTED_WAIT: Duration = Duration::from_secs(2);

/// Whether a request that would be handed on is refused.
pub(super) fn is_refused(rules: &Rules, method: &Method, path_and_query: &str) -> bool {
    rules.uploads == Uploads::Refuse && may_write(method, path_and_query)
}

/// Refuses.
pub(super) async fn refused(head: &Parts, body: Incoming) -> Reply {
    drain(head, body).await;
    status::no_uploads()
}

/// The refusal of a request whose method was not looked at.
pub(super) async fn turned_away(reply: Reply, head: &Parts, body: Incoming) -> Reply {
    drain(head, body).await;
    if head.method == Method::HEAD { status::without_body(reply) } else { reply }
}

/// Reads a short body that is on its way anyhow, before a refusal. A client that still sends when the connection ends
/// may see that end in place of the answer.
async fn drain(head: &Parts, body: Incoming) {
    // Who waits to be told to go on has sent nothing yet, and reading would tell it to.
    if !head.headers.contains_key(header::EXPECT) {
        let mut body = Limited::new(body, MAX_UNWANTED);
        let read = async { while let Some(Ok(_)) = body.frame().await {} };
        // Whatever goes wrong here is the client's own affair.
        let _ = tokio::time::timeout(UNWANTED_WAIT, read).await;
    }
}
