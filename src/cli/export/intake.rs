//! Contents on their way out of the store, one behind the other.
//!
//! They are hashed as they come, and a content becomes a file when it is what the lock says. One that is not becomes none,
//! and ends the intake: nobody knows where the next begins, so the rest is asked for anew.

use super::super::exit::{Exit, Failure};
use super::super::reach;
use super::content::Content;
use super::folder::Half;
use super::writer::Writer;
use crate::config::Config;
use crate::model::Sha256;
use crate::verify::Digester;

/// Writes contents that are not in the directory yet.
///
/// # Errors
/// When the directory cannot be written to, and when the store cannot be read. Damage is none: it is told.
pub fn fetch(config: &Config, contents: &[&Content<'_>], writer: &mut Writer<'_>) -> Result<(), Failure> {
    let (empty, mut rest): (Vec<&Content<'_>>, Vec<_>) =
        contents.iter().partition(|content| content.size == 0);
    for content in empty {
        // The store has nothing to send of it, but by its digest the lock may mean something else.
        let half = writer.begin(content)?;
        if !writer.finish(content, half, &content.digester().finish())? {
            writer.damaged(content);
        }
    }
    while !rest.is_empty() {
        let blobs: Vec<Sha256> = rest.iter().map(|content| content.sha256).collect();
        let mut intake = Intake { writer, contents: &rest, at: 0, coming: None, ended: None };
        let told = reach::blobs(config, &blobs, 0, |bytes| intake.take(bytes));
        let Intake { at, ended, .. } = intake;
        match (ended, told, rest.get(at)) {
            (Some(Ended::Failed(failure)), ..) => return Err(failure),
            (_, _, None) => {}
            (Some(Ended::Damaged), _, Some(content)) | (None, Ok(()), Some(content)) => {
                writer.damaged(content)
            }
            (None, Err(failure), Some(content)) if failure.is_of_the_name() => writer.damaged(content),
            (None, Err(failure), Some(content)) => {
                let why = format!("{}: {}", content.files[0].name, failure.message());
                return Err(Failure::new(Exit::Other(failure.code()), why));
            }
        }
        rest.drain(..rest.len().min(at + 1));
    }
    Ok(())
}

struct Intake<'i, 'w> {
    writer: &'i mut Writer<'w>,
    contents: &'i [&'i Content<'i>],
    /// The content that comes.
    at: usize,
    coming: Option<Coming<'w>>,
    /// Why no more is taken.
    ended: Option<Ended>,
}

/// What has come of a content.
struct Coming<'w> {
    half: Half<'w>,
    digester: Digester,
    bytes: u64,
}

enum Ended {
    /// A content is not what the lock says.
    Damaged,
    /// The directory cannot be written to.
    Failed(Failure),
}

impl Intake<'_, '_> {
    fn take(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.taken(bytes).map_err(|ended| {
            self.ended = Some(ended);
            // Whoever sends is only to stop; what has happened is told by what ended it.
            Failure::new(Exit::Data, String::new())
        })
    }

    fn taken(&mut self, mut bytes: &[u8]) -> Result<(), Ended> {
        while !bytes.is_empty() {
            // Behind the last one nothing can come that was asked for.
            let Some(content) = self.contents.get(self.at) else { return Err(Ended::Damaged) };
            let mut coming = match self.coming.take() {
                Some(coming) => coming,
                None => Coming { half: self.writer.begin(content)?, digester: content.digester(), bytes: 0 },
            };
            let lacking = usize::try_from(content.size - coming.bytes).unwrap_or(usize::MAX);
            let (own, next) = bytes.split_at(bytes.len().min(lacking));
            coming.bytes += own.len() as u64;
            coming.digester.update(own);
            self.writer.add(content, &mut coming.half, own, coming.bytes)?;
            if coming.bytes < content.size {
                self.coming = Some(coming);
            } else if self.writer.finish(content, coming.half, &coming.digester.finish())? {
                self.at += 1;
            } else {
                return Err(Ended::Damaged);
            }
            bytes = next;
        }
        Ok(())
    }
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}
