//! Commands on a data directory: through its owner, or without one by opening it.

use std::path::Path;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::exit::{Failure, io_failure};
use crate::admin::control::{self, Answer as Held, Command, Connection, Reference, Reply, Row, Summary};
use crate::app;
use crate::model::Timestamp;
use crate::store::{self, OpenError, Store};

// An owner that has just taken the directory opens its socket within moments, and one that is stopping is gone soon.
const OWNER_PATIENCE: Duration = Duration::from_secs(2);
const OWNER_POLL: Duration = Duration::from_millis(50);

/// What a command tells on its way.
#[derive(Debug)]
pub enum Event {
    /// A file.
    Entry(Row),
    /// A file whose bytes are wrong, and what they are.
    Damaged(Row, String),
    /// A branch or tag.
    Reference(Reference),
    /// An answer of a hub's API.
    Answer(Held),
    /// How far it is.
    Progress(control::Progress),
}

/// Carries out `command` on the data directory of `settings` and hands what it tells to `each`.
///
/// # Errors
/// When the directory can be reached neither way, and when the command fails.
pub fn execute(
    settings: &store::Settings,
    command: Command,
    mut each: impl FnMut(Event),
) -> Result<Summary, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| io_failure("the command cannot be started", &error))?;
    runtime.block_on(async {
        let mut answer = reach(settings, command).await?;
        let result = loop {
            match answer.next().await {
                Reply::Entry { entry } => each(Event::Entry(entry)),
                Reply::Damaged { damaged, found } => each(Event::Damaged(damaged, found)),
                Reply::Reference { reference } => each(Event::Reference(reference)),
                Reply::Answer { answer } => each(Event::Answer(answer)),
                Reply::Progress { progress } => each(Event::Progress(progress)),
                Reply::Done { done } => break Ok(done),
                Reply::Failed(failure) => break Err(Failure::from(failure)),
            }
        };
        answer.close().await;
        result
    })
}

/// Where the answer comes from.
enum Answer {
    /// The owner of the directory.
    Owner(Connection),
    /// This process, which owns the directory for the time being.
    Here { replies: mpsc::Receiver<Reply>, work: JoinHandle<()>, store: Store },
    /// Nobody has ever stored anything.
    Nothing,
}

async fn reach(settings: &store::Settings, command: Command) -> Result<Answer, Failure> {
    let dir = &settings.dir;
    if is_empty(dir) {
        return Ok(Answer::Nothing);
    }
    let began = tokio::time::Instant::now();
    loop {
        let unreachable =
            |error| io_failure(format_args!("the owner of {} cannot be asked", dir.display()), &error);
        if let Some(mut connection) = control::connect(dir).await.map_err(unreachable)? {
            connection.send(&command).await.map_err(unreachable)?;
            return Ok(Answer::Owner(connection));
        }
        match Store::open(settings.clone(), Timestamp::now()) {
            Ok(store) => return Ok(here(store, command)),
            Err(OpenError::Owned { .. }) if began.elapsed() < OWNER_PATIENCE => {
                tokio::time::sleep(OWNER_POLL).await;
            }
            Err(error) => return Err(app::Error::Open(error).into()),
        }
    }
}

fn here(store: Store, command: Command) -> Answer {
    let (sink, replies) = mpsc::channel(64);
    let work = tokio::spawn(control::execute(store.clone(), command, sink));
    Answer::Here { replies, work, store }
}

/// Whether there is no data directory: looking at nothing should not make one.
fn is_empty(dir: &Path) -> bool {
    match std::fs::read_dir(dir) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}

impl Answer {
    async fn next(&mut self) -> Reply {
        match self {
            Self::Owner(connection) => connection.next().await,
            Self::Here { replies, .. } => replies.recv().await.unwrap_or_else(|| {
                Reply::Failed(control::Failure { error: "the command failed".to_owned(), exit: 70 })
            }),
            Self::Nothing => Reply::Done { done: Summary::default() },
        }
    }

    async fn close(self) {
        if let Self::Here { replies, work, store } = self {
            drop(replies);
            // A panic in it was told as a missing end of the answer.
            let _ = work.await;
            store.close().await;
        }
    }
}
