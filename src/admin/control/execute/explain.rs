//! What would be answered to a request.

use http::request::Parts;
use http::{HeaderName, HeaderValue, Method};

use super::super::{Context, Failure, Reply, Request, Summary};
use super::Job;
use crate::model::{Roots, Timestamp};
use crate::proxy::explain::{Sight, place};

impl Job {
    pub(super) fn explain(&self, context: &Context, request: &Request) -> Result<Summary, Failure> {
        let head = head(context.cache.roots(), request)?;
        let sight = Sight {
            rules: &context.rules,
            cache: &context.cache,
            fetcher: context.fetcher.as_deref(),
            offline: context.offline,
            frozen: context.server.as_ref().and_then(|server| server.frozen.as_deref()),
            settings: context.mirror.as_ref().map(|mirror| &*mirror.remote),
        };
        let explained = sight.explain(&head, Timestamp::now());
        let explanation = explained.map_err(|error| Failure::io("the index cannot be read", &error))?;
        let _ = self.tell(Reply::Explained { explanation: Box::new(explanation) });
        Ok(Summary::default())
    }
}

/// The head of the request as it would come here.
fn head(roots: &Roots, request: &Request) -> Result<Parts, Failure> {
    let refuse = |what: &str, why: &str| Failure { error: format!("{what:?} {why}"), exit: Failure::USAGE };
    let uri = place(roots, &request.url).map_err(|why| refuse(&request.url, &why.to_string()))?;
    let method = Method::from_bytes(request.method.as_bytes());
    let method = method.map_err(|_| refuse(&request.method, "is no method"))?;
    let (mut head, ()) = http::Request::new(()).into_parts();
    (head.method, head.uri) = (method, uri);
    for (name, value) in &request.headers {
        let name = HeaderName::try_from(name).map_err(|_| refuse(name, "is no name of a header field"))?;
        // The value may be a credential that was given all the same, so it is not repeated.
        let value = HeaderValue::try_from(value)
            .map_err(|_| refuse(name.as_str(), "has a value that no header field can have"))?;
        head.headers.append(name, value);
    }
    Ok(head)
}
