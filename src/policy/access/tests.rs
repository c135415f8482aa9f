use super::*;
use crate::model::RepoKind;

const NOW: Timestamp = Timestamp(1_800_000_000_000);

fn book(text: &str) -> Book {
    Book::parse(text).unwrap_or_else(|bad| panic!("{bad}"))
}

fn token(id: &str, sha: char, more: &str) -> String {
    let sha256 = sha.to_string().repeat(64);
    format!(
        "[[token]]\nid = \"{id}\"\nname = \"of {id}\"\nsha256 = \"{sha256}\"\ncreated = 2026-01-01\n{more}\n"
    )
}

fn from(address: &str) -> Who {
    Who::of(&Peer::from(SocketAddr::new(address.parse().unwrap(), 1)))
}

fn with(id: &str) -> Who {
    let bearer = Bearer { id: id.to_owned(), name: format!("of {id}") };
    Who { token: Some(Arc::new(bearer)), ..from("192.0.2.1") }
}

fn of_groups(groups: &[&str]) -> Who {
    let groups = groups.iter().map(|g| (*g).to_owned()).collect();
    let certificate = Certificate { subject: "CN=x".into(), groups };
    Who { certificate: Some(Arc::new(certificate)), ..from("192.0.2.1") }
}

fn model(id: &str) -> Repo {
    Repo { kind: RepoKind::Model, id: id.to_owned() }
}

#[test]
fn what_tokens_and_rules_grant_adds_up_and_nothing_else_is_granted() {
    let rules = "[[rule]]\ngroup = \"ml\"\nmay = [\"read\", \"preload\"]\nmodels = [\"acme/*\"]\n\
                 [[rule]]\nnetwork = \"10.0.0.0/8\"\nmay = [\"read\"]\nmodels = [\"mozilla:*\"]\n";
    let text = [
        token("t1", '1', "may = [\"read\"]"),
        token("t2", '2', "may = [\"read\"]\nmodels = [\"acme/*\"]"),
        token("t3", '3', "may = [\"admin\"]"),
        token("t4", '4', "may = [\"read\"]\nexpires = 2020-01-01"),
        token("t5", '5', "may = [\"read\"]\nexpires = 2999-01-01T00:00:00Z"),
        rules.to_owned(),
    ];
    let book = book(&text.concat());
    let (tiny, other) = (model("acme/tiny"), model("other/tiny"));
    let (hf, moz) = (Hub::HuggingFace, Hub::Mozilla);
    let both = Who { token: with("t2").token, ..from("10.1.1.1") };
    use Right::{Admin, Preload, Read};
    let table = [
        (with("t1"), Read, About::Model(hf, &other), true),
        (with("t1"), Read, About::Other, true),
        (with("t1"), Preload, About::Common, false),
        (with("t2"), Read, About::Model(hf, &tiny), true),
        (with("t2"), Read, About::Model(hf, &other), false),
        (with("t2"), Read, About::Common, true),
        (with("t2"), Read, About::Other, false),
        (with("t3"), Read, About::Other, true),
        (with("t3"), Preload, About::Common, true),
        (with("t3"), Admin, About::Common, true),
        (with("t4"), Read, About::Common, false),
        (with("t5"), Read, About::Common, true),
        (with("t9"), Read, About::Common, false),
        (of_groups(&["ml"]), Read, About::Model(moz, &tiny), true),
        (of_groups(&["web", "ml"]), Preload, About::Model(moz, &tiny), true),
        (of_groups(&["ML"]), Read, About::Common, false),
        (of_groups(&[]), Read, About::Common, false),
        (from("10.1.1.1"), Read, About::Model(moz, &other), true),
        (from("::ffff:10.1.1.1"), Read, About::Model(moz, &other), true),
        (from("10.1.1.1"), Read, About::Model(hf, &other), false),
        (from("11.1.1.1"), Read, About::Common, false),
        (both.clone(), Read, About::Model(hf, &tiny), true),
        (both, Read, About::Model(moz, &other), true),
    ];
    for (who, right, about, want) in table {
        assert_eq!(may(&book, &who, right, about, NOW).is_ok(), want, "{who} {right:?} {about:?}");
    }
    assert!(
        may(&Book::default(), &with("t1"), Read, About::Common, NOW).is_err(),
        "an empty book grants nothing"
    );
}

#[test]
fn a_refusal_says_who_lacks_what() {
    let book = book(&token("t2", '2', "may = [\"read\"]\nmodels = [\"acme/*\"]"));
    let other = model("other/x");
    let say = |right, about| may(&book, &with("t2"), right, about, NOW).unwrap_err().to_string();
    let text = say(Right::Read, About::Model(Hub::HuggingFace, &other));
    assert!(text.starts_with(
        "token t2 (of t2) has the right to read for other models, and not for huggingface:other/x"
    ));
    assert!(say(Right::Admin, About::Common).starts_with("token t2 (of t2) lacks the right to admin"));
    assert!(say(Right::Read, About::Other).contains("for some models only"));
}

