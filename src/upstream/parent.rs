//! The parent proxy: which requests go through it.

use std::fmt;

use http::Uri;
use hyper_util::client::proxy::matcher::Matcher;

use crate::model::{Place, Secret};

/// A proxy of the operator's, through which hubs are reached.
#[derive(Clone)]
pub struct Parent {
    /// Where it is.
    pub place: Place,
    /// What `Proxy-Authorization` it is sent.
    pub credentials: Option<Secret>,
    through: Through,
}

/// Which requests go through a parent, and which past it.
#[derive(Clone)]
struct Through(std::sync::Arc<Matcher>);

impl Parent {
    /// A parent at `place` for all URLs but those whose hosts `no_proxy` lists in the usual form (names that stand for
    /// themselves and all below them, addresses, networks; `*` for everything). With `only_https` plain HTTP goes past
    /// it.
    pub fn new(place: Place, credentials: Option<Secret>, no_proxy: &str, only_https: bool) -> Self {
        let url = format!("http://{place}");
        let matcher = Matcher::builder().https(url.clone()).no(no_proxy);
        let matcher = if only_https { matcher } else { matcher.http(url) };
        Self { place, credentials, through: Through(std::sync::Arc::new(matcher.build())) }
    }

    /// Whether a request for this URL goes through it.
    pub fn is_for(&self, uri: &Uri) -> bool {
        self.through.0.intercept(uri).is_some()
    }
}

impl fmt::Debug for Parent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parent").field("place", &self.place).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listed_hosts_go_past_the_parent() {
        let parent = |no: &str, only_https| {
            Parent::new(Place::parse("proxy.corp:3128", None).unwrap(), None, no, only_https)
        };
        let through = |parent: &Parent, url: &str| parent.is_for(&url.parse().unwrap());
        let both = parent("example.org, 10.0.0.0/8", false);
        assert!(through(&both, "https://huggingface.co/x") && through(&both, "http://huggingface.co/x"));
        for past in ["https://example.org/", "https://a.example.org/", "http://10.1.2.3:80/"] {
            assert!(!through(&both, past), "{past}");
        }
        let tls = parent("", true);
        assert!(through(&tls, "https://huggingface.co/x") && !through(&tls, "http://huggingface.co/x"));
        assert!(!through(&parent("*", false), "https://huggingface.co/x"));
    }
}
