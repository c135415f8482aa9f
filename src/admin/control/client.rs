//! The command line's end of the control socket.

use std::io;
use std::path::Path;

use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;

use super::{Command, Failure, Reply, line, place};

/// A connection to the owner of a data directory.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<UnixStream>,
}

/// Connects to the owner of the data directory `dir`; `None` when nobody answers there.
///
/// # Errors
/// When somebody may be there, but not for this user.
pub async fn connect(dir: &Path) -> io::Result<Option<Connection>> {
    let Some(socket) = place::located(dir)? else { return Ok(None) };
    let is_dead =
        |e: &io::Error| matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused);
    match place::is_trusted(dir, &socket) {
        Ok(true) => {}
        Ok(false) => {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "the socket belongs to somebody else than the data directory",
            ));
        }
        Err(error) if is_dead(&error) => return Ok(None),
        Err(error) => return Err(error),
    }
    match UnixStream::connect(&socket).await {
        Ok(stream) => Ok(Some(Connection { stream: BufReader::new(stream) })),
        Err(error) if is_dead(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

impl Connection {
    /// Sends the one command of this connection.
    ///
    /// # Errors
    /// When the owner is gone.
    pub async fn send(&mut self, command: &Command) -> io::Result<()> {
        line::write(self.stream.get_mut(), command).await
    }

    /// The first line of the answer; none if the owner left without one, as it does when it is stopping.
    pub async fn first(&mut self) -> Option<Reply> {
        line::read_reply(&mut self.stream).await.ok().flatten()
    }

    /// Says that this end wants nothing more, which ends a session.
    ///
    /// # Errors
    /// When the owner is gone.
    pub async fn finish(&mut self) -> io::Result<()> {
        self.stream.get_mut().shutdown().await
    }

    /// The next line of the answer; an answer that breaks off ends with a failure, too.
    pub async fn next(&mut self) -> Reply {
        let broken_off = |why: String| {
            let error = format!("the owner of the data directory broke off the answer{why}");
            Reply::Failed(Failure { error, exit: Failure::TRY_AGAIN })
        };
        match line::read_reply(&mut self.stream).await {
            Ok(Some(reply)) => reply,
            Ok(None) => broken_off(String::new()),
            Err(error) => broken_off(format!(": {error}")),
        }
    }
}
