use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    PKCS_ECDSA_P384_SHA384,
};

use super::*;

const SIGNER: &str = "remote-settings.content-signature.mozilla.org";
const DAY: u64 = 24 * 3600;

fn now() -> Timestamp {
    Timestamp::now()
}

/// A chain as Mozilla's are made, and what signs with it.
pub(crate) struct Made {
    pub(crate) pem: String,
    key: KeyPair,
    pub(crate) root: Sha256,
}

pub(crate) struct Leaf {
    name: &'static str,
    usages: Vec<ExtendedKeyUsagePurpose>,
    from: u64,
    until: u64,
}

impl Default for Leaf {
    fn default() -> Self {
        let now = now().0 / 1000;
        let usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
        Self { name: SIGNER, usages, from: now - DAY, until: now + DAY }
    }
}

pub(crate) fn made(leaf: Leaf) -> Made {
    let key = || KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
    let at = |seconds: u64| std::time::UNIX_EPOCH + Duration::from_secs(seconds);
    let authority = || {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
    };
    let (root_key, middle_key, leaf_key) = (key(), key(), key());
    let root = authority().self_signed(&root_key).unwrap();
    let root_issuer = Issuer::new(authority(), &root_key);
    let mut middle = authority();
    middle.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
    middle.distinguished_name.push(rcgen::DnType::CommonName, "middle");
    let middle_certificate = middle.clone().signed_by(&middle_key, &root_issuer).unwrap();
    let mut params = CertificateParams::new(vec![leaf.name.to_owned()]).unwrap();
    params.extended_key_usages = leaf.usages;
    params.not_before = at(leaf.from).into();
    params.not_after = at(leaf.until).into();
    let issuer = Issuer::new(middle, &middle_key);
    let certificate = params.signed_by(&leaf_key, &issuer).unwrap();
    Made {
        pem: [certificate.pem(), middle_certificate.pem(), root.pem()].concat(),
        key: leaf_key,
        root: Sha256(sha2::Sha256::digest(root.der()).into()),
    }
}

impl Made {
    pub(crate) fn sign(&self, bytes: &[u8]) -> String {
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, &self.key.serialize_der()).unwrap();
        BASE64_URL_SAFE.encode(pair.sign(&SystemRandom::new(), bytes).unwrap())
    }

    fn check(&self, signed: &[u8]) -> Result<Validity, BadSignature> {
        self.check_at(signed, now())
    }

    fn check_at(&self, signed: &[u8], at: Timestamp) -> Result<Validity, BadSignature> {
        let chain = Chain::parse(self.pem.as_bytes()).unwrap();
        check(signed, &self.sign(b"signed"), &chain, SIGNER, &[self.root], at)
    }
}

#[test]
fn a_signature_under_a_known_root_is_good_as_long_as_its_chain_is() {
    let leaf = Leaf::default();
    let until = leaf.until;
    let good = made(leaf);
    assert_eq!(good.check(b"signed").unwrap().until, Timestamp(until * 1000));
    assert_eq!(good.check(b"other"), Err(BadSignature::Mismatch));
    for days in [-2, 2] {
        let at = Timestamp(now().0.saturating_add_signed(days * 1000 * DAY as i64));
        let judged = good.check_at(b"signed", at);
        assert!(matches!(judged, Err(BadSignature::Chain(_))), "{days}: {judged:?}");
    }
}

#[test]
fn a_certificate_for_something_else_is_refused() {
    let other = made(Leaf { name: "example.org", ..Leaf::default() });
    assert_eq!(other.check(b"signed"), Err(BadSignature::Signer { expected: SIGNER }));
    for usages in [vec![], vec![ExtendedKeyUsagePurpose::ServerAuth]] {
        let judged = made(Leaf { usages, ..Leaf::default() }).check(b"signed");
        assert!(matches!(judged, Err(BadSignature::Chain(_))), "{judged:?}");
    }
}

