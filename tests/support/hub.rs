//! A scripted hub on real sockets: both layouts, their content networks, and every way to misbehave.
//!
//! [`ScriptedHub::start`] opens three listeners on the loopback interface: the hub itself (Hugging Face and
//! Mozilla layouts side by side, as `serve --hub` may point both names at one root), its content network
//! (another origin, reached through signed redirects) and the Xet store (which refuses everybody and only exists to
//! show that nobody went there). It runs on threads of its own, so that blocking and async tests can use it
//! alike, and it ends when it is dropped.
//!
//! What it *says* is computed from published content without I/O (`huggingface`, `api`, `mozilla`, `answer`); what it
//! *does* to the bytes on the way out is a list of faults and gates (`fault`, `gate`), and what it *saw* stands
//! in a journal (`journal`) that tests can wait on.

mod answer;
mod api;
mod connection;
mod content;
mod fault;
mod gate;
mod huggingface;
mod info;
mod journal;
mod listing;
mod mozilla;
mod request;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

pub use content::{File, Storage, digests};
pub use fault::{Fault, FaultHandle, What};
pub use gate::Gate;
pub use journal::{End, Seen};

use content::World;
use fault::Faults;
use gate::{Gates, Hold};
use journal::Journal;

/// Which of the hub's addresses a request came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Listener {
    /// The hub root: pages, API and files that are not redirected.
    Hub,
    /// The content network behind signed redirects.
    Cdn,
    /// The Xet store, which no client may reach through a cache.
    Cas,
}

impl Listener {
    const ALL: [Self; 3] = [Self::Hub, Self::Cdn, Self::Cas];

    /// An address of its own on the loopback interface: some clients take a redirect to another port for one to
    /// the same host.
    fn ip(self) -> Ipv4Addr {
        if cfg!(target_os = "linux") { Ipv4Addr::new(127, 0, 0, 1 + self as u8) } else { Ipv4Addr::LOCALHOST }
    }

    /// That address, or another name of it where there is only one.
    fn host(self) -> String {
        match self {
            Self::Hub => Ipv4Addr::LOCALHOST.to_string(),
            Self::Cdn | Self::Cas if cfg!(target_os = "linux") => self.ip().to_string(),
            Self::Cdn | Self::Cas => "localhost".to_owned(),
        }
    }
}

/// What the connection tasks of one hub share.
struct Shared {
    world: Mutex<World>,
    faults: Mutex<Faults>,
    gates: Mutex<Gates>,
    journal: Journal,
    /// `http://HOST:PORT` of each listener, in the order of [`Listener::ALL`].
    origins: [String; 3],
}

impl Shared {
    fn origin(&self, listener: Listener) -> &str {
        &self.origins[listener as usize]
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().expect("no thread panics while it holds the world")
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().expect("no thread panics while it holds the faults")
    }

    fn gates(&self) -> MutexGuard<'_, Gates> {
        self.gates.lock().expect("no thread panics while it holds the gates")
    }
}

/// A hub under the control of a test.
pub struct ScriptedHub {
    shared: Arc<Shared>,
    addresses: [SocketAddr; 3],
    /// Bound and never listening: they keep the ports from being given to others while the hub is stopped.
    _reserved: [TcpSocket; 3],
    running: Mutex<Option<Running>>,
    /// `Option` only because ending a runtime consumes it, in `Drop`.
    runtime: Option<Runtime>,
}

/// The accept loops of one period between start and stop.
struct Running {
    loops: Vec<tokio::task::JoinHandle<()>>,
    /// Disconnects when the last loop and the last connection are gone.
    gone: mpsc::Receiver<()>,
}

