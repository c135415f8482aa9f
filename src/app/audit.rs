//! The file of the audit log, and the one thread that writes it.
//!
//! The thread takes what waits in the queue and writes it at once. A write that fails is said in the log, once until one
//! succeeds; its records are counted and gone, and service goes on. Half a line that such a write left is ended before the
//! next. SIGUSR1 has the file opened again by its name; where that fails, the one that is open stays.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::model::{EntryKey, Timestamp};
use crate::store::{Store, WentAway};
use crate::telemetry::Telemetry;
use crate::telemetry::audit::{Deed, Message, Record};

/// Bytes of lines that are written at a time, but for one line.
const MOST: usize = 256 << 10;
/// How long the end of the program waits until all is written.
const PATIENCE: Duration = Duration::from_secs(2);
const AGAIN: Duration = Duration::from_millis(10);

/// The running audit log.
#[must_use]
pub(super) struct Audit {
    telemetry: Telemetry,
    ended: Receiver<()>,
}

impl Audit {
    /// Opens the file, and has what is told to `telemetry` written to it.
    ///
    /// # Errors
    /// When the file cannot be opened, or a thread not be started.
    pub(super) fn start(path: &Path, telemetry: &Telemetry) -> io::Result<Self> {
        let file = open(path)?;
        let messages = telemetry.start_audit();
        let (end, ended) = channel();
        let writer = Writer {
            path: path.to_owned(),
            file,
            telemetry: telemetry.clone(),
            told: 0,
            is_torn: false,
            failed: false,
        };
        let thread = thread::Builder::new().name("hubcache-audit".into());
        thread.spawn(move || {
            writer.run(&messages);
            // Whoever waited may have given up.
            let _ = end.send(());
        })?;
        Ok(Self { telemetry: telemetry.clone(), ended })
    }

    /// Has it tell what `store` lets go for want of room.
    pub(super) fn watch(&self, store: &Store) {
        let telemetry = self.telemetry.clone();
        store.on_evicted(move |went| telemetry.audit(|| evicted(went)));
    }

    /// Writes what waits, if that is possible soon.
    pub(super) fn stop(self) {
        let until = Instant::now() + PATIENCE;
        while !self.telemetry.stop_audit() && Instant::now() < until {
            thread::sleep(AGAIN);
        }
        let left = until.saturating_duration_since(Instant::now());
        if self.ended.recv_timeout(left) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("the audit log could not be written to its end");
        }
    }
}

