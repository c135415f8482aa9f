use super::*;

/// The fault of a rule with this line.
fn fault(line: &str) -> Fault {
    let rules =
        Rules::parse(&format!("[[fault]]\npath = \"*\"\n{line}")).unwrap_or_else(|e| panic!("{line}: {e}"));
    rules.rules[0].fault.clone()
}

fn refused(text: &str) -> String {
    Rules::parse(text).expect_err(text).to_string()
}

#[test]
fn each_fault_has_a_key_of_its_own() {
    for (line, want) in [
        ("delay = \"2s\"", Fault::Delay(Duration::from_secs(2))),
        ("delay = 3", Fault::Delay(Duration::from_secs(3))),
        ("slow = \"64KiB/s\"", Fault::Slow(65_536)),
        ("stall = 0", Fault::Stall(0)),
        ("stall = \"1 MB\"", Fault::Stall(1_000_000)),
        ("cut = \"1MiB\"", Fault::Cut(1 << 20)),
        ("wrong_byte = 12", Fault::WrongByte(12)),
        ("wrong_length = +4", Fault::WrongLength(4)),
        ("wrong_length = -4", Fault::WrongLength(-4)),
        ("etag = \"changes\"", Fault::Etag),
    ] {
        let got = fault(line);
        assert_eq!(got, want, "{line}");
        assert_eq!(line.split(' ').next(), Some(got.name()), "the key is the name");
    }
}

#[test]
fn a_status_comes_with_fields_and_a_text() {
    let Fault::Status { status, headers, body } = fault("status = 429\nheaders = { Retry-After = \"1\" }")
    else {
        panic!("another fault")
    };
    assert_eq!(
        (status.as_u16(), &headers["retry-after"], &body[..]),
        (429, &HeaderValue::from_static("1"), &b"a fault on purpose\n"[..])
    );
    let Fault::Status { headers, body, .. } =
        fault("status = 200\nheaders = { content-type = \"text/html\" }\nbody = \"<p>Sign in\"")
    else {
        panic!("another fault")
    };
    assert_eq!(
        (&headers["content-type"], &body[..]),
        (&HeaderValue::from_static("text/html"), &b"<p>Sign in"[..])
    );
    let Fault::Status { headers, body, .. } = fault("status = 304") else { panic!("another fault") };
    assert!(headers.is_empty() && body.is_empty());
}

#[test]
fn what_is_not_said_is_zero_every_time_and_for_all() {
    let rules = Rules::parse("[[fault]]\npath = \"*\"\ncut = 1").unwrap();
    let rule = &rules.rules[0];
    assert_eq!((rules.seed, rule.skip, rule.times, rule.probability), (0, 0, None, 1.0));
    assert!(rule.method.is_none());
    assert!(Rules::parse("# nothing yet\n").unwrap().rules.is_empty());
}

#[test]
fn a_refusal_names_the_place_and_the_remedy() {
    let after = |lines: &str| format!("seed = 1\n\n[[fault]]\npath = \"*\"\ncut = 1\n\n[[fault]]\n{lines}");
    for (lines, wants) in [
        ("path = \"*\"", "rule 2, at line 7: it has no fault; add one of status, delay"),
        (
            "path = \"*\"\ncut = 1\nstall = 2",
            "rule 2, at line 7: it has both stall and cut; make two rules of it",
        ),
        ("path = \"*\"\ncut = 1\nbody = \"x\"", "headers and body are for a status"),
        ("path = \"model.onnx\"\ncut = 1", "as in \"*/model.onnx\""),
        ("path = \"/a[\"\ncut = 1", "\"/a[\" is no pattern"),
        ("path = \"*\"\ncut = 1\ntimes = 0", "times is at least 1"),
        ("path = \"*\"\ncut = 1\nprobability = 0", "probability is more than 0, and at most 1"),
        ("path = \"*\"\ncut = 1\nprobability = 1.5", "probability is more than 0, and at most 1"),
        ("path = \"*\"\ncut = 1\nprobability = nan", "probability is more than 0, and at most 1"),
        ("path = \"*\"\ncut = 1\nmethod = \"GE T\"", "method is one such as \"GET\""),
        ("path = \"*\"\nstatus = 101", "status is a number from 200 to 599"),
        ("path = \"*\"\nstatus = 304\nbody = \"x\"", "an answer with status 304 has no body"),
        ("path = \"*\"\nstatus = 503\nheaders = { Content-Length = \"3\" }", "belongs to the connection"),
        ("path = \"*\"\nstatus = 503\nheaders = { \"a b\" = \"3\" }", "is no name of a header"),
        ("path = \"*\"\nstatus = 503\nheaders = { a = \"3\\n\" }", "a cannot have that value"),
        ("path = \"*\"\ndelay = \"11m\"", "delay is at most 600 s"),
        ("path = \"*\"\nwrong_length = 0", "wrong_length differs from 0"),
    ] {
        let said = refused(&after(lines));
        assert!(said.starts_with("rule 2, at line 7: ") && said.contains(wants), "{lines}\n{said}");
    }
    let long = "x".repeat(MAX_PATTERN);
    let said = refused(&after(&format!("path = \"/{long}\"\ncut = 1")));
    assert!(said.contains("path is longer than 1024 bytes"), "{said}");
}

#[test]
fn what_the_file_cannot_have_is_shown_with_its_line() {
    for (line, wants) in [
        ("cutt = 1", "unknown field `cutt`"),
        ("delay = \"2 moons\"", "expected a duration such as 800ms"),
        ("delay = -1", "expected a duration such as 800ms"),
        ("cut = \"1M\"", "did you mean 1MiB?"),
        ("cut = -1", "expected a size such as 64MiB"),
        ("cut = true", "expected a size such as 64MiB"),
        ("slow = 100", "expected bytes in a second such as 64KiB/s"),
        ("slow = \"0/s\"", "expected bytes in a second such as 64KiB/s"),
        ("slow = \"1K/s\"", "did you mean 1KiB?"),
        ("etag = \"stays\"", "`changes`"),
        ("skip = -1", "skip = -1"),
        ("status = \"503\"", "status = \"503\""),
    ] {
        let said = refused(&format!("[[fault]]\npath = \"*\"\n{line}"));
        assert!(said.contains("line 3") && said.contains(wants), "{line}\n{said}");
    }
    assert!(refused("[[faults]]\npath = \"*\"").contains("unknown field `faults`"));
    assert!(refused("[[fault]]\ncut = 1").contains("missing field `path`"));
}

#[test]
fn a_file_is_bounded() {
    let rule = "[[fault]]\npath = \"*\"\ncut = 1\n";
    assert!(Rules::parse(&rule.repeat(MAX_RULES)).is_ok());
    assert_eq!(Rules::parse(&rule.repeat(MAX_RULES + 1)).unwrap_err(), BadRules::TooMany(101));
    assert_eq!(Rules::parse(&"#".repeat(MAX_TEXT + 1)).unwrap_err(), BadRules::TooLong);
}
