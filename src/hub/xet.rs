//! Keeping clients from the Xet store: what tells them of it is taken out of JSON texts.

use super::json::{NotJson, Piece, Scanner};

/// Longest member that is held back until the size beside it is known, in bytes; a longer one is left out.
const MAX_HELD: usize = 1024;
/// Most white space before a member that is copied, in bytes; the rest of it says nothing.
const MAX_BLANK: usize = 1024;
/// Longest name that can be one of those that are left out: each of its letters may be written as `\uXXXX`.
const MAX_NAME: usize = 2 + 6 * "xetEnabled".len();

/// Copies JSON text as it arrives, without the members `xetHash` and `xetEnabled` of every object in it.
///
/// All else stays byte for byte what it was, in the same order. The hash of an object whose own `size` is above a limit
/// can be kept; it then stands at the object's end.
#[derive(Debug)]
pub struct Stripper {
    scanner: Scanner,
    keep_above: Option<u64>,
    /// The containers that are being copied, outermost first.
    frames: Vec<Frame>,
    mode: Mode,
    /// What came since the last member, or since its object began: it is copied with the next member that is.
    gap: Vec<u8>,
    name: Vec<u8>,
    kept: u64,
}

/// How many hashes were kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept(pub u64);

#[derive(Debug, Default)]
struct Frame {
    is_object: bool,
    /// Whether a member was copied, so that the next one needs a comma.
    has_members: bool,
    size: Size,
    /// The member `xetHash`.
    held: Vec<u8>,
}

/// The value of an object's own `size`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Size {
    #[default]
    Unknown,
    /// Its digits are coming.
    Coming(Option<u64>),
    Known(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Copy,
    /// Before a member, until its name is known.
    Gap,
    /// In a member that is left out.
    Skip,
    /// In a member that is held back.
    Hold,
}

impl Stripper {
    /// Begins a text; hashes of what is larger than `keep_above` are kept.
    pub fn new(keep_above: Option<u64>) -> Self {
        Self {
            scanner: Scanner::new(),
            keep_above,
            frames: Vec::new(),
            mode: Mode::Copy,
            gap: Vec::new(),
            name: Vec::new(),
            kept: 0,
        }
    }

    /// Takes the next piece of the text and appends what stays of it to `out`.
    ///
    /// # Errors
    /// When the text is not JSON; nothing more may be pushed then.
    pub fn push(&mut self, text: &[u8], out: &mut Vec<u8>) -> Result<(), NotJson> {
        for byte in text {
            let depth = self.scanner.depth();
            let piece = self.scanner.step(*byte)?;
            let ends = depth == self.frames.len() && matches!(piece, Piece::Comma | Piece::Close);
            match self.mode {
                Mode::Skip | Mode::Hold if !ends => self.leave_out(*byte),
                Mode::Gap if piece != Piece::Close => self.before_member(piece, *byte, out),
                _ => self.copy(piece, *byte, out),
            }
        }
        Ok(())
    }

    /// The text is over.
    ///
    /// # Errors
    /// When it ends too early.
    pub fn finish(self) -> Result<Kept, NotJson> {
        self.scanner.finish().map(|()| Kept(self.kept))
    }

    fn copy(&mut self, piece: Piece, byte: u8, out: &mut Vec<u8>) {
        self.mode = Mode::Copy;
        match piece {
            Piece::OpenObject => {
                self.open(true);
                self.mode = Mode::Gap;
            }
            Piece::OpenArray => self.open(false),
            Piece::Comma => {
                let Some(frame) = self.frames.last_mut().filter(|frame| frame.is_object) else {
                    out.push(byte);
                    return;
                };
                frame.size.end();
                if frame.has_members {
                    self.gap.push(byte);
                }
                self.mode = Mode::Gap;
                return;
            }
            Piece::Close => self.close(out),
            Piece::Scalar => {
                if let Some(frame) = self.frames.last_mut() {
                    frame.size.digit(byte);
                }
            }
            Piece::Blank | Piece::Colon | Piece::Name => {}
        }
        out.push(byte);
    }

