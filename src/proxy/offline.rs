//! Without a way to any hub: what is held is served, and what is not is refused with the way to bring it.
//!
//! There is no `Fetcher` here to be asked, by construction.

use http::header;

use super::answer::document_reply;
use super::api::ask as ask_document;
use super::file::ask;
use super::{Asked, Proxy, Reply, status};
use crate::cache::View;
use crate::hub::api::question_body;
use crate::model::{Question, Resource, Timestamp};
use crate::policy::{Check, Plan, plan};

impl Proxy {
    /// Answers for a file.
    pub(super) async fn held(&self, resource: &Resource, asked: &Asked<'_>) -> Reply {
        let found = match self.cache.look_up(resource, View::Alone) {
            Ok(found) => found,
            Err(error) => return status::of_store(&error),
        };
        let now = Timestamp::now();
        match plan(&self.rules, ask(resource, asked), found.facts(), Check::Down, now) {
            plan if is_possible(plan) => self.served(resource, asked, found, plan).await,
            _ if let Some(reply) = self.granted_before(resource, asked).await => reply,
            _ => status::not_here(&resource.to_string(), &command(asked, None)),
        }
    }

    /// Answers a question to the API.
    pub(super) fn held_document(&self, question: &Question, asked: &Asked<'_>) -> Reply {
        let found = match self.cache.look_up_document(question, View::Alone) {
            Ok(found) => found,
            Err(error) => return status::of_store(&error),
        };
        let now = Timestamp::now();
        match plan(&self.rules, ask_document(question, asked), found.facts(), Check::Down, now) {
            Plan::Serve { older, outcome } => {
                let document = if older { found.older } else { found.current };
                document_reply(asked, &document.expect("policy serves only what is held"), outcome)
            }
            _ => status::not_here(&question.to_string(), &command(asked, question_body(question))),
        }
    }
}

/// Whether a plan can be carried out without a hub, and for everybody.
pub(super) fn is_possible(plan: Plan) -> bool {
    matches!(plan, Plan::Serve { .. } | Plan::Absent)
}

/// Longest body that is put into a command, in bytes: it also stands in a header field.
const MAX_BODY: usize = 1024;

/// The command that makes a server with a network fetch what was asked for, with the body that a list of paths has.
fn command(asked: &Asked<'_>, body: Option<Vec<u8>>) -> String {
    let host = asked.parts.headers.get(header::HOST).and_then(|h| h.to_str().ok()).unwrap_or("HOST:PORT");
    // As it came: encoded, and so free of quotes that would end these.
    let path = asked.parts.uri.path_and_query().map_or("/", |p| p.as_str()).replace('\'', "%27");
    let body = body.map(|body| match String::from_utf8(body) {
        Ok(json) if json.len() <= MAX_BODY => json.replace('\'', "\\u0027"),
        _ => "{\"paths\": [the same paths]}".to_owned(),
    });
    let body =
        body.map(|json| format!("-H 'Content-Type: application/json' -d '{json}' ")).unwrap_or_default();
    format!("curl -fsS -o /dev/null {body}'http://{host}{path}'")
}
