use super::*;

fn place(text: &str) -> Place {
    Place::parse(text, Some(443)).unwrap()
}

fn egress(allow: &[&str]) -> Egress {
    let allow = allow.iter().map(|text| Pattern::parse(text).unwrap()).collect();
    let known = vec![Pattern::host("huggingface.co"), Pattern::below("xethub.hf.co", 443)];
    Egress::new(Mode::Closed, allow, known).listening_at(vec!["127.0.0.1:8470".parse().unwrap()])
}

#[test]
fn clients_may_name_what_is_known_and_listed() {
    let rules = egress(&["*.example.com:443", "example.org", "10.0.0.0/8", "[2001:db8::]/32:8443", "a.b:*"]);
    for good in [
        "huggingface.co:443",
        "HUGGINGFACE.co.:80",
        "cas-server.xethub.hf.co:443",
        "a.example.com:443",
        "a.b.example.com:443",
        "example.org:80",
        "10.1.2.3:443",
        "[2001:db8::1]:8443",
        "a.b:9",
    ] {
        assert_eq!(rules.name(&place(good)), Ok(()), "{good}");
    }
    for bad in ["huggingface.co:22", "cas-server.xethub.hf.co:80", "example.com:443", "xethub.hf.co:443"] {
        assert!(rules.name(&place(bad)).is_err(), "{bad}");
    }
    for bad in [
        "a.example.com:80",
        "aexample.com:443",
        "example.org.evil.net:443",
        "evil-huggingface.co:443",
        "93.184.216.34:443",
        "11.0.0.1:443",
        "10.0.0.1:22",
        "localhost:443",
    ] {
        assert!(rules.name(&place(bad)).is_err(), "{bad}");
    }
    let text = rules.name(&place("example.net:443")).unwrap_err().to_string();
    assert!(text.contains("\"example.net:443\" to egress.allow (--egress-allow)"), "{text}");
}

#[test]
fn open_opens_names_and_public_addresses() {
    let rules = Egress::new(Mode::Open, vec![], vec![]);
    assert_eq!(rules.name(&place("anything.net:80")), Ok(()));
    assert_eq!(rules.name(&place("93.184.216.34:443")), Ok(()));
    for bad in ["anything.net:22", "127.0.0.1:80", "169.254.169.254:80", "[fd00:ec2::254]:80", "10.0.0.1:443"]
    {
        assert!(rules.name(&place(bad)).is_err(), "{bad}");
    }
}

#[test]
fn addresses_are_checked_by_who_named_them() {
    let check = |asker, rules: &Egress, named: &str, ip: &str| {
        rules.address(asker, &place(named), ip.parse().unwrap(), false).is_ok()
    };
    let closed = egress(&["example.org"]);
    let private = egress(&["10.0.0.0/8", "localhost:443"]);
    let redirect = |of| Asker::Redirect { of };
    let named = Asker::Root { named: true };
    let table = [
        (Asker::Client, &closed, "example.org", "93.184.216.34", true),
        (Asker::Client, &closed, "example.org", "127.0.0.1", false),
        (Asker::Client, &closed, "example.org", "::ffff:10.0.0.1", false),
        (Asker::Client, &private, "example.org", "10.2.3.4", true),
        (Asker::Client, &private, "example.org", "127.0.0.1", false),
        (Asker::Client, &private, "localhost", "127.0.0.1", true),
        (Asker::Client, &private, "localhost", "::1", true),
        (Asker::Client, &private, "localhost", "10.1.1.1", true),
        (Asker::Root { named: false }, &closed, "huggingface.co", "192.168.0.1", false),
        (named, &closed, "hub.corp:8080", "192.168.0.1", true),
        (named, &closed, "hub.corp:8080", "169.254.169.254", false),
        (named, &closed, "127.0.0.1:8470", "127.0.0.1", false),
        (Asker::Parent, &closed, "proxy.corp:3128", "10.0.0.1", true),
        (redirect(None), &closed, "cdn.net:443", "93.184.216.34", true),
        (redirect(None), &closed, "cdn.net:80", "93.184.216.34", false),
        (redirect(None), &closed, "example.org:80", "93.184.216.34", true),
        (redirect(None), &closed, "cdn.net:443", "10.0.0.1", false),
        (redirect(Some(Scope::Loopback)), &closed, "127.0.0.1:9999", "127.0.0.1", true),
        (redirect(Some(Scope::Loopback)), &closed, "10.0.0.1:9999", "10.0.0.1", false),
        (redirect(Some(Scope::Private)), &closed, "cdn.corp:8080", "10.0.0.1", true),
        (redirect(Some(Scope::Private)), &closed, "cdn.corp:8080", "127.0.0.1", false),
        (redirect(Some(Scope::Loopback)), &closed, "127.0.0.1:8470", "127.0.0.1", false),
    ];
    for (asker, rules, named, ip, want) in table {
        assert_eq!(check(asker, rules, named, ip), want, "{asker:?} {named} {ip}");
    }
}

