use http::Response;

use super::*;

fn head(status: u16, fields: &[(&str, &str)]) -> response::Parts {
    let response = Response::builder().status(status);
    let response = fields.iter().fold(response, |response, (name, value)| response.header(*name, *value));
    response.body(()).unwrap().into_parts().0
}

fn suffers(method: &Method, status: u16, fields: &[(&str, &str)], fault: &Fault) -> bool {
    Answered::of(method, &head(status, fields)).is_some_and(|answer| answer.suffers(fault))
}

#[test]
fn an_answer_suffers_from_what_the_client_can_see() {
    let (get, head) = (&Method::GET, &Method::HEAD);
    let ten = &[("content-length", "10")][..];
    let part = &[("content-length", "10"), ("content-range", "bytes 90-99/100")][..];
    for (method, status, fields, fault, want) in [
        (get, 200, ten, Fault::Slow(1), true),
        (get, 200, &[], Fault::Slow(1), true),
        (head, 200, ten, Fault::Slow(1), false),
        (get, 204, &[], Fault::Slow(1), false),
        (get, 304, ten, Fault::Slow(1), false),
        (get, 404, ten, Fault::Slow(1), false),
        (get, 200, ten, Fault::Cut(9), true),
        (get, 200, ten, Fault::Cut(10), false),
        (get, 200, &[], Fault::Cut(10), true),
        (get, 206, part, Fault::Stall(0), true),
        (get, 200, &[("content-length", "0")], Fault::Stall(0), false),
        (get, 200, ten, Fault::WrongByte(9), true),
        (get, 200, ten, Fault::WrongByte(10), false),
        (get, 206, part, Fault::WrongByte(9), false),
        (get, 206, part, Fault::WrongByte(90), true),
        (get, 206, part, Fault::WrongByte(100), false),
        (get, 206, ten, Fault::WrongByte(0), false),
        (get, 200, &[], Fault::WrongByte(0), false),
        (head, 200, ten, Fault::WrongLength(1), true),
        (get, 200, &[("content-length", "0")], Fault::WrongLength(1), true),
        (get, 200, &[("content-length", "0")], Fault::WrongLength(-1), false),
        (get, 200, &[], Fault::WrongLength(1), false),
        (get, 204, ten, Fault::WrongLength(1), false),
        (head, 200, &[("etag", "\"a\"")], Fault::Etag, true),
        (get, 206, &[("x-linked-etag", "\"a\"")], Fault::Etag, true),
        (get, 304, &[("etag", "\"a\"")], Fault::Etag, false),
        (get, 200, ten, Fault::Etag, false),
    ] {
        assert_eq!(suffers(method, status, fields, &fault), want, "{method} {status} {fields:?} {fault:?}");
    }
}

fn spoilt(method: &Method, status: u16, fields: &[(&str, &str)], fault: &Fault) -> (Vec<String>, Manner) {
    let mut head = head(status, fields);
    let answer = Answered::of(method, &head).unwrap();
    let manner = spoil(&Strike { rule: 1, time: 3, fault }, &answer, &mut head.headers);
    let values = head.headers.values().map(|value| value.to_str().unwrap().to_owned());
    (values.collect(), manner)
}

#[test]
fn lengths_are_wrong_in_both_fields_and_in_the_body_where_there_is_one() {
    let fields = [("content-length", "10"), ("x-linked-size", "100")];
    for (method, by, want, manner) in [
        (Method::GET, 5, ["15", "105"], Manner::Announced { size: 10, as_size: 15 }),
        (Method::GET, -4, ["6", "96"], Manner::Announced { size: 10, as_size: 6 }),
        (Method::GET, -40, ["0", "60"], Manner::Announced { size: 10, as_size: 0 }),
        (Method::HEAD, 5, ["15", "105"], Manner::AsItIs),
    ] {
        let (told, how) = spoilt(&method, 200, &fields, &Fault::WrongLength(by));
        assert_eq!((&told[..], how), (&want.map(str::to_owned)[..], manner), "{method} {by}");
    }
}

#[test]
fn a_wrong_byte_is_found_within_a_part() {
    let part = [("content-length", "10"), ("content-range", "bytes 90-99/100")];
    assert_eq!(spoilt(&Method::GET, 206, &part, &Fault::WrongByte(93)).1, Manner::WrongByte { at: 3 });
}

#[test]
fn other_tags_keep_their_form_and_are_new_each_time() {
    let digest = "\"0123456789abcdef0123456789abcdef01234567\"";
    let fields = [("etag", digest), ("x-linked-etag", digest)];
    let (told, manner) = spoilt(&Method::HEAD, 200, &fields, &Fault::Etag);
    let other = "\"0123456789abcdef0123456789abcdef01234564\"";
    assert_eq!((&told[..], manner), (&[other.to_owned(), other.to_owned()][..], Manner::AsItIs));
    for tag in [digest, "\"short\"", "W/\"weak-tag-it-is\"", "bare", "\"\"", "\"äöüäöüä\""] {
        let Ok(tag) = HeaderValue::try_from(tag) else { continue };
        let Some(first) = another(&tag, 1) else { continue };
        let more: Vec<_> = (2..50).map(|time| another(&tag, time).unwrap()).collect();
        assert!(first != tag && !more.contains(&first) && !more.contains(&tag), "{tag:?}");
    }
}