    fn open(&mut self, is_object: bool) {
        if let Some(frame) = self.frames.last_mut() {
            // Were it the value of `size`, that would be no number.
            frame.size.digit(b'?');
        }
        self.frames.push(Frame { is_object, ..Frame::default() });
    }

    fn before_member(&mut self, piece: Piece, byte: u8, out: &mut Vec<u8>) {
        if piece != Piece::Blank || self.gap.len() < MAX_BLANK {
            self.gap.push(byte);
        }
        match piece {
            Piece::Name => {
                self.name.push(byte);
                if self.name.len() > MAX_NAME {
                    self.keep_member(out);
                }
            }
            Piece::Colon => match name(&self.name) {
                Name::XetHash if self.keep_above.is_some() => {
                    let name = std::mem::take(&mut self.name);
                    self.omit_member(Mode::Hold, [&name[..], b":"].concat());
                }
                Name::XetHash | Name::XetEnabled => self.omit_member(Mode::Skip, Vec::new()),
                Name::Size => {
                    self.keep_member(out);
                    if let Some(frame) = self.frames.last_mut() {
                        frame.size = Size::Coming(Some(0));
                    }
                }
                Name::Other => self.keep_member(out),
            },
            _ => {}
        }
    }

    fn keep_member(&mut self, out: &mut Vec<u8>) {
        if let Some(frame) = self.frames.last_mut() {
            frame.has_members = true;
        }
        out.append(&mut self.gap);
        self.name.clear();
        self.mode = Mode::Copy;
    }

    /// Of several members of one name the last counts, as it does for those who read the text.
    fn omit_member(&mut self, mode: Mode, held: Vec<u8>) {
        if let Some(frame) = self.frames.last_mut().filter(|_| mode == Mode::Hold) {
            frame.held = held;
        }
        self.gap.clear();
        self.name.clear();
        self.mode = mode;
    }

    fn leave_out(&mut self, byte: u8) {
        let Some(frame) = self.frames.last_mut().filter(|_| self.mode == Mode::Hold) else { return };
        frame.held.push(byte);
        if frame.held.len() > MAX_HELD {
            frame.held = Vec::new();
            self.mode = Mode::Skip;
        }
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        let Some(mut frame) = self.frames.pop() else { return };
        frame.size.end();
        let is_large =
            matches!((frame.size, self.keep_above), (Size::Known(size), Some(above)) if size > above);
        if is_large && !frame.held.is_empty() {
            out.extend_from_slice(if frame.has_members { b"," } else { b"" });
            out.extend_from_slice(frame.held.trim_ascii_end());
            self.kept += 1;
        }
        // White space of an object without members.
        out.append(&mut self.gap);
    }
}

impl Size {
    fn digit(&mut self, byte: u8) {
        if let Self::Coming(size) = self {
            let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'));
            *size = size.zip(digit).and_then(|(size, digit)| size.checked_mul(10)?.checked_add(digit));
        }
    }

    fn end(&mut self) {
        if let Self::Coming(size) = *self {
            *self = size.map_or(Self::Unknown, Self::Known);
        }
    }
}

#[derive(Clone, Copy)]
enum Name {
    XetHash,
    XetEnabled,
    Size,
    Other,
}

/// What a member is called, also where the name is written with escapes.
fn name(quoted: &[u8]) -> Name {
    let unescaped: Option<String> =
        if quoted.contains(&b'\\') { serde_json::from_slice(quoted).ok() } else { None };
    let plain = quoted.strip_prefix(b"\"").and_then(|n| n.strip_suffix(b"\"")).unwrap_or_default();
    match unescaped.as_ref().map_or(plain, |name| name.as_bytes()) {
        b"xetHash" => Name::XetHash,
        b"xetEnabled" => Name::XetEnabled,
        b"size" => Name::Size,
        _ => Name::Other,
    }
}

#[cfg(test)]
mod tests;
