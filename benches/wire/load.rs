//! Clients that download one file at the same time, and compare what they get.
//!
//! A client is a thread that reads its socket into one buffer, over and over: it copies every byte out of the kernel,
//! as clients do, and does next to nothing besides.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::ops::Range;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::content::Content;
use super::http::{Place, broken, read_head};

/// What one read takes at most.
const BUFFER: usize = 256 << 10;
/// One of so many reads is compared when samples are.
const SAMPLE: u64 = 16;
/// What a client's thread needs for its stack.
const STACK: usize = 128 << 10;
/// A slow client takes less in one read, so that its pauses are short.
const SLOW_READ: usize = 64 << 10;

/// How much of what comes is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// Only the length.
    Length,
    /// About every sixteenth read.
    Sample,
    /// Every byte.
    All,
}

/// What is to be downloaded, and how.
pub struct Plan {
    /// From where.
    pub place: Place,
    /// What must come.
    pub content: Content,
    /// How many clients.
    pub clients: u32,
    /// Between the starts of two clients.
    pub stagger: Duration,
    /// Into how many closed ranges each client splits the file, to fetch them at the same time; 0: it does not.
    pub ranges: u32,
    /// What is compared.
    pub check: Check,
    /// How many of the clients are slow.
    pub slow: u32,
    /// Bytes a second that a slow client takes, until all others have ended.
    pub rate: u64,
    /// After this everything has ended, well or badly.
    pub timeout: Duration,
}

/// One connection's part of the work.
struct Job {
    start_after: Duration,
    range: Option<Range<u64>>,
    slow: bool,
}

/// What became of a job; all times since the beginning.
#[derive(Default)]
struct Outcome {
    started: Duration,
    first: Option<Duration>,
    end: Duration,
    bytes: u64,
    error: Option<String>,
}

/// What all jobs share.
struct Common<'a> {
    plan: &'a Plan,
    start: Barrier,
    /// Clients that are not slow and have not ended.
    fast: AtomicUsize,
}

/// Downloads as planned and tells how it went.
pub fn run(plan: &Plan) -> Value {
    let jobs = jobs(plan);
    let fast = jobs.iter().filter(|job| !job.slow).count();
    let common = Common { plan, start: Barrier::new(jobs.len() + 1), fast: AtomicUsize::new(fast) };
    let (outcomes, seconds) = thread::scope(|scope| {
        let spawn = |job| {
            let common = &common;
            let thread = thread::Builder::new().stack_size(STACK);
            thread.spawn_scoped(scope, move || common.client(job)).expect("threads for all clients")
        };
        let threads: Vec<_> = jobs.iter().map(spawn).collect();
        common.start.wait();
        let begin = Instant::now();
        let outcomes: Vec<_> = threads.into_iter().map(|t| t.join().expect("clients do not panic")).collect();
        (outcomes, begin.elapsed())
    });
    report(&outcomes, seconds)
}

fn jobs(plan: &Plan) -> Vec<Job> {
    let mut jobs = Vec::new();
    for client in 0..plan.clients {
        let start_after = plan.stagger * client;
        // The last ones are slow: the first to ask is not, so that a download does not begin at leisure.
        let slow = client + plan.slow >= plan.clients;
        let job = |range| Job { start_after, range, slow };
        if plan.ranges == 0 {
            jobs.push(job(None));
        }
        jobs.extend(split(plan.content.size, plan.ranges).map(|range| job(Some(range))));
    }
    jobs
}

/// `size` bytes in so many ranges.
fn split(size: u64, ranges: u32) -> impl Iterator<Item = Range<u64>> {
    let each = size.div_ceil(u64::from(ranges.max(1)));
    (0..u64::from(ranges))
        .map(move |i| i * each..((i + 1) * each).min(size))
        .filter(|range| !range.is_empty())
}

fn report(outcomes: &[Outcome], seconds: Duration) -> Value {
    let clients: Vec<_> = outcomes
        .iter()
        .map(|o| {
            json!({
                "started": o.started.as_secs_f64(),
                "first": o.first.map(|first| first.as_secs_f64()),
                "end": o.end.as_secs_f64(),
                "bytes": o.bytes,
                "error": o.error,
            })
        })
        .collect();
    json!({
        "seconds": seconds.as_secs_f64(),
        "bytes": outcomes.iter().map(|o| o.bytes).sum::<u64>(),
        "failed": outcomes.iter().filter(|o| o.error.is_some()).count(),
        "clients": clients,
    })
}

