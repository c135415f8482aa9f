//! A request for a file.

use std::sync::Arc;

use http::request::Parts;
use http::{HeaderMap, HeaderValue, header};
use tokio::time::Instant;

use super::frozen::Pending;
use super::{Asked, Proxy, Reply, Visit, answer, hot, status, view};
use crate::body::{Body, Stored};
use crate::cache::{Checked, Fetcher, FillError, Follower, Found, Landed, Settled, Ticket};
use crate::hub;
use crate::model::{Entry, Expectation, Hub, Outcome, Resource, Revision, Timestamp};
use crate::policy::{self, Ask, Check, Delivery, Guarded, Plan};
use crate::request::{Conditions, Range, Selected, client_is_firefox, forces_revalidation, select};
use crate::store::SMALL;
use crate::upstream::Failure;

/// Plans in a row for one request; policy needs at most three (check, inquire, act).
const MAX_PLANS: usize = 4;

/// A range that the mark against the resume trap forbids for so long.
pub(super) struct Refused {
    pub(super) seconds: u64,
}

/// How a hub that is down was met.
enum Down {
    /// By a question about the file.
    Asked(Arc<Failure>),
    /// By its fill.
    Filled(Arc<FillError>),
}

/// What a request asks, as far as policy wants to know.
pub(super) fn ask(resource: &Resource, asked: &Asked<'_>) -> Ask {
    Ask {
        head: asked.head_only,
        no_cache: forces_revalidation(&asked.parts.headers),
        immutable: resource.revision.is_immutable(),
        needs_meaning: resource.hub == Hub::HuggingFace,
    }
}

impl Proxy {
    /// Answers GET or HEAD of a file.
    pub(super) async fn file(&self, resource: &Resource, parts: &Parts) -> Reply {
        let mut asked = Asked::new(parts);
        if self.is_same_for_all(resource) && hot::is_plain(parts) {
            asked.seen = parts.extensions.get::<Visit>().map(|visit| visit.seen);
        }
        let frozen = self.frozen.as_ref().filter(|_| Hub::MODELS.contains(&resource.hub));
        let reply = match (frozen, &self.fetcher) {
            (Some(frozen), _) => self.frozen_file(frozen, resource, &asked).await,
            (None, Some(fetcher)) => self.planned(fetcher, resource, &asked).await,
            (None, None) => self.held(resource, &asked).await,
        };
        if asked.head_only { status::without_body(reply) } else { reply }
    }

    /// Whether whoever asks for a file at this path gets the same, as long as nothing is stored.
    fn is_same_for_all(&self, resource: &Resource) -> bool {
        let root = self.cache.roots().root(resource.hub);
        let denied = |mirror: &super::Mirror| mirror.remote.denied_to_some(resource, root).is_some();
        resource.revision.is_immutable()
            && resource.hub != Hub::Settings
            && !self.mirror.as_ref().is_some_and(denied)
    }

    pub(super) async fn planned(
        &self,
        fetcher: &Arc<Fetcher>,
        resource: &Resource,
        asked: &Asked<'_>,
    ) -> Reply {
        let ask = ask(resource, asked);
        let deadline = Instant::now() + self.patience();
        let mut check = if fetcher.upstream().is_down(resource.hub) { Check::Down } else { Check::NotMade };
        let mut failure = None;
        for _ in 0..MAX_PLANS {
            let found = match self.cache.look_up(resource, view(check)) {
                Ok(found) => found,
                Err(error) => return status::of_store(&error),
            };
            let plan = policy::plan(&self.rules, ask, found.facts(), check, Timestamp::now());
            let (question, within) = match plan {
                Plan::Check { within } => (resource, within),
                Plan::Inquire { within } => (&found.subject, within),
                Plan::Fill => match self.fill(fetcher, resource, asked, &found, deadline).await {
                    Ok(reply) => return reply,
                    Err(error) => {
                        (check, failure) = (Check::Down, Some(error));
                        continue;
                    }
                },
                Plan::Refuse => {
                    let refused = found.refused.expect("policy repeats only what was refused");
                    return self.denied(fetcher, resource, asked, &refused, deadline).await;
                }
                Plan::Fail => break,
                Plan::Serve { .. } | Plan::Absent | Plan::Tell => {
                    return self.served(resource, asked, found, plan).await;
                }
            };
            let inquired = question != resource || ask.immutable;
            // Nothing is held for everybody; a caller whom that may not concern is not kept waiting for it.
            let has_credentials = Self::credential(asked, resource.hub).is_some();
            let within = within.or_else(|| has_credentials.then(|| self.patience()));
            check = match fetcher.check(question, within).await {
                Checked::Late => Check::Late,
                Checked::Answered(Ok(said)) if inquired => {
                    return self.tell(resource, asked, &said, Outcome::Asked);
                }
                Checked::Answered(Ok(_)) => Check::Made,
                Checked::Answered(Err(error)) => {
                    if !error.is_down() {
                        return self.denied(fetcher, resource, asked, &error, deadline).await;
                    }
                    failure = Some(Down::Asked(error));
                    Check::Down
                }
            };
        }
        match failure {
            Some(Down::Asked(failure)) => self.denied(fetcher, resource, asked, &failure, deadline).await,
            Some(Down::Filled(error)) => self.unfilled(fetcher, resource, asked, &error, deadline).await,
            None => self.last_granted(resource, asked, &fetcher.upstream().why_down(resource.hub)).await,
        }
    }