impl ScriptedHub {
    /// Starts a hub without content on free ports.
    pub fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("scripted-hub")
            .enable_all()
            .build()
            .expect("a runtime can be built");
        let reserved = Listener::ALL.map(|listener| bound(SocketAddr::from((listener.ip(), 0))));
        let addresses =
            [0, 1, 2].map(|i: usize| reserved[i].local_addr().expect("a bound socket has an address"));
        let origins =
            [0, 1, 2].map(|i: usize| format!("http://{}:{}", Listener::ALL[i].host(), addresses[i].port()));
        let shared = Arc::new(Shared {
            world: Mutex::default(),
            faults: Mutex::default(),
            gates: Mutex::default(),
            journal: Journal::default(),
            origins,
        });
        let hub = Self {
            shared,
            addresses,
            _reserved: reserved,
            running: Mutex::default(),
            runtime: Some(runtime),
        };
        hub.restart();
        hub
    }

    /// The hub root, `http://127.0.0.1:PORT`.
    pub fn url(&self) -> &str {
        self.shared.origin(Listener::Hub)
    }

    /// The content network's origin.
    pub fn cdn_url(&self) -> &str {
        self.shared.origin(Listener::Cdn)
    }

    /// The Xet store's origin.
    pub fn cas_url(&self) -> &str {
        self.shared.origin(Listener::Cas)
    }

    /// Ends every connection and refuses new ones; content, faults and journal stay.
    pub fn stop(&self) {
        let Some(running) = self.running().take() else { return };
        for accept in &running.loops {
            accept.abort();
        }
        // Nothing is ever sent: this returns when the last holder of the other end is gone.
        let _ = running.gone.recv();
    }

    /// Listens again, on the same ports.
    pub fn restart(&self) {
        let mut running = self.running();
        if running.is_some() {
            return;
        }
        let runtime = self.runtime.as_ref().expect("the runtime ends in Drop");
        let _inside = runtime.enter();
        let (alive, gone) = mpsc::channel();
        let loops = Listener::ALL
            .iter()
            .zip(self.addresses)
            .map(|(&which, address)| {
                let socket = bound(address).listen(1024).expect("the reserved port is free to listen on");
                let listening = Listening { socket, alive: alive.clone() };
                runtime.spawn(accept_loop(self.shared.clone(), which, listening))
            })
            .collect();
        *running = Some(Running { loops, gone });
    }

    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        // Drop comes here too, also after a failed restart.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ScriptedHub {
    fn drop(&mut self) {
        self.stop();
        if let Some(runtime) = self.runtime.take() {
            // A plain drop waits, which is forbidden inside an async test.
            runtime.shutdown_background();
        }
    }
}

/// Publishing content.
impl ScriptedHub {
    /// The Hugging Face repository `id`: `org/name`, a bare `name`, or either behind `datasets/` or `spaces/`.
    /// It exists from its first commit on.
    pub fn hf<'a>(&'a self, id: &str) -> HfRepo<'a> {
        HfRepo { hub: self, id: id.to_owned() }
    }

    /// Publishes, or replaces, one file in the Mozilla layout and returns its path on the hub.
    pub fn moz(&self, model: &str, revision: &str, path: &str, bytes: impl Into<Bytes>) -> String {
        self.shared.world().publish_mozilla(model, revision, path, bytes.into())
    }

    /// Removes one file of the Mozilla layout.
    pub fn moz_remove(&self, model: &str, revision: &str, path: &str) {
        self.shared.world().remove_mozilla(model, revision, path);
    }

    /// Makes `token` a valid credential that opens no gated or private repository.
    pub fn accept_token(&self, token: &str) {
        self.shared.world().tokens.insert(token.to_owned());
    }

    /// Makes `token` invalid everywhere.
    pub fn revoke_token(&self, token: &str) {
        self.shared.world().tokens.remove(token);
    }

    /// Lists at most `entries` of a tree, or commits, at once, with a `Link` to the rest; as many as the real hub
    /// does unless this was called.
    pub fn page_size(&self, entries: usize) {
        self.shared.world().page_size = Some(entries);
    }

    /// Answers for repository `old` with the hub's relative 307 to `new`.
    pub fn rename(&self, old: &str, new: &str) {
        self.shared.world().renamed.insert(old.to_owned(), new.to_owned());
    }
}

/// One Hugging Face repository of a [`ScriptedHub`].
pub struct HfRepo<'a> {
    hub: &'a ScriptedHub,
    id: String,
}

impl HfRepo<'_> {
    /// Makes a commit whose whole content is `files`, moves `main` to it, and returns its 40 digits.
    pub fn commit(&self, files: impl IntoIterator<Item = File>) -> String {
        let commit = self.commit_aside(files);
        self.branch("main", &commit);
        commit
    }

    /// Makes a commit that no branch points at yet.
    pub fn commit_aside(&self, files: impl IntoIterator<Item = File>) -> String {
        self.hub.shared.world().commit(&self.id, files.into_iter().collect())
    }

    /// Creates the branch or moves it; `refs/pr/1` and `feature/x` are names like any other.
    pub fn branch(&self, name: &str, commit: &str) -> &Self {
        self.hub.shared.world().set_branch(&self.id, name, commit);
        self
    }

    /// Creates the tag or moves it.
    pub fn tag(&self, name: &str, commit: &str) -> &Self {
        self.hub.shared.world().set_tag(&self.id, name, commit);
        self
    }

    /// Lets only `tokens` read files; metadata stays public.
    pub fn gated(&self, tokens: &[&str]) -> &Self {
        self.hub.shared.world().restrict(&self.id, content::Access::Gated, tokens);
        self
    }

    /// Shows the repository to `tokens` only.
    pub fn private(&self, tokens: &[&str]) -> &Self {
        self.hub.shared.world().restrict(&self.id, content::Access::Private, tokens);
        self
    }

    /// Lets everybody read again.
    pub fn public(&self) -> &Self {
        self.hub.shared.world().restrict(&self.id, content::Access::Public, &[]);
        self
    }
}

