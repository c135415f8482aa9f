//! hubcache keeps one verified copy of every model file and serves it while it arrives.
//!
//! It is a caching proxy between those who use machine-learning models (Firefox's built-in AI, the clients of Hugging
//! Face, transformers.js) and the hubs that hold them. This page is the architecture; the disk format is described
//! in [`store`], the life of a download in [`cache`].
//!
//! # The way of a request
//!
//! ```text
//! listen ──► proxy::handle ──► proxy::Keeper             who makes it; without this server's credential from here on
//!   ▲             │            request::named            whom it addresses: this server, a hub, another place
//!   │             │            proxy::hot                 ready, if it was asked for a moment ago
//!   │             │            request::classify          which file or question
//!                 │            policy::access::may        whether they may have it, and whether anybody is given it
//!                 │            cache::look_up             what is held and known
//!                 │            policy::plan               serve, tell, check, inquire, fill, fail
//!                 ├──► grant   cache ──► upstream (HEAD)  refused to everybody: whether this caller may
//!                 ├──► serve   store ──► body::Stored     a hit: slices of the mapped volume, no copy
//!                 ├──► check   cache ──► upstream (HEAD)  one question for all who ask
//!                 ├──► ask     cache ──► upstream (GET)   the same for a question to the API
//!                 ├──► fill    cache ──► upstream (GET)   one download for all who ask
//!                 │              │  └──► verify           every promised digest, in file order
//!                 │              └─────► store            chunks, then the entry
//!                 │            cache::Follower            bytes as they arrive, the last one withheld
//!   │             ├──► settings remote_settings           what Mozilla signs, as it is held
//!   │             ├──► pass    upstream                   neither: handed on, unbuffered
//!   └── passage ◄─┴──► tunnel  policy::egress             CONNECT: TLS with requests in it, or bytes both ways
//! ```
//!
//! Data flows down and imports point down. The modules in order, each importing only from rows below its own or from
//! its right:
//!
//! | modules | job |
//! |---|---|
//! | `main`, [`cli`], [`app`], [`config`] | argv and exit code; one file a command; wiring and the order of stopping; the only place that reads settings |
//! | [`listen`] | sockets, TLS, connections and their limits; tunnels; the local certificate authority |
//! | [`admin`], [`proxy`], [`transfer`], [`faults`] | the operators' door and the control socket; the request path; lock files, bundles and what to bring; faults on purpose, for tests of clients |
//! | [`remote_settings`] | what Mozilla announces in signed collections: watched, acted upon, mirrored |
//! | [`cache`] | one download with many readers, one question with many who wait |
//! | [`body`], [`upstream`], [`store`], [`throttle`] | bytes to the client; the hubs; redb; lines of limited speed |
//! | [`policy`], [`verify`] | pure: what to do; is it what it claims to be |
//! | [`request`], [`hub`] | pure: what the client asked; what a hub's URLs and fields mean |
//! | [`telemetry`], [`model`] | pure: counters and their names; the nouns |
//!
//! Pure means: no `async`, no files, no sockets, and the time is an argument.
//!
//! # Glossary
//!
//! Each word has one meaning.
//!
//! - **Target** ([`request::Target`]): what the client addressed, a file, a question, or something to pass on.
//! - **Arrival** ([`request::Arrival`]): over which kind of connection a request came. **Named** ([`request::Named`]):
//!   whom it addresses.
//! - **Passage** ([`proxy::Passage`]): what a connection is for after CONNECT: a **relay** of bytes, or **interception**.
//! - **Place** ([`model::Place`]): a host and a port in one spelling.
//! - **Egress** ([`policy::Egress`]): the rules about where connections may go.
//! - **Who** ([`policy::access::Who`]): who makes a request: an address, and a certificate or a **token** of this server. The
//!   **book** ([`policy::access::Book`]) has the tokens and the **rules**; each **grants** rights for models. The **keeper**
//!   ([`proxy::Keeper`]) has the book of the moment.
//! - **Barred** ([`policy::Barred`]): given to nobody, by the operator's rules for models.
//! - **Audit log** ([`telemetry::audit`]): a **record** of each **deed**: served, refused, filled, evicted, changed.
//! - **Hub** ([`model::Hub`]): a dialect of URLs and header fields. Its **root** is the URL where it is, its **hosts** are
//!   those by which clients name it.
//! - **Resource** ([`model::Resource`]): one named file at a hub, at a **revision** that is immutable (a commit, a
//!   version) or mutable (a branch, `main`).
//! - **Expectation** ([`model::Expectation`]): the size and digests that a file must have, as far as known
//!   beforehand; each digest is a **promise** with a **promiser**.
//! - **Entry** ([`model::Entry`]): the index record of a file whose bytes are durable. Its **standing** is *verified*
//!   (a promise was compared) or *recorded* (nobody promised anything).
//! - **Openness** ([`model::Openness`]): who may read an entry: *public* by the hub's word, *shared* by the operator's, or
//!   *restricted*. A **grant** ([`cache::Entitled`]) is the hub's word that one caller may ([`policy::Entitlement`]).
//! - **Blob** ([`store::Blob`]): bytes, named by their SHA-256, in **chunks** inside a **volume**.
//! - **Question** ([`model::Question`]): what a hub's API is asked about a repository, in one spelling.
//! - **Document** ([`model::Document`]): the answer to a question, or that there is no such file, as it is kept.
//! - **Plan** ([`policy::Plan`]): what policy decided for a request.
//! - **Fetcher** ([`cache::Fetcher`]): everything that goes upstream. Offline there is none.
//! - **Lock** ([`transfer::lock::Lock`]): the file that pins every byte of models. **Frozen** ([`proxy::Frozen`]): served
//!   from a lock alone; what is asked for beyond it is a **lack**, or where it is **recorded** ([`transfer::Recorded`])
//!   comes from the hub.
//! - **Outline** ([`transfer::outline::Outline`]): where the files of a lock are in a directory for other tools. A **content**
//!   is bytes with all the files that have them.
//! - **Bundle** ([`transfer::bundle`]): what a lock pins, with the lock, in one file. A **delta** is one without what
//!   another lock pins. What it brings of Remote Settings is **delivered** ([`remote_settings::Delivered`]); what is served
//!   out of it is **lent** ([`store::Store::lend`]).
//! - **Owner**: the one process that has a data directory open. **Session** ([`admin::control::Opened`]): what it
//!   serves from a lock, on a listener of its own, for one run of a program.
//! - **View** ([`cache::View`]): how a branch is read, as the hub said last or, while no hub can be asked, as the commit
//!   at which it **stands** ([`policy::settle`]).
//! - **Fill**: the task that downloads, verifies and stores a file. It fetches **stretches** in **lanes**, and one try
//!   at the whole file is an **attempt**.
//! - **Take** ([`cache::Cache::take`]): a file that is on this machine already, or in a bundle, is held as a fill would hold
//!   it, without a hub.
//! - **Flight**: a running fill as its readers see it; a **ticket** is a place in it, a **follower**
//!   ([`cache::Follower`]) a body that reads along.
//! - **Admission**: whether a hub may be asked now. It may not while it is **down** (its **circuit** is open), nor
//!   without credentials while a **hold-off** of its own making lasts.
//! - **Mark**: stands on a resource of which wrong bytes were sent, against clients that would resume them.
//! - **Collection** ([`model::Collection`]): a signed list of records of Remote Settings. A **snapshot**
//!   ([`model::Snapshot`]) is all of it at one moment, under a signature that was found good.
//! - **Announcement** ([`remote_settings::Announcement`]): what the difference of two snapshots says of a model. A
//!   **renewal** ([`model::Renewal`]) is the job that follows from it; after it the old revision is **superseded**.
//! - **Need** ([`model::Needed`]): a repository at a revision that a record names for a feature of Firefox, and with what
//!   weights that runs it.
//! - **Part** ([`model::LockedPart`]): bytes of Remote Settings that a lock pins: a snapshot, a chain, what a server says of
//!   itself. It is kept as a file under its digest, beside the state that is told to clients.
//! - **Pin** ([`model::Pin`]): that somebody keeps a revision, what for, and until when. **To go** ([`policy::evict`]): to be
//!   removed for want of room; a blob's **rank** for that is its queue, since when, and how often it was used.
//! - **Fault** ([`faults::Fault`]): what goes wrong with an answer because a **rule** wants it. The **spoiler**
//!   ([`faults::Spoiler`]) stands before a server and makes it so; it has no store.
//! - **Throttle** ([`throttle::Throttle`]): a line that carries so many bytes a second, on which clients take **turns**.
//! - **Urgency** ([`model::Urgency`]): whether a client waits for a fill, or it runs in the background.
//! - **Scrub** ([`cache::Scrubber`]): what is held is read again and hashed in the background. What is found damaged is
//!   **condemned** ([`store::Store::condemn`]): served no more, and broken off where it is being sent.
//! - **Outcome** ([`model::Outcome`]): how a request ended; the log field, the metric label and `Cache-Status`.
//!
//! # Invariants
//!
//! 1. There is no index entry before its bytes are hashed and durable.
//! 2. No fill belongs to a client. The first to ask is one more follower; a fill that ends without a word ends all its
//!    followers' waits.
//! 3. After a failed verdict no body ends cleanly: every one that has sent a byte of the attempt is broken off.
//! 4. The last byte of a file is sent after the verdict. Only a range that ends before the file does may end earlier,
//!    and its `Cache-Status` says `unverified`.
//! 5. Entries are keyed by the root they came from, so that a test hub never answers for the real one.
//! 6. What the hub gave to somebody's credentials is told to those alone whose own credentials the hub accepts for that
//!    path. To all others it is as what is not held: the same answer, the same requests to the hub. A credential is in no key,
//!    log line or record ([`model::Secret`] has no way to be printed); a record may have a keyed hash of it.
//! 7. A request to a hub begins at the hub's root; a signed URL is used once and forgotten.
//! 8. Every queue, wait, header and body has a named limit.
//! 9. Within the time that a branch is trusted it is one commit, for files and for the API. Without a hub it is one
//!    commit too.
//! 10. Nothing is said not to exist but what the hub said, or what follows from its list of all files.
//! 11. Every connection goes to an address that the egress rules have allowed for whoever named it.
//! 12. The target URI names the resource, however it came; a file fetched one way is a hit every other way.
//! 13. No collection is acted upon or served as held that was not signed under a pinned root; what is signed is handed on
//!     as it is.
//! 14. A revision is superseded only when files of the one that replaces it are here, and no live record names it.
//! 15. Other bytes for an immutable revision are refused, both digests named.
//! 16. Nothing of a bundle is taken before all of it was looked at; nothing of it is served to the end before it was hashed.
//! 17. A credential of this server is no part of a request behind the keeper; a credential of a hub is never compared with
//!     the book. Nothing of a request is looked at before it is known who makes it.
//! 18. All files of the data directory take no more blocks than the bound. What is pinned, held, served from a lock, or read
//!     does not go.
//! 19. One process has a data directory open, and all others ask it. One that spoils answers is never it.

pub mod admin;
pub mod app;
pub mod body;
pub mod cache;
pub mod cli;
pub mod config;
pub mod faults;
pub mod hub;
pub mod listen;
pub mod model;
pub mod policy;
pub mod proxy;
pub mod remote_settings;
pub mod request;
pub mod store;
pub mod telemetry;
pub mod throttle;
pub mod transfer;
pub mod upstream;
pub mod verify;