    /// Carries out a plan that needs no hub.
    pub(super) async fn served(
        &self,
        resource: &Resource,
        asked: &Asked<'_>,
        found: Found,
        plan: Plan,
    ) -> Reply {
        match (plan, found) {
            (Plan::Serve { older, outcome }, found) => {
                let entry = if older { found.older } else { found.current };
                let entry = entry.expect("policy serves only what is held");
                self.serve(resource, asked, &entry, outcome).await
            }
            (Plan::Tell, Found { known: Some(known), .. }) => {
                self.tell(resource, asked, &known, Outcome::Known)
            }
            (_, Found { absent: Some(document), .. }) => {
                answer::document_reply(asked, &document, Outcome::Absent)
            }
            (..) => status::of_failure(&Failure::TimedOut),
        }
    }

    async fn unfilled(
        &self,
        fetcher: &Arc<Fetcher>,
        resource: &Resource,
        asked: &Asked<'_>,
        error: &FillError,
        deadline: Instant,
    ) -> Reply {
        match error {
            FillError::Upstream(failure) => self.denied(fetcher, resource, asked, failure, deadline).await,
            other => status::of_fill(other),
        }
    }

    /// Serves what is held.
    pub(super) async fn serve(
        &self,
        resource: &Resource,
        asked: &Asked<'_>,
        entry: &Arc<Entry>,
        outcome: Outcome,
    ) -> Reply {
        self.serve_under(resource, asked, entry, outcome, None).await
    }

    /// Serves what is held; of bytes that are being checked the last one comes after the verdict.
    pub(super) async fn serve_under(
        &self,
        resource: &Resource,
        asked: &Asked<'_>,
        entry: &Arc<Entry>,
        outcome: Outcome,
        verdict: Option<Pending>,
    ) -> Reply {
        let file = &entry.representation;
        if let Some(fetcher) = &self.fetcher {
            fetcher.recheck(resource, entry);
        }
        let mut response = answer::file_head(file, Some(entry.checked_at), outcome, None);
        self.note_digest(&mut response, Some(entry.blob));
        let conditions = Conditions::of(&asked.parts.headers);
        if conditions.not_modified(file.etag.as_deref()) {
            return answer::not_modified(response, outcome);
        }
        if asked.head_only {
            answer::set_length(response.headers_mut(), entry.size);
            add_location(response.headers_mut(), resource, asked, file.commit.as_ref());
            return Reply { response, outcome };
        }
        let range = match self.range(resource, asked, file.commit.as_ref(), &conditions, file.etag.as_deref())
        {
            Ok(range) => range,
            Err(Refused { seconds }) => return status::guarded(seconds),
        };
        let (start, end) = match select(range, entry.size) {
            Selected::Whole => {
                answer::set_length(response.headers_mut(), entry.size);
                (0, entry.size)
            }
            Selected::Part { start, end } => {
                answer::set_part(&mut response, start, end, entry.size);
                (start, end)
            }
            Selected::None => return answer::out_of_range(response, entry.size),
        };
        let is_checked = verdict.is_none();
        let body = match verdict {
            Some(verdict) => self.withheld(entry, start, verdict),
            None => self.bytes(entry, start, end).await,
        };
        match body {
            Ok(body) => *response.body_mut() = body,
            Err(error) => return status::of_store(&error),
        }
        if let (Outcome::Hit, Some(seen), true) = (outcome, asked.seen, is_checked) {
            self.hot.keep(asked, seen, resource, entry, &response);
        }
        Reply { response, outcome }
    }