#[test]
fn a_chain_that_leads_to_no_known_root_is_refused() {
    let (good, other) = (made(Leaf::default()), made(Leaf::default()));
    let chain = |pem: &str| Chain::parse(pem.as_bytes());
    let judge = |chain: &Chain, root| check(b"signed", &good.sign(b"signed"), chain, SIGNER, &[root], now());
    assert_eq!(judge(&chain(&good.pem).unwrap(), other.root), Err(BadSignature::Root));
    let blocks: Vec<&str> = good.pem.split_inclusive("-----END CERTIFICATE-----\r\n").collect();
    let blocks = if blocks.len() == 3 {
        blocks
    } else {
        good.pem.split_inclusive("-----END CERTIFICATE-----\n").collect()
    };
    assert_eq!(blocks.len(), 3);
    assert_eq!(judge(&chain(blocks[0]).unwrap(), good.root), Err(BadSignature::Root));
    let gap = judge(&chain(&[blocks[0], blocks[2]].concat()).unwrap(), good.root);
    assert!(matches!(gap, Err(BadSignature::Chain(_))), "{gap:?}");
    // The root itself signs nothing but certificates.
    assert_eq!(judge(&chain(blocks[2]).unwrap(), good.root), Err(BadSignature::Root));
    for junk in ["", "junk", "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n"] {
        assert_eq!(chain(junk), Err(BadSignature::NoChain));
    }
}

#[test]
fn what_is_no_signature_is_no_panic() {
    let good = made(Leaf::default());
    let chain = Chain::parse(good.pem.as_bytes()).unwrap();
    for (text, why) in
        [("", BadSignature::Mismatch), ("AAAA", BadSignature::Mismatch), ("%", BadSignature::Unreadable)]
    {
        assert_eq!(check(b"signed", text, &chain, SIGNER, &[good.root], now()), Err(why), "{text}");
    }
}

#[test]
fn any_signature_of_a_known_kind_is_tried() {
    let metadata = json!({
        "signatures": [
            {"signature": "a", "x5u": "u", "mode": "p384ecdsa"},
            {"signature": "b", "x5u": "u", "mode": "rsa"},
            {"signature": "c", "x5u": "u"},
            {"x5u": "u"},
        ],
        "signature": {"signature": "a", "x5u": "u"},
    });
    let found: Vec<_> = signatures(metadata.as_object().unwrap()).into_iter().map(|s| s.value).collect();
    assert_eq!(found, ["a", "c"]);
}

/// The rules of the form, each by an example.
#[test]
fn the_canonical_form_is_that_of_firefox() {
    let records = [
        json!({"id": "a", "z": null, "b": [1, -2, true, {"y": 1, "x": "/"}], "A": 10}),
        json!({"id": "b", "text": "é\u{7f}\u{8}\u{c}\n\r\t\"\\\u{1}\u{2028}😀 '{}"}),
    ];
    let want = concat!(
        "Content-Signature:\0",
        r#"{"data":[{"A":10,"b":[1,-2,true,{"x":"/","y":1}],"id":"a","z":null},"#,
        r#"{"id":"b","text":"\u00e9\u007f\b\f\n\r\t\"\\\u0001\u2028\ud83d\ude00 '{}"}],"last_modified":"1234"}"#
    );
    assert_eq!(String::from_utf8(signed_bytes(&records, 1234)).unwrap(), want);
    let empty = signed_bytes(&[], 0);
    assert_eq!(
        String::from_utf8(empty).unwrap(),
        "Content-Signature:\0{\"data\":[],\"last_modified\":\"0\"}"
    );
}

/// Whatever the text, its form is plain ASCII, reads back as the same, and does not depend on the order of keys.
#[test]
fn the_canonical_form_of_any_text_reads_back() {
    let mut random = fastrand::Rng::with_seed(6);
    let mut text = || -> String { (0..random.usize(..20)).map(|_| random.char(..)).collect() };
    for _ in 0..2_000 {
        let (a, b, key) = (text(), text(), text());
        let mut one = Map::new();
        one.insert("id".into(), a.clone().into());
        one.insert(key.clone(), b.clone().into());
        let mut other = Map::new();
        other.insert(key, b.into());
        other.entry("id").or_insert_with(|| a.into());
        let form = signed_bytes([&Value::Object(one.clone())], 1);
        assert_eq!(form, signed_bytes([&Value::Object(other)], 1));
        assert!(form.iter().all(|byte| *byte == 0 || (0x20..0x7f).contains(byte)), "{form:?}");
        let read: Value = serde_json::from_slice(&form[PREFIX.len()..]).unwrap();
        assert_eq!(read["data"][0], Value::Object(one));
    }
}
