//! Reading JSON text byte by byte, in whatever pieces it arrives.

use std::fmt;

/// Deepest nesting that is read; what is deeper is no answer of a hub.
const MAX_DEPTH: usize = 128;

/// Why a text is not the JSON that it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotJson {
    /// A byte that cannot stand where it stands.
    Unexpected,
    /// Arrays and objects are nested deeper than is read.
    TooDeep,
    /// The text ends before its value does.
    Unfinished,
}

impl fmt::Display for NotJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unexpected => f.write_str("the text is not JSON"),
            Self::TooDeep => write!(f, "the JSON text is nested deeper than {MAX_DEPTH} levels"),
            Self::Unfinished => f.write_str("the JSON text ends too early"),
        }
    }
}

impl std::error::Error for NotJson {}

/// What one byte is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// White space between tokens.
    Blank,
    /// `{`.
    OpenObject,
    /// `[`.
    OpenArray,
    /// The end of the innermost object or array.
    Close,
    /// `,`.
    Comma,
    /// `:`.
    Colon,
    /// Of a member's name, its quotes included.
    Name,
    /// Of a string, a number or a literal.
    Scalar,
}

/// Knows what may come next. Everything is checked but whether strings are UTF-8.
#[derive(Debug)]
pub(super) struct Scanner {
    /// Whether each open container is an object, outermost first.
    open: Vec<bool>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A value must come; behind `[` its end may come as well.
    Value {
        or_end: bool,
    },
    /// A name must come; behind `{` its end may come as well.
    Name {
        or_end: bool,
    },
    /// `:` must come.
    Colon,
    /// A value ended.
    After,
    /// In a string, which may be a name.
    Text {
        name: bool,
        escape: Escape,
    },
    /// In `true`, `false` or `null`: what must still come.
    Literal(&'static [u8]),
    Number(Number),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Escape {
    None,
    Begun,
    /// Hexadecimal digits that must still come.
    Digits(u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Number {
    Minus,
    Zero,
    Whole,
    Point,
    Fraction,
    E,
    ESign,
    Exponent,
}

impl Scanner {
    pub(super) fn new() -> Self {
        Self { open: Vec::new(), state: State::Value { or_end: false } }
    }

    /// How many containers are open.
    pub(super) fn depth(&self) -> usize {
        self.open.len()
    }

    /// Takes the next byte.
    pub(super) fn step(&mut self, byte: u8) -> Result<Piece, NotJson> {
        match self.state {
            State::Text { name, escape } => self.in_text(name, escape, byte),
            State::Literal([next, rest @ ..]) if *next == byte => {
                self.state = if rest.is_empty() { State::After } else { State::Literal(rest) };
                Ok(Piece::Scalar)
            }
            State::Literal(_) => Err(NotJson::Unexpected),
            State::Number(number) => match number.then(byte) {
                Some(number) => {
                    self.state = State::Number(number);
                    Ok(Piece::Scalar)
                }
                None if number.may_end() => {
                    self.state = State::After;
                    self.between(byte)
                }
                None => Err(NotJson::Unexpected),
            },
            _ => self.between(byte),
        }
    }

    /// The text is over.
    pub(super) fn finish(&self) -> Result<(), NotJson> {
        let whole = match self.state {
            State::After => true,
            State::Number(number) => number.may_end(),
            _ => false,
        };
        if whole && self.open.is_empty() { Ok(()) } else { Err(NotJson::Unfinished) }
    }

    fn between(&mut self, byte: u8) -> Result<Piece, NotJson> {
        if matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
            return Ok(Piece::Blank);
        }
        let (piece, state) = match (self.state, byte) {
            (State::Value { or_end: true }, b']') => (Piece::Close, self.close(false)?),
            (State::Value { .. }, b'{') => (Piece::OpenObject, self.open(true)?),
            (State::Value { .. }, b'[') => (Piece::OpenArray, self.open(false)?),
            (State::Value { .. }, first) => (Piece::Scalar, scalar(first)?),
            (State::Name { .. }, b'"') => (Piece::Name, State::Text { name: true, escape: Escape::None }),
            (State::Name { or_end: true } | State::After, b'}') => (Piece::Close, self.close(true)?),
            (State::Colon, b':') => (Piece::Colon, State::Value { or_end: false }),
            (State::After, b']') => (Piece::Close, self.close(false)?),
            (State::After, b',') => match self.open.last() {
                Some(true) => (Piece::Comma, State::Name { or_end: false }),
                Some(false) => (Piece::Comma, State::Value { or_end: false }),
                None => return Err(NotJson::Unexpected),
            },
            _ => return Err(NotJson::Unexpected),
        };
        self.state = state;
        Ok(piece)
    }

    fn open(&mut self, object: bool) -> Result<State, NotJson> {
        if self.open.len() == MAX_DEPTH {
            return Err(NotJson::TooDeep);
        }
        self.open.push(object);
        Ok(if object { State::Name { or_end: true } } else { State::Value { or_end: true } })
    }

    fn close(&mut self, object: bool) -> Result<State, NotJson> {
        if self.open.pop() == Some(object) { Ok(State::After) } else { Err(NotJson::Unexpected) }
    }

    fn in_text(&mut self, name: bool, escape: Escape, byte: u8) -> Result<Piece, NotJson> {
        let next = match (escape, byte) {
            (Escape::None, b'"') => None,
            (Escape::None, b'\\') => Some(Escape::Begun),
            (Escape::None, 0x20..)
            | (Escape::Begun, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Some(Escape::None),
            (Escape::Begun, b'u') => Some(Escape::Digits(4)),
            (Escape::Digits(left), digit) if digit.is_ascii_hexdigit() => {
                Some(if left == 1 { Escape::None } else { Escape::Digits(left - 1) })
            }
            _ => return Err(NotJson::Unexpected),
        };
        self.state = match next {
            Some(escape) => State::Text { name, escape },
            None if name => State::Colon,
            None => State::After,
        };
        Ok(if name { Piece::Name } else { Piece::Scalar })
    }
}

impl Number {
    /// What it is with one more byte; `None` when that byte is none of it.
    fn then(self, byte: u8) -> Option<Self> {
        match (self, byte) {
            (Self::Minus, b'0') => Some(Self::Zero),
            (Self::Minus, b'1'..=b'9') | (Self::Whole, b'0'..=b'9') => Some(Self::Whole),
            (Self::Zero | Self::Whole, b'.') => Some(Self::Point),
            (Self::Point | Self::Fraction, b'0'..=b'9') => Some(Self::Fraction),
            (Self::Zero | Self::Whole | Self::Fraction, b'e' | b'E') => Some(Self::E),
            (Self::E, b'+' | b'-') => Some(Self::ESign),
            (Self::E | Self::ESign | Self::Exponent, b'0'..=b'9') => Some(Self::Exponent),
            _ => None,
        }
    }

    fn may_end(self) -> bool {
        matches!(self, Self::Zero | Self::Whole | Self::Fraction | Self::Exponent)
    }
}

fn scalar(first: u8) -> Result<State, NotJson> {
    Ok(match first {
        b'"' => State::Text { name: false, escape: Escape::None },
        b't' => State::Literal(b"rue"),
        b'f' => State::Literal(b"alse"),
        b'n' => State::Literal(b"ull"),
        b'-' => State::Number(Number::Minus),
        b'0' => State::Number(Number::Zero),
        b'1'..=b'9' => State::Number(Number::Whole),
        _ => return Err(NotJson::Unexpected),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8]) -> Result<(), NotJson> {
        let mut scanner = Scanner::new();
        text.iter().try_for_each(|byte| scanner.step(*byte).map(drop))?;
        scanner.finish()
    }

    #[test]
    fn what_is_json_and_what_is_not_is_told_as_by_another_reader() {
        let texts = [
            "0",
            "-0",
            "10",
            "1.5",
            "1e9",
            "-1.0E+2",
            "2e-3",
            "true",
            "false",
            "null",
            " [ ] ",
            "{ }",
            "\"\"",
            r#""\"\\\/\b\f\n\r\t""#,
            r#"[1,"a",{"b":[]},null]"#,
            r#"{"a" : {"b":0 } , "c":[ [ ] ]}"#,
            "\t\r\n1\n",
            "",
            " ",
            "01",
            "+1",
            "1.",
            ".5",
            "1e",
            "1e+",
            "-",
            "tru",
            "truex",
            "nul",
            "[1,]",
            "[,1]",
            "[1 2]",
            "[",
            "]",
            "[}",
            "{]",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{a:1}",
            "{\"a\" 1}",
            "{1:2}",
            "{,}",
            "\"",
            "\"\\x\"",
            "\"\\u12g4\"",
            "\"a\nb\"",
            "1 2",
            "1,2",
            "[] []",
            ":",
            "'a'",
            "\u{feff}1",
            "NaN",
            "[1]]",
            "{\"a\":1}}",
        ];
        for text in texts {
            let other = serde_json::from_str::<serde_json::Value>(text);
            assert_eq!(read(text.as_bytes()).is_ok(), other.is_ok(), "{text:?}: {other:?}");
        }
    }

    #[test]
    fn nesting_has_a_limit() {
        let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(read(nested(MAX_DEPTH).as_bytes()), Ok(()));
        assert_eq!(read(nested(MAX_DEPTH + 1).as_bytes()), Err(NotJson::TooDeep));
        assert_eq!(read(&b"[".repeat(9)), Err(NotJson::Unfinished));
    }
}
