//! What one settings file says, each value with its line.

use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys::{KEYS, Key};
use super::layers::{refused, unknown};
use super::problem::{Origin, Problem};
use super::setting::Raw;

/// Values that a file gives, and what is wrong with it.
#[derive(Debug, Default)]
pub struct Said {
    /// Values that fit their keys.
    pub values: Vec<(&'static Key, Raw, Origin)>,
    /// The rest.
    pub problems: Vec<Problem>,
}

/// Reads the text of the file at `path`.
pub fn parse(path: &Path, text: &str) -> Said {
    let mut reader = Reader { path, text, said: Said::default() };
    let (document, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        reader.table(document.get_ref(), "");
    }
    // What was recovered of a broken file is a guess, and what is wrong with a guess helps nobody.
    for error in errors {
        let origin = reader.at(error.span().unwrap_or_default());
        let text = format!("not TOML: {}", error.message());
        reader.said.problems.push(Problem { origin, text });
    }
    reader.said
}

struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
    said: Said,
}

impl Reader<'_> {
    fn at(&self, span: Range<usize>) -> Origin {
        let before = &self.text.as_bytes()[..span.start.min(self.text.len())];
        let line = 1 + before.iter().filter(|b| **b == b'\n').count();
        Origin::File { path: self.path.to_owned(), line: Some(line) }
    }

    fn table(&mut self, table: &DeTable<'_>, prefix: &str) {
        let mut rows: Vec<_> = table.iter().collect();
        // The parser sorts by name; people read from top to bottom.
        rows.sort_by_key(|(name, _)| name.span().start);
        for (name, value) in rows {
            let id = format!("{prefix}{}", name.get_ref());
            let origin = self.at(name.span());
            if let Some(key) = Key::find(&id) {
                self.value(key, value, origin);
            } else if KEYS.iter().any(|key| is_within(key.section, &id)) {
                match value.get_ref() {
                    DeValue::Table(inner) => self.table(inner, &format!("{id}.")),
                    _ => {
                        let text = format!("{id} is a section: expected [{id}] and keys below it");
                        self.said.problems.push(Problem { origin, text });
                    }
                }
            } else {
                let text = match value.get_ref() {
                    DeValue::Table(_) => unknown_section(&id),
                    _ => unknown(&id, |key| key.id.to_owned()),
                };
                self.said.problems.push(Problem { origin, text });
            }
        }
    }

    fn value(&mut self, key: &'static Key, value: &Spanned<DeValue<'_>>, origin: Origin) {
        let raw = self.raw(value);
        match key.check(&raw) {
            Ok(()) => self.said.values.push((key, raw, origin)),
            Err(refusal) => {
                self.said.problems.push(Problem { origin, text: refused(key, &raw, &refusal) });
            }
        }
    }

    fn raw(&self, value: &Spanned<DeValue<'_>>) -> Raw {
        let raw = match value.get_ref() {
            DeValue::String(text) => Some(Raw::Text(text.to_string())),
            DeValue::Integer(n) => i64::from_str_radix(n.as_str(), n.radix()).ok().map(Raw::Integer),
            DeValue::Array(items) => items
                .iter()
                .map(|i| i.get_ref().as_str().map(str::to_owned))
                .collect::<Option<_>>()
                .map(Raw::List),
            DeValue::Boolean(value) => Some(Raw::Boolean(*value)),
            DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Table(_) => None,
        };
        raw.unwrap_or_else(|| Raw::Other(self.text.get(value.span()).unwrap_or_default().to_owned()))
    }
}

/// Whether `section` is `outer` or lies in it.
fn is_within(section: &str, outer: &str) -> bool {
    section.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

fn unknown_section(id: &str) -> String {
    if id.starts_with("hub.") {
        return unknown(id, |key| key.id.to_owned());
    }
    let sections = KEYS.iter().map(|key| key.section);
    match super::problem::nearest(id, sections) {
        Some(section) => format!("[{id}]: no such section; did you mean [{section}]?"),
        None => unknown(id, |key| key.id.to_owned()),
    }
}
