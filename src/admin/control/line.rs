//! Lines of JSON with a limit.

use std::io;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::Reply;
use crate::store::CHUNK;

/// How long the other end may take to take a line: it is a program of ours, which reads what comes.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest command: a lock file goes with one, and has some 150 bytes for each file.
pub const MAX_COMMAND_BYTES: u64 = 64 * 1024 * 1024;
/// Longest reply: a row has a path, a few header values and a few digests; a client could make a path as long as a
/// request's head.
pub const MAX_REPLY_BYTES: u64 = 1024 * 1024;

/// The next line, which has at most so many bytes; `None` at the end of the stream.
pub async fn read<T: DeserializeOwned>(
    stream: &mut (impl AsyncBufRead + Unpin),
    most: u64,
) -> io::Result<Option<T>> {
    let mut line = Vec::new();
    let read = stream.take(most).read_until(b'\n', &mut line).await?;
    if read == 0 {
        return Ok(None);
    }
    if line.last() != Some(&b'\n') {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a line has no end"));
    }
    Ok(Some(serde_json::from_slice(&line)?))
}

/// The next reply, with the bytes that come behind its line; `None` at the end of the stream.
pub async fn read_reply(stream: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<Reply>> {
    let mut reply = read(stream, MAX_REPLY_BYTES).await?;
    if let Some(Reply::Chunk { chunk_bytes, bytes }) = &mut reply {
        if *chunk_bytes > CHUNK {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a chunk is too long"));
        }
        let mut read = vec![0; *chunk_bytes];
        stream.read_exact(&mut read).await?;
        *bytes = read.into();
    }
    Ok(reply)
}

/// Appends a reply, with the bytes that come behind its line.
pub async fn write_reply(stream: &mut (impl AsyncWrite + Unpin), reply: &Reply) -> io::Result<()> {
    write(stream, reply).await?;
    match reply {
        Reply::Chunk { bytes, .. } => stream.write_all(bytes).await,
        _ => Ok(()),
    }
}

/// Appends a line.
pub async fn write(stream: &mut (impl AsyncWrite + Unpin), value: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    stream.write_all(&line).await
}
