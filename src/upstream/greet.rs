//! Asking a hub something of no consequence, to see whether it is there and whether it is a hub that answers.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty};
use url::Url;

use super::client::request_headers;
use super::connect::Way;
use super::redirect::{is_redirect, same_origin};
use super::sites::Site;
use super::{Client, Failure};
use crate::model::{Hub, Place};

/// What came of asking a hub.
#[derive(Debug)]
pub struct Greeting {
    /// What was asked for.
    pub url: Url,
    /// The parent proxy through which it was asked.
    pub through: Option<Place>,
    /// The head of what was answered.
    pub said: Result<Heard, Failure>,
}

/// The head of an answer, whatever its status.
#[derive(Clone, Debug)]
pub struct Heard {
    /// The status.
    pub status: StatusCode,
    /// The fields.
    pub headers: HeaderMap,
    /// Where it redirects to, if that is another origin.
    pub led_to: Option<Url>,
}

impl Client {
    /// Asks `hub` at its root for something that every such hub knows, as this server asks it, but without a look at
    /// whether it is down. No redirect is followed.
    ///
    /// # Errors
    /// When there is no URL to ask for.
    pub async fn greet(&self, hub: Hub, within: Duration) -> Result<Greeting, url::ParseError> {
        let url = Url::parse(&format!("{}{}", self.root(hub), known_path(hub)))?;
        let mut request = Request::new(Empty::<Bytes>::new().map_err(|never| match never {}).boxed_unsync());
        *request.method_mut() = Method::GET;
        *request.headers_mut() = request_headers(None);
        let uri = url.as_str().parse::<http::Uri>();
        let parent = self.settings.parent.as_ref();
        let through = uri.as_ref().ok().and_then(|uri| parent.filter(|parent| parent.is_for(uri)));
        let through = through.map(|parent| parent.place.clone());
        let said = match uri {
            Ok(uri) => {
                *request.uri_mut() = uri;
                self.exchange(request, Way::Root(Site::root(hub)), within).await
            }
            Err(error) => Err(Failure::Unreachable(error.into())),
        };
        let said = said.map(|response| {
            let (head, _) = response.into_parts();
            let location = head.headers.get(header::LOCATION).filter(|_| is_redirect(head.status));
            // Also to what no file would be fetched from, such as a plain page that asks to sign in.
            let to = location.and_then(|location| url.join(location.to_str().ok()?).ok());
            let led_to = to.filter(|to| !same_origin(&url.origin(), to));
            Heard { status: head.status, headers: head.headers, led_to }
        });
        Ok(Greeting { url, through, said })
    }
}

/// What a hub of that kind has or says in words of its own that it has not.
fn known_path(hub: Hub) -> &'static str {
    match hub {
        Hub::HuggingFace => "/api/models/openai-community/gpt2",
        Hub::Mozilla => "/Mozilla/distilvit/main/config.json",
        Hub::Settings => "/",
    }
}
