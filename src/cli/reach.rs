//! Commands on a data directory: through its owner, or without one by opening it.
//!
//! A command that asks hubs, or that reads other programs' files, may take long: it has an owner started, which others
//! can ask meanwhile. What looks only at the index is done before anybody would notice.

use std::path::Path;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::exit::{Exit, Failure, io_failure};
use super::owner::{self, Asked};
use crate::admin::control::{
    self, Answer as Held, Brought, Command, Connection, Listed, MAX_BLOBS, Moving, Reference, Reply, Row,
    Space, Status, Summary,
};
use crate::app;
use crate::config::Config;
use crate::model::{
    Commit, Happening, LockedAttachment, LockedPart, LockedSettings, Needed, Sha256, Timestamp,
};
use crate::proxy::explain::Explanation;
use crate::remote_settings::{SettingsStatus, Taken};
use crate::store::{Going, OpenError, Store};

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
    /// What a server does.
    Status(Box<Status>),
    /// How it stands with Remote Settings.
    Settings(Box<SettingsStatus>),
    /// A repository at a revision that Firefox needs.
    Needed(Needed),
    /// What is held of Remote Settings, as a lock pins it, but for its attachments.
    Locked(Box<LockedSettings>),
    /// An attachment that goes with it, by its location.
    Attached(String, LockedAttachment),
    /// Something that happened.
    Happened(Happening),
    /// For what a revision stands, and whether its hub lists all files.
    Resolved(Commit),
    /// A file that a hub lists.
    Listed(Listed),
    /// How far a file is.
    Moving(Moving),
    /// What became of a file that was to be brought.
    Brought(Box<Brought>),
    /// What became of a collection of Remote Settings.
    Taken(Taken),
    /// What a small file says.
    Text(String),
    /// Something that goes for want of room, or would.
    Going(Going),
    /// How full the data directory is.
    Space(Space),
    /// What would be answered to a request.
    Explained(Box<Explanation>),
}

/// Carries out `command` on the data directory of `config` and hands what it tells to `each`.
///
/// # Errors
/// When the directory can be reached neither way, and when the command fails.
pub fn execute(config: &Config, command: Command, each: impl FnMut(Event)) -> Result<Summary, Failure> {
    run(async { answer(reach(config, command).await?, each).await })
}

/// What the server that owns the data directory of `config` tells of itself.
///
/// # Errors
/// When there is none.
pub fn status(config: &Config) -> Result<Status, Failure> {
    let nobody = || {
        let dir = config.store.dir.display();
        let remedy = "`hubcache serve` starts one; --data names the directory of another";
        Failure::new(Exit::Unavailable, format!("no server runs on {dir}; {remedy}"))
    };
    let mut told = None;
    run(async {
        let Asked::Answered(connection, first) = owner::ask(config, &Command::Status).await? else {
            return Err(nobody());
        };
        let keep = |event| {
            if let Event::Status(status) = event {
                told = Some(*status);
            }
        };
        answer(Answer::Owner { connection, first: Some(first) }, keep).await
    })?;
    told.ok_or_else(nobody)
}

/// Hands the bytes of blobs to `each`, one behind the other, the first from some place on.
///
/// # Errors
/// When one is not held or cannot be read, and what `each` fails with; nothing more comes then.
pub fn blobs(
    config: &Config,
    blobs: &[Sha256],
    from: u64,
    mut each: impl FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    run(async {
        for (number, blobs) in blobs.chunks(MAX_BLOBS).enumerate() {
            let from = if number == 0 { from } else { 0 };
            let command = Command::Blobs { blobs: blobs.to_vec(), from };
            let (mut connection, first) = owner::ask_or_start(config, &command).await?;
            let mut reply = *first;
            loop {
                match reply {
                    Reply::Chunk { bytes, .. } => each(&bytes)?,
                    Reply::Failed(failure) => return Err(Failure::from(failure)),
                    _ => break,
                }
                reply = connection.next().await;
            }
        }
        Ok(())
    })
}

/// The bytes of a part, which are in memory then and no more than it says.
///
/// # Errors
/// As [`blobs`], and when the blob of that name is longer.
pub fn bytes(config: &Config, part: &LockedPart) -> Result<Bytes, Failure> {
    let mut bytes = BytesMut::new();
    if part.size == 0 {
        return Ok(bytes.freeze());
    }
    blobs(config, &[part.sha256], 0, |chunk| {
        bytes.extend_from_slice(chunk);
        match bytes.len() as u64 <= part.size {
            true => Ok(()),
            false => {
                let why =
                    format!("sha256:{} is longer than the {} bytes that are pinned", part.sha256, part.size);
                Err(Failure::new(Exit::Data, why))
            }
        }
    })?;
    Ok(bytes.freeze())
}

