//! Mozilla's model hub: a Google Cloud Storage bucket laid out as `/<organization>/<model>/<revision>/<path>`.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderMap, header};

use super::{Hop, Misread, is_encoded, text, whole_size};
use crate::model::{Digest, Expectation, Promise, Promiser, Representation, Resource, Timestamp};
use crate::request::{encode_path, encode_segment};

pub(super) fn file_path(resource: &Resource) -> String {
    format!(
        "/{}/{}/{}",
        encode_path(&resource.repo.id),
        encode_segment(resource.revision.as_str()),
        encode_path(&resource.path)
    )
}

pub(super) fn expectation(hops: &[Hop], now: Timestamp) -> Result<Expectation, Misread> {
    let last = hops.last().ok_or(Misread::NoHops)?;
    let headers = &last.headers;
    // Both the hashes and the stored length speak of the stored form; a bucket that stores gzip decodes it for a
    // client that does not accept gzip, and then they speak of bytes that we never see.
    let stored_encoded =
        text(headers, "x-goog-stored-content-encoding").is_some_and(|e| !e.eq_ignore_ascii_case("identity"));
    let comparable = !stored_encoded && !is_encoded(headers);
    let stored_size = text(headers, "x-goog-stored-content-length").and_then(|s| s.parse().ok());
    Ok(Expectation {
        representation: Representation {
            size: whole_size(last).or(if comparable { stored_size } else { None }),
            etag: text(headers, header::ETAG),
            commit: None,
            content_type: text(headers, header::CONTENT_TYPE),
            last_modified: text(headers, header::LAST_MODIFIED),
        },
        promises: if comparable { goog_hashes(headers) } else { Vec::new() },
        validator: text(headers, header::ETAG),
        learned_at: now,
        xet: None,
    })
}

/// `x-goog-hash: crc32c=<base64>,md5=<base64>`, in one field or several.
fn goog_hashes(headers: &HeaderMap) -> Vec<Promise> {
    let fields = headers.get_all("x-goog-hash").iter().filter_map(|v| v.to_str().ok());
    let digests = fields.flat_map(|v| v.split(',')).filter_map(|part| {
        let (name, value) = part.trim().split_once('=')?;
        let value = BASE64_STANDARD.decode(value).ok()?;
        match name {
            "crc32c" => Some(Digest::Crc32c(u32::from_be_bytes(value.try_into().ok()?))),
            "md5" => Some(Digest::Md5(value.try_into().ok()?)),
            _ => None,
        }
    });
    // A hub that repeats itself without end must not make the record grow.
    digests.take(8).map(|digest| Promise { digest, by: Promiser::GoogHash }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue, StatusCode};

    fn described(fields: &[(&str, &str)]) -> Expectation {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::try_from(*name).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        expectation(&[Hop { status: StatusCode::OK, headers, at_hub: true }], Timestamp(1)).unwrap()
    }

    // The digests of the empty string.
    const HASHES: &str = "crc32c=AAAAAA==,md5=1B2M2Y8AsgTpgAmY7PhCfg==";

    #[test]
    fn both_hashes_are_read_from_one_field_or_two() {
        let one = described(&[("x-goog-hash", HASHES), ("content-length", "0"), ("etag", "\"e\"")]);
        let (crc, md5) = HASHES.split_once(',').unwrap();
        let two = described(&[("x-goog-hash", crc), ("x-goog-hash", md5)]);
        assert_eq!(one.promises, two.promises);
        assert_eq!(one.promises[0].digest, Digest::Crc32c(0));
        assert_eq!(one.promises[1].digest, Digest::md5("d41d8cd98f00b204e9800998ecf8427e").unwrap());
        assert_eq!(one.representation.size, Some(0));
    }

    #[test]
    fn hashes_of_a_stored_gzip_form_promise_nothing_of_the_bytes_sent() {
        let e = described(&[
            ("x-goog-hash", HASHES),
            ("x-goog-stored-content-encoding", "gzip"),
            ("x-goog-stored-content-length", "20"),
        ]);
        assert!(e.promises.is_empty());
        assert_eq!(e.representation.size, None);
    }

    #[test]
    fn a_body_of_unknown_length_has_the_stored_length_of_the_identity_form() {
        let e = described(&[
            ("x-goog-stored-content-encoding", "identity"),
            ("x-goog-stored-content-length", "20"),
            ("transfer-encoding", "chunked"),
        ]);
        assert_eq!(e.representation.size, Some(20));
    }

    #[test]
    fn nonsense_in_the_hash_field_is_passed_over() {
        assert!(described(&[("x-goog-hash", "md5=AAAA,crc32c=!!,sha9=AAAA,,=,")]).promises.is_empty());
    }
}