    async fn bytes(&self, entry: &Entry, start: u64, end: u64) -> Result<Body, crate::store::StoreError> {
        let store = self.cache.store();
        let Some(blob) = store.open_blob(&entry.blob)? else {
            return Err(crate::store::StoreError::Damaged(format!("blob {} is gone", entry.blob)));
        };
        store.used(&entry.blob, Timestamp::now());
        if entry.size > SMALL {
            return Ok(Body::stored(Stored::new(blob, start, end)));
        }
        let bytes = match blob.small() {
            Some(bytes) => bytes,
            None => {
                let read = tokio::task::spawn_blocking(move || blob.read_small()).await;
                read.map_err(|_| crate::store::StoreError::Closed)??
            }
        };
        let slice = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
        Ok(Body::full(bytes.slice(slice(start)..slice(end))))
    }

    /// The range to serve, after If-Range and the mark against the resume trap.
    pub(super) fn range(
        &self,
        resource: &Resource,
        asked: &Asked<'_>,
        commit: Option<&crate::model::Commit>,
        conditions: &Conditions,
        etag: Option<&str>,
    ) -> Result<Option<Range>, Refused> {
        let range = Range::of(&asked.parts.headers);
        if range.is_none() {
            return Ok(None);
        }
        let now = Timestamp::now();
        let root = self.cache.roots().root(resource.hub);
        let at_commit = commit.map(|c| resource.at(Revision::Commit(c.clone())).key(root));
        let keys = at_commit.into_iter().chain([resource.key(root)]);
        let until = keys.filter_map(|key| self.cache.store().mark(&key, now)).max();
        if let Some(until) = until {
            match policy::guard(range) {
                Guarded::AsAsked => {}
                Guarded::Whole => return Ok(None),
                Guarded::Refuse => return Err(Refused { seconds: now.age(until).as_secs().max(1) }),
            }
        }
        Ok(range.filter(|_| conditions.range_applies(etag)))
    }

    /// Fetches the file, or follows whoever does.
    ///
    /// # Errors
    /// When the hub is down, and something older may do.
    async fn fill(
        &self,
        fetcher: &Arc<Fetcher>,
        resource: &Resource,
        asked: &Asked<'_>,
        found: &Found,
        deadline: Instant,
    ) -> Result<Reply, Down> {
        let ticket = match fetcher.follow(&found.subject, resource, closed_range(asked)) {
            Ok(ticket) => ticket,
            Err(error) => return Ok(status::of_fill(&error)),
        };
        if Self::credential(asked, resource.hub).is_some()
            && tokio::time::timeout_at(deadline, ticket.head()).await.is_err()
        {
            return Err(Down::Asked(Arc::new(Failure::TimedOut)));
        }
        match self.settle(&ticket, resource, asked).await {
            Ok(settled) => Ok(self.settled(resource, asked, ticket, settled).await),
            Err(error) => match &*error {
                FillError::Upstream(failure) if failure.is_down() => Err(Down::Filled(error)),
                other => Ok(self.unfilled(fetcher, resource, asked, other, deadline).await),
            },
        }
    }

    /// Answers with what a request has waited for.
    pub(super) async fn settled(
        &self,
        resource: &Resource,
        asked: &Asked<'_>,
        ticket: Ticket,
        settled: Settled,
    ) -> Reply {
        match settled {
            Settled::Landed(landed) => self.landed(resource, asked, &ticket, landed).await,
            Settled::Coming(head) => self.follow(resource, asked, ticket, &head).await,
        }
    }

    /// Waits for as much of the fill as this request needs before its head can be sent.
    pub(super) async fn settle(
        &self,
        ticket: &Ticket,
        resource: &Resource,
        asked: &Asked<'_>,
    ) -> Result<Settled, Arc<FillError>> {
        let headers = &asked.parts.headers;
        if self.rules.delivery(resource.hub, client_is_firefox(headers)) == Delivery::Verified {
            return match tokio::time::timeout(self.rules.hold, ticket.verdict()).await {
                Ok(settled) => settled,
                Err(_) => ticket.head().await,
            };
        }
        let settled = ticket.head().await?;
        let whole_first = match &settled {
            Settled::Landed(_) => false,
            // Nothing can be withheld of an empty body, and no range be told without a size.
            Settled::Coming(head) => match head.representation.size {
                Some(size) => size == 0,
                None => headers.contains_key(header::RANGE),
            },
        };
        if whole_first && ticket.keeps() { ticket.verdict().await } else { Ok(settled) }
    }

    async fn landed(&self, resource: &Resource, asked: &Asked<'_>, ticket: &Ticket, landed: Landed) -> Reply {
        match landed {
            Landed::Stored(entry) => self.serve(resource, asked, &entry, ticket.outcome).await,
            Landed::Linked(entry) if ticket.outcome == Outcome::Granted => {
                self.serve(resource, asked, &entry, Outcome::Granted).await
            }
            Landed::Linked(entry) => self.serve(resource, asked, &entry, Outcome::Linked).await,
            Landed::Unstored => status::of_fill(&FillError::NoSpace),
        }
    }

