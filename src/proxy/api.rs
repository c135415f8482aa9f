//! Questions to the API of Hugging Face.
//!
//! An answer at a branch is the answer at the commit for which the branch stands, and that is asked once for
//! everybody in a while: info, trees and files of one load are of one commit. What the hub says to those who ask
//! without credentials is kept; whoever is refused that and has credentials is handed to the hub.

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{Request, header};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;

use super::answer::document_reply;
use super::{Asked, Proxy, Reply, status, view};
use crate::cache::{Checked, Fetcher, FoundDocument};
use crate::model::{Document, Hub, Outcome, Question, Revision, Timestamp, Topic};
use crate::policy::{self, Ask, Check, Plan, Rules};
use crate::request::{asked_paths, forces_revalidation};
use crate::upstream::Failure;

/// Longest list of paths that is read, in bytes.
const MAX_LIST: usize = 1 << 20;
/// Plans in a row for one request; policy needs at most three (check, fill, what is held after all).
const MAX_PLANS: usize = 4;

impl Proxy {
    /// Answers a question to the API.
    pub(super) async fn question(&self, question: Question, head: Parts, body: Incoming) -> Reply {
        let (question, sent) = match with_paths(question, &head, body).await {
            Ok(read) => read,
            Err(Unread::TooLong) => return status::list_too_long(MAX_LIST),
            Err(Unread::Cut) => return status::body_cut(),
            Err(Unread::Unknown(sent)) => return self.hand_on(&head, sent, Outcome::Passed).await,
        };
        let asked = Asked::new(&head);
        let reply = match (&self.frozen, &self.fetcher) {
            (Some(frozen), _) => self.frozen_question(frozen, &question, &asked, sent).await,
            (None, Some(fetcher)) => self.answered(fetcher, &question, &asked, sent).await,
            (None, None) => self.held_document(&question, &asked),
        };
        if asked.head_only { status::without_body(reply) } else { reply }
    }

    pub(super) async fn answered(
        &self,
        fetcher: &Arc<Fetcher>,
        question: &Question,
        asked: &Asked<'_>,
        sent: Bytes,
    ) -> Reply {
        let ask = ask(question, asked);
        let mut check =
            if fetcher.upstream().is_down(Hub::HuggingFace) { Check::Down } else { Check::NotMade };
        let mut failure = None;
        for _ in 0..MAX_PLANS {
            let mut found = match self.cache.look_up_document(question, view(check)) {
                Ok(found) => found,
                Err(error) => return status::of_store(&error),
            };
            if check == Check::Made {
                self.let_go_of_old(question, &mut found);
            }
            let plan = policy::plan(&self.rules, ask, found.facts(), check, Timestamp::now());
            let (first, within) = match plan {
                Plan::Serve { older, outcome } => {
                    let document = if older { found.older } else { found.current };
                    let document = document.expect("policy serves only what is held");
                    return document_reply(asked, &document, outcome);
                }
                Plan::Refuse => {
                    let refused = found.refused.expect("policy repeats only what was refused");
                    return self.not_answered(asked, &refused, sent).await;
                }
                Plan::Check { within } => (first_question(&self.rules, question, ask, &found), within),
                Plan::Fill | Plan::Inquire { .. } => (found.subject.clone(), None),
                Plan::Fail | Plan::Absent | Plan::Tell => break,
            };
            let is_it = first.name() == question.name();
            check = match fetcher.ask(&first, within).await {
                Checked::Answered(Ok(document)) if is_it => {
                    let held = found.current.is_some();
                    let outcome = if held { Outcome::Revalidated } else { Outcome::Miss };
                    return document_reply(asked, &document, outcome);
                }
                Checked::Answered(Ok(_)) => Check::Made,
                Checked::Late => Check::Late,
                Checked::Answered(Err(error)) if error.is_down() => {
                    failure = Some(error);
                    Check::Down
                }
                Checked::Answered(Err(error)) => return self.not_answered(asked, &error, sent).await,
            };
        }
        let failure = failure.unwrap_or_else(|| Arc::new(fetcher.upstream().why_down(Hub::HuggingFace)));
        self.not_answered(asked, &failure, sent).await
    }

