//! Whoever stands at the door: takes this server's credentials out of requests, and knows the book of the moment.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::request::Parts;
use http::{HeaderMap, HeaderName, header};
use serde::{Deserialize, Serialize};

use crate::model::Timestamp;
use crate::policy::access::{About, Access, Book, Peer, Refusal, Right, Who, digest, may};
use crate::request::{Arrival, SeenAs, Shown, take_credential};

/// The field of clients that see a server of its own, unless the operator chooses another.
pub const OWN_FIELD: HeaderName = HeaderName::from_static("x-hubcache-token");

/// The settings of a [`Keeper`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeeperSettings {
    /// Who may use this server.
    pub access: Access,
    /// In which field clients that see a server of its own show a token.
    pub field: HeaderName,
}

/// Knows who may do what.
#[derive(Debug)]
pub struct Keeper {
    access: Access,
    field: HeaderName,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    book: Arc<Book>,
    trouble: Option<String>,
    certificates: Option<String>,
}

/// How it stands with who may do what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessStatus {
    /// Who may use this server: local, anonymous, token or mtls.
    pub mode: String,
    /// How many tokens there are.
    pub tokens: usize,
    /// How many rules.
    pub rules: usize,
    /// Why the file of both is not in force as it is now, if it is not.
    pub trouble: Option<String>,
    /// Why the files of the TLS listener are not, if they are not.
    pub certificate_trouble: Option<String>,
}

impl AccessStatus {
    /// Whether clients are asked who they are.
    pub fn asks(&self) -> bool {
        matches!(self.mode.as_str(), "token" | "mtls")
    }
}

/// Why a request is refused before anything of it is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// Nothing was shown.
    Nothing,
    /// What was shown is no token of this server, or one that was revoked.
    Wrong,
    /// The token has expired.
    Expired,
    /// The client has no certificate, and must have one.
    NoCertificate,
}

impl Default for Keeper {
    /// One who lets everybody do everything.
    fn default() -> Self {
        Self::new(KeeperSettings { access: Access::Local, field: OWN_FIELD }, Book::default())
    }
}

impl Keeper {
    /// One with this book.
    pub fn new(settings: KeeperSettings, book: Book) -> Self {
        let KeeperSettings { access, field } = settings;
        let state = State { book: Arc::new(book), ..State::default() };
        Self { access, field, state: Mutex::new(state) }
    }

    /// Whether everybody may do everything.
    pub fn is_open(&self) -> bool {
        self.access.is_open()
    }

    /// Puts another book into force.
    pub fn replace(&self, book: Book) {
        let mut state = self.state();
        (state.book, state.trouble) = (Arc::new(book), None);
    }

    /// Notes why the file cannot be read; the book before stays in force.
    pub fn keep(&self, trouble: String) {
        self.state().trouble = Some(trouble);
    }

    /// Notes why the files of the TLS listener cannot be read, or that they can.
    pub fn note_certificates(&self, trouble: Option<String>) {
        self.state().certificates = trouble;
    }

    /// How it stands.
    pub fn status(&self) -> AccessStatus {
        let state = self.state();
        AccessStatus {
            mode: self.access.name().to_owned(),
            tokens: state.book.tokens.len(),
            rules: state.book.rules.len(),
            trouble: state.trouble.clone(),
            certificate_trouble: state.certificates.clone(),
        }
    }

    /// Whether somebody may do this now.
    ///
    /// # Errors
    /// What they lack.
    pub fn may(&self, who: &Who, right: Right, about: About<'_>, now: Timestamp) -> Result<(), Refusal> {
        if self.is_open() {
            return Ok(());
        }
        may(&self.book(), who, right, about, now)
    }

    /// Takes this server's credential out of a request, and says who makes it.
    ///
    /// # Errors
    /// When that is not known, and must be.
    pub fn receive(
        &self,
        head: &mut Parts,
        arrival: &Arrival,
        peer: &Peer,
        now: Timestamp,
    ) -> Result<Who, Unknown> {
        let seen_as = SeenAs::of(head, arrival);
        let shown = take_credential(head, seen_as, &self.field, !self.is_open());
        if let (SeenAs::Tunnel, Some(who)) = (seen_as, &peer.who) {
            return Ok(Who::clone(who));
        }
        self.identify(shown, peer, now)
    }

    /// Takes this server's credential out of a request to the operators' door, and says who makes it.
    ///
    /// # Errors
    /// When that is not known, and must be.
    pub fn receive_operator(
        &self,
        headers: &mut HeaderMap,
        peer: &Peer,
        now: Timestamp,
    ) -> Result<Who, Unknown> {
        if self.is_open() {
            return Ok(Who::of(peer));
        }
        let (mut head, ()) = http::Request::new(()).into_parts();
        head.headers = std::mem::take(headers);
        let shown = take_credential(&mut head, SeenAs::Endpoint, &header::AUTHORIZATION, true);
        *headers = head.headers;
        match shown {
            // An address or a certificate is not asked for at that door.
            Shown::Nothing => Err(Unknown::Nothing),
            shown => self.known(shown, peer, now),
        }
    }

    fn identify(&self, shown: Shown, peer: &Peer, now: Timestamp) -> Result<Who, Unknown> {
        match self.access {
            Access::Local | Access::Anonymous => Ok(Who::of(peer)),
            Access::Mtls if peer.certificate.is_none() => Err(Unknown::NoCertificate),
            Access::Token | Access::Mtls => self.known(shown, peer, now),
        }
    }

    fn known(&self, shown: Shown, peer: &Peer, now: Timestamp) -> Result<Who, Unknown> {
        let (book, who) = (self.book(), Who::of(peer));
        match shown {
            Shown::Nothing if who.certificate.is_some() || book.knows_address(&who) => Ok(who),
            Shown::Nothing => Err(Unknown::Nothing),
            Shown::Garbled => Err(Unknown::Wrong),
            Shown::Token(shown) => match book.token(&digest(shown.expose())) {
                None => Err(Unknown::Wrong),
                Some(token) if token.has_expired(now) => Err(Unknown::Expired),
                Some(token) => Ok(Who { token: Some(Arc::clone(&token.bearer)), ..who }),
            },
        }
    }

    /// What clients must be allowed to send by a browser.
    pub(super) fn field(&self) -> &HeaderName {
        &self.field
    }

    fn book(&self) -> Arc<Book> {
        Arc::clone(&self.state().book)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that changes it panics half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
