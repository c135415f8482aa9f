//! An explanation for people: one fact a line.

use std::io::{self, Write};

use super::super::print::{self, ago, rfc3339, size};
use crate::model::{Entry, Promise, Standing, Timestamp};
use crate::proxy::explain::{
    Absence, Action, Addressed, Explanation, Facts, Holding, Known, Meaning, Step, Unfinished,
};

/// Names and values of what is told.
type Lines = Vec<(&'static str, String)>;

/// Writes it.
pub fn write(out: &mut impl Write, explanation: &Explanation, now: Timestamp) -> io::Result<()> {
    let mut lines = vec![("request", format!("{} {}", explanation.method, explanation.path))];
    match &explanation.target {
        Addressed::File(facts) | Addressed::Question(facts) => add_facts(&mut lines, facts, now),
        Addressed::Passed { hub, root } => {
            lines.push(("target", "something to hand on".to_owned()));
            lines.push(("hub", format!("{hub}, {root}")));
        }
        Addressed::Own => lines.push(("target", "the file for automatic proxy configuration".to_owned())),
        Addressed::Preflight => lines.push(("target", "a browser's cross-origin question".to_owned())),
        Addressed::Refused => lines.push(("target", "nothing that can be answered".to_owned())),
    }
    for step in &explanation.steps {
        add_step(&mut lines, step);
    }
    lines.iter().try_for_each(|(name, value)| writeln!(out, "{name:<10}  {value}"))
}

fn add_facts(lines: &mut Lines, facts: &Facts, now: Timestamp) {
    lines.push(("target", if facts.is_question { "a question to the API" } else { "a file" }.to_owned()));
    lines.push(("hub", format!("{}, {}", facts.hub, facts.root)));
    lines.push(("repository", facts.repo.clone()));
    lines.push((if facts.is_question { "question" } else { "path" }, facts.name.clone()));
    lines.extend(facts.revision.as_ref().map(|meaning| ("revision", revision(meaning, now))));
    for (name, holding) in [("held", &facts.held), ("older", &facts.older)] {
        add_holding(lines, name, holding.as_ref(), now);
    }
    if facts.held.is_none() && facts.older.is_none() {
        lines.push(("held", "nothing".to_owned()));
    }
    if let Some(Holding::File(entry)) = &facts.restricted {
        lines.push((
            "restricted",
            "held for those alone whose own credentials the hub accepts for it".to_owned(),
        ));
        add_file(lines, "", entry, now);
    }
    lines.extend(facts.unfinished.as_ref().map(|part| ("unfinished", unfinished(part, now))));
    add_known(lines, facts.known.as_ref(), now);
    lines.extend(facts.absent.as_ref().map(|absence| ("absent", absent(absence, now))));
    lines.extend(facts.refused.as_ref().map(|said| ("refused", format!("a moment ago: {said}"))));
}

fn revision(meaning: &Meaning, now: Timestamp) -> String {
    let Meaning { name, immutable, commit, checked_at, trusted } = meaning;
    if *immutable {
        return format!("{name}, which never changes");
    }
    let stands = commit.as_ref().map_or_else(String::new, |commit| format!(", stands for {commit}"));
    let trusted = if *trusted { "still taken for granted" } else { "too long ago to be taken for granted" };
    match checked_at {
        Some(at) => format!("{name}{stands}, confirmed {}, {trusted}", time(*at, now)),
        None => format!("{name}, of which the hub has not said yet what it is"),
    }
}

fn add_holding(lines: &mut Lines, name: &'static str, holding: Option<&Holding>, now: Timestamp) {
    match holding {
        Some(Holding::File(entry)) => add_file(lines, name, entry, now),
        Some(Holding::Answer { status, size_bytes, learned_at }) => {
            let text =
                format!("an answer {status}, {}, confirmed {}", size(*size_bytes), time(*learned_at, now));
            lines.push((name, text));
        }
        None => {}
    }
}

fn add_file(lines: &mut Lines, name: &'static str, entry: &Entry, now: Timestamp) {
    let Entry { blob, size: bytes, standing, stored_at, .. } = entry;
    let stored = time(*stored_at, now);
    lines.push((name, format!("sha256:{blob}, {}, {}, stored {stored}", size(*bytes), standing.as_str())));
    let compared = match standing {
        Standing::Verified => "compared",
        Standing::Recorded => "not compared",
    };
    lines.extend(entry.promises.iter().map(|p| ("promised", format!("{}, {compared}", promised(p)))));
}

fn promised(promise: &Promise) -> String {
    format!("{}, by {}", promise.digest, print::promiser(promise.by))
}

fn unfinished(part: &Unfinished, now: Timestamp) -> String {
    let arrived = size(part.arrived_bytes);
    let of = part.size_bytes.map_or_else(String::new, |bytes| format!(" of {}", size(bytes)));
    let state = if part.running { "is being downloaded" } else { "waits to be taken up" };
    format!("{arrived}{of} are here, {state}, begun {}", time(part.started_at, now))
}

fn add_known(lines: &mut Lines, known: Option<&Known>, now: Timestamp) {
    let Some(Known { size_bytes, promises, learned_at }) = known else { return };
    let bytes = size_bytes.map_or_else(|| "of unknown size".to_owned(), size);
    lines.push(("known", format!("{bytes}, said {}", time(*learned_at, now))));
    lines.extend(promises.iter().map(|promise| ("promised", promised(promise))));
}

fn absent(absence: &Absence, now: Timestamp) -> String {
    match absence {
        Absence::Said { learned_at } => format!("the hub said so {}", time(*learned_at, now)),
        Absence::NotListed => "the list of all files of the commit does not have it".to_owned(),
    }
}

fn add_step(lines: &mut Lines, step: &Step) {
    let (name, when) = match &step.when {
        None => ("now", String::new()),
        Some(when) => ("then", format!("{when}: ")),
    };
    lines.push((name, format!("{when}{}, because {}", action(step.action), step.why)));
    let status = step.status.map(|status| status.to_string());
    let cache_status = step.cache_status.as_ref().map(|value| format!("Cache-Status: {value}"));
    let answer: Vec<String> = status.into_iter().chain(cache_status).collect();
    if !answer.is_empty() {
        lines.push(("", answer.join(", ")));
    }
}

fn action(action: Action) -> &'static str {
    match action {
        Action::Serve => "serve what is held",
        Action::Absent => "say that there is no such file",
        Action::Repeat => "say what the hub said",
        Action::Tell => "answer from what the hub said",
        Action::Ask => "ask the hub",
        Action::Download => "download it",
        Action::Follow => "follow the download",
        Action::Private => "ask the hub whether it gives the file to this caller, and serve it then",
        Action::Pass => "hand it to the hub",
        Action::Preflight | Action::Own => "answer here",
        Action::Refuse => "refuse",
    }
}

fn time(at: Timestamp, now: Timestamp) -> String {
    format!("{} ({})", rfc3339(at), ago(at, now))
}
