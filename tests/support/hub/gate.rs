//! Gates: a body or a head is held until the test says go, so that tests order events without sleeping.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use tokio::sync::watch;

use super::journal::matches;
use super::request::Request;

/// How long a test waits for something to arrive at a gate before it gives up.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a gate holds.
#[derive(Clone, Debug)]
pub(super) enum Hold {
    /// Bodies of GETs, before the byte at this offset in the file.
    Body(u64),
    /// Answers to this method, before their head.
    Head(String),
}

/// The test's side of a gate, which opens when this is dropped.
#[must_use = "a gate opens when its handle is dropped"]
pub struct Gate(Arc<Post>);

impl Gate {
    /// Waits until something is held here.
    ///
    /// # Panics
    /// When nothing came in 20 s.
    pub fn reached(&self) {
        self.reached_by(1);
    }

    /// Waits until `count` answers were held here, one after the other or at once.
    ///
    /// # Panics
    /// When fewer came in 20 s.
    pub fn reached_by(&self, count: usize) {
        let arrivals = self.0.arrivals.lock().expect("no thread panics at a gate");
        let (arrivals, waited) = self
            .0
            .arrived
            .wait_timeout_while(arrivals, PATIENCE, |arrivals| *arrivals < count)
            .expect("no thread panics at a gate");
        assert!(!waited.timed_out(), "{} of {count} came to the gate on {:?}", *arrivals, self.0.on);
    }

    /// How many answers were held here so far.
    pub fn arrivals(&self) -> usize {
        *self.0.arrivals.lock().expect("no thread panics at a gate")
    }

    /// Lets all go on, those that come later too.
    pub fn release(&self) {
        self.0.open.send_replace(true);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.release();
    }
}

/// A gate as the connections see it.
pub(super) struct Post {
    on: String,
    hold: Hold,
    open: watch::Sender<bool>,
    arrivals: Mutex<usize>,
    arrived: Condvar,
}

impl Post {
    /// Waits here until the gate is open.
    pub async fn pass(&self) {
        let mut open = self.open.subscribe();
        if *open.borrow() {
            return;
        }
        *self.arrivals.lock().expect("no thread panics at a gate") += 1;
        self.arrived.notify_all();
        // The sender lives in `self`.
        let _ = open.wait_for(|open| *open).await;
    }
}

/// The gates of one hub.
#[derive(Default)]
pub(super) struct Gates(Vec<Arc<Post>>);

impl Gates {
    pub fn add(&mut self, on: &str, hold: Hold) -> Gate {
        self.0.retain(|post| !*post.open.borrow());
        let post = Arc::new(Post {
            on: on.to_owned(),
            hold,
            open: watch::Sender::new(false),
            arrivals: Mutex::default(),
            arrived: Condvar::default(),
        });
        self.0.push(post.clone());
        Gate(post)
    }

    pub fn clear(&mut self) {
        for post in self.0.drain(..) {
            post.open.send_replace(true);
        }
    }

    /// The gates before the head of this answer.
    pub fn at_head(&self, request: &Request, file: Option<&str>) -> Vec<Arc<Post>> {
        self.matching(request, file)
            .filter(|post| matches!(&post.hold, Hold::Head(method) if *method == request.method))
            .cloned()
            .collect()
    }

    /// The gates within a body that begins at `offset` in the file, with their offsets in the body.
    pub fn in_body(
        &self,
        request: &Request,
        file: Option<&str>,
        offset: u64,
        length: u64,
    ) -> Vec<(u64, Arc<Post>)> {
        self.matching(request, file)
            .filter_map(|post| match post.hold {
                Hold::Body(at) if at >= offset && at <= offset + length => Some((at - offset, post.clone())),
                _ => None,
            })
            .collect()
    }

    fn matching(&self, request: &Request, file: Option<&str>) -> impl Iterator<Item = &Arc<Post>> {
        self.0.iter().filter(move |post| matches(&post.on, &request.target, file))
    }
}
