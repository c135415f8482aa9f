//! The file by which a browser configures itself (proxy auto-config): hubs by way of this server, all else as before.

use http::request::Parts;
use http::uri::Authority;
use http::{HeaderValue, Response, StatusCode, header};

use super::{Reply, Visit, answer};
use crate::body::Body;
use crate::model::{Outcome, Place, known_hosts};
use crate::request::Arrival;

/// The file, for a client that reaches this server by the name in its `Host`.
pub(super) fn reply(head: &Parts) -> Reply {
    // Tunnels are opened over the plain listener, whose address is not known here.
    if head.extensions.get::<Visit>().is_some_and(|visit| visit.arrival == Arrival::Tls) {
        let text = "ask for this file over the plain listener, which is the proxy that it is to name";
        return answer::text(StatusCode::NOT_FOUND, Outcome::Unsupported, text);
    }
    let host = head.uri.authority().map(Authority::as_str);
    let host = host.or_else(|| head.headers.get(header::HOST)?.to_str().ok());
    // Only what is certainly a host and a port goes into the script.
    let host = host.and_then(|host| Place::parse(host, Some(80)).ok());
    let Some(host) = host else {
        return answer::text(StatusCode::BAD_REQUEST, Outcome::Rejected, "Host names no host");
    };
    let mut response = Response::new(Body::full(script(&host.to_string()).into()));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ns-proxy-autoconfig"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    answer::add_own_fields(headers, Outcome::Own, None);
    Reply { response, outcome: Outcome::Own }
}

/// The script that sends the hosts of hubs and of Remote Settings to the proxy `proxy`, and nothing else.
pub fn script(proxy: &str) -> String {
    let hosts: String = known_hosts().map(|host| format!("    \"{host}\": true,\n")).collect();
    format!(
        "// Model hubs and Firefox's Remote Settings are reached through hubcache, everything else is not.\n\
         function FindProxyForURL(url, host) {{\n  \
           var hosts = {{\n{hosts}  }};\n  \
           return hosts[host.toLowerCase()] === true ? \"PROXY {proxy}\" : \"DIRECT\";\n\
         }}\n"
    )
}