#[test]
fn a_token_is_found_by_what_is_shown_and_by_nothing_like_it() {
    let new = NewToken::of(&[7; NewToken::BYTES]);
    assert!(new.text.starts_with("hct_") && new.text.len() == 4 + 43, "{}", new.text);
    let grant = Grant {
        may: vec![Right::Read, Right::Preload],
        models: vec![ModelPattern::parse("acme/*").unwrap()],
    };
    let name = "ci \"quoted\"\\ é";
    let written = entry(&new, name, &grant, NOW, Some(NOW.plus(std::time::Duration::from_secs(60))));
    assert!(!written.contains(&new.text), "the secret is not written down");
    let book = book(&written);
    let found = book.token(&digest(new.text.as_bytes())).unwrap();
    assert_eq!((found.bearer.id.as_str(), found.bearer.name.as_str()), (new.id.as_str(), name));
    assert_eq!((&found.grant, found.created), (&grant, NOW));
    assert!(!found.has_expired(NOW) && found.has_expired(NOW.plus(std::time::Duration::from_secs(60))));
    for shown in ["", "hct_", &new.text[1..], &new.id, &new.sha256.to_string()] {
        assert!(book.token(&digest(shown.as_bytes())).is_none(), "{shown}");
    }
}

#[test]
fn a_book_that_means_nothing_is_told_with_its_line() {
    let good = token("t1", '1', "may = [\"read\"]");
    let table = [
        ("[[rule]]\nmay = [\"read\"]\n".to_owned(), 1, "one group or one network"),
        (
            "[[rule]]\ngroup = \"a\"\nnetwork = \"10.0.0.0/8\"\nmay = [\"read\"]\n".to_owned(),
            1,
            "one group or one network",
        ),
        (
            format!("{good}[[rule]]\nnetwork = \"10.0.0.1/8\"\nmay = [\"read\"]\n"),
            7,
            "bits behind the prefix",
        ),
        ("[[rule]]\ngroup = \"a\"\nmay = [\"write\"]\n".to_owned(), 1, "no right \"write\""),
        ("[[rule]]\ngroup = \"a\"\nmay = []\n".to_owned(), 1, "must name a right"),
        ("[[rule]]\ngroup = \"a\"\nmay = [\"read\"]\nmodels = [\"hub:x\"]\n".to_owned(), 1, "no hub \"hub\""),
        (format!("{good}{good}"), 7, "same id"),
        (token("t1", 'x', "may = [\"read\"]"), 1, "64 hexadecimal digits"),
        (token("t1", '1', "may = [\"read\"]\nexpires = 2027-01-01T00:00:00"), 1, "a time in UTC"),
    ];
    for (text, at, says) in table {
        match Book::parse(&text) {
            Err(BadBook::Part { line, why }) => {
                assert!(line == at && why.contains(says), "{line}: {why}\n{text}")
            }
            other => panic!("{other:?}\n{text}"),
        }
    }
    for text in ["token = 1", "[[token]]\nid = \"t\"", "[[tokens]]", "x"] {
        assert!(matches!(Book::parse(text), Err(BadBook::Format(_))), "{text}");
    }
    assert_eq!(Book::parse(&" ".repeat(MAX_BOOK + 1)), Err(BadBook::TooLong));
    assert_eq!(book(""), Book::default());
}

#[test]
fn a_token_is_cut_out_and_all_else_stays_as_it_was() {
    let head = "# Ours.\n\n[[rule]]\ngroup = \"ml\"\nmay = [\"read\"] # all of it\n\n";
    let first = token("t1", '1', "may = [\n  \"read\",\n]");
    let second = format!("# For the nightly run.\n{}", token("t2", '2', "may = [\"read\"]"));
    let text = format!("{head}{first}\n{second}");
    let book = book(&text);
    assert_eq!(without(&text, &book, "t1").unwrap(), format!("{head}\n{second}"));
    assert_eq!(without(&text, &book, "t2").unwrap(), format!("{head}{first}\n# For the nightly run.\n"));
    assert_eq!(without(&text, &book, "t3"), None);
    let inline = format!(
        "token = [{{id=\"t1\",name=\"x\",sha256=\"{}\",created=2026-01-01,may=[\"read\"]}}]",
        "1".repeat(64)
    );
    assert_eq!(without(&inline, &self::book(&inline), "t1"), None, "it is left to whoever wrote it so");
}
