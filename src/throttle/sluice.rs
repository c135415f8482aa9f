//! One stream's way through throttles, and bodies that take it.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::oneshot;

use super::{Party, Throttle};

/// One stream's way through throttles.
pub struct Sluice {
    held: Bytes,
    stages: Vec<Stage>,
}

struct Stage {
    throttle: Throttle,
    party: Party,
    /// Bytes that were granted and have not gone yet.
    credit: usize,
    granted: Option<oneshot::Receiver<usize>>,
}

impl Sluice {
    /// A way through these, each of which counts the stream for a party.
    pub fn new(throttles: impl IntoIterator<Item = (Throttle, Party)>) -> Self {
        let stage = |(throttle, party)| Stage { throttle, party, credit: 0, granted: None };
        Self { held: Bytes::new(), stages: throttles.into_iter().map(stage).collect() }
    }

    /// A way through one, by itself.
    pub fn of(throttle: &Throttle) -> Box<Self> {
        Box::new(Self::new([(throttle.clone(), throttle.stream())]))
    }

    /// Takes bytes in, of which there are none before the last are out.
    pub fn hold(&mut self, bytes: Bytes) {
        self.held = bytes;
    }

    /// How many bytes wait.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// The next of the bytes that wait.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Bytes> {
        let most = ready!(self.poll_credit(cx, self.held.len()));
        Poll::Ready(self.held.split_to(most))
    }

    /// Waits until so many bytes may go.
    pub async fn pass(&mut self, mut bytes: usize) {
        while bytes > 0 {
            bytes -= std::future::poll_fn(|cx| self.poll_credit(cx, bytes)).await;
        }
    }

    /// How many of so many bytes may go, and takes them as gone.
    fn poll_credit(&mut self, cx: &mut Context<'_>, most: usize) -> Poll<usize> {
        let mut may = most;
        for stage in &mut self.stages {
            if stage.credit == 0 && may > 0 {
                let granted = stage.granted.get_or_insert_with(|| stage.throttle.ask(stage.party, may));
                let bytes = ready!(Pin::new(granted).poll(cx));
                stage.granted = None;
                // Whoever would grant is gone only with the whole runtime.
                stage.credit = bytes.unwrap_or(may);
            }
            may = may.min(stage.credit);
        }
        self.stages.iter_mut().for_each(|stage| stage.credit -= may);
        Poll::Ready(may)
    }
}

/// A body whose bytes go through throttles, if there are any.
pub struct Throttled<B> {
    body: B,
    sluice: Option<Box<Sluice>>,
}

impl<B> Throttled<B> {
    /// `body` through this one.
    pub fn new(body: B, throttle: Option<&Throttle>) -> Self {
        Self { body, sluice: throttle.map(Sluice::of) }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Throttled<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let Self { body, sluice } = &mut *self;
        let Some(sluice) = sluice else { return Pin::new(body).poll_frame(cx) };
        loop {
            if sluice.held() > 0 {
                return sluice.poll(cx).map(|bytes| Some(Ok(Frame::data(bytes))));
            }
            match ready!(Pin::new(&mut *body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) => sluice.hold(bytes),
                    Err(frame) => return Poll::Ready(Some(Ok(frame))),
                },
                other => return Poll::Ready(other),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.sluice.as_ref().is_none_or(|sluice| sluice.held() == 0) && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let held = self.sluice.as_ref().map_or(0, |sluice| sluice.held() as u64);
        let hint = self.body.size_hint();
        let mut all = SizeHint::default();
        if let Some(upper) = hint.upper() {
            all.set_upper(upper + held);
        }
        all.set_lower(hint.lower() + held);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::throttle;
    use super::*;

    #[tokio::test]
    async fn the_narrowest_of_several_lines_decides() {
        let lines = [throttle("1GiB"), throttle("8KiB")];
        let mut sluice = Sluice::new(lines.map(|line| (line, Party::Stream(1))));
        sluice.hold(Bytes::from_static(&[7; 4000]));
        let mut all = 0;
        while sluice.held() > 0 {
            let bytes = std::future::poll_fn(|cx| sluice.poll(cx)).await;
            assert!(!bytes.is_empty() && bytes.len() <= 1 << 10, "{}", bytes.len());
            all += bytes.len();
        }
        assert_eq!(all, 4000);
    }
}
