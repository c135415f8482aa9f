//! The resume trap: a client that was cut off joins whatever a range brings to the prefix it has, and checks only the
//! size. After wrong bytes were sent, ranges that would continue them are not served for a while.

use crate::request::Range;

/// What becomes of a range while the mark stands on a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guarded {
    /// Served as asked: a first attempt, or one that begins at the beginning.
    AsAsked,
    /// The whole file with 200, whatever If-Range says: this makes clients start again.
    Whole,
    /// 503: hf_transfer writes the body of any 2xx to the part's own place, so the whole file would do harm.
    Refuse,
}

/// Decides for a resource that has the mark.
pub fn guard(range: Option<Range>) -> Guarded {
    match range {
        None => Guarded::AsAsked,
        Some(range) if range.starts_at_zero() => Guarded::AsAsked,
        Some(Range::From(_)) => Guarded::Whole,
        Some(Range::Closed(..) | Range::Suffix(_)) => Guarded::Refuse,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ranges_that_continue_something_are_guarded() {
        assert_eq!(guard(None), Guarded::AsAsked);
        assert_eq!(guard(Some(Range::From(0))), Guarded::AsAsked);
        assert_eq!(guard(Some(Range::Closed(0, 0))), Guarded::AsAsked);
        assert_eq!(guard(Some(Range::From(1))), Guarded::Whole);
        assert_eq!(guard(Some(Range::Closed(1, 9))), Guarded::Refuse);
        assert_eq!(guard(Some(Range::Suffix(9))), Guarded::Refuse);
    }
}