fn run<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| io_failure("the command cannot be started", &error))?;
    runtime.block_on(work)
}

async fn answer(mut answer: Answer, mut each: impl FnMut(Event)) -> Result<Summary, Failure> {
    let result = loop {
        match answer.next().await {
            Reply::Entry { entry } => each(Event::Entry(entry)),
            Reply::Damaged { damaged, found } => each(Event::Damaged(damaged, found)),
            Reply::Reference { reference } => each(Event::Reference(reference)),
            Reply::Answer { answer } => each(Event::Answer(answer)),
            Reply::Progress { progress } => each(Event::Progress(progress)),
            Reply::Status { status } => each(Event::Status(status)),
            Reply::Settings { settings } => each(Event::Settings(settings)),
            Reply::Needed { needed } => each(Event::Needed(needed)),
            Reply::Locked { locked } => each(Event::Locked(locked)),
            Reply::Attached { location, attached } => each(Event::Attached(location, attached)),
            Reply::Happened { happening } => each(Event::Happened(happening)),
            Reply::Resolved { resolved } => each(Event::Resolved(resolved)),
            Reply::Listed { listed } => each(Event::Listed(listed)),
            Reply::Moving { moving } => each(Event::Moving(moving)),
            Reply::Brought { brought } => each(Event::Brought(brought)),
            Reply::Taken { taken } => each(Event::Taken(taken)),
            Reply::Text { text } => each(Event::Text(text)),
            Reply::Going { going } => each(Event::Going(going)),
            Reply::Space { space } => each(Event::Space(space)),
            Reply::Explained { explanation } => each(Event::Explained(explanation)),
            // Only of sessions, which are not asked for here.
            Reply::Session { .. } | Reply::Lacking { .. } | Reply::Noted { .. } => {}
            // Only of blobs, for which there is `blobs`.
            Reply::Chunk { .. } => {}
            Reply::Done { done } => break Ok(done),
            Reply::Failed(failure) => break Err(Failure::from(failure)),
        }
    };
    answer.close().await;
    result
}

/// Where the answer comes from.
enum Answer {
    /// The owner of the directory, with the first line of its answer.
    Owner { connection: Connection, first: Option<Box<Reply>> },
    /// This process, which owns the directory for the time being.
    Here { replies: mpsc::Receiver<Reply>, work: JoinHandle<()>, store: Store },
    /// Nobody has ever stored anything.
    Nothing,
}

async fn reach(config: &Config, command: Command) -> Result<Answer, Failure> {
    use Command::{Adopt, Bring, Hold, Learn, Survey, Sync, Take};
    if matches!(command, Sync | Survey { .. } | Bring { .. } | Take { .. } | Adopt { .. }) {
        let (connection, first) = owner::ask_or_start(config, &command).await?;
        return Ok(Answer::Owner { connection, first: Some(first) });
    }
    // Only what changes something makes a directory.
    if !matches!(command, Hold { .. } | Learn { .. }) && is_empty(&config.store.dir) {
        return Ok(Answer::Nothing);
    }
    let began = tokio::time::Instant::now();
    loop {
        match owner::ask(config, &command).await? {
            Asked::Answered(connection, first) => {
                return Ok(Answer::Owner { connection, first: Some(first) });
            }
            Asked::Left if began.elapsed() < OWNER_PATIENCE => tokio::time::sleep(OWNER_POLL).await,
            Asked::Left | Asked::Nobody => match Store::open(config.store.clone(), Timestamp::now()) {
                Ok(store) => return here(config, store, command),
                Err(OpenError::Owned { .. }) if began.elapsed() < OWNER_PATIENCE => {
                    tokio::time::sleep(OWNER_POLL).await;
                }
                Err(error) => return Err(app::Error::Open(error).into()),
            },
        }
    }
}

fn here(config: &Config, store: Store, command: Command) -> Result<Answer, Failure> {
    let (sink, replies) = mpsc::channel(64);
    let context = app::alone(config, &store)?;
    let work = tokio::spawn(control::execute(context, command, sink));
    Ok(Answer::Here { replies, work, store })
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
            Self::Owner { connection, first } => match first.take() {
                Some(first) => *first,
                None => connection.next().await,
            },
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
