//! Writing a bundle: into a file beside its place, which takes that when it is whole.
//!
//! What an earlier attempt has written is read and held against the plan; what is as planned stays, and the attempt goes
//! on behind it, in the middle of a file if that is where the other stopped. Every file is hashed while it is written, so
//! that no byte goes into a bundle that is not what the lock file pins.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use sha2::Digest as _;

use super::super::exit::{Exit, Failure, io_failure};
use super::super::print::{self, ProgressLine};
use super::super::reach;
use crate::admin::control::Progress;
use crate::config::Config;
use crate::model::{LockedPart, Sha256};
use crate::transfer::bundle::{BLOCK, Content, Member, Plan, header, padding};

/// Bytes that are read or collected at a time.
const PIECE: usize = 1 << 20;

/// What was written.
#[derive(Clone, Copy, Debug)]
pub struct Written {
    /// Bytes of the bundle.
    pub bytes: u64,
    /// How many of them an earlier attempt had written.
    pub resumed_bytes: u64,
}

/// Writes what is planned to `path`; `name` says what a blob is.
///
/// # Errors
/// When the file cannot be written, and when a blob is not held or is damaged. What was written until then stays for
/// the next attempt.
pub fn write(
    config: &Config,
    plan: &Plan,
    path: &Path,
    name: &dyn Fn(&Sha256) -> String,
    quiet: bool,
) -> Result<Written, Failure> {
    let partial = partial(path);
    let fail = |error: io::Error| io_failure(format_args!("{} cannot be written", partial.display()), &error);
    let file = File::options().read(true).write(true).create(true).truncate(false).open(&partial);
    let file = file.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            Failure::new(Exit::CantCreate, format!("there is no folder for {}", path.display()))
        }
        _ => fail(error),
    })?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
        Failure::new(Exit::TryAgain, format!("another export is writing {}", partial.display()))
    })?;
    let line = ProgressLine::new("written", quiet);
    let mut writing = Writing::resumed(file, plan, line).map_err(fail)?;
    let resumed_bytes = writing.done;
    if resumed_bytes > 0 && !quiet {
        eprintln!("{} goes on behind {}", partial.display(), print::size(resumed_bytes));
    }
    fits(path, plan.length().saturating_sub(resumed_bytes))?;
    writing.all(config, name, &fail)?;
    let finished =
        writing.finish().and_then(|()| fs::rename(&partial, path)).and_then(|()| sync_folder(path));
    finished.map_err(fail)?;
    Ok(Written { bytes: plan.length(), resumed_bytes })
}

/// Where a bundle is written to until it is whole.
fn partial(path: &Path) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}

/// Whether there is room for so many bytes more.
fn fits(path: &Path, bytes: u64) -> Result<(), Failure> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Where the system does not tell, writing will.
    let Ok(disk) = rustix::fs::statvfs(folder) else { return Ok(()) };
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if bytes <= free {
        return Ok(());
    }
    let (bytes, free) = (print::size(bytes), print::size(free));
    Err(Failure::new(
        Exit::Io,
        format!("{} does not fit: {bytes} are needed, {free} are free", path.display()),
    ))
}

fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

/// An archive that is being written.
struct Writing<'a> {
    out: BufWriter<File>,
    members: &'a [Member],
    /// The member that comes next, or is under way.
    at: usize,
    /// The file that is under way.
    file: Option<Under>,
    done: u64,
    total: u64,
    line: ProgressLine,
}

/// A file of which some bytes are written.
struct Under {
    part: LockedPart,
    begins: u64,
    written: u64,
    hash: sha2::Sha256,
}

impl Under {
    fn new(part: LockedPart, begins: u64) -> Self {
        Self { part, begins, written: 0, hash: sha2::Sha256::new() }
    }
}

impl<'a> Writing<'a> {
    /// Behind what is in the file already and as planned.
    fn resumed(mut file: File, plan: &'a Plan, line: ProgressLine) -> io::Result<Self> {
        let (mut at, mut done, mut under) = (0, 0, None);
        for member in &plan.members {
            match there(&mut file, member, done)? {
                There::Whole => (at, done) = (at + 1, done + member.room()),
                There::Part(part) => {
                    under = Some(part);
                    break;
                }
                There::No => break,
            }
        }
        let ends = under.as_ref().map_or(done, |under: &Under| under.begins + under.written);
        file.set_len(ends)?;
        file.seek(SeekFrom::Start(ends))?;
        let out = BufWriter::with_capacity(PIECE, file);
        Ok(Self { out, members: &plan.members, at, file: under, done: ends, total: plan.length(), line })
    }