    /// Serves a file that is on its way.
    pub(super) async fn follow(
        &self,
        resource: &Resource,
        asked: &Asked<'_>,
        ticket: Ticket,
        head: &Expectation,
    ) -> Reply {
        let file = &head.representation;
        let outcome = match ticket.outcome {
            Outcome::Granted => Outcome::Granted,
            outcome if ticket.keeps() => outcome,
            _ => Outcome::Unstored,
        };
        let conditions = Conditions::of(&asked.parts.headers);
        let range = match self.range(resource, asked, file.commit.as_ref(), &conditions, file.etag.as_deref())
        {
            Ok(range) => range,
            Err(Refused { seconds }) => return status::guarded(seconds),
        };
        let selected = file.size.map_or(Selected::Whole, |size| select(range, size));
        // A part that ends before the file may end before the verdict, and says so.
        let early = matches!((selected, file.size), (Selected::Part { end, .. }, Some(size)) if end < size);
        let mut response = answer::file_head(file, None, outcome, early.then_some("unverified"));
        self.note_digest(&mut response, head.sha256());
        if conditions.not_modified(file.etag.as_deref()) {
            return answer::not_modified(response, outcome);
        }
        let (start, end) = match (selected, file.size) {
            (Selected::Whole, size) => {
                if let Some(size) = size {
                    answer::set_length(response.headers_mut(), size);
                }
                (0, size)
            }
            (Selected::Part { start, end }, size) => {
                answer::set_part(&mut response, start, end, size.unwrap_or(end));
                (start, Some(end))
            }
            (Selected::None, size) => return answer::out_of_range(response, size.unwrap_or(0)),
        };
        let stream = Follower::new(ticket, head, start, end, self.rules.drip).stream();
        *response.body_mut() = Body::stream(stream, end.map(|end| end - start));
        Reply { response, outcome }
    }
}

impl Proxy {
    /// Answers HEAD from what the hub said; of a file that is too large for clients to take it over HTTP, with its place
    /// in the Xet store.
    pub(super) fn tell(
        &self,
        resource: &Resource,
        asked: &Asked<'_>,
        said: &Expectation,
        outcome: Outcome,
    ) -> Reply {
        let mut reply = tell(resource, asked, said, outcome);
        let above = self.fetcher.as_ref().and_then(|fetcher| fetcher.xet_above());
        let is_large = matches!((said.representation.size, above), (Some(size), Some(above)) if size > above);
        if let (Some(hints), Some(base), true) = (&said.xet, asked.base(), is_large) {
            let root = self.cache.roots().root(resource.hub);
            hub::add_xet_hints(reply.response.headers_mut(), hints, root, &base);
            self.telemetry.xet_hints_kept(1);
            tracing::info!(%resource, "a large file is told with its place in the Xet store");
        }
        reply
    }
}

/// The part that is asked for, if the request says both of its ends.
pub(super) fn closed_range(asked: &Asked<'_>) -> Option<(u64, u64)> {
    Range::of(&asked.parts.headers)?.closed()
}

fn tell(resource: &Resource, asked: &Asked<'_>, said: &Expectation, outcome: Outcome) -> Reply {
    let file = &said.representation;
    let mut response = answer::file_head(file, Some(said.learned_at), outcome, None);
    if Conditions::of(&asked.parts.headers).not_modified(file.etag.as_deref()) {
        return answer::not_modified(response, outcome);
    }
    if let Some(size) = file.size {
        answer::set_length(response.headers_mut(), size);
    }
    add_location(response.headers_mut(), resource, asked, file.commit.as_ref());
    Reply { response, outcome }
}

/// Tells a client that asked HEAD at a branch where the same file is at the commit: the Python clients GET and resume
/// there, so that a branch that moves meanwhile cannot mix two commits in one file.
fn add_location(
    headers: &mut HeaderMap,
    resource: &Resource,
    asked: &Asked<'_>,
    commit: Option<&crate::model::Commit>,
) {
    let (Hub::HuggingFace, Revision::Named(_), Some(commit)) = (resource.hub, &resource.revision, commit)
    else {
        return;
    };
    let Some(base) = asked.base() else { return };
    let path = hub::file_path(&resource.at(Revision::Commit(commit.clone())));
    if let Ok(location) = HeaderValue::try_from(format!("{base}{path}")) {
        headers.insert(header::LOCATION, location);
    }
}
