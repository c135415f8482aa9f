//! The README says what the program does: its tables are held against the program's own.

use std::process::Command;

use hubcache::config::{KEYS, Key};
use hubcache::model::Outcome;

const README: &str = include_str!("../README.md");

/// The rows of the table with this head, each as it stands there.
fn rows(head: &str) -> Vec<&'static str> {
    let lines = README.lines().skip_while(|line| *line != head);
    // The head and the line below it are no rows.
    lines.skip(2).take_while(|line| line.starts_with('|')).collect()
}

fn cell(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("`{text}`") }
}

fn setting(key: &Key) -> String {
    let id = match key.alias {
        Some(alias) => format!("`{}`, `--{alias}`", key.id),
        None => format!("`{}`", key.id),
    };
    let default = if key.is_list { "an empty list".to_owned() } else { cell(key.default) };
    let bounds = key.bounds.map_or_else(String::new, |(low, high)| format!("`{low}` to `{high}`"));
    let help = key.help.split_whitespace().collect::<Vec<_>>().join(" ");
    format!("| {id} | {default} | {bounds} | {help} |")
}

#[test]
fn the_table_of_settings_is_that_of_the_program() {
    let expected: Vec<_> = KEYS.iter().map(setting).collect();
    let found = rows("| Key | Default | Bounds | Meaning |");
    assert!(found == expected, "README.md must have these rows:\n{}", expected.join("\n"));
}

#[test]
fn the_table_of_outcomes_has_all_of_them_and_what_cache_status_says() {
    // A body that ends badly has sent its head, so these two are never in a header field.
    let seen = |o: Outcome| !matches!(o, Outcome::Broken | Outcome::ClientGone);
    let status =
        |o: Outcome| if seen(o) { cell(&o.cache_status(None)) } else { "in the log only".to_owned() };
    let expected: Vec<_> =
        Outcome::ALL.into_iter().map(|o| format!("| {} | {} |", cell(o.name()), status(o))).collect();
    let found = rows("| Outcome | `Cache-Status` | Meaning |");
    let fits = found.iter().zip(&expected).all(|(row, begin)| row.starts_with(begin));
    assert!(
        fits && found.len() == expected.len(),
        "README.md must have rows that begin with:\n{}",
        expected.join("\n")
    );
}

#[test]
fn every_command_and_exit_code_of_the_help_is_in_the_readme() {
    let output = Command::new(env!("CARGO_BIN_EXE_hubcache")).arg("--help").output().expect("it starts");
    let help = String::from_utf8(output.stdout).expect("help is text");
    let commands = help.lines().skip_while(|l| *l != "Commands:").skip(1).take_while(|l| !l.is_empty());
    let names: Vec<_> =
        commands.filter_map(|l| l.split_whitespace().next()).filter(|n| *n != "help").collect();
    assert!(names.contains(&"serve"), "{help}");
    for name in names {
        assert!(
            README.contains(&format!("| `hubcache {name}")),
            "{name} is missing in the table of commands"
        );
    }
    let (_, codes) = help.split_once("Exit codes:").expect("the help names them");
    let codes: Vec<_> = codes.split(|c: char| !c.is_ascii_digit()).filter(|c| !c.is_empty()).collect();
    assert!(codes.contains(&"64"), "{help}");
    for code in codes {
        assert!(README.contains(&format!("\n| {code} |")), "{code} is missing in the table of exit codes");
    }
}
