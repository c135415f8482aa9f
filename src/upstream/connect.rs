//! Connections of our own making: where they may go is decided here, for every one of them.
//!
//! A name is resolved once; each address it has is put before the egress rules, and the connection is made to those
//! that pass and to nothing else. Who asks is fixed by the [`Way`], and there is a pool for each way, so that a
//! connection which one may have is never handed to another. Through a parent proxy only addresses that are named as
//! such are checked here; names are resolved by the parent.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::future::{Ready, ready};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderValue, Uri};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower_service::Service;

use super::Parent;
use super::sites::Site;
use crate::model::{Host, Place};
use crate::policy::{Asker, Denial, Egress, Scope, scope};

/// On whose word a connection is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    /// To where a hub is, or a mirror of it.
    Root(Site),
    /// To where that redirected.
    Redirect(Site),
    /// To what a client named.
    Client,
}

/// Why there is no connection, where no lower layer has said so.
#[derive(Debug)]
pub(super) enum ConnectError {
    /// It is not allowed.
    Denied(Denial),
    /// The name has no address.
    NoName(io::Error),
    /// The URL has no host.
    NoHost,
    /// The parent proxy opens no tunnel.
    Parent {
        /// Where it is.
        place: Place,
        /// What it said, as far as that is told.
        why: String,
    },
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied(_) => f.write_str("the connection is not allowed"),
            Self::NoName(_) => f.write_str("the name has no address"),
            Self::NoHost => f.write_str("the URL names no host"),
            Self::Parent { place, why } => write!(f, "the parent proxy {place} opens no tunnel ({why})"),
        }
    }
}

impl Error for ConnectError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Denied(e) => Some(e),
            Self::NoName(e) => Some(e),
            Self::NoHost | Self::Parent { .. } => None,
        }
    }
}

type BoxError = Box<dyn Error + Send + Sync>;

/// Makes the connections of one way.
#[derive(Clone)]
pub(super) struct Connector {
    way: Way,
    shared: Arc<Shared>,
}

/// What all connectors have in common.
pub(super) struct Shared {
    egress: Arc<Egress>,
    timeout: Duration,
    parent: Option<Parent>,
    /// Whether the operator named the site.
    named: BTreeMap<Site, bool>,
    /// Where sites were found to be.
    scopes: Mutex<BTreeMap<Site, Scope>>,
}

impl Shared {
    pub(super) fn new(
        egress: Arc<Egress>,
        timeout: Duration,
        parent: Option<Parent>,
        named: BTreeMap<Site, bool>,
    ) -> Arc<Self> {
        Arc::new(Self { egress, timeout, parent, named, scopes: Mutex::default() })
    }

    /// The credentials for the parent proxy, where it gets a request that is not in a tunnel.
    pub(super) fn parent_credentials(&self, uri: &Uri) -> Option<HeaderValue> {
        let parent = self.parent.as_ref().filter(|parent| parent.is_for(uri))?;
        let plain = uri.scheme_str() == Some("http");
        parent.credentials.as_ref().filter(|_| plain).map(|secret| secret.expose().clone())
    }

    fn asker(&self, way: Way) -> Asker {
        match way {
            Way::Client => Asker::Client,
            Way::Root(site) => Asker::Root { named: self.named[&site] },
            Way::Redirect(site) => {
                Asker::Redirect { of: self.scopes().get(&site).copied().filter(|_| self.named[&site]) }
            }
        }
    }

    fn check(&self, asker: Asker, place: &Place, ip: IpAddr) -> Result<(), ConnectError> {
        // Whether an address is one of this machine is asked of the system only where that could matter.
        let same_port = self.egress.own().iter().any(|own| own.port() == place.port);
        let is_local = same_port && std::net::UdpSocket::bind((ip, 0)).is_ok();
        self.egress.address(asker, place, ip, is_local).map_err(ConnectError::Denied)
    }

