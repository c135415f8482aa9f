use serde_json::{Map, Value};

use super::*;

fn pushed(keep_above: Option<u64>, pieces: &[&[u8]]) -> Result<(String, u64), NotJson> {
    let mut stripper = Stripper::new(keep_above);
    let mut out = Vec::new();
    for piece in pieces {
        stripper.push(piece, &mut out)?;
    }
    let Kept(kept) = stripper.finish()?;
    Ok((String::from_utf8(out).expect("what was pushed is text"), kept))
}

fn stripped(text: &str) -> String {
    pushed(None, &[text.as_bytes()]).unwrap().0
}

/// A tree as the hub writes it, with everything in it that could go wrong.
const SAMPLE: &str = "[ {\"type\":\"file\",\n  \"size\": 60, \"xetHash\" : \"ab\\\"},{\" ,\n  \"path\":\"x\\u00e9\"},\
                      {\"xetEnabled\":true,\"n\":-1.50e+07},{ \"xetHash\":{\"xetHash\":[1,{}]}\n}, {\"size\":51, \
                      \"xe\\u0074Hash\":null ,\"lfs\":{\"size\":7,\"xetHash\":0}} , \"xetHash\", [ ] ]\n";

#[test]
fn members_go_with_their_commas_and_the_rest_stays_as_it_is() {
    for (text, want) in [
        (r#"{"xetHash":"a"}"#, "{}"),
        (r#"{"xetEnabled":true}"#, "{}"),
        (r#"{"a":1,"xetHash":"a"}"#, r#"{"a":1}"#),
        (r#"{"xetHash":"a","b":2}"#, r#"{"b":2}"#),
        (r#"{"a":1,"xetHash":"a","b":2}"#, r#"{"a":1,"b":2}"#),
        (r#"{"xetHash":1,"xetEnabled":false,"xetHash":[{}]}"#, "{}"),
        (r#"{"a":1,"xetHash":1,"xetEnabled":false}"#, r#"{"a":1}"#),
        (r#"{"xetHash":{"b":[1,{"c":"}"}]},"d":{"xetHash":1,"e":2}}"#, r#"{"d":{"e":2}}"#),
        (r#"[{"xetHash":1},{"xetHash":2}]"#, "[{},{}]"),
        (
            r#"{"a\"":"xetHash","b":["xetHash","xetEnabled"]}"#,
            r#"{"a\"":"xetHash","b":["xetHash","xetEnabled"]}"#,
        ),
        (r#"{"xethash":1,"xetHashes":2,"xetHas":3,"":4}"#, r#"{"xethash":1,"xetHashes":2,"xetHas":3,"":4}"#),
        (r#"{"\u0078etHash":1,"xet\u0045nabled":2,"x\u0065t":3}"#, r#"{"x\u0065t":3}"#),
        ("{\n  \"a\": 1,\n  \"xetHash\": \"x\",\n  \"b\": 2\n}\n", "{\n  \"a\": 1,\n  \"b\": 2\n}\n"),
        ("{ \"xetHash\" : \"x\" , \"b\":2 }", "{ \"b\":2 }"),
        (r#"{"size":60,"xetHash":"a"}"#, r#"{"size":60}"#),
        ("{ }", "{ }"),
        (" 1.50e+07 ", " 1.50e+07 "),
        (r#"{"n":123456789012345678901234567890.10}"#, r#"{"n":123456789012345678901234567890.10}"#),
    ] {
        assert_eq!(stripped(text), want, "{text}");
    }
}

#[test]
fn the_hash_of_what_is_above_the_limit_is_kept_wherever_its_size_stands() {
    for (text, want, kept) in [
        (r#"{"size":51,"xetHash":"a"}"#, r#"{"size":51,"xetHash":"a"}"#, 1),
        (r#"{"xetHash":"a","size":51}"#, r#"{"size":51,"xetHash":"a"}"#, 1),
        (r#"{"xetHash" : "a" , "p":0,"size":51}"#, r#"{ "p":0,"size":51,"xetHash": "a"}"#, 1),
        (r#"{"size":50,"xetHash":"a"}"#, r#"{"size":50}"#, 0),
        (r#"{"xetHash":"a"}"#, "{}", 0),
        (r#"{"size":51,"xetEnabled":true}"#, r#"{"size":51}"#, 0),
        (r#"{"size":"51","xetHash":"a"}"#, r#"{"size":"51"}"#, 0),
        (r#"{"size":51.5,"xetHash":"a"}"#, r#"{"size":51.5}"#, 0),
        (r#"{"size":9e9,"xetHash":"a"}"#, r#"{"size":9e9}"#, 0),
        (r#"{"size":-51,"xetHash":"a"}"#, r#"{"size":-51}"#, 0),
        (r#"{"size":99999999999999999999,"xetHash":"a"}"#, r#"{"size":99999999999999999999}"#, 0),
        (r#"{"size":[51],"xetHash":"a"}"#, r#"{"size":[51]}"#, 0),
        (r#"{"lfs":{"size":51},"xetHash":"a"}"#, r#"{"lfs":{"size":51}}"#, 0),
        (r#"{"size":51,"lfs":{"xetHash":"a"}}"#, r#"{"size":51,"lfs":{}}"#, 0),
        (r#"{"size":51,"xetHash":"a","xetHash":"b"}"#, r#"{"size":51,"xetHash":"b"}"#, 1),
        (
            r#"[{"size":51,"xetHash":1},{"size":52,"xetHash":2}]"#,
            r#"[{"size":51,"xetHash":1},{"size":52,"xetHash":2}]"#,
            2,
        ),
    ] {
        assert_eq!(pushed(Some(50), &[text.as_bytes()]), Ok((want.to_owned(), kept)), "{text}");
    }
    let long = format!(r#"{{"xetHash":"{}","size":51}}"#, "a".repeat(MAX_HELD));
    assert_eq!(pushed(Some(50), &[long.as_bytes()]), Ok((r#"{"size":51}"#.to_owned(), 0)), "it is too long");
}

#[test]
fn it_does_not_matter_how_the_text_is_cut() {
    for keep_above in [None, Some(50)] {
        let whole = pushed(keep_above, &[SAMPLE.as_bytes()]).unwrap();
        assert_eq!(whole.1, if keep_above.is_some() { 2 } else { 0 }, "{}", whole.0);
        for at in 0..=SAMPLE.len() {
            let (one, two) = SAMPLE.as_bytes().split_at(at);
            assert_eq!(pushed(keep_above, &[one, two]), Ok(whole.clone()), "cut at {at}");
            let early = pushed(keep_above, &[one]);
            assert_eq!(
                early.is_ok(),
                one.trim_ascii_end().len() == SAMPLE.trim_ascii_end().len(),
                "ends at {at}"
            );
        }
        let bytes: Vec<&[u8]> = SAMPLE.as_bytes().chunks(1).collect();
        assert_eq!(pushed(keep_above, &bytes), Ok(whole));
    }
}

#[test]
fn long_white_space_is_shortened_and_long_names_are_copied() {
    let blank = " ".repeat(5 * MAX_BLANK);
    let name = "n".repeat(5 * MAX_NAME);
    let text = format!("{{{blank}\"xetHash\":1,{blank}\"{name}\":{blank}2}}");
    let want = format!("{{{}\"{name}\":{blank}2}}", " ".repeat(MAX_BLANK));
    assert_eq!(stripped(&text), want);
}

#[test]
fn any_text_means_the_same_but_for_what_was_taken_out() {
    let mut random = fastrand::Rng::with_seed(7);
    for round in 0..3000 {
        let keep_above = if round % 2 == 0 { None } else { Some(50) };
        let mut text = String::new();
        write_value(&mut random, 0, &mut text);
        let (mut value, mut hashes) = (serde_json::from_str(&text).unwrap(), 0);
        strip(&mut value, keep_above, &mut hashes);
        let (got, kept) = pushed(keep_above, &[text.as_bytes()]).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&got).unwrap(), value, "{text}\n{got}");
        // An object that another of the same name hides is not seen by those who read the whole text.
        assert!(kept >= hashes, "{kept} of {hashes}: {text}");
    }
}

#[test]
fn broken_texts_are_refused_like_by_another_reader_and_never_panic() {
    let mut random = fastrand::Rng::with_seed(8);
    for _ in 0..20_000 {
        let mut text = SAMPLE.as_bytes().to_vec();
        for _ in 0..random.usize(1..4) {
            let at = random.usize(0..text.len());
            match random.u8(0..3) {
                0 => text[at] = *random.choice(b"{}[],:\"\\ 0e-.tfnx\x01\x1f").unwrap(),
                1 => drop(text.remove(at)),
                _ => text.insert(at, random.u8(0..0x80)),
            }
        }
        let other = serde_json::from_slice::<Value>(&text);
        let shown = String::from_utf8_lossy(&text);
        match pushed(Some(50), &[&text]) {
            Ok((got, _)) => assert!(serde_json::from_str::<Tolerant>(&got).is_ok(), "{shown}\n{got}"),
            Err(_) => assert!(other.is_err(), "{shown}"),
        }
        if other.is_ok() {
            assert!(pushed(None, &[&text]).is_ok(), "{shown}");
        }
    }
}

/// Reads JSON without understanding it, as numbers too large for it are no error here.
type Tolerant = serde::de::IgnoredAny;

/// What the stripper is to do, done to a text that was read as a whole.
fn strip(value: &mut Value, keep_above: Option<u64>, kept: &mut u64) {
    match value {
        Value::Object(members) => strip_members(members, keep_above, kept),
        Value::Array(items) => items.iter_mut().for_each(|item| strip(item, keep_above, kept)),
        _ => {}
    }
}

fn strip_members(members: &mut Map<String, Value>, keep_above: Option<u64>, kept: &mut u64) {
    members.remove("xetEnabled");
    let hash = members.remove("xetHash");
    members.values_mut().for_each(|value| strip(value, keep_above, kept));
    let size = members.get("size").and_then(Value::as_u64);
    if let (Some(hash), Some(size), Some(above)) = (hash, size, keep_above)
        && size > above
    {
        *kept += 1;
        members.insert("xetHash".to_owned(), hash);
    }
}

fn write_value(random: &mut fastrand::Rng, depth: u8, out: &mut String) {
    let blank = |random: &mut fastrand::Rng, out: &mut String| {
        out.push_str(["", "", "", " ", "\n\t", "  \r\n"][random.usize(0..6)]);
    };
    blank(random, out);
    let (open, close) = match random.u8(0..if depth > 4 { 2 } else { 6 }) {
        0 => return out.push_str(["1", "51", "-0.5e3", "true", "null", "50"][random.usize(0..6)]),
        1 => {
            return out
                .push_str([r#""""#, r#""xetHash""#, r#""a\"b""#, r#""\\""#, r#""},{""#][random.usize(0..5)]);
        }
        2 | 3 => ('[', ']'),
        _ => ('{', '}'),
    };
    const NAMES: [&str; 7] = ["xetHash", "xetEnabled", "size", "a", "", "x\\u0065tHash", "\\\"xetHash"];
    out.push(open);
    for at in 0..random.usize(0..5) {
        if at > 0 {
            out.push(',');
        }
        blank(random, out);
        if open == '{' {
            out.push_str(&format!("\"{}\"", NAMES[random.usize(0..NAMES.len())]));
            blank(random, out);
            out.push(':');
        }
        write_value(random, depth + 1, out);
        blank(random, out);
    }
    out.push(close);
}
