//! `Link` fields (RFC 8288): which links a client may see, and where they lead it.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::model::HubRoot;

/// Longest `Link` field that is read, in bytes; a longer one is dropped.
const MAX_FIELD: usize = 8 * 1024;
/// Most links of one answer that are read; further ones are dropped.
const MAX_LINKS: usize = 32;
/// Relations between the pages of a list.
const PAGES: [&str; 5] = ["next", "prev", "previous", "first", "last"];

/// One link of a field.
struct Link<'a> {
    target: &'a str,
    /// All that stands behind the target.
    parameters: &'a str,
    /// The value of `rel`: names with blanks between them.
    relations: String,
}

impl Link<'_> {
    fn is(&self, fits: impl Fn(&str) -> bool) -> bool {
        self.relations.split_ascii_whitespace().any(fits)
    }
}

/// Drops the fields and links that lead to the Xet store; other links stay.
pub fn strip_xet_fields(headers: &mut HeaderMap) {
    let told: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().starts_with("x-xet-")).cloned().collect();
    for name in told {
        headers.remove(name);
    }
    rewrite(headers, |link| {
        (!link.is(|relation| relation.starts_with("xet-"))).then(|| link.target.to_owned())
    });
}

/// The first field that leads to the Xet store, as it would be shown: `x-xet-hash`, or `link: rel=xet-auth`.
pub fn xet_field(headers: &HeaderMap) -> Option<String> {
    let name = headers.keys().map(HeaderName::as_str).find(|name| name.starts_with("x-xet-"));
    let relation = || {
        let links = links(headers);
        let mut relations = links.iter().flat_map(|link| link.relations.split_ascii_whitespace());
        relations.find(|relation| relation.starts_with("xet-")).map(|found| format!("link: rel={found}"))
    };
    name.map(str::to_owned).or_else(relation)
}

/// Makes links from page to page, which lead to the hub at `root`, lead to `base`; drops those that lead elsewhere.
pub fn lead_pages_back(headers: &mut HeaderMap, root: &HubRoot, base: &str) {
    rewrite(headers, |link| match link.is(|relation| PAGES.contains(&relation)) {
        true => below(root, link.target).map(|path| format!("{base}{path}")),
        false => Some(link.target.to_owned()),
    });
}

/// The target of the first link of that relation.
pub(super) fn target_of<'a>(headers: &'a HeaderMap, wanted: &str) -> Option<&'a str> {
    links(headers).into_iter().find(|link| link.is(|relation| relation == wanted)).map(|link| link.target)
}

/// Path and query below `root` of the page behind `Link: <...>; rel="next"`.
pub(super) fn next_page(root: &HubRoot, headers: &HeaderMap) -> Option<String> {
    below(root, target_of(headers, "next")?).map(str::to_owned)
}

/// Path and query below the hub's root; `None` for what lies elsewhere. The text stays as the hub wrote it, because a
/// cursor may not survive another encoding.
pub(super) fn below<'a>(root: &HubRoot, target: &'a str) -> Option<&'a str> {
    let root = root.as_str();
    let authority = root.find("://").map_or(0, |at| at + 3);
    let path = root[authority..].find('/').map_or("", |at| &root[authority + at..]);
    let start = if target.starts_with('/') { path } else { root };
    let below = target.strip_prefix(start)?;
    (below.starts_with('/') && !below.starts_with("//")).then_some(below)
}

/// Puts the links to which `lead` gives a target in place of all that are there.
fn rewrite(headers: &mut HeaderMap, lead: impl Fn(&Link<'_>) -> Option<String>) {
    if !headers.contains_key(header::LINK) {
        return;
    }
    let led = |link: &Link<'_>| Some(format!("<{}>{}", lead(link)?, link.parameters));
    let kept: Vec<String> = links(headers).iter().filter_map(led).collect();
    headers.remove(header::LINK);
    // It is made of parts of fields, and so is one; what is not is left out.
    if let Ok(field) = HeaderValue::try_from(kept.join(", "))
        && !kept.is_empty()
    {
        headers.insert(header::LINK, field);
    }
}

/// The links of all fields; of a field, those before the first that cannot be read.
fn links(headers: &HeaderMap) -> Vec<Link<'_>> {
    let fields = headers.get_all(header::LINK).iter().filter_map(|field| field.to_str().ok());
    let mut found = Vec::new();
    for mut rest in fields.filter(|field| field.len() <= MAX_FIELD) {
        while let Some((link, behind)) = first_link(rest)
            && found.len() < MAX_LINKS
        {
            found.push(link);
            rest = behind;
        }
    }
    found
}

/// The first link of a list, and the list behind it.
fn first_link(list: &str) -> Option<(Link<'_>, &str)> {
    let list = list.trim_start_matches([' ', '\t', ',']);
    let (target, behind) = list.strip_prefix('<')?.split_once('>')?;
    let (parameters, rest) = behind.split_at(unquoted(behind, b',').unwrap_or(behind.len()));
    Some((Link { target, parameters: parameters.trim_end(), relations: relations(parameters) }, rest))
}

/// The value of the first `rel`, which is the one that counts; in small letters.
fn relations(mut parameters: &str) -> String {
    while let Some(at) = unquoted(parameters, b';') {
        parameters = &parameters[at + 1..];
        let one = &parameters[..unquoted(parameters, b';').unwrap_or(parameters.len())];
        if let Some((name, value)) = one.split_once('=')
            && name.trim().eq_ignore_ascii_case("rel")
        {
            // A relation has no character that would need a backslash, so it means the same without.
            return value.trim().trim_matches('"').replace('\\', "").to_ascii_lowercase();
        }
    }
    String::new()
}

