//! The bundle of collections that a new Firefox begins with: JSON as one block of LZ4 behind a magic number. Pure.

use serde_json::Value;

use super::wire::{Unreadable, json};

const MAGIC: &[u8] = b"mozLz40\0";
/// Most bytes of the JSON.
const MAX_JSON: usize = 48 << 20;

/// The changesets of a bundle.
///
/// # Errors
/// When it is none, or too large.
pub(super) fn unpack(bundle: &[u8]) -> Result<Vec<Value>, Unreadable> {
    let lacks = || Unreadable::Lacks("startup bundle");
    let rest = bundle.strip_prefix(MAGIC).ok_or_else(lacks)?;
    let (size, block) = rest.split_first_chunk::<4>().ok_or_else(lacks)?;
    let size =
        usize::try_from(u32::from_le_bytes(*size)).ok().filter(|size| *size <= MAX_JSON).ok_or_else(lacks)?;
    let text = lz4_flex::block::decompress(block, size).map_err(|_| lacks())?;
    match json(&text)? {
        Value::Array(sets) => Ok(sets),
        _ => Err(lacks()),
    }
}

/// A bundle of these changesets.
pub(super) fn pack(sets: &[Value]) -> Vec<u8> {
    let text = serde_json::to_vec(sets).expect("values of JSON are JSON");
    let size = u32::try_from(text.len()).unwrap_or(u32::MAX);
    [MAGIC, &size.to_le_bytes(), &lz4_flex::block::compress(&text)].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_bundle_is_unpacked_to_what_was_packed_and_junk_is_refused() {
        let sets = vec![json!({"timestamp": 1, "changes": []}), json!({"x": "é".repeat(3000)})];
        let bundle = pack(&sets);
        assert_eq!(unpack(&bundle).unwrap(), sets);
        for cut in 0..bundle.len() {
            assert!(unpack(&bundle[..cut]).is_err(), "{cut} of {} bytes", bundle.len());
        }
        let mut huge = pack(&[]);
        huge[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(unpack(&huge).is_err());
        assert!(unpack(&[MAGIC, &3u32.to_le_bytes(), &lz4_flex::block::compress(b"{} ")].concat()).is_err());
    }
}
