//! The tar archive: the headers of its members, written in one form and read in those that other programs write.

use std::ops::Range;

use tar::{EntryType, Header as Raw};

use crate::model::Sha256;

/// Members begin at multiples of this.
pub const BLOCK: usize = 512;
/// Where in a header its sum is.
const SUM: Range<usize> = 148..156;
/// The folder of blobs.
const BLOBS: &str = "blobs/sha256/";

/// The name of a blob.
pub fn blob_name(digest: &Sha256) -> String {
    format!("{BLOBS}{digest}")
}

/// Zeros behind a member of this size.
pub fn padding(size: u64) -> usize {
    let over = usize::try_from(size % BLOCK as u64).expect("a remainder is small");
    if over == 0 { 0 } else { BLOCK - over }
}

/// The header of a member: a file that belongs to nobody and has no time.
pub fn header(name: &str, size: u64) -> [u8; BLOCK] {
    let mut raw = Raw::new_ustar();
    raw.set_path(name).expect("the names in a bundle are short and without ..");
    raw.set_size(size);
    raw.set_mode(0o644);
    raw.set_uid(0);
    raw.set_gid(0);
    raw.set_mtime(0);
    raw.set_mtime(0);
    raw.set_entry_type(EntryType::Regular);
    let mut block = *raw.as_bytes();
    let sum = sum(&block);
    block[SUM].copy_from_slice(&sum);
    block
}

/// The sum of a header in the form that POSIX and GNU tar write: six octal digits, NUL, and a space. The field itself
/// counts as spaces.
fn sum(block: &[u8; BLOCK]) -> [u8; 8] {
    let others = block[..SUM.start].iter().chain(&block[SUM.end..]);
    let sum: u32 = others.map(|byte| u32::from(*byte)).sum::<u32>() + 8 * u32::from(b' ');
    let mut field = *b"000000\0 ";
    // At most 504 times 255 and 256, which are six digits.
    for (place, digit) in field[..6].iter_mut().rev().enumerate() {
        let octal = (sum >> (3 * place)) & 7;
        *digit = b'0' + u8::try_from(octal).expect("seven is the largest");
    }
    field
}

/// What a header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The name, without `./` in front.
    pub name: String,
    /// How many bytes follow it.
    pub size: u64,
    /// What it is.
    pub kind: Kind,
}

/// What a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file.
    File,
    /// A folder, which other programs write.
    Folder,
    /// Extended attributes of POSIX: of the next member, or of all.
    Attributes,
    /// Something that no bundle has.
    Other,
}

/// Reads a header; `None` for one that is damaged. Every byte of it counts for the sum, and the sum has one form.
pub fn read_header(block: &[u8; BLOCK]) -> Option<Header> {
    let raw = Raw::from_byte_slice(block);
    if block[SUM] != sum(block) {
        return None;
    }
    let name = std::str::from_utf8(&raw.path_bytes()).ok()?.to_owned();
    let kind = match raw.entry_type() {
        EntryType::Regular | EntryType::Continuous => Kind::File,
        EntryType::Directory => Kind::Folder,
        EntryType::XHeader | EntryType::XGlobalHeader => Kind::Attributes,
        _ => Kind::Other,
    };
    let name = name.strip_prefix("./").unwrap_or(&name).to_owned();
    Some(Header { name, size: raw.entry_size().ok()?, kind })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_reads_back_and_every_byte_of_it_counts() {
        let digest = Sha256([0xab; 32]);
        for size in [0, 511, 512, 8 << 30, (1 << 40) + 7] {
            let block = header(&blob_name(&digest), size);
            let want = Header { name: format!("blobs/sha256/{digest}"), size, kind: Kind::File };
            assert_eq!(read_header(&block), Some(want));
            for at in 0..BLOCK {
                for flip in [1, 0x20, 0x80] {
                    let mut damaged = block;
                    damaged[at] ^= flip;
                    assert_eq!(read_header(&damaged), None, "byte {at} ^ {flip}");
                }
            }
        }
        assert_eq!(read_header(&[0; BLOCK]), None);
    }

    #[test]
    fn members_fill_blocks() {
        for (size, want) in [(0, 0), (1, 511), (512, 0), (513, 511)] {
            assert_eq!(padding(size), want);
        }
    }
}
