//! Who may use this server, and for what. Pure: what a client has shown and the rules go in, yes or what is lacking
//! comes out.
//!
//! # States
//! A client is *unknown* until it has shown a token, its certificate was verified in the handshake, or it comes from a
//! network that a rule names; then it is [`Who`]. Of a request of an unknown client nothing is looked at: it is asked
//! for a credential, in the same words whatever the request names. Of a known one [`may`] decides, before anything held
//! is looked up, so a model that it may not have looks the same whether it is held, exists, or neither.
//!
//! | `listen.access` | known is | and may |
//! |---|---|---|
//! | `local`, `anonymous` | everybody | everything |
//! | `token` | who has a token, a certificate, or an address of a rule | what these grant |
//! | `mtls` | who has a certificate; nothing else makes up for it | what its groups, its address and a token beside it grant |
//!
//! Nothing is granted but by a token or a rule of the [`Book`]. What several grant adds up.
//!
//! # Who owns what
//! The book is a file; the program's shell reads it and swaps it as a whole. A tunnel keeps who opened it, and each
//! request in it is decided by the book of that moment: a token that was revoked or has expired grants nothing from then
//! on, in open connections too. Of a tunnel that is relayed unseen only the opening is decided; it goes on until it ends.
//!
//! # Failure cases
//! - A wrong, an expired and a revoked token are refused even where an address alone would do: whoever shows a
//!   credential is to learn that it is none.
//! - A book that cannot be read leaves the one before in force.

mod book;
mod token;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

pub use book::{BadBook, Book, MAX_BOOK, Rule, Token, Whom};
pub use token::{NewToken, digest, entry, without};

use super::ModelPattern;
use crate::model::{ClientKey, Hub, Repo, Timestamp};

/// Who may use the listeners.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// This machine; only loopback addresses are listened on.
    #[default]
    Local,
    /// Whoever reaches a port.
    Anonymous,
    /// Who has a token of this server, a client certificate, or an address that a rule names.
    Token,
    /// Who has a client certificate.
    Mtls,
}

impl Access {
    /// Whether whoever gets through is asked nothing.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Local | Self::Anonymous)
    }

    /// The word of the setting.
    pub fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Anonymous => "anonymous",
            Self::Token => "token",
            Self::Mtls => "mtls",
        }
    }
}

/// Something that a client may be allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Right {
    /// To be given files, answers of the API, and the mirror of Remote Settings.
    Read,
    /// To have this server fetch by itself.
    Preload,
    /// To change something at the operators' door; it has the others in it.
    Admin,
}

impl Right {
    /// All of them, the least first.
    pub const ALL: [Self; 3] = [Self::Read, Self::Preload, Self::Admin];

    /// The word in files and flags.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Preload => "preload",
            Self::Admin => "admin",
        }
    }

    /// The right of that name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|right| right.name() == name)
    }
}

/// What a token or a rule grants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    /// Which rights.
    pub may: Vec<Right>,
    /// For which models; for all, and whatever else can be asked for, where there are none.
    pub models: Vec<ModelPattern>,
}

impl Grant {
    fn allows(&self, right: Right, about: About<'_>) -> bool {
        let has = self.may.iter().any(|has| *has == right || *has == Right::Admin);
        has && (self.models.is_empty() || self.concerns(about))
    }

    fn concerns(&self, about: About<'_>) -> bool {
        match about {
            About::Model(hub, repo) => self.models.iter().any(|pattern| pattern.matches(hub, repo)),
            About::Common => true,
            About::Other => false,
        }
    }
}

/// What a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About<'a> {
    /// A model, a data set or a space.
    Model(Hub, &'a Repo),
    /// What every known client may have: the mirror of Remote Settings, a tunnel whose requests are looked at one by
    /// one.
    Common,
    /// Something through which any model could be had, or nothing of models: refused to whom only some are granted.
    Other,
}

/// What is in a client's certificate, as far as it counts here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Its subject, for people.
    pub subject: String,
    /// The organizational units of the subject; where it has none, its organizations.
    pub groups: Vec<String>,
}

/// A token that was shown, without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bearer {
    /// By which it is revoked.
    pub id: String,
    /// What it is for.
    pub name: String,
}

/// Who is at the other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its address.
    pub addr: SocketAddr,
    /// Its certificate, which was verified.
    pub certificate: Option<Arc<Certificate>>,
    /// Who opened the tunnel in which it speaks.
    pub who: Option<Arc<Who>>,
}

impl Peer {
    /// Who that is, as far as limits tell clients apart.
    pub fn client(&self) -> ClientKey {
        ClientKey::of(self.addr.ip())
    }
}

impl From<SocketAddr> for Peer {
    fn from(addr: SocketAddr) -> Self {
        Self { addr, certificate: None, who: None }
    }
}

/// Who makes a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    /// From where.
    pub address: IpAddr,
    /// With what certificate.
    pub certificate: Option<Arc<Certificate>>,
    /// With what token.
    pub token: Option<Arc<Bearer>>,
}

impl Who {
    /// Who is known by the connection alone.
    pub fn of(peer: &Peer) -> Self {
        let address = peer.addr.ip().to_canonical();
        Self { address, certificate: peer.certificate.clone(), token: None }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.token, &self.certificate) {
            (Some(token), _) => write!(f, "token {} ({})", token.id, token.name),
            (None, Some(certificate)) => write!(f, "the certificate of {}", certificate.subject),
            (None, None) => write!(f, "address {}", self.address),
        }
    }
}

/// What a client lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    who: String,
    right: Right,
    model: Option<String>,
    /// Whether other models are granted.
    is_narrow: bool,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { who, right, model, is_narrow } = self;
        let right = right.name();
        match (model, is_narrow) {
            (Some(model), true) => {
                write!(f, "{who} has the right to {right} for other models, and not for {model}")
            }
            (None, true) => {
                write!(f, "{who} has the right to {right} for some models only, and this could be about any")
            }
            (_, false) => write!(f, "{who} lacks the right to {right}"),
        }?;
        f.write_str(
            "; the operator grants it with `hubcache token add`, or by a rule in the file of access.tokens",
        )
    }
}

impl std::error::Error for Refusal {}

/// Whether a client may do this now.
///
/// # Errors
/// What it lacks.
pub fn may(book: &Book, who: &Who, right: Right, about: About<'_>, now: Timestamp) -> Result<(), Refusal> {
    let mut is_narrow = false;
    for grant in book.grants(who, now) {
        if grant.allows(right, about) {
            return Ok(());
        }
        is_narrow |= grant.allows(right, About::Common);
    }
    let model = match about {
        About::Model(hub, repo) => Some(format!("{hub}:{repo}")),
        About::Common | About::Other => None,
    };
    Err(Refusal { who: who.to_string(), right, model, is_narrow })
}

#[cfg(test)]
mod tests;