#[test]
fn its_own_listeners_are_found_behind_every_address() {
    let at = |own: &str| Egress::default().listening_at(vec![own.parse().unwrap()]);
    let own = |rules: &Egress, ip: &str, local| {
        let checked = rules.address(Asker::Parent, &place("x:8470"), ip.parse().unwrap(), local);
        matches!(checked, Err(Denial::Own(_)))
    };
    let here = at("127.0.0.1:8470");
    assert!(
        own(&here, "127.0.0.1", true) && own(&here, "::ffff:127.0.0.1", false) && own(&here, "0.0.0.0", true)
    );
    assert!(own(&here, "64:ff9b::127.0.0.1", false));
    assert!(!own(&here, "10.0.0.1", true));
    let everywhere = at("0.0.0.0:8470");
    assert!(own(&everywhere, "10.0.0.1", true) && !own(&everywhere, "10.0.0.1", false));
    assert!(own(&everywhere, "127.9.9.9", false));
    assert!(own(&at("[::]:8470"), "10.0.0.1", true));
}

#[test]
fn scopes_of_addresses() {
    let table = [
        (Scope::Public, "1.1.1.1 172.15.0.1 172.32.0.1 100.63.0.1 100.128.0.1 2606:4700::1 64:ff9b::1.1.1.1"),
        (
            Scope::Private,
            "10.0.0.1 172.16.0.1 192.168.1.1 100.64.0.1 192.0.0.1 198.18.0.1 224.0.0.1 240.0.0.1",
        ),
        (
            Scope::Private,
            "255.255.255.255 fc00::1 fd00::1 ff02::1 64:ff9b::10.0.0.1 64:ff9b:1::a00:1 fec0::1",
        ),
        (
            Scope::Private,
            "2002:a00:1:: 2001:0:1:1:1:1:f5ff:fffe ::10.0.0.1 ::ffff:10.0.0.1 192.0.2.1 2001:db8::1",
        ),
        (
            Scope::Loopback,
            "127.0.0.1 127.255.255.255 0.0.0.0 0.1.2.3 ::1 :: ::ffff:127.0.0.1 64:ff9b::7f00:1",
        ),
        (Scope::Loopback, "2002:7f00:1::1 ::127.0.0.1"),
        (Scope::Never, "169.254.169.254 169.254.0.1 fe80::1 febf::1 fd00:ec2::254 ::ffff:169.254.169.254"),
        (Scope::Never, "64:ff9b::169.254.169.254 2002:a9fe:a9fe::1"),
    ];
    for (want, addresses) in table {
        for address in addresses.split(' ') {
            assert_eq!(scope(address.parse().unwrap()), want, "{address}");
        }
    }
}

#[test]
fn rules_that_cannot_be_meant_are_refused() {
    for bad in [
        "",
        "https://a.b",
        "*",
        "*.",
        "a.*.b",
        "a*.b",
        "10.0.0.1/8",
        "10.0.0.0/33",
        "x/8",
        "a:0",
        "a:x",
        "a:70000",
        "a@b",
        "a b",
        "*.10.0.0.1",
    ] {
        assert!(Pattern::parse(bad).is_err(), "{bad}");
    }
    for good in ["::1", "[::1]:80", "fd00::/8", "127.1", "localhost", "*.a.b:*", "0.0.0.0/0:8080"] {
        assert!(Pattern::parse(good).is_ok(), "{good}");
    }
}
