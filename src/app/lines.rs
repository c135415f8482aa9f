//! Log lines on their way to stderr: at once while there are few, many in one write when there are more.
//!
//! A line that comes shortly after another waits in a buffer, at most [`PAUSE`] long, and a thread writes what has
//! gathered. When the buffer is full, whoever has a line writes it out and so waits for the reader of the log; no line
//! is lost but with the process.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tracing_subscriber::fmt::MakeWriter;

/// The least time between two writes while there is room for lines, and the longest that a line waits.
const PAUSE: Duration = Duration::from_millis(10);
/// Bytes of lines that wait at most, but for one line.
const MOST: usize = 256 << 10;

/// Gathers lines; clones gather into the same buffer.
#[derive(Clone)]
pub(super) struct Lines(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    gathering: Condvar,
    sink: Mutex<Box<dyn Write + Send>>,
}

struct State {
    waiting: Vec<u8>,
    written_at: Option<Instant>,
    has_thread: bool,
}

impl Lines {
    /// Lines for `sink`.
    pub(super) fn new(sink: impl Write + Send + 'static) -> Self {
        let state = State { waiting: Vec::new(), written_at: None, has_thread: false };
        let sink: Mutex<Box<dyn Write + Send>> = Mutex::new(Box::new(sink));
        let shared = Arc::new(Shared { state: Mutex::new(state), gathering: Condvar::new(), sink });
        let writer = Arc::clone(&shared);
        let started = thread::Builder::new().name("hubcache-log".into()).spawn(move || writer.run());
        // Without the thread every line is written at once.
        shared.state().has_thread = started.is_ok();
        Self(shared)
    }

    /// Writes what waits.
    pub(super) fn flush(&self) {
        self.0.write_out();
    }

    fn add(&self, line: &[u8]) {
        let mut state = self.0.state();
        state.waiting.extend_from_slice(line);
        let soon = state.has_thread && state.written_at.is_some_and(|at| at.elapsed() < PAUSE);
        if soon && state.waiting.len() <= MOST {
            // Only the first of those that wait has to wake the thread.
            if state.waiting.len() == line.len() {
                self.0.gathering.notify_one();
            }
            return;
        }
        drop(state);
        self.0.write_out();
    }
}

impl Shared {
    fn run(&self) {
        loop {
            let mut state = self.state();
            while state.waiting.is_empty() {
                state = self.gathering.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            drop(state);
            thread::sleep(PAUSE);
            self.write_out();
        }
    }

    fn write_out(&self) {
        // Held first, so that lines stay in order.
        let mut sink = self.sink.lock().unwrap_or_else(PoisonError::into_inner);
        let lines = {
            let mut state = self.state();
            state.written_at = Some(Instant::now());
            std::mem::take(&mut state.waiting)
        };
        // There is nowhere to say that the log cannot be written.
        let _ = sink.write_all(&lines);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(self)
    }
}

/// Takes one whole line.
pub(super) struct Line<'a>(&'a Lines);

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.add(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<(usize, Vec<u8>)>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut sink = self.0.lock().unwrap();
            sink.0 += 1;
            sink.1.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn all_lines_arrive_in_order_in_fewer_writes() {
        let sink = Sink::default();
        let lines = Lines::new(sink.clone());
        let mut all = Vec::new();
        for i in 0..50_000 {
            let line = format!("line {i}\n");
            all.extend_from_slice(line.as_bytes());
            lines.add(line.as_bytes());
            if i == 0 {
                assert_eq!(sink.0.lock().unwrap().1, all, "the first is written at once");
            }
        }
        lines.flush();
        let sink = sink.0.lock().unwrap();
        assert!(sink.1 == all);
        assert!(sink.0 < 50_000, "{} writes", sink.0);
    }
}
