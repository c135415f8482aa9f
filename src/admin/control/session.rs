//! A session: the owner of a data directory serves what a lock file pins, for as long as a connection is held.
//!
//! After [`Command::Session`](super::Command::Session) the owner tells where the session's clients connect, and waits.
//! When the client has shut down its side of the connection, the session is closed, and what was asked for beyond the
//! lock is told. A client that dies shuts both sides down, and the session is closed all the same.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::line::{self, WRITE_TIMEOUT};
use super::{Context, Failure, Reply, Summary};
use crate::model::{Commit, Hub, HubRoot};
use crate::proxy::{Frozen, Lack};
use crate::transfer::Recorded;
use crate::transfer::lock::Lock;

/// A session as it is asked for over the socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wish {
    /// The text of the lock file.
    pub lock: String,
    /// Its name, for commands that are told.
    pub file: PathBuf,
    /// Whether what lies beyond it is asked of the hub and noted.
    pub records: bool,
    /// Whether tunnels to hubs are intercepted.
    pub intercepts: bool,
    /// Where the hubs are, for the one who asks.
    pub roots: Vec<(Hub, HubRoot)>,
}

/// A session as it is to be opened.
#[derive(Debug)]
pub struct SessionAsked {
    /// What is pinned.
    pub lock: Lock,
    /// The file that says so.
    pub file: PathBuf,
    /// Whether what lies beyond it is asked of the hub and noted.
    pub records: bool,
    /// Whether tunnels to hubs are intercepted.
    pub intercepts: bool,
}

/// A request for a session.
#[derive(Debug)]
pub struct Opening {
    /// What is asked for.
    pub asked: SessionAsked,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Result<Opened, Refused>>,
}

impl Opening {
    /// Answers that there is no session.
    pub fn refuse(self, why: Refused) {
        // Whoever asked may be gone.
        let _ = self.answer.send(Err(why));
    }
}

/// A session that is open.
#[derive(Debug)]
pub struct Opened {
    /// Where its clients connect.
    pub address: SocketAddr,
    /// The certificate that they have to trust within tunnels, in PEM.
    pub certificate: Option<String>,
    /// The lock, with what was asked for beyond it.
    pub frozen: Arc<Frozen>,
    /// Closes it when dropped.
    pub close: oneshot::Sender<()>,
    /// Says that it is closed.
    pub closed: oneshot::Receiver<()>,
}

/// Why there is no session.
#[derive(Debug)]
pub enum Refused {
    /// There are as many as there may be.
    Full,
    /// It should record, and there is no way to the hubs.
    Offline,
    /// It could not be made.
    Failed(String),
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        let (error, exit) = match refused {
            Refused::Full => ("the owner of the data directory has no room for another run".to_owned(), Self::TRY_AGAIN),
            Refused::Offline => (
                "whoever owns the data directory is offline or frozen, and asks no hub for what is to be recorded".to_owned(),
                Self::UNAVAILABLE,
            ),
            Refused::Failed(why) => (format!("the run cannot be served: {why}"), Self::IO),
        };
        Self { error, exit }
    }
}

/// Where a session's clients connect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The address.
    pub address: SocketAddr,
    /// The certificate that they have to trust within tunnels, in PEM.
    pub certificate: Option<String>,
}

/// Something that was asked for and not served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lacking {
    /// Which file, or which question.
    pub what: String,
    /// How often.
    pub times: u64,
    /// Why.
    pub why: String,
    /// What would help.
    pub remedy: String,
}

impl From<(Lack, u64)> for Lacking {
    fn from((lack, times): (Lack, u64)) -> Self {
        Self { what: lack.what, times, why: lack.why.to_owned(), remedy: lack.remedy }
    }
}

/// Something that was asked for beyond the lock, and came from the hub.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Noted {
    /// The model, as it is written for commands.
    pub model: String,
    /// The commit for which its revision stood.
    pub commit: Option<Commit>,
    /// The file; none where only the revision was asked for.
    pub path: Option<String>,
}

impl From<Recorded> for Noted {
    fn from(recorded: Recorded) -> Self {
        let Recorded { model, commit, path } = recorded;
        Self { model: model.argument(), commit, path }
    }
}

/// Opens a session, holds it until the client ends it, and tells what was asked for beyond the lock.
pub(super) async fn converse(
    context: &Context,
    wish: Wish,
    from: &mut (impl AsyncBufRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
) -> io::Result<()> {
    let opened = match open(context, wish).await {
        Ok(opened) => opened,
        Err(failure) => return line::write(to, &Reply::Failed(failure)).await,
    };
    let Opened { address, certificate, frozen, close, closed } = opened;
    send(to, &Reply::Session { session: Place { address, certificate } }).await?;
    // Nothing is to come but the end, or an error, which is one too.
    let _ = from.read_u8().await;
    drop(close);
    // It says nothing when this process stops, and then it is closed as well.
    let _ = closed.await;
    for lack in frozen.lacking() {
        line::write(to, &Reply::Lacking { lacking: lack.into() }).await?;
    }
    for recorded in frozen.recorded() {
        line::write(to, &Reply::Noted { noted: recorded.into() }).await?;
    }
    send(to, &Reply::Done { done: Summary::default() }).await
}

async fn send(to: &mut (impl AsyncWrite + Unpin), reply: &Reply) -> io::Result<()> {
    timeout(WRITE_TIMEOUT, async {
        line::write(to, reply).await?;
        to.flush().await
    })
    .await?
}

async fn open(context: &Context, wish: Wish) -> Result<Opened, Failure> {
    let Wish { lock, file, records, intercepts, roots } = wish;
    same_roots(context, &roots)?;
    let lock = Lock::parse(&lock).map_err(|why| Failure {
        error: format!("{} is no lock file: {why}", file.display()),
        exit: Failure::DATA,
    })?;
    let (answer, opened) = oneshot::channel();
    let asked = SessionAsked { lock, file, records, intercepts };
    let opening = Opening { asked, answer };
    let gone = || Failure {
        error: "the owner of the data directory is stopping".to_owned(),
        exit: Failure::TRY_AGAIN,
    };
    let sessions = context.sessions.as_ref().ok_or_else(gone)?;
    sessions.send(opening).await.map_err(|_| gone())?;
    Ok(opened.await.map_err(|_| gone())??)
}

/// A lock says of which hub a model is, and not where that is: two runs with other hubs cannot share one owner.
fn same_roots(context: &Context, wished: &[(Hub, HubRoot)]) -> Result<(), Failure> {
    let roots = context.cache.roots();
    for (hub, wished) in wished {
        let own = roots.root(*hub);
        if own != wished {
            let error = format!(
                "the owner of the data directory has {hub} at {own}, and this run has it at {wished}; give it the same hubs, \
                 or a data directory of its own"
            );
            return Err(Failure { error, exit: Failure::CONFIG });
        }
    }
    Ok(())
}
