//! `hubcache status`: what a running server does.

use std::io::{self, Write};
use std::time::Duration;

use clap::{ArgMatches, Command};

use super::exit::{Failure, output};
use super::flags::{self, Scope};
use super::ls::json_arg;
use super::print::{self, Table};
use super::reach;
use crate::admin::control::{Condition, FillStatus, HubStatus, ScrubStatus, Status, Traffic};
use crate::model::lasting;
use crate::proxy::AccessStatus;
use crate::store::Usage;

const LONG_ABOUT: &str = "\
Tell what the running server does: where it listens, how it stands with each hub, what clients asked of it since its \
start, the downloads that run, and how full the disk is. It asks the server that owns the data directory; without \
one it ends with 69.

HITS is the share of the requests for files and API answers that were answered from here, without the hub: outcomes \
hit, stale, known, absent and out-of-range, of all that have ended. Not counted in either are requests handed on \
(PASSED), preflights, paths that are refused, and responses whose client left or that broke.

SERVED are body bytes of responses that have ended, FETCHED those that came in from the hub, API answers and what was handed on \
included; SAVED is the difference, and its share of SERVED. A download that nobody has read yet makes it smaller.

access is who may use it. A file of tokens or certificates that has changed and cannot be read is told there; the server \
goes on with what it read before.

xet counts requests for tokens to read the Xet store: whoever has one fetches files past this server.

scrub is what was read again of what is held, in the background, and how much of it was found damaged.";

const EXAMPLES: &str = "\
Examples:
  hubcache status
  hubcache status --data /srv/hubcache
  hubcache status --json | jq '.total.hit_ratio'
  hubcache status --json | jq -r '.fills[] | \"\\(.arrived_bytes) of \\(.size_bytes) \\(.file)\"'";

const JSON_HELP: &str = "\
Print an object: version, pid, uptime_seconds, listen, listen_tls, intercept, admin, offline, access, hubs, total, \
xet_tokens, scrub, fills, data; access has mode, tokens, rules, trouble, certificate_trouble; hubs and total have requests, \
asked, answered_here, hit_ratio, passed, served_bytes, fetched_bytes, \
saved_bytes, saved_ratio";

pub fn command() -> Command {
    let command = Command::new("status")
        .about("Tell what the running server does")
        .long_about(LONG_ABOUT)
        .after_long_help(EXAMPLES)
        .arg(json_arg(JSON_HELP));
    flags::add(command, Scope::Store)
}

pub fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let config = flags::load(matches, Scope::Store)?.config;
    let status = reach::status(&config)?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    let written = if matches.get_flag("json") {
        let text = serde_json::to_string_pretty(&status).expect("names, numbers and texts are JSON");
        writeln!(out, "{text}")
    } else {
        write(&mut out, &status)
    };
    output(written.and_then(|()| out.flush()))
}

fn write(out: &mut impl Write, status: &Status) -> io::Result<()> {
    let mut line = |name: &str, value: &str| writeln!(out, "{name:<11}  {value}");
    let way = if status.offline { "offline" } else { "online" };
    let up = duration(status.uptime_seconds);
    line("hubcache", &format!("{}, {way}, up {up}, pid {}", status.version, status.pid))?;
    let tls = status.listen_tls.map(|tls| format!(", with TLS at {tls}")).unwrap_or_default();
    let tunnels = if status.intercept { "; tunnels to hubs are intercepted" } else { "" };
    line("clients", &format!("{}{tls}{tunnels}", status.listen))?;
    line("operators", &status.admin.to_string())?;
    line("access", &access(&status.access))?;
    let AccessStatus { trouble, certificate_trouble, .. } = &status.access;
    for (what, why) in [("tokens", trouble), ("certificate", certificate_trouble)] {
        if let Some(why) = why {
            line(what, &format!("as before, because of the file as it is now: {why}"))?;
        }
    }
    for HubStatus { hub, root, condition, .. } in &status.hubs {
        line(hub.name(), &format!("{root}, {}", state(condition)))?;
    }
    line("data", &data(&status.data))?;
    line("xet", &format!("{} asked for", print::count(status.xet_tokens, "token")))?;
    line("scrub", &scrub(&status.scrub))?;
    writeln!(out)?;
    traffic(status).write(out)?;
    writeln!(out)?;
    if status.fills.is_empty() {
        return writeln!(out, "no downloads run");
    }
    writeln!(out, "{}:", print::count(status.fills.len() as u64, "running download"))?;
    status.fills.iter().try_for_each(|fill| writeln!(out, "  {}", download(fill)))
}