impl Common<'_> {
    fn client(&self, job: &Job) -> Outcome {
        // Memory is taken, and touched, before the clock runs.
        let mut buffer = vec![1; BUFFER];
        self.start.wait();
        let begin = Instant::now();
        thread::sleep(job.start_after);
        let mut outcome = Outcome { started: begin.elapsed(), ..Outcome::default() };
        let mut download = Download { common: self, job, begin, outcome: &mut outcome };
        let ended = download.run(&mut buffer);
        outcome.error = ended.err().map(|e| e.to_string());
        outcome.end = begin.elapsed();
        if !job.slow {
            self.fast.fetch_sub(1, Ordering::Relaxed);
        }
        outcome
    }
}

/// One running download.
struct Download<'a> {
    common: &'a Common<'a>,
    job: &'a Job,
    begin: Instant,
    outcome: &'a mut Outcome,
}

impl Download<'_> {
    fn run(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        let plan = self.common.plan;
        let mut stream = TcpStream::connect(&plan.place.address)?;
        stream.set_read_timeout(Some(plan.timeout))?;
        stream.set_write_timeout(Some(plan.timeout))?;
        stream.write_all(self.request().as_bytes())?;
        let (head, body) =
            read_head(&mut stream, buffer)?.ok_or_else(|| broken("closed without an answer"))?;
        let range = self.job.range.clone().unwrap_or(0..plan.content.size);
        let status = if self.job.range.is_some() { 206 } else { 200 };
        if head.status() != status {
            return Err(broken(format!("answered {}", head.first)));
        }
        if head.length() != Some(range.end - range.start) {
            return Err(broken(format!("a body of {:?} bytes", head.length())));
        }
        self.take(&buffer[body], &range, true)?;
        self.read(&mut stream, buffer, &range)
    }

    fn request(&self) -> String {
        let Place { address, path } = &self.common.plan.place;
        let range = self.job.range.as_ref();
        let range = range.map(|r| format!("Range: bytes={}-{}\r\n", r.start, r.end - 1));
        let range = range.unwrap_or_default();
        format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: wire\r\nAccept: */*\r\n{range}\r\n")
    }

    fn read(&mut self, stream: &mut impl Read, buffer: &mut [u8], range: &Range<u64>) -> io::Result<()> {
        let plan = self.common.plan;
        let sample = match plan.check {
            Check::Length => u64::MAX,
            Check::Sample => SAMPLE,
            Check::All => 1,
        };
        let length = range.end - range.start;
        let mut reads = 0;
        while self.outcome.bytes < length {
            let most = if self.is_held_back() { SLOW_READ } else { buffer.len() };
            let read = stream.read(&mut buffer[..most])?;
            if read == 0 {
                return Err(broken(format!("cut after {} bytes", self.outcome.bytes)));
            }
            reads += 1;
            self.take(&buffer[..read], range, reads % sample == 0)?;
            if self.begin.elapsed() > plan.timeout {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.pause();
        }
        Ok(())
    }

    /// Counts what came, and compares it if it is to be compared.
    fn take(&mut self, bytes: &[u8], range: &Range<u64>, compare: bool) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.outcome.first.get_or_insert_with(|| self.begin.elapsed());
        let plan = self.common.plan;
        let at = range.start + self.outcome.bytes;
        if compare && plan.check != Check::Length && !plan.content.holds(at, bytes) {
            return Err(broken(format!("wrong bytes at {at}")));
        }
        self.outcome.bytes += bytes.len() as u64;
        Ok(())
    }

    fn is_held_back(&self) -> bool {
        self.job.slow && self.common.fast.load(Ordering::Relaxed) > 0
    }

    /// A slow client waits until it may have what it has.
    fn pause(&self) {
        if self.is_held_back() {
            let due = self.outcome.bytes as f64 / self.common.plan.rate as f64;
            thread::sleep(Duration::from_secs_f64(due).saturating_sub(self.begin.elapsed()));
        }
    }
}