    /// What a branch stands for was just asked, but not how often it was downloaded and the like.
    fn let_go_of_old(&self, question: &Question, found: &mut FoundDocument) {
        let is_old = |d: &Arc<Document>| d.learned_at.age(Timestamp::now()) > self.rules.ref_ttl;
        if matches!(question.topic, Topic::Info(Revision::Named(_)))
            && found.current.as_ref().is_some_and(is_old)
        {
            found.older = found.current.take();
        }
    }

    /// The hub has no answer for everybody; a caller who has credentials is handed to it.
    async fn not_answered(&self, asked: &Asked<'_>, failure: &Failure, sent: Bytes) -> Reply {
        let has_credentials = asked.parts.headers.contains_key(header::AUTHORIZATION);
        match failure {
            Failure::TooLong { .. } => self.hand_on(asked.parts, sent, Outcome::Passed).await,
            _ if has_credentials && failure.depends_on_caller() => {
                self.hand_on(asked.parts, sent, Outcome::Private).await
            }
            _ => status::of_failure(failure),
        }
    }

    async fn hand_on(&self, head: &Parts, sent: Bytes, outcome: Outcome) -> Reply {
        let path = head.uri.path_and_query().map_or("/", |p| p.as_str());
        let path = path.strip_prefix("/hub/huggingface").unwrap_or(path);
        let request = Request::from_parts(head.clone(), Full::new(sent));
        self.pass(Hub::HuggingFace, path, request, outcome).await
    }
}

/// What a question asks, as far as policy wants to know.
pub(super) fn ask(question: &Question, asked: &Asked<'_>) -> Ask {
    Ask {
        // The answer to HEAD is the head of the answer to GET.
        head: false,
        no_cache: forces_revalidation(&asked.parts.headers),
        immutable: question.revision().is_some_and(Revision::is_immutable),
        needs_meaning: question.revision().is_some(),
    }
}

/// What has to be asked first: itself, where the answer names the commit that a branch stands for, or is about one
/// that is known; else what the branch stands for.
pub(super) fn first_question(
    rules: &Rules,
    question: &Question,
    ask: Ask,
    found: &FoundDocument,
) -> Question {
    let known = found.meaning_at.is_some_and(|t| t.age(Timestamp::now()) <= rules.ref_ttl);
    match (&question.topic, question.revision()) {
        (_, None) => question.clone(),
        (Topic::Info(_), _) if known && !ask.no_cache => found.subject.clone(),
        (Topic::Info(_), _) if names_commit(question) => question.clone(),
        (_, Some(revision)) => Question::info(question.repo.clone(), revision.clone()),
    }
}

/// Whether the answer about a branch says which commit that is; `expand` lists all that is wanted.
fn names_commit(question: &Question) -> bool {
    let mut wanted = question.parameters.iter().filter(|(name, _)| name == "expand").peekable();
    wanted.peek().is_none() || wanted.any(|(_, value)| value == "sha")
}

/// A question whose body was not read.
enum Unread {
    TooLong,
    Cut,
    /// It says something else than which paths are meant.
    Unknown(Bytes),
}

/// Completes a question with what the request's body says.
async fn with_paths(
    mut question: Question,
    head: &Parts,
    body: Incoming,
) -> Result<(Question, Bytes), Unread> {
    let Topic::Paths { paths, expand, .. } = &mut question.topic else { return Ok((question, Bytes::new())) };
    let body = match Limited::new(body, MAX_LIST).collect().await {
        Ok(body) => body.to_bytes(),
        Err(e) if e.is::<LengthLimitError>() => return Err(Unread::TooLong),
        Err(_) => return Err(Unread::Cut),
    };
    let kind = head.headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    match asked_paths(kind, &body) {
        Some(asked) => {
            (*paths, *expand) = asked;
            Ok((question, body))
        }
        None => Err(Unread::Unknown(body)),
    }
}