/// Where `wanted` first stands outside of quoted strings.
fn unquoted(text: &str, wanted: u8) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    text.bytes().position(|byte| {
        let was_escaped = std::mem::take(&mut escaped);
        match byte {
            b'\\' if quoted => escaped = !was_escaped,
            b'"' if !was_escaped => quoted = !quoted,
            _ => return byte == wanted && !quoted,
        }
        false
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(fields: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(header::LINK, HeaderValue::from_str(field).unwrap());
        }
        headers
    }

    fn shown(headers: &HeaderMap) -> &str {
        assert!(headers.get_all(header::LINK).iter().count() <= 1);
        headers.get(header::LINK).map_or("", |field| field.to_str().unwrap())
    }

    #[test]
    fn what_leads_to_the_xet_store_goes_and_other_links_stay() {
        let page = "<https://h/?c=1,2>; rel=\"next\"";
        for (fields, left) in [
            (&["<https://h/t>; rel=\"xet-auth\", <https://c/r>; rel=\"xet-reconstruction-info\""][..], ""),
            (&["<https://h/t>; rel=xet-auth", page], page),
            (&[page, "<https://h/t> ;REL = XET-Auth ; a=\"b"], page),
            (
                &["<a,b>; title=\"x, <y>; rel=xet-auth\"; rel=other, <c>; rel=\"x xet-auth\""],
                "<a,b>; title=\"x, <y>; rel=xet-auth\"; rel=other",
            ),
            (&["<a>; t=\"\\\"\"; rel=\"xet\\-auth\",, <b>"], "<b>"),
            (&["<a>; rel=up; rel=xet-auth", "<b>;rel"], "<a>; rel=up; rel=xet-auth, <b>;rel"),
            (&["<a; rel=next", "x, <b>", ", ,", ""], ""),
        ] {
            let mut headers = given(fields);
            headers.insert("x-xet-hash", HeaderValue::from_static("1"));
            headers.append("x-xet-anything", HeaderValue::from_static("2"));
            headers.insert("x-xen", HeaderValue::from_static("3"));
            assert!(xet_field(&headers).is_some_and(|field| field.starts_with("x-xet-")), "{fields:?}");
            strip_xet_fields(&mut headers);
            assert_eq!(xet_field(&headers), None, "{fields:?}");
            assert_eq!(shown(&headers), left, "{fields:?}");
            headers.remove(header::LINK);
            assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-xen"]);
        }
    }

    #[test]
    fn a_link_to_the_xet_store_is_found_among_others() {
        let headers =
            given(&["<https://h/?c=1>; rel=\"next\"", "<a>; rel=up, <https://h/t>; rel=\"xet-auth\""]);
        assert_eq!(xet_field(&headers).as_deref(), Some("link: rel=xet-auth"));
    }

    #[test]
    fn pages_of_the_hub_lead_back_and_pages_elsewhere_nowhere() {
        let root = HubRoot::parse("https://hub.example/mirror").unwrap();
        for (target, path) in [
            ("https://hub.example/mirror/api/x?cursor=a%2Fb&y='c,d'", Some("/api/x?cursor=a%2Fb&y='c,d'")),
            ("/mirror/api/x?c=2", Some("/api/x?c=2")),
            ("https://hub.example/api/x", None),
            ("https://hub.example/mirrored/x", None),
            ("https://hub.example/mirror.evil.example/x", None),
            ("https://hub.example/mirror@evil.example/x", None),
            ("https://hub.example/mirror//evil.example/x", None),
            ("http://hub.example/mirror/x", None),
            ("//hub.example/mirror/x", None),
            ("/x", None),
            ("?c=3", None),
            ("", None),
        ] {
            let headers = given(&[&format!("</o>; rel=up, <{target}>; t=1; rel=\"NEXT last\"")]);
            assert_eq!(next_page(&root, &headers).as_deref(), path, "{target}");
            let mut led = headers.clone();
            lead_pages_back(&mut led, &root, "http://here/p");
            let page = path.map(|path| format!(", <http://here/p{path}>; t=1; rel=\"NEXT last\""));
            assert_eq!(shown(&led), format!("</o>; rel=up{}", page.unwrap_or_default()), "{target}");
        }
        let root = HubRoot::parse("https://hub.example").unwrap();
        assert_eq!(below(&root, "//evil.example/x"), None);
        assert_eq!(below(&root, "https://hub.example.evil.example/x"), None);
        assert_eq!(below(&root, "/x"), Some("/x"));
        assert_eq!(next_page(&root, &given(&["</x>; rel=\"last\"", "nonsense"])), None);
    }

    #[test]
    fn endless_links_are_dropped() {
        let mut headers = given(&[&format!("<{}>", "a".repeat(MAX_FIELD)), "<b>"]);
        strip_xet_fields(&mut headers);
        assert_eq!(shown(&headers), "<b>");
        let mut headers = given(&["<a>,<a>,<a>,<a>"; 100]);
        strip_xet_fields(&mut headers);
        assert_eq!(shown(&headers).matches("<a>").count(), MAX_LINKS);
    }
}
