//! Files that only the caller's own credential opens: fetched for that caller, verified, and kept nowhere.

use std::sync::Arc;

use http::{StatusCode, header};

use super::file::Refused;
use super::{Asked, Proxy, Reply, answer, status};
use crate::body::{Body, Broken};
use crate::cache::{Fetcher, FillError, Settled};
use crate::model::{Hub, Outcome, Resource, Secret};
use crate::request::{Conditions, Range};
use crate::telemetry::Telemetry;
use crate::upstream::{Answer, Failure, FileBody, Want};

impl Proxy {
    /// Answers with what the hub gives this caller. Nothing of it, not even that it exists, is remembered.
    pub(super) async fn private(
        &self,
        fetcher: &Arc<Fetcher>,
        resource: &Resource,
        asked: &Asked<'_>,
        credential: Secret,
    ) -> Reply {
        if asked.head_only {
            return match fetcher.upstream().inquire(resource, Some(&credential)).await {
                Ok(said) => self.tell(resource, asked, &said, Outcome::Private),
                Err(failure) => status::of_failure(&failure),
            };
        }
        let headers = &asked.parts.headers;
        // Whether If-Range lets a part through is known once the hub has told the tag.
        let tag_decides = headers.contains_key(header::IF_RANGE);
        let range = match self.range(resource, asked, None, &Conditions::default(), None) {
            Ok(range) => range.filter(|_| !tag_decides),
            Err(Refused { seconds }) => return status::guarded(seconds),
        };
        let part = match range {
            Some(Range::Closed(start, end)) => Some((start, Some(end.saturating_add(1)))),
            Some(Range::From(start)) if start > 0 => Some((start, None)),
            _ => None,
        };
        if let Some((start, end)) = part
            && let Some(reply) =
                private_part(fetcher, resource, start, end, &credential, &self.telemetry).await
        {
            return reply;
        }
        self.private_whole(fetcher, resource, asked, credential).await
    }

    async fn private_whole(
        &self,
        fetcher: &Arc<Fetcher>,
        resource: &Resource,
        asked: &Asked<'_>,
        credential: Secret,
    ) -> Reply {
        let ticket = match fetcher.fetch_privately(resource, credential) {
            Ok(ticket) => ticket,
            Err(error) => return status::of_fill(&error),
        };
        match ticket.head().await {
            Ok(Settled::Coming(head)) => self.follow(resource, asked, ticket, &head).await,
            // It ended before its only reader could begin, which an unkept file never does well.
            Ok(Settled::Landed(_)) => status::of_fill(&FillError::Abandoned),
            Err(error) => status::of_fill(&error),
        }
    }
}

/// A part is handed on as the hub sends it; nothing can be checked of it but its place. `None` when it lies outside
/// of the file, whose size the whole file tells.
async fn private_part(
    fetcher: &Arc<Fetcher>,
    resource: &Resource,
    start: u64,
    end: Option<u64>,
    credential: &Secret,
    telemetry: &Telemetry,
) -> Option<Reply> {
    let want = Want { start, end, ..Want::default() };
    let answer = match fetcher.upstream().fetch(resource, &want, Some(credential)).await {
        Ok(answer) => answer,
        Err(Failure::OutOfRange) => return None,
        Err(failure) => return Some(status::of_failure(&failure)),
    };
    let file = &answer.expectation.representation;
    let mut response = answer::file_head(file, None, Outcome::Private, Some("unverified"));
    let size = match (answer.end, file.size) {
        (Some(end), Some(size)) if end > answer.start && end <= size => {
            answer::set_part(&mut response, answer.start, end, size);
            Some(end - answer.start)
        }
        _ => {
            *response.status_mut() = StatusCode::OK;
            file.size
        }
    };
    if let Some(size) = size {
        answer::set_length(response.headers_mut(), size);
    }
    *response.body_mut() = handed_on(answer, size, (telemetry.clone(), resource.hub));
    Some(Reply { response, outcome: Outcome::Private })
}

fn handed_on(answer: Answer, size: Option<u64>, counted: (Telemetry, Hub)) -> Body {
    let next = |(mut body, counted): (FileBody, (Telemetry, Hub))| async move {
        let piece = match body.next().await {
            Ok(None) => return None,
            Ok(Some(bytes)) => {
                counted.0.upstream_received(counted.1, bytes.len() as u64);
                Ok(bytes)
            }
            Err(e) => Err(Broken(Box::new(e))),
        };
        Some((piece, (body, counted)))
    };
    Body::stream(Box::pin(futures_util::stream::unfold((answer.body, counted), next)), size)
}
