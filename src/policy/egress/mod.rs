//! Where connections may go. Pure: names and resolved addresses go in, yes or the rule that says no comes out.
//!
//! There are two questions, asked one after the other. *May this be named?* concerns what a client asks for: hosts of
//! the hubs and of Remote Settings, and what the operator lists. *May this address be connected to?* concerns what a
//! name has resolved to, whoever named it; the connection then goes to the very address that was asked about, so a
//! second answer of the name server changes nothing.
//!
//! | who names it | any name | addresses |
//! |---|---|---|
//! | a client ([`Asker::Client`]) | hubs, Remote Settings, listed; with `mode = "open"` all | public, or listed |
//! | the built-in root of a hub ([`Asker::Root`]) | - | public, or listed |
//! | a root that the operator named | - | all but those that are never connected to |
//! | a redirect of a hub ([`Asker::Redirect`]) | any | public on 443, or listed; from a root that the operator named also those of the root's own scope |
//! | the operator's parent proxy ([`Asker::Parent`]) | - | all but those that are never connected to |
//!
//! Link-local addresses (the metadata services of clouds are there), `fd00:ec2::254` and this server's own listeners
//! are never connected to, whatever is listed.

mod address;
mod pattern;

use std::fmt;
use std::net::{IpAddr, SocketAddr};

pub use address::{Scope, scope};
pub use pattern::{BadPattern, Pattern};

use crate::model::{Host, Place};

/// Ports that are allowed where a rule names none.
const PORTS: [u16; 2] = [80, 443];
/// How to allow what was refused.
const SETTING: &str = "egress.allow (--egress-allow)";

/// Whether names that are not listed are allowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// They are refused.
    #[default]
    Closed,
    /// They are allowed; addresses are checked all the same.
    Open,
}

/// Who names a place to connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// A client.
    Client,
    /// The root of a hub; `named` says that the operator gave it.
    Root {
        /// Whether the operator gave it, so that it may be anywhere.
        named: bool,
    },
    /// A redirect that a hub answered; the scope is that of a root which the operator named.
    Redirect {
        /// Where the hub itself is, if the operator named it.
        of: Option<Scope>,
    },
    /// The parent proxy that the operator named.
    Parent,
}

/// The rules.
#[derive(Clone, Debug, Default)]
pub struct Egress {
    mode: Mode,
    allow: Vec<Pattern>,
    /// What clients may always name.
    known: Vec<Pattern>,
    own: Vec<SocketAddr>,
}

/// The rule by which something is refused; `Display` also says how to allow it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denial {
    /// The name is not listed.
    Name(Place),
    /// The name is, the port is not.
    Port(Place),
    /// An address that is not public and not listed.
    Address {
        /// What was named.
        place: Place,
        /// What it stands for.
        ip: IpAddr,
        /// What kind of address that is.
        scope: Scope,
    },
    /// An address that is never connected to.
    Never {
        /// What was named.
        place: Place,
        /// What it stands for.
        ip: IpAddr,
    },
    /// A listener of this server.
    Own(Place),
    /// A redirect that leads to another port than 443.
    RedirectPort(Place),
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(place) => write!(
                f,
                "{} is neither a hub's host nor listed; to allow it, add \"{place}\" to {SETTING}",
                place.host
            ),
            Self::Port(place) => write!(
                f,
                "port {} of {} is not listed (80 and 443 are meant where a rule names none); to allow it, add \
                 \"{place}\" to {SETTING}",
                place.port, place.host
            ),
            Self::Address { place, ip, scope } => {
                let host = shown(place, *ip);
                let listed = Place::from(SocketAddr::new(*ip, place.port));
                write!(
                    f,
                    "{host} {}, which is not listed; to allow it, add \"{listed}\" to {SETTING}",
                    scope.what()
                )
            }
            Self::Never { place, ip } => {
                write!(f, "{} is a link-local address, which nothing can allow", shown(place, *ip))
            }
            Self::Own(place) => write!(f, "{place} is this server itself, which nothing can allow"),
            Self::RedirectPort(place) => write!(
                f,
                "a redirect leads to {place}, and redirects may lead to port 443 only; to allow it, add \"{place}\" \
                 to {SETTING}"
            ),
        }
    }
}

impl std::error::Error for Denial {}

