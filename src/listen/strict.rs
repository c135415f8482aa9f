//! Reading requests of HTTP/1.1 more strictly than the parser does, so that no other server behind or before this one
//! can see other requests in the same bytes (RFC 9112, sections 2.2, 5.2, 6.1, 6.3 and 11.2).
//!
//! What comes in is looked at before the parser sees it. Refused are a bare CR or LF in a head, a folded line, more
//! than one Content-Length or Transfer-Encoding, both together, and values of them that are none. From the line on that
//! is wrong the parser gets a byte which it refuses itself, with 400 and the end of the connection; so whatever came
//! before on the same connection is answered first.

/// A request line and headers of more than this are answered with 431; so are more than 100 headers, which is hyper's own
/// limit (setting it, even to the same number, moves the headers of each request to the heap).
pub(super) const MAX_HEAD_BYTES: usize = 64 * 1024;

/// What a message's length is told by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Nothing,
    Length(u64),
    Chunked,
}

#[derive(Debug)]
enum State {
    /// In a head; `line` has the beginning of a line whose end has not come.
    Head { line: Vec<u8>, lines: usize, framing: Framing, is_connect: bool },
    /// In a body of which so many bytes are missing.
    Body { left: u64 },
    /// What comes is none of its business: a chunked body, after which the connection ends, or a tunnel.
    Opaque,
    /// Nothing more is let through.
    Refused,
}

/// Looks at what comes in on one connection.
#[derive(Debug)]
pub(super) struct Strict(State);

/// A line that is longer is left to the parser, which has a limit for the whole head.
const MAX_LINE: usize = MAX_HEAD_BYTES;

impl Strict {
    pub(super) fn new() -> Self {
        Self(State::new_head())
    }

    /// Looks at the next bytes; how many of them the parser may have if something is wrong behind those.
    pub(super) fn check(&mut self, mut bytes: &[u8]) -> Result<(), usize> {
        let all = bytes.len();
        while !bytes.is_empty() {
            match &mut self.0 {
                State::Opaque => return Ok(()),
                State::Refused => return Err(all - bytes.len()),
                State::Body { left } => {
                    let taken = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= taken as u64;
                    bytes = &bytes[taken..];
                    if *left == 0 {
                        self.0 = State::new_head();
                    }
                }
                State::Head { line, lines, framing, is_connect } => {
                    let Some(end) = bytes.iter().position(|b| *b == b'\n') else {
                        if line.len() + bytes.len() <= MAX_LINE {
                            line.extend_from_slice(bytes);
                        }
                        return Ok(());
                    };
                    let (rest_of_line, rest) = (&bytes[..end], &bytes[end + 1..]);
                    let next = if line.is_empty() {
                        read_line(rest_of_line, *lines, framing, is_connect)
                    } else {
                        line.extend_from_slice(rest_of_line);
                        read_line(line, *lines, framing, is_connect)
                    };
                    line.clear();
                    match next {
                        Line::Wrong => {
                            let good = all - bytes.len();
                            self.0 = State::Refused;
                            return Err(good);
                        }
                        Line::Blank => {}
                        Line::More => *lines += 1,
                        Line::Last => {
                            self.0 = match framing {
                                _ if *is_connect => State::Opaque,
                                Framing::Chunked => State::Opaque,
                                Framing::Length(left @ 1..) => State::Body { left: *left },
                                Framing::Nothing | Framing::Length(0) => State::new_head(),
                            }
                        }
                    }
                    bytes = rest;
                }
            }
        }
        Ok(())
    }
}

impl State {
    fn new_head() -> Self {
        Self::Head { line: Vec::new(), lines: 0, framing: Framing::Nothing, is_connect: false }
    }
}

/// What a line of a head is.
enum Line {
    /// An empty one before the request line, which is let be (RFC 9112, section 2.2).
    Blank,
    More,
    /// The empty one that ends the head.
    Last,
    Wrong,
}

