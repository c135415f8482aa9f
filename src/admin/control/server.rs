//! The owner's end of the control socket.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufRead, AsyncWrite, AsyncWriteExt, BufReader, BufWriter};
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::place::Bound;
use super::{Command, Failure, Reply, execute, line};
use crate::store::Store;

// Operators and their scripts; more at a time than this wait.
const MAX_CONNECTIONS: usize = 16;
// The other end is a program of ours: it sends its line at once and reads what comes without looking at it.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
// Rows that wait for the socket; the scan of the index waits when there are more.
const REPLIES_IN_FLIGHT: usize = 64;

/// Carries out commands until it is dropped; those that are under way are broken off then.
pub async fn serve(bound: Bound, store: Store) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let permit = Arc::clone(&permits).acquire_owned().await.expect("the semaphore is never closed");
        let stream = match bound.listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::error!(%error, "the control socket cannot accept just now");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let store = store.clone();
        connections.spawn(async move {
            if let Err(error) = converse(stream, store).await {
                tracing::debug!(%error, "a command was broken off");
            }
            drop(permit);
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn converse(mut stream: UnixStream, store: Store) -> io::Result<()> {
    let (from, to) = stream.split();
    let (mut from, mut to) = (BufReader::new(from), BufWriter::new(to));
    match read_command(&mut from).await {
        Ok(command) => {
            let text = serde_json::to_string(&command)?;
            tracing::info!(command = text, "a command came over the control socket");
            let (sink, replies) = mpsc::channel(REPLIES_IN_FLIGHT);
            let ((), sent) = tokio::join!(execute(store, command, sink), send_all(replies, &mut to));
            sent?;
        }
        Err(failure) => line::write(&mut to, &Reply::Failed(failure)).await?,
    }
    timeout(WRITE_TIMEOUT, to.shutdown()).await?
}

async fn read_command(from: &mut (impl AsyncBufRead + Unpin)) -> Result<Command, Failure> {
    let refuse = |exit, error: String| Failure { error, exit };
    match timeout(REQUEST_TIMEOUT, line::read(from)).await {
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
        timeout(WRITE_TIMEOUT, line::write(to, &reply)).await??;
        // With nothing behind it the line should not wait in the buffer: progress is for people who watch.
        if replies.is_empty() {
            timeout(WRITE_TIMEOUT, to.flush()).await??;
        }
    }
    Ok(())
}