/// Misbehaving.
impl ScriptedHub {
    /// Arms a fault; see [`Fault`] for what it applies to and how often.
    pub fn fault(&self, fault: Fault) -> FaultHandle {
        self.shared.faults().arm(fault)
    }

    /// Disarms all faults and opens all gates.
    pub fn behave(&self) {
        self.shared.faults().clear();
        self.shared.gates().clear();
    }

    /// Holds every body of a GET that `on` matches before its byte `at` (an offset in the file) until the gate
    /// is released.
    pub fn gate(&self, on: &str, at: u64) -> Gate {
        self.shared.gates().add(on, Hold::Body(at))
    }

    /// Holds every answer to `method` that `on` matches before its head.
    pub fn gate_head(&self, method: &str, on: &str) -> Gate {
        self.shared.gates().add(on, Hold::Head(method.to_owned()))
    }
}

/// Observing.
impl ScriptedHub {
    /// Every request since the start or the last [`ScriptedHub::clear`], in order of arrival.
    pub fn requests(&self) -> Vec<Seen> {
        self.shared.journal.all()
    }

    /// Forgets what was seen; bodies that are still running stay out of the new journal.
    pub fn clear(&self) {
        self.shared.journal.clear();
    }

    /// How many requests with `method` (any when empty) match `on`.
    pub fn count(&self, method: &str, on: &str) -> usize {
        self.requests().iter().filter(|s| s.is(method, on)).count()
    }

    /// How many requests reached `listener`.
    pub fn count_at(&self, listener: Listener) -> usize {
        self.requests().iter().filter(|s| s.listener == listener).count()
    }

    /// The requests that `program` neither made nor handed on, as far as their heads tell.
    pub fn past(&self, program: &str) -> Vec<Seen> {
        let names = |seen: &Seen, name: &str| seen.header(name).is_some_and(|value| value.contains(program));
        self.requests().into_iter().filter(|s| !names(s, "user-agent") && !names(s, "via")).collect()
    }

    /// How many bytes of content were written for GETs that match `on`, with everything that was sent twice.
    pub fn body_bytes(&self, on: &str) -> u64 {
        self.content(on).map(|s| s.body_sent).sum()
    }

    /// How many bytes of the files that match `on` were written more than once.
    ///
    /// Meant for one file at a time: bytes are told apart by their offset only.
    pub fn resent_bytes(&self, on: &str) -> u64 {
        let mut spans: Vec<_> = self.content(on).map(|s| (s.offset, s.offset + s.body_sent)).collect();
        spans.sort_unstable();
        let mut reached = 0;
        let mut twice = 0;
        for (start, end) in spans {
            twice += reached.min(end).saturating_sub(start);
            reached = reached.max(end);
        }
        twice
    }

    fn content(&self, on: &str) -> impl Iterator<Item = Seen> {
        let on = on.to_owned();
        self.requests().into_iter().filter(move |s| s.is("GET", &on) && s.carried_content())
    }

    /// Waits until the journal satisfies `done`, which is asked after every change of it.
    ///
    /// # Panics
    /// After `patience`, with the journal in the message.
    pub fn wait_for(&self, patience: Duration, what: &str, done: impl Fn(&[Seen]) -> bool) {
        if let Err(seen) = self.shared.journal.wait_for(patience, done) {
            panic!("not seen within {patience:?}: {what}\n{}", journal::table(&seen));
        }
    }

    /// The journal as lines for messages.
    pub fn journal(&self) -> String {
        journal::table(&self.requests())
    }
}

/// A socket bound to `address` that another socket of the same kind may share until one of them listens.
fn bound(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().expect("a socket can be opened");
    socket.set_reuseaddr(true).expect("the option exists on every system");
    // Accepted connections inherit it. Small, so that the count of sent bytes runs little ahead of the reader.
    socket.set_send_buffer_size(128 * 1024).expect("the option exists on every system");
    socket.bind(address).expect("a loopback port can be bound");
    socket
}

/// A listening socket, and the sign of life that must not end before it: fields drop in this order.
struct Listening {
    socket: TcpListener,
    alive: mpsc::Sender<()>,
}

/// Serves one listener; dropping the future drops its connections with it.
async fn accept_loop(shared: Arc<Shared>, which: Listener, listening: Listening) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listening.socket.accept() => {
                // A client that is gone before it was accepted, or a lack of descriptors: the next one may do.
                let Ok((stream, _)) = accepted else { continue };
                let shared = shared.clone();
                let alive = listening.alive.clone();
                connections.spawn(async move {
                    connection::serve(&shared, which, stream).await;
                    drop(alive);
                });
            }
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}