fn evicted(went: &WentAway<'_>) -> Record {
    let EntryKey { hub, root, repo, revision, path } = went.key;
    Record {
        at: Timestamp::now(),
        deed: Deed::Evicted,
        host: Some(root.to_string()),
        hub: Some(*hub),
        repo: Some(repo.to_string()),
        revision: Some(revision.clone()),
        path: Some(path.clone()),
        sha256: went.blob,
        bytes: Some(went.size_bytes),
        outcome: Some(went.reason.name().to_owned()),
        ..Record::default()
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

struct Writer {
    path: PathBuf,
    file: File,
    telemetry: Telemetry,
    /// How many lost records the file tells of.
    told: u64,
    /// Whether the file ends within a line.
    is_torn: bool,
    /// Whether the last write failed.
    failed: bool,
}

impl Writer {
    fn run(mut self, messages: &Receiver<Message>) {
        while let Ok(first) = messages.recv() {
            let mut lines = Vec::new();
            let (mut count, mut goes_on) = (0, true);
            for message in std::iter::once(first).chain(messages.try_iter()) {
                match message {
                    Message::Record(record) => {
                        lines.extend_from_slice(&record.line());
                        count += 1;
                    }
                    Message::Wake => {}
                    Message::Stop => goes_on = false,
                }
                if lines.len() >= MOST || !goes_on {
                    break;
                }
            }
            if self.telemetry.audit_is_to_reopen() {
                self.reopen();
            }
            self.tell_lost(&mut lines);
            self.write(&lines, count);
            if !goes_on {
                return;
            }
        }
    }

    /// Adds how many records were lost since the file told so last.
    fn tell_lost(&mut self, lines: &mut Vec<u8>) {
        let lost = self.telemetry.audit_lost();
        if lost > self.told {
            let detail = format!("{} records found no room in the queue", lost - self.told);
            let record = Record { deed: Deed::Lost, ..Record::changed(Timestamp::now(), "lost", detail) };
            lines.extend_from_slice(&record.line());
            self.told = lost;
        }
    }

    fn write(&mut self, lines: &[u8], count: u64) {
        if lines.is_empty() {
            return;
        }
        let begin: &[u8] = if self.is_torn { b"\n" } else { b"" };
        let written = self.file.write_all(begin).and_then(|()| self.file.write_all(lines));
        // How much of it was written is not known.
        self.is_torn = written.is_err();
        match written {
            Ok(()) => self.failed = false,
            Err(error) => {
                self.telemetry.audit_unwritten(count);
                if !self.failed {
                    tracing::error!(file = %self.path.display(), %error, "the audit log cannot be written; what it lacks is counted in hubcache_audit_unwritten_total");
                }
                self.failed = true;
            }
        }
    }

    fn reopen(&mut self) {
        match open(&self.path) {
            Ok(file) => {
                self.file = file;
                self.is_torn = false;
                tracing::info!(file = %self.path.display(), "the audit log was opened again");
            }
            Err(error) => {
                tracing::error!(file = %self.path.display(), %error, "the audit log cannot be opened again; the file that is open stays");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::telemetry::audit::QUEUE;

    fn outcomes(path: &Path) -> Vec<String> {
        let text = std::fs::read_to_string(path).unwrap();
        let read = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
        text.lines().map(|line| read(line)["outcome"].as_str().unwrap().to_owned()).collect()
    }

    fn note(telemetry: &Telemetry, outcome: &str) {
        telemetry.audit(|| Record::changed(Timestamp(0), outcome, ""));
    }

    #[test]
    fn lines_go_where_the_file_is_by_name_once_it_is_opened_again() {
        let dir = tempfile::tempdir().unwrap();
        let (path, old) = (dir.path().join("audit"), dir.path().join("audit.1"));
        let telemetry = Telemetry::new("0");
        let audit = Audit::start(&path, &telemetry).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        note(&telemetry, "one");
        while std::fs::metadata(&path).unwrap().len() == 0 {
            thread::yield_now();
        }
        std::fs::rename(&path, &old).unwrap();
        telemetry.reopen_audit();
        while !path.exists() {
            thread::yield_now();
        }
        note(&telemetry, "two");
        audit.stop();
        assert_eq!((outcomes(&old), outcomes(&path)), (vec!["one".to_owned()], vec!["two".to_owned()]));
    }

    #[test]
    fn the_file_tells_how_much_it_lacks() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit");
        let telemetry = Telemetry::new("0");
        let messages = telemetry.start_audit();
        for _ in 0..QUEUE + 5 {
            note(&telemetry, "some");
        }
        let file = open(&path).unwrap();
        let writer = Writer { path: path.clone(), file, telemetry, told: 0, is_torn: true, failed: false };
        // All that would send is gone with this, so the thread's work ends.
        let (sender, receiver) = std::sync::mpsc::sync_channel(QUEUE + 1);
        messages.try_iter().chain([Message::Stop]).for_each(|message| sender.send(message).unwrap());
        writer.run(&receiver);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with('\n'), "what was torn is ended");
        assert_eq!(text.matches("\"outcome\":\"some\"").count(), QUEUE);
        assert_eq!(text.matches("5 records found no room in the queue").count(), 1);
    }

    #[test]
    fn a_file_that_cannot_be_written_stops_nobody() {
        let telemetry = Telemetry::new("0");
        let file = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let path = PathBuf::from("/dev/full");
        let mut writer =
            Writer { path, file, telemetry: telemetry.clone(), told: 0, is_torn: false, failed: false };
        writer.write(b"{}\n", 1);
        writer.write(b"{}\n{}\n", 2);
        assert!(telemetry.render().contains("hubcache_audit_unwritten_total 3\n") && writer.failed);
    }
}