    /// Writes all that is missing.
    fn all(
        &mut self,
        config: &Config,
        name: &dyn Fn(&Sha256) -> String,
        fail: &dyn Fn(io::Error) -> Failure,
    ) -> Result<(), Failure> {
        if let Some(under) = self.file.take() {
            let (part, begins) = (under.part, under.begins);
            let from = under.written;
            self.file = Some(under);
            reach::blobs(config, &[part.sha256], from, |bytes| self.take(bytes).map_err(fail))?;
            // What was there may not have been what was written before the power went.
            if !self.ended_well().map_err(fail)? {
                self.again(part, begins).map_err(fail)?;
                reach::blobs(config, &[part.sha256], 0, |bytes| self.take(bytes).map_err(fail))?;
                self.settle(name, fail)?;
            }
        }
        self.texts().map_err(fail)?;
        let files: Vec<Sha256> = self.members[self.at..].iter().filter_map(not_empty).collect();
        reach::blobs(config, &files, 0, |mut bytes| {
            while !bytes.is_empty() {
                let rest = self.file.as_ref().map_or(0, |under| under.part.size - under.written);
                let here = usize::try_from(rest).unwrap_or(usize::MAX).min(bytes.len());
                if here == 0 {
                    return Err(Failure::new(Exit::Software, "more bytes came than were asked for"));
                }
                self.take(&bytes[..here]).map_err(fail)?;
                bytes = &bytes[here..];
                if here as u64 == rest {
                    self.settle(name, fail)?;
                }
            }
            Ok(())
        })?;
        match self.at == self.members.len() {
            true => Ok(()),
            false => Err(Failure::new(Exit::TryAgain, "the files broke off; the same command goes on")),
        }
    }

    fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(under) = &mut self.file else { return Err(io::Error::other("no file is under way")) };
        under.hash.update(bytes);
        under.written += bytes.len() as u64;
        self.done += bytes.len() as u64;
        self.line.show(Progress { done_bytes: self.done, total_bytes: self.total });
        self.out.write_all(bytes)
    }

    /// Ends the file that is under way, if its bytes are those of its name.
    fn ended_well(&mut self) -> io::Result<bool> {
        let Some(under) = self.file.take() else { return Ok(false) };
        let is_good =
            under.written == under.part.size && Sha256(under.hash.finalize().into()) == under.part.sha256;
        if is_good {
            self.pad(under.part.size)?;
            self.at += 1;
        }
        Ok(is_good)
    }

    fn settle(
        &mut self,
        name: &dyn Fn(&Sha256) -> String,
        fail: &dyn Fn(io::Error) -> Failure,
    ) -> Result<(), Failure> {
        let digest = self.file.as_ref().map(|under| under.part.sha256);
        if self.ended_well().map_err(fail)? {
            return self.texts().map_err(fail);
        }
        let what = digest.map_or_else(String::new, |digest| name(&digest));
        let remedy = "`hubcache rm` it and fetch it again";
        Err(Failure::new(
            Exit::Data,
            format!("{what} is damaged on the disk of the data directory; {remedy}"),
        ))
    }

    fn again(&mut self, part: LockedPart, begins: u64) -> io::Result<()> {
        self.out.seek(SeekFrom::Start(begins))?;
        self.out.get_ref().set_len(begins)?;
        (self.done, self.file) = (begins, Some(Under::new(part, begins)));
        Ok(())
    }

    /// Writes members up to the next file that has bytes, of which only the header.
    fn texts(&mut self) -> io::Result<()> {
        while self.file.is_none()
            && let Some(member) = self.members.get(self.at)
        {
            self.put(&header(&member.name, member.size()))?;
            match &member.content {
                Content::Text(text) => {
                    self.put(text)?;
                    self.pad(text.len() as u64)?;
                }
                Content::Blob(part) if part.size > 0 => {
                    self.file = Some(Under::new(*part, self.done));
                    continue;
                }
                Content::Blob(_) => {}
            }
            self.at += 1;
        }
        Ok(())
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        self.put(&[0; BLOCK][..padding(size)])
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.done += bytes.len() as u64;
        self.out.write_all(bytes)
    }

    fn finish(self) -> io::Result<()> {
        let mut out = self.out;
        out.write_all(&[0; 2 * BLOCK])?;
        out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
    }
}

fn not_empty(member: &Member) -> Option<Sha256> {
    match member.content {
        Content::Blob(part) if part.size > 0 => Some(part.sha256),
        _ => None,
    }
}

/// How much of a member is in a file.
enum There {
    Whole,
    /// A file, up to somewhere.
    Part(Under),
    No,
}

fn there(file: &mut File, member: &Member, at: u64) -> io::Result<There> {
    file.seek(SeekFrom::Start(at))?;
    let size = member.size();
    if !is_next(file, &header(&member.name, size))? {
        return Ok(There::No);
    }
    let begins = at + BLOCK as u64;
    let part = match &member.content {
        Content::Text(text) => {
            let whole = is_next(file, text)? && is_next(file, &[0; BLOCK][..padding(size)])?;
            return Ok(if whole { There::Whole } else { There::No });
        }
        Content::Blob(part) => *part,
    };
    let mut under = Under::new(part, begins);
    let mut piece = vec![0; PIECE];
    let mut rest = (&*file).take(size);
    loop {
        let read = rest.read(&mut piece)?;
        if read == 0 {
            break;
        }
        under.hash.update(&piece[..read]);
        under.written += read as u64;
    }
    if under.written < size {
        return Ok(There::Part(under));
    }
    let is_good = Sha256(under.hash.finalize().into()) == part.sha256;
    let whole = is_good && is_next(file, &[0; BLOCK][..padding(size)])?;
    Ok(if whole { There::Whole } else { There::No })
}

/// Whether these bytes come next.
fn is_next(file: &mut File, bytes: &[u8]) -> io::Result<bool> {
    let mut read = Vec::with_capacity(bytes.len());
    file.take(bytes.len() as u64).read_to_end(&mut read)?;
    Ok(read == bytes)
}
