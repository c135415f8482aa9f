//! The owner's end of the control socket.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufRead, AsyncWrite, AsyncWriteExt, BufReader, BufWriter};
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::line::{self, WRITE_TIMEOUT};
use super::place::Bound;
use super::{Command, Context, Failure, Reply, Request, execute, session};

// Operators and their scripts, and beside them the runs that hold a session; more at a time than this wait.
const MAX_CONNECTIONS: usize = 96;
// The other end is a program of ours: it sends its line at once and reads what comes without looking at it.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
// A command can name a thousand files; what it is stands in front.
const MAX_LOGGED: usize = 512;
// Rows that wait for the socket; the scan of the index waits when there are more.
const REPLIES_IN_FLIGHT: usize = 64;

/// Carries out commands until it is dropped; those that are under way are broken off then.
///
/// With `alone`, it ends when nobody has been connected for so long.
pub async fn serve(bound: Bound, context: Context, alone: Option<Duration>) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let permit = Arc::clone(&permits).acquire_owned().await.expect("the semaphore is never closed");
        let is_alone = connections.is_empty();
        let accepted = tokio::select! {
            accepted = bound.listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            () = tokio::time::sleep(alone.unwrap_or_default()), if is_alone && alone.is_some() => return,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::error!(%error, "the control socket cannot accept just now");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let context = context.clone();
        connections.spawn(async move {
            if let Err(error) = converse(stream, context).await {
                tracing::debug!(%error, "a command was broken off");
            }
            drop(permit);
        });
    }
}

async fn converse(mut stream: UnixStream, context: Context) -> io::Result<()> {
    let (from, to) = stream.split();
    let (mut from, mut to) = (BufReader::new(from), BufWriter::new(to));
    match read_command(&mut from).await {
        Ok(Command::Session { wish }) => {
            tracing::info!(lock = %wish.file.display(), records = wish.records, "a run asks for what a lock file pins");
            session::converse(&context, wish, &mut from, &mut to).await?;
        }
        Ok(command) => {
            let text = shortened(serde_json::to_string(&command.for_log())?);
            tracing::info!(command = text, "a command came over the control socket");
            let (sink, replies) = mpsc::channel(REPLIES_IN_FLIGHT);
            let ((), sent) = tokio::join!(execute(context, command, sink), send_all(replies, &mut to));
            sent?;
        }
        Err(failure) => line::write(&mut to, &Reply::Failed(failure)).await?,
    }
    timeout(WRITE_TIMEOUT, to.shutdown()).await?
}

impl Command {
    /// The same without what may be a secret: a field can carry a credential.
    pub(super) fn for_log(&self) -> Self {
        let Self::Explain { request } = self else { return self.clone() };
        let url = without_secrets(&request.url);
        let method = request.method.clone();
        let headers = request.headers.iter().map(|(name, _)| (name.clone(), String::new())).collect();
        Self::Explain { request: Request { method, url, headers } }
    }
}

/// The beginning of a text that is too long for a line of the log.
fn shortened(mut text: String) -> String {
    if text.len() > MAX_LOGGED {
        let end = (0..=MAX_LOGGED).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
        text.truncate(end);
        text.push_str("...");
    }
    text
}

/// A URL without its query, which can carry a signature, and without the name and password of a user.
fn without_secrets(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let end = rest.find('/').unwrap_or(rest.len());
    let host = rest[..end].rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}{}", &rest[end..])
}

async fn read_command(from: &mut (impl AsyncBufRead + Unpin)) -> Result<Command, Failure> {
    let refuse = |exit, error: String| Failure { error, exit };
    match timeout(REQUEST_TIMEOUT, line::read(from, line::MAX_COMMAND_BYTES)).await {
        Ok(Ok(Some(command))) => Ok(command),
        Ok(Ok(None)) => Err(refuse(Failure::USAGE, "no command came".to_owned())),
        Ok(Err(error)) => {
            let error = format!("the owner of the data directory does not understand the command: {error}");
            Err(refuse(Failure::USAGE, error))
        }
        Err(_) => Err(refuse(Failure::TRY_AGAIN, "the command did not come in time".to_owned())),
    }
}

/// Sends replies until there are no more; ends early, and so ends the command, when the client does not take them.
async fn send_all(mut replies: mpsc::Receiver<Reply>, to: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
    while let Some(reply) = replies.recv().await {
        timeout(WRITE_TIMEOUT, line::write_reply(to, &reply)).await??;
        // With nothing behind it the line should not wait in the buffer: progress is for people who watch.
        if replies.is_empty() {
            timeout(WRITE_TIMEOUT, to.flush()).await??;
        }
    }
    Ok(())
}
