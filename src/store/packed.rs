//! How a document is written down: its fields, and behind them its body, compressed where that makes it smaller.

use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use serde::{Deserialize, Serialize};

use super::error::StoreError;
use super::records::Row;
use super::settings::DOCUMENT_MAX;
use crate::model::{Document, Timestamp};

/// The fields of a document's row.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct DocumentRow {
    /// Without the body, which lies behind the fields.
    document: Document,
    /// The length of the body as it is served.
    size: u64,
    /// Whether the body is a zlib stream.
    deflated: bool,
}

impl Row for DocumentRow {
    const NAME: &'static str = "document";
}

/// The row of a document.
pub(super) fn pack(mut document: Document) -> Result<Vec<u8>, StoreError> {
    let body = std::mem::take(&mut document.body);
    if body.len() > DOCUMENT_MAX {
        return Err(StoreError::Misuse("a document has at most DOCUMENT_MAX bytes"));
    }
    let smaller = deflate(&body).filter(|deflated| deflated.len() < body.len());
    let fields = DocumentRow { document, size: body.len() as u64, deflated: smaller.is_some() };
    let mut row = fields.encode();
    row.extend_from_slice(smaller.as_deref().unwrap_or(&body));
    Ok(row)
}

/// The document of a row. Never panics: the bytes may be damaged.
pub(super) fn unpack(row: &[u8]) -> Result<Document, StoreError> {
    let (DocumentRow { document, size, deflated }, packed) = DocumentRow::decode_front(row)?;
    let size = usize::try_from(size).ok().filter(|size| *size <= DOCUMENT_MAX);
    let size = size.ok_or_else(|| damaged("is too long"))?;
    let body = if deflated { inflate(packed, size)? } else { packed.to_vec() };
    if body.len() != size {
        return Err(damaged("has another length than its row says"));
    }
    Ok(Document { body: body.into(), ..document })
}

/// The same row with another time at which the hub said so; the body is left as it lies.
pub(super) fn learned(row: &[u8], at: Timestamp) -> Result<Vec<u8>, StoreError> {
    let (mut fields, packed) = DocumentRow::decode_front(row)?;
    fields.document.learned_at = at;
    let mut row = fields.encode();
    row.extend_from_slice(packed);
    Ok(row)
}

fn deflate(body: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body).ok()?;
    encoder.finish().ok()
}

/// At most one byte more than `size`: what is longer than it claims takes no memory for that.
fn inflate(packed: &[u8], size: usize) -> Result<Vec<u8>, StoreError> {
    let mut body = Vec::with_capacity(size);
    let mut decoder = ZlibDecoder::new(packed).take(size as u64 + 1);
    decoder.read_to_end(&mut body).map_err(|e| damaged(&format!("cannot be unpacked: {e}")))?;
    Ok(body)
}

fn damaged(how: &str) -> StoreError {
    StoreError::Damaged(format!("the body of a document {how}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Commit, hex};

    fn document(body: &[u8]) -> Document {
        Document {
            status: 404,
            content_type: Some("t".into()),
            commit: Commit::parse(&"a".repeat(40)),
            error_code: Some("c".into()),
            error_message: Some("m".into()),
            next: Some("n".into()),
            total: Some("7".into()),
            etag: "e".into(),
            validator: Some("v".into()),
            learned_at: Timestamp(5),
            body: body.to_vec().into(),
        }
    }

    /// Rows as version 1 writes them; see the test of the other rows.
    #[test]
    fn a_document_is_written_as_version_1_says() {
        let commit = hex("a".repeat(40).as_bytes());
        let fields = format!("01940301017401 28{commit}01016301016d01016e010137016501017605 00");
        let plain = format!("{fields} 0300 78797a").replace(' ', "");
        assert_eq!(hex(&pack(document(b"xyz")).unwrap()), plain);
        // What is made of a compressed body may change; that this is read may not.
        let packed = format!("{fields} ac0201 78014b4c1c05c4860000d8a871ad").replace(' ', "");
        assert!(unpack(&unhex(&packed)).unwrap() == document(&[b'a'; 300]));
        assert!(hex(&pack(document(&[b'a'; 300])).unwrap()).starts_with(&packed[..packed.len() - 24]));
    }

    fn unhex(text: &str) -> Vec<u8> {
        let digit = |i| u8::from_str_radix(&text[i..i + 2], 16).unwrap();
        (0..text.len()).step_by(2).map(digit).collect()
    }

    #[test]
    fn bodies_come_back_as_they_were_and_small_where_they_can_be() {
        let mut noise = vec![0; 100_000];
        fastrand::Rng::with_seed(1).fill(&mut noise);
        let text = b"{\"rfilename\": \"model.safetensors\"},".repeat(50_000);
        let largest = vec![b' '; DOCUMENT_MAX];
        for (body, most) in
            [(&b""[..], 200), (b"{}", 200), (&noise, 100_200), (&text, 50_000), (&largest, 1 << 20)]
        {
            let row = pack(document(body)).unwrap();
            assert!(row.len() < most, "{} bytes for {}", row.len(), body.len());
            assert!(unpack(&row).unwrap() == document(body));
            let later = unpack(&learned(&row, Timestamp(6)).unwrap()).unwrap();
            assert!(later == Document { learned_at: Timestamp(6), ..document(body) });
        }
        let larger = pack(document(&vec![0; DOCUMENT_MAX + 1]));
        assert!(matches!(larger, Err(StoreError::Misuse(_))), "{larger:?}");
    }

    #[test]
    fn a_damaged_row_is_an_error_and_not_a_panic() {
        for body in [&b"short"[..], &[7; 5000]] {
            let row = pack(document(body)).unwrap();
            for len in 0..row.len() {
                let cut = unpack(&row[..len]);
                assert!(matches!(cut, Err(StoreError::Damaged(_))), "{len} of {} bytes: {cut:?}", row.len());
            }
        }
    }

    #[test]
    fn a_body_that_is_longer_than_it_claims_is_not_unpacked() {
        let bomb = deflate(&vec![0; DOCUMENT_MAX]).unwrap();
        for (size, deflated) in [(10, true), (DOCUMENT_MAX as u64 + 1, true), (u64::MAX, true), (10, false)] {
            let fields = DocumentRow { document: document(b""), size, deflated };
            let unpacked = unpack(&[fields.encode(), bomb.clone()].concat());
            assert!(matches!(unpacked, Err(StoreError::Damaged(_))), "{size} {deflated}: {unpacked:?}");
        }
    }
}