fn access(access: &AccessStatus) -> String {
    let AccessStatus { mode, tokens, rules, .. } = access;
    match mode.as_str() {
        "token" | "mtls" => {
            let (tokens, rules) =
                (print::count(*tokens as u64, "token"), print::count(*rules as u64, "rule"));
            format!("{mode}; {tokens}, {rules}")
        }
        open => open.to_owned(),
    }
}

fn state(condition: &Condition) -> String {
    match condition {
        Condition::Up => "up".to_owned(),
        Condition::Down { down_seconds, last_failure } => {
            format!("down for {}: {last_failure}", duration(*down_seconds))
        }
        Condition::HeldOff { left_seconds } => {
            format!("asked to be left alone for {} more", duration(*left_seconds))
        }
        Condition::Offline => "never asked".to_owned(),
    }
}

fn scrub(scrub: &ScrubStatus) -> String {
    let read = print::count(scrub.read_blobs, "content");
    let damaged = match scrub.damaged_blobs {
        0 => "none damaged".to_owned(),
        some => format!("{some} DAMAGED and let go; `hubcache history` names the files"),
    };
    format!("{read} read again, {}, {damaged}", print::size(scrub.read_bytes))
}

fn data(data: &Usage) -> String {
    let mut parts = vec![
        format!(
            "{} on disk of {}, {} free",
            print::size(data.disk_bytes),
            print::size(data.limit_bytes),
            print::size(data.free_bytes)
        ),
        format!("{} of {}", print::count(data.entries, "file"), print::count(data.blobs, "content")),
        print::count(data.documents, "API answer"),
    ];
    if data.partials > 0 {
        parts.push(print::count(data.partials, "unfinished download"));
    }
    parts.join("; ")
}

fn traffic(status: &Status) -> Table {
    let head = ["HUB", "REQUESTS", "HITS", "PASSED", "SERVED", "FETCHED", "SAVED", ""];
    let mut table = Table::new(&head, &[1, 2, 3, 4, 5, 6, 7]);
    let mut row = |name: &str, traffic: &Traffic| {
        table.row(vec![
            name.to_owned(),
            traffic.requests.to_string(),
            share(traffic.hit_ratio),
            traffic.passed.to_string(),
            print::size(traffic.served_bytes),
            print::size(traffic.fetched_bytes),
            print::size(traffic.saved_bytes),
            share(traffic.saved_ratio),
        ]);
    };
    for HubStatus { hub, traffic, .. } in &status.hubs {
        row(hub.name(), traffic);
    }
    row("all", &status.total);
    table
}

fn duration(n: u64) -> String {
    lasting(Duration::from_secs(n))
}

fn share(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{:.1} %", ratio * 100.0))
}

fn download(fill: &FillStatus) -> String {
    let FillStatus { file, arrived_bytes, size_bytes, followers, running_seconds } = fill;
    let arrived = print::size(*arrived_bytes);
    let of = match size_bytes {
        Some(size) => {
            let percent = u128::from(*arrived_bytes) * 100 / u128::from((*size).max(1));
            format!("{arrived} of {} ({percent} %)", print::size(*size))
        }
        None => format!("{arrived} of an unknown size"),
    };
    let (followers, lasting) = (print::count(*followers, "follower"), duration(*running_seconds));
    format!("{file}: {of}, {followers}, for {lasting}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_download_is_one_line() {
        let fill = FillStatus {
            file: "huggingface:acme/tiny@main/a".into(),
            arrived_bytes: 6 << 20,
            size_bytes: Some(12 << 20),
            followers: 2,
            running_seconds: 75,
        };
        let begin = "huggingface:acme/tiny@main/a: 6.0 MiB of";
        assert_eq!(download(&fill), format!("{begin} 12.0 MiB (50 %), 2 followers, for 1 min 15 s"));
        let unknown = FillStatus { size_bytes: None, followers: 1, ..fill.clone() };
        assert!(download(&unknown).contains("6.0 MiB of an unknown size, 1 follower, "));
        let empty = FillStatus { arrived_bytes: 0, size_bytes: Some(0), ..fill };
        assert!(download(&empty).contains("0 B of 0 B (0 %)"), "no division by nothing");
    }
}
