use http::Response;

use super::*;

fn rules(text: &str) -> Rules {
    Rules::parse(text).unwrap()
}

/// Which rule struck each of these requests, and 0 for none.
fn struck(rules: &Rules, requests: &[(Method, &str)]) -> Vec<usize> {
    let mut counts = Counts::new(rules);
    let mut strike = |(method, path): &(Method, &str)| {
        rules.decide(&mut counts, &Asked { method, path }, None).map_or(0, |strike| strike.rule)
    };
    requests.iter().map(&mut strike).collect()
}

fn gets(path: &str, count: usize) -> Vec<(Method, &str)> {
    vec![(Method::GET, path); count]
}

#[test]
fn rules_are_for_paths_and_methods_and_the_first_that_strikes_wins() {
    let rules = rules(
        r#"
        [[fault]]
        path = "*/config.json"
        method = "head"
        status = 503
        [[fault]]
        path = "/acme/*"
        delay = "1s"
        [[fault]]
        path = "*.json"
        status = 429
        "#,
    );
    for (method, path, want) in [
        (Method::HEAD, "/acme/tiny/resolve/main/config.json", 1),
        (Method::GET, "/acme/tiny/resolve/main/config.json", 2),
        (Method::GET, "/other/tiny/resolve/main/config.json", 3),
        (Method::POST, "/acme", 0),
        (Method::POST, "/acme/a b/ü", 2),
        (Method::GET, "/other/config.jsonl", 0),
    ] {
        assert_eq!(struck(&rules, &[(method.clone(), path)]), [want], "{method} {path}");
    }
}

#[test]
fn a_rule_skips_and_ends_and_leaves_the_rest_to_the_next() {
    let two = rules(
        "[[fault]]\npath = \"*\"\nskip = 1\ntimes = 2\nstatus = 503\n[[fault]]\npath = \"*\"\nskip = 1\nstatus = 429",
    );
    assert_eq!(
        struck(&two, &gets("/x", 6)),
        [0, 1, 1, 2, 2, 2],
        "the first went on to the second, which skipped it"
    );
    let mut counts = Counts::new(&two);
    for path in ["/x", "/y", "/z"] {
        two.decide(&mut counts, &Asked { method: &Method::GET, path }, None);
    }
    let told: Vec<_> = two.tally(&counts).into_iter().map(|t| (t.rule, t.fault, t.met, t.struck)).collect();
    assert_eq!(told, [(1, "status", 3, 2), (2, "status", 1, 0)]);
}

#[test]
fn what_needs_an_answer_is_decided_at_the_answer_and_only_counts_there() {
    let rules = rules(
        "[[fault]]\npath = \"*\"\ntimes = 1\ncut = 10\n[[fault]]\npath = \"*\"\nskip = 4\nstatus = 503",
    );
    let mut counts = Counts::new(&rules);
    let mut ask = |method: &Method, length: u64| {
        let asked = Asked { method, path: "/x" };
        if let Some(strike) = rules.decide(&mut counts, &asked, None) {
            return strike.rule;
        }
        let head = Response::builder().header("content-length", length).body(()).unwrap().into_parts().0;
        let answer = Answered::of(method, &head).unwrap();
        rules.decide(&mut counts, &asked, Some(&answer)).map_or(0, |strike| strike.rule)
    };
    assert_eq!(ask(&Method::HEAD, 100), 0, "nothing to cut");
    assert_eq!(ask(&Method::GET, 10), 0, "it ends there");
    assert_eq!(ask(&Method::GET, 11), 1);
    assert_eq!(ask(&Method::GET, 11), 0, "only once");
    assert_eq!(ask(&Method::GET, 11), 2, "the server is not asked any more");
}

#[test]
fn chance_follows_from_the_seed_and_is_as_likely_as_it_says() {
    let text = |seed: u64, probability: f64| {
        format!("seed = {seed}\n[[fault]]\npath = \"/x\"\nprobability = {probability}\nstatus = 503")
    };
    for seed in 0..20 {
        for probability in [0.1, 0.5, 0.9] {
            let rules = rules(&text(seed, probability));
            let all = struck(&rules, &gets("/x", 2000));
            assert_eq!(all, struck(&rules, &gets("/x", 2000)), "the same again");
            let share = all.iter().sum::<usize>() as f64 / 2000.0;
            assert!((share - probability).abs() < 0.06, "seed {seed}: {share} of {probability}");
        }
    }
    let one = struck(&rules(&text(1, 0.5)), &gets("/x", 64));
    assert_ne!(one, struck(&rules(&text(2, 0.5)), &gets("/x", 64)));
    assert_eq!(struck(&rules(&text(3, 1.0)), &gets("/x", 64)), [1; 64], "without chance");
}

/// For any sequence of requests, those for one rule meet the same whatever comes between them.
#[test]
fn what_a_rule_does_depends_on_its_own_requests_alone() {
    let rules = rules(
        r#"
        seed = 9
        [[fault]]
        path = "/a"
        skip = 3
        times = 40
        probability = 0.4
        status = 503
        [[fault]]
        path = "/b"
        probability = 0.6
        status = 429
        "#,
    );
    let of = |all: &[(Method, &str)], path: &str| -> Vec<usize> {
        let struck = struck(&rules, all);
        all.iter().zip(struck).filter(|((_, p), _)| *p == path).map(|(_, rule)| rule).collect()
    };
    let alone = (of(&gets("/a", 200), "/a"), of(&gets("/b", 200), "/b"));
    assert_eq!(alone.0.iter().filter(|rule| **rule == 1).count(), 40);
    let mut order = fastrand::Rng::with_seed(1);
    for round in 0..50 {
        let mixed: Vec<_> =
            (0..200).map(|_| (Method::GET, *order.choice(&["/a", "/b", "/c"]).unwrap())).collect();
        for (path, alone) in [("/a", &alone.0), ("/b", &alone.1)] {
            let got = of(&mixed, path);
            assert_eq!(got, alone[..got.len()], "round {round}: {path}");
        }
    }
}
