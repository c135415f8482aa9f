//! How far a body that follows an unfinished file may send.
//!
//! Two things are held back. The last byte of the file, until the verdict: a client that has every byte would take
//! the file for good. And a small reserve behind what has arrived, so that a body which waits (for the hub, or for
//! the verdict) can send a byte now and then: clients give up after 10 s of silence.

/// Bytes kept back behind the newest that arrived; one is sent each time the body has been silent for too long, so
/// that this many times 3 s of a stalled hub can be bridged.
pub const RESERVE: u64 = 256;

/// Where a body stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Next byte to send.
    pub position: u64,
    /// One past the last byte that the response carries.
    pub end: u64,
    /// Size of the file, if known.
    pub size: Option<u64>,
    /// One past the last byte that has arrived without a gap behind `position`.
    pub available: u64,
    /// The verdict was good.
    pub judged: bool,
    /// The body has been silent for too long.
    pub silent: bool,
}

/// What may be sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// Everything up to but not including this byte.
    UpTo(u64),
    /// Nothing yet.
    Wait,
}

/// Decides.
pub fn release(p: Progress) -> Release {
    // A range that ends before the file does may end before the verdict.
    let ends_early = p.size.is_some_and(|size| p.end < size);
    let hard = match () {
        () if p.judged || ends_early => p.available.min(p.end),
        // Without a known size any byte may be the last.
        () if p.size.is_none() => p.available.saturating_sub(1),
        () => p.available.min(p.end.saturating_sub(1)),
    };
    let complete = p.available >= p.end && (p.judged || ends_early);
    let soft = if complete { hard } else { hard.min(p.available.saturating_sub(RESERVE)) };
    if soft > p.position {
        Release::UpTo(soft)
    } else if p.silent && hard > p.position {
        Release::UpTo(p.position + 1)
    } else {
        Release::Wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u64 = 10_000;
    const WHOLE: Progress =
        Progress { position: 0, end: SIZE, size: Some(SIZE), available: 0, judged: false, silent: false };

    #[test]
    fn bytes_leave_as_they_arrive_but_for_a_reserve() {
        assert_eq!(release(WHOLE), Release::Wait);
        assert_eq!(release(Progress { available: 5000, ..WHOLE }), Release::UpTo(5000 - RESERVE));
        assert_eq!(release(Progress { available: 100, ..WHOLE }), Release::Wait);
    }

    #[test]
    fn the_last_byte_waits_for_the_verdict_even_of_a_silent_body() {
        let all = Progress { available: SIZE, position: SIZE - RESERVE, ..WHOLE };
        assert_eq!(release(all), Release::Wait);
        assert_eq!(release(Progress { silent: true, ..all }), Release::UpTo(SIZE - RESERVE + 1));
        let end = Progress { position: SIZE - 1, silent: true, ..all };
        assert_eq!(release(end), Release::Wait);
        assert_eq!(release(Progress { judged: true, ..end }), Release::UpTo(SIZE));
    }

    #[test]
    fn a_closed_range_may_end_before_the_verdict() {
        let part = Progress { end: 600, available: 700, ..WHOLE };
        assert_eq!(release(part), Release::UpTo(600));
        assert_eq!(release(Progress { available: 600, ..part }), Release::UpTo(600));
        assert_eq!(release(Progress { available: 599, ..part }), Release::UpTo(599 - RESERVE));
    }

    #[test]
    fn without_a_known_size_any_byte_may_be_the_last() {
        let p = Progress { size: None, end: u64::MAX, available: 5, silent: true, ..WHOLE };
        assert_eq!(release(p), Release::UpTo(1));
        assert_eq!(release(Progress { position: 4, ..p }), Release::Wait);
    }

    #[test]
    fn a_silent_body_drips_one_byte_of_what_it_holds() {
        let p = Progress { position: 40, available: 100, silent: true, ..WHOLE };
        assert_eq!(release(p), Release::UpTo(41));
        assert_eq!(release(Progress { position: 100, ..p }), Release::Wait);
    }
}