/// `name, which stands for address`, or only the address.
fn shown(place: &Place, ip: IpAddr) -> String {
    match &place.host {
        Host::Name(name) => format!("{name} stands for {ip}, which"),
        Host::Address(_) => format!("{ip}"),
    }
}

impl Egress {
    /// Rules that allow clients what `allow` lists, and the hosts of `known`, which are those of the hubs and of
    /// Remote Settings.
    pub fn new(mode: Mode, allow: Vec<Pattern>, known: Vec<Pattern>) -> Self {
        Self { mode, allow, known, own: Vec::new() }
    }

    /// The same rules for a server that listens at `own`.
    #[must_use]
    pub fn listening_at(mut self, own: Vec<SocketAddr>) -> Self {
        self.own = own;
        self
    }

    /// Whether clients may name what is not listed.
    pub fn is_open(&self) -> bool {
        self.mode == Mode::Open
    }

    /// Where this server listens.
    pub fn own(&self) -> &[SocketAddr] {
        &self.own
    }

    /// Whether a client may name `place`.
    ///
    /// # Errors
    /// The rule that refuses it.
    pub fn name(&self, place: &Place) -> Result<(), Denial> {
        if let Host::Address(ip) = place.host {
            return self.address(Asker::Client, place, ip, false).and_then(|()| {
                match self.is_listed(place, ip) {
                    true => Ok(()),
                    false if self.mode == Mode::Open && PORTS.contains(&place.port) => Ok(()),
                    false if self.mode == Mode::Open => Err(Denial::Port(place.clone())),
                    false => Err(Denial::Name(place.clone())),
                }
            });
        }
        let rules = self.allow.iter().chain(&self.known).filter(|rule| rule.names(&place.host));
        let ports: Vec<bool> = rules.map(|rule| rule.has_port(place.port)).collect();
        match self.mode {
            _ if ports.contains(&true) => Ok(()),
            Mode::Open if PORTS.contains(&place.port) => Ok(()),
            Mode::Closed if ports.is_empty() => Err(Denial::Name(place.clone())),
            Mode::Open | Mode::Closed => Err(Denial::Port(place.clone())),
        }
    }

    /// Whether a connection to `ip` may be made, for which `asker` named `place`; `is_local` says whether it is an
    /// address of this machine.
    ///
    /// # Errors
    /// The rule that refuses it.
    pub fn address(&self, asker: Asker, place: &Place, ip: IpAddr, is_local: bool) -> Result<(), Denial> {
        let ip = ip.to_canonical();
        let (scope, port) = (scope(ip), place.port);
        if self.is_own(ip, port, is_local) {
            return Err(Denial::Own(place.clone()));
        }
        if scope == Scope::Never {
            return Err(Denial::Never { place: place.clone(), ip });
        }
        let of_redirect = match asker {
            Asker::Parent | Asker::Root { named: true } => return Ok(()),
            Asker::Redirect { of } if of == Some(scope) => return Ok(()),
            Asker::Redirect { .. } => true,
            Asker::Client | Asker::Root { named: false } => false,
        };
        // A listed name says that redirects may lead there, though not where it may lie.
        let is_named = || self.allow.iter().any(|rule| rule.names(&place.host) && rule.has_port(port));
        match scope {
            _ if self.is_listed(place, ip) => Ok(()),
            Scope::Public if !of_redirect || port == 443 || is_named() => Ok(()),
            Scope::Public => Err(Denial::RedirectPort(place.clone())),
            _ => Err(Denial::Address { place: place.clone(), ip, scope }),
        }
    }

    /// Whether the address, its network, or `localhost` by that name is listed.
    fn is_listed(&self, place: &Place, ip: IpAddr) -> bool {
        let is_localhost = place.host.name() == Some("localhost") && scope(ip) == Scope::Loopback;
        let rules = self.allow.iter().filter(|rule| rule.has_port(place.port));
        rules.into_iter().any(|rule| rule.has_address(ip) || is_localhost && rule.names(&place.host))
    }

    fn is_own(&self, ip: IpAddr, port: u16, is_local: bool) -> bool {
        let ip = address::innermost(ip);
        self.own.iter().filter(|own| own.port() == port).any(|own| {
            let everywhere = own.ip().is_unspecified();
            let here = is_local || ip.is_loopback() || ip.is_unspecified();
            own.ip().to_canonical() == ip
                || everywhere && here
                || ip.is_unspecified() && own.ip().is_loopback()
        })
    }
}

#[cfg(test)]
mod tests;