/// Reads a line, without its LF, before which so many lines of the head came.
fn read_line(line: &[u8], before: usize, framing: &mut Framing, is_connect: &mut bool) -> Line {
    let Some((b'\r', line)) = line.split_last() else { return Line::Wrong };
    if line.contains(&b'\r') {
        return Line::Wrong;
    }
    match line.first() {
        None if before == 0 => return Line::Blank,
        None => return Line::Last,
        Some(b' ' | b'\t') => return Line::Wrong,
        Some(_) if before == 0 => {
            *is_connect = line.starts_with(b"CONNECT ");
            return Line::More;
        }
        Some(b'c' | b'C' | b't' | b'T') => {}
        // No other field tells anything of the length.
        Some(_) => return Line::More,
    }
    let Some(colon) = line.iter().position(|b| *b == b':') else { return Line::Wrong };
    let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
    let told = if name.eq_ignore_ascii_case(b"content-length") {
        let digits = value.iter().all(u8::is_ascii_digit).then_some(value).filter(|v| v.len() <= 19);
        let digits = digits.and_then(|v| std::str::from_utf8(v).ok());
        digits.and_then(|v| v.parse().ok()).map(Framing::Length)
    } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
        value.eq_ignore_ascii_case(b"chunked").then_some(Framing::Chunked)
    } else {
        return Line::More;
    };
    match (told, *framing) {
        (Some(told), Framing::Nothing) => {
            *framing = told;
            Line::More
        }
        _ => Line::Wrong,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the parser may have of `text`, when it comes in pieces of that size.
    fn let_through(text: &str, piece: usize) -> usize {
        let mut strict = Strict::new();
        let mut good = 0;
        for piece in text.as_bytes().chunks(piece) {
            match strict.check(piece) {
                Ok(()) => good += piece.len(),
                Err(some) => return good + some,
            }
        }
        good
    }

    #[test]
    fn requests_in_order_pass_whole() {
        for text in [
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\na\nb\rcGET / HTTP/1.1\r\nCookie: a\r\n\r\n",
            "POST / HTTP/1.1\r\ntransfer-encoding:  Chunked \r\n\r\n1\na\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
            "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n\x16\x03\n\n",
        ] {
            for piece in [1, 2, 3, 7, 1000] {
                assert_eq!(let_through(text, piece), text.len(), "{text:?} by {piece}");
            }
        }
    }

    #[test]
    fn from_the_wrong_line_on_nothing_passes() {
        // A bar marks where the wrong line begins.
        for marked in [
            "|GET / HTTP/1.1\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\n|Host: a\n\r\n",
            "GET / HTTP/1.1\r\n|Host: a\rX: b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n| folded\r\n\r\n",
            "GET / HTTP/1.1\r\n|\tX: b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n|\n",
            "POST / HTTP/1.1\r\nContent-Length: 5\r\n|Content-Length: 5\r\n\r\nabcde",
            "POST / HTTP/1.1\r\nContent-Length: 5\r\n|Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n|content-LENGTH: 5\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\n|Transfer-Encoding: xchunked\r\n\r\n",
            "POST / HTTP/1.1\r\n|Transfer-Encoding: gzip, chunked\r\n\r\n",
            "POST / HTTP/1.1\r\n|Content-Length: +5\r\n\r\nabcde",
            "POST / HTTP/1.1\r\n|Content-Length: 5, 5\r\n\r\nabcde",
            "POST / HTTP/1.1\r\n|Content-Length: \r\n\r\n",
            "POST / HTTP/1.1\r\n|Content-Length: 99999999999999999999\r\n\r\n",
            "POST / HTTP/1.1\r\n|Content-Length\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\na|GET / HTTP/1.1\n\n",
        ] {
            let want = marked.find('|').unwrap();
            let text = marked.replace('|', "");
            assert_eq!(let_through(&text, 1000), want, "{marked:?}");
            // In pieces the beginning of the line is through already; its end never is.
            let end = want + text[want..].find('\n').unwrap();
            for piece in [1, 2, 3, 7] {
                assert!((want..=end).contains(&let_through(&text, piece)), "{marked:?} by {piece}");
            }
        }
    }
}
