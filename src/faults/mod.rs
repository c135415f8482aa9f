//! Faults on purpose, for tests of clients: what a hub does wrong, done again at will.
//!
//! A [`Spoiler`] stands before a server, hands every request on to it, and spoils the answers that its [`Rules`] say.
//! It holds no store and no way to one: nothing here imports them, and what it spoils has left the server already. So no
//! fault can get into what is kept. Every answer that it has touched says so in [`FIELD`]; all others are handed on
//! as they are.
//!
//! ```toml
//! seed = 7                          # of what is left to chance; 0 if it is not said
//!
//! [[fault]]
//! path = "*/resolve/*/config.json"  # the path of the URL, decoded and without its query; * stands for slashes too
//! method = "GET"                    # any, if it is not said
//! skip = 1                          # lets the first one pass
//! times = 2                         # ends after two; without it there is no end
//! probability = 0.5                 # meets every second one, by chance; without it each
//! status = 429
//! headers = { Retry-After = "1" }
//! body = "slow down"
//!
//! [[fault]]
//! path = "*.onnx"
//! cut = "1MiB"
//! ```
//!
//! Each rule has one fault:
//!
//! | key | what the client sees | which answers it is for |
//! |---|---|---|
//! | `status = 503` | this status instead, with `headers` and `body`; the server is not asked | every one |
//! | `delay = "2s"` | silence before the head | every one |
//! | `slow = "64KiB/s"` | a body that comes no faster | good ones with a body |
//! | `stall = SIZE` | after so many bytes of the body nothing more, and the connection stays | the same, if the body is longer |
//! | `cut = SIZE` | the connection breaks after so many bytes of the body | the same, if the body is longer |
//! | `wrong_byte = OFFSET` | one bit of that byte of the file is another | the same, if that byte is in it |
//! | `wrong_length = N` | `Content-Length` and `X-Linked-Size` are N more (then the body ends too early, and the connection breaks) or, with -N, fewer (then the rest is left out) | good ones with a length, also to HEAD |
//! | `etag = "changes"` | `ETag` and `X-Linked-ETag` are others in every answer | good ones with one, also to HEAD |
//!
//! A good answer is one with a status of 2xx. A request meets one fault at most: of the rules that need no answer
//! (`status`, `delay`) the first that strikes, in the order of the file; if none does, the first of the others. An answer
//! that a rule is not for does not count for it, and neither does a request that an earlier rule has taken.

mod amount;
mod body;
mod chance;
mod file;
mod rules;
mod spoil;
mod spoiler;

pub use body::{Broken, Spoilt};
pub use file::{BadRules, MAX_TEXT};
pub use rules::{Fault, Rules, Tally};
pub use spoiler::{Body, FIELD, Spoiler};
