//! Stands before a server, and spoils its answers.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;
use tokio::net::TcpStream;

use super::body::{Manner, Spoilt};
use super::chance::Counts;
use super::rules::{Asked, Fault, Rules, Strike, Tally};
use super::spoil::{Answered, spoil};
use crate::request::drop_hop_by_hop;

/// In every answer that a fault has touched: the key of the fault, and the number of its rule.
pub const FIELD: HeaderName = HeaderName::from_static("x-hubcache-fault");

/// Longest wait for the head of an answer of the server, uploads included.
const HEAD_WAIT: Duration = Duration::from_secs(3600);

type BoxError = Box<dyn Error + Send + Sync>;

/// The body of an answer: a text of its own, or what the server sends.
pub type Body = Either<Full<Bytes>, Spoilt<Incoming>>;

/// Hands requests on to a server and spoils the answers that its rules say.
///
/// Each request gets a connection of its own to the server, on which it is sent with the target that it came with. It has
/// no `Via` of this, which belongs to the server as its clients see it.
pub struct Spoiler {
    origin: SocketAddr,
    rules: Rules,
    counts: Mutex<Counts>,
}

impl Spoiler {
    /// One before the server that listens for plain HTTP at `origin`.
    pub fn new(origin: SocketAddr, rules: Rules) -> Self {
        let counts = Mutex::new(Counts::new(&rules));
        Self { origin, rules, counts }
    }

    /// Answers one request.
    pub async fn handle(&self, request: Request<Incoming>) -> Response<Body> {
        let method = request.method().clone();
        if method == Method::CONNECT {
            return text(
                StatusCode::NOT_IMPLEMENTED,
                "there are no tunnels where faults are made on purpose\n",
            );
        }
        let path = percent_decode_str(request.uri().path()).decode_utf8_lossy().into_owned();
        let asked = Asked { method: &method, path: &path };
        let strike = self.decide(&asked, None);
        match strike.map(|strike| strike.fault) {
            Some(Fault::Status { status, headers, body }) => {
                let mut response = answer(*status, headers.clone(), body.clone());
                mark(response.headers_mut(), strike);
                return response;
            }
            Some(Fault::Delay(delay)) => tokio::time::sleep(*delay).await,
            _ => {}
        }
        let mut response = match self.ask_in_time(request).await {
            Ok(response) if strike.is_none() => return self.spoilt(&asked, response),
            Ok(response) => response.map(|body| Either::Right(Spoilt::new(body, Manner::AsItIs))),
            Err(error) => {
                tracing::warn!(origin = %self.origin, error = &*error, "the server behind the faults does not answer");
                text(StatusCode::BAD_GATEWAY, "the server behind the faults does not answer\n")
            }
        };
        mark(response.headers_mut(), strike);
        response
    }

    /// What each rule has done so far.
    pub fn tally(&self) -> Vec<Tally> {
        self.rules.tally(&self.counts())
    }

    /// The server's answer as it meets the rules that need one.
    fn spoilt(&self, asked: &Asked<'_>, response: Response<Incoming>) -> Response<Body> {
        let (mut head, body) = response.into_parts();
        let answer = Answered::of(asked.method, &head);
        let strike = answer.and_then(|answer| Some((self.decide(asked, Some(&answer))?, answer)));
        let manner = match &strike {
            Some((strike, answer)) => spoil(strike, answer, &mut head.headers),
            None => Manner::AsItIs,
        };
        mark(&mut head.headers, strike.map(|(strike, _)| strike));
        Response::from_parts(head, Either::Right(Spoilt::new(body, manner)))
    }

    fn decide(&self, asked: &Asked<'_>, answer: Option<&Answered>) -> Option<Strike<'_>> {
        let strike = self.rules.decide(&mut self.counts(), asked, answer)?;
        let (rule, fault) = (strike.rule, strike.fault.name());
        tracing::info!(method = %asked.method, path = asked.path, rule, fault, "a fault on purpose");
        Some(strike)
    }

    async fn ask_in_time(&self, request: Request<Incoming>) -> Result<Response<Incoming>, BoxError> {
        tokio::time::timeout(HEAD_WAIT, self.ask(request)).await?
    }

    /// Hands the request on to the server.
    async fn ask(&self, request: Request<Incoming>) -> Result<Response<Incoming>, BoxError> {
        let stream = TcpStream::connect(self.origin).await?;
        stream.set_nodelay(true)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // It ends when the answer is read or dropped, and its errors are those of the answer.
        tokio::spawn(connection);
        let mut response = sender.send_request(self.outgoing(request)?).await?;
        drop_hop_by_hop(response.headers_mut());
        *response.version_mut() = Version::default();
        Ok(response)
    }

    /// The request as it goes on: all of it but what concerned the client's connection.
    fn outgoing(&self, request: Request<Incoming>) -> Result<Request<Incoming>, http::Error> {
        let (mut head, body) = request.into_parts();
        let mut host = head.headers.get(header::HOST).cloned();
        drop_hop_by_hop(&mut head.headers);
        // In HTTP/2 every target has an authority, which has the part of `Host`.
        if head.version == Version::HTTP_2 {
            host = head.uri.authority().map(|name| HeaderValue::try_from(name.as_str())).transpose()?;
            head.uri =
                Uri::from(head.uri.path_and_query().cloned().unwrap_or_else(|| "/".parse().expect("a path")));
        }
        let own = || HeaderValue::try_from(self.origin.to_string());
        head.headers.insert(header::HOST, host.map_or_else(own, Ok)?);
        head.version = Version::HTTP_11;
        Ok(Request::from_parts(head, body))
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        // A rule is counted before it strikes, and both are additions.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says in an answer what has touched it.
fn mark(headers: &mut HeaderMap, strike: Option<Strike<'_>>) {
    let Some(strike) = strike else { return };
    let told = format!("{}; rule={}", strike.fault.name(), strike.rule);
    headers.append(FIELD, HeaderValue::try_from(told).expect("a key and a number"));
}

fn text(status: StatusCode, text: &'static str) -> Response<Body> {
    let plain = (header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer(status, HeaderMap::from_iter([plain]), Bytes::from_static(text.as_bytes()))
}

fn answer(status: StatusCode, headers: HeaderMap, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Either::Left(Full::new(body)));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}