    /// Connects to a place itself.
    async fn dial(&self, asker: Asker, place: &Place) -> Result<(TcpStream, Scope), BoxError> {
        let found = match &place.host {
            Host::Address(ip) => vec![SocketAddr::new(*ip, place.port)],
            Host::Name(name) => {
                let lookup = tokio::net::lookup_host((name.as_str(), place.port));
                let found = tokio::time::timeout(self.timeout, lookup).await;
                let found = found.map_err(|_| io::Error::from(io::ErrorKind::TimedOut)).flatten();
                found.map_err(ConnectError::NoName)?.collect()
            }
        };
        let mut denied = None;
        let mut allowed = Vec::with_capacity(found.len());
        for addr in found {
            match self.check(asker, place, addr.ip()) {
                Ok(()) => allowed.push(addr),
                Err(error) => denied = Some(error),
            }
        }
        if let (true, Some(error)) = (allowed.is_empty(), denied) {
            return Err(error.into());
        }
        let mut tcp = HttpConnector::new_with_resolver(Fixed(allowed));
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(self.timeout));
        // A name that stands for nothing, so that the resolver with the checked addresses is asked in every case.
        let uri = format!("http://checked.invalid:{}", place.port).parse()?;
        let stream = tcp.call(uri).await?.into_inner();
        let scope = stream.peer_addr().map_or(Scope::Private, |peer| scope(peer.ip()));
        Ok((stream, scope))
    }

    /// Connects to the parent proxy.
    async fn dial_parent(&self, parent: &Parent) -> Result<Stream, BoxError> {
        let (stream, _) = self.dial(Asker::Parent, &parent.place).await?;
        Ok(Stream { io: TokioIo::new(stream), by_parent: false })
    }

    fn scopes(&self) -> MutexGuard<'_, BTreeMap<Site, Scope>> {
        // Each update is one insertion.
        self.scopes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The addresses that have passed.
#[derive(Clone)]
struct Fixed(Vec<SocketAddr>);

impl Service<Name> for Fixed {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Ready<io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Name) -> Self::Future {
        ready(Ok(self.0.clone().into_iter()))
    }
}

impl Connector {
    pub(super) fn new(way: Way, shared: Arc<Shared>) -> Self {
        Self { way, shared }
    }

    /// A connection on which the place of `uri` can be spoken to.
    pub(super) async fn connect(self, uri: Uri) -> Result<Stream, BoxError> {
        let default = if uri.scheme_str() == Some("http") { 80 } else { 443 };
        let authority = uri.authority().ok_or(ConnectError::NoHost)?;
        let place = Place::parse(authority.as_str(), Some(default))?;
        let asker = self.shared.asker(self.way);
        let Some(parent) = self.shared.parent.as_ref().filter(|parent| parent.is_for(&uri)) else {
            let (stream, scope) = self.shared.dial(asker, &place).await?;
            if let Way::Root(site) = self.way {
                self.shared.scopes().insert(site, scope);
            }
            return Ok(Stream { io: TokioIo::new(stream), by_parent: false });
        };
        if let Host::Address(ip) = place.host {
            self.shared.check(asker, &place, ip)?;
        }
        if uri.scheme_str() == Some("http") {
            return Ok(Stream { by_parent: true, ..self.shared.dial_parent(parent).await? });
        }
        let to_parent = format!("http://{}", parent.place).parse()?;
        let dial = ToParent { parent: parent.clone(), shared: Arc::clone(&self.shared) };
        let mut tunnel = Tunnel::new(to_parent, dial);
        if let Some(credentials) = &parent.credentials {
            tunnel = tunnel.with_auth(credentials.expose().clone());
        }
        let within = self.shared.timeout;
        let opened = tokio::time::timeout(within, tunnel.call(uri)).await;
        let opened = opened.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?;
        opened.map_err(|error| match Error::source(&error) {
            Some(_) => BoxError::from(error),
            // Nothing lies behind it: so it is what the parent itself said.
            None => ConnectError::Parent { place: parent.place.clone(), why: error.to_string() }.into(),
        })
    }
}

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}

/// Connects to the parent proxy, wherever the request goes.
#[derive(Clone)]
struct ToParent {
    parent: Parent,
    shared: Arc<Shared>,
}

impl Service<Uri> for ToParent {
    type Response = Stream;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let Self { parent, shared } = self.clone();
        Box::pin(async move { shared.dial_parent(&parent).await })
    }
}

/// A connection.
pub(super) struct Stream {
    io: TokioIo<TcpStream>,
    /// Whether it ends at a parent proxy that is to be told the whole URL.
    by_parent: bool,
}

impl Stream {
    pub(super) fn into_tcp(self) -> TcpStream {
        self.io.into_inner()
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new().proxy(self.by_parent)
    }
}

impl Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl Write for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        Write::is_write_vectored(&self.io)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
