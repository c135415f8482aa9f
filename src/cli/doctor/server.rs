//! Judgement of the server: whether its ports are free for it, or that it listens on them and answers. Pure.

use std::net::SocketAddr;

use super::check::Check;
use super::look::answers::{Answered, TunnelTrouble};
use crate::model::Place;

const SERVER: &str = "server";
const TUNNEL: &str = "tunnel";
const READY: &str = "ready";

/// An address of the settings.
#[derive(Clone, Debug)]
pub struct Port {
    /// The name of its check.
    pub name: &'static str,
    /// Its setting.
    pub setting: &'static str,
    /// Its flag.
    pub flag: &'static str,
    /// What the settings say; nothing where they leave it out.
    pub address: Option<SocketAddr>,
}

/// A process that listens somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its id.
    pub pid: u32,
    /// What it is called.
    pub program: String,
}

/// What became of an address.
#[derive(Debug)]
pub enum Taken {
    /// Nobody has it.
    Free,
    /// The server that runs listens there; nothing where it does not do that at all.
    Listens(Option<SocketAddr>),
    /// Somebody else has it.
    InUse(Option<Holder>),
    /// It cannot be listened on.
    Refused(String),
}

/// Whether a server can listen there, or listens as the settings say.
pub fn port(port: &Port, taken: &Taken) -> Check {
    let Port { name, setting, flag, address } = port;
    let Some(address) = address else {
        return match taken {
            Taken::Listens(Some(at)) => Check::warns(
                name,
                format!("the running server listens at {at}, and {setting} is none"),
                RESTART,
            ),
            _ => Check::skipped(name, format!("{setting} is none")),
        };
    };
    let choose = format!("{flag} ADDR ({setting})");
    match taken {
        Taken::Free if address.port() == 0 => {
            Check::good(name, format!("{setting} lets the system choose a port of {}", address.ip()))
        }
        Taken::Free => Check::good(name, format!("{address} is free for {setting}")),
        Taken::Listens(Some(at)) if at == address || address.port() == 0 => {
            Check::good(name, format!("the running server listens at {at}, as {setting} says"))
        }
        Taken::Listens(at) => {
            let at = at.map_or_else(|| "has no such door".to_owned(), |at| format!("listens at {at}"));
            Check::warns(name, format!("{setting} is {address}, and the running server {at}"), RESTART)
        }
        Taken::InUse(Some(Holder { pid, program })) if program == "hubcache" => Check::fails(
            name,
            format!("{address} is taken by another hubcache (pid {pid}), which has another data directory"),
            format!("name its directory with --data DIR, or choose another address with {choose}"),
        ),
        Taken::InUse(holder) => {
            let who = match holder {
                Some(Holder { pid, program }) => format!("by {program} (pid {pid})"),
                None => "by a program of another user".to_owned(),
            };
            let fix = format!("stop that program, or choose another address with {choose}");
            Check::fails(name, format!("{address} is taken {who}"), fix)
        }
        Taken::Refused(why) => {
            let fix = format!("choose an address of this machine, with a port from 1024 on: {choose}");
            Check::fails(name, format!("{address} cannot be listened on: {why}"), fix)
        }
    }
}

const RESTART: &str = "start the server anew, so that it takes notice of the settings; or correct these, if they are \
                       not its own";

/// Whether the server answers where clients reach it; `None` where none runs.
pub fn server(at: &Place, answered: Option<&Answered>) -> Check {
    match answered {
        None => Check::skipped(SERVER, "no server runs on this data directory; `hubcache serve` starts one"),
        Some(Answered::Here) => Check::good(SERVER, format!("it answers at {at}")),
        Some(Answered::Other(status)) => Check::fails(
            SERVER,
            format!("what answers at {at} is not hubcache ({status})"),
            "name the place where clients reach it with --at HOST:PORT; a proxy before it has to hand everything on",
        ),
        Some(Answered::Silent(why)) => Check::fails(
            SERVER,
            format!("nobody answers at {at}: {why}"),
            "see the log of the server, and the firewall of this machine; --at HOST:PORT names another place",
        ),
    }
}

/// Whether requests in tunnels are answered, for clients that trust the authority in that file.
pub fn tunnel(at: &Place, opened: &Result<(), TunnelTrouble>) -> Check {
    match opened {
        Ok(()) => Check::good(
            TUNNEL,
            format!("a tunnel to a hub by way of {at} is answered with its own certificate"),
        ),
        Err(TunnelTrouble::Refused(said)) => Check::fails(
            TUNNEL,
            format!("{at} opens no tunnel to a hub: {said}"),
            "a proxy before the server has to hand CONNECT on; see the log of the server",
        ),
        Err(TunnelTrouble::Certificate(why)) => Check::fails(
            TUNNEL,
            format!("the certificate in a tunnel is not of the authority that clients are given: {why}"),
            "start the server anew, so that it uses the authority that `hubcache ca show` shows",
        ),
        Err(TunnelTrouble::Silent(why)) => {
            Check::fails(TUNNEL, format!("no tunnel by way of {at}: {why}"), "see the log of the server")
        }
    }
}

/// What the operators' door says of whether clients are taken.
#[derive(Debug)]
pub struct Ready {
    /// Where it is.
    pub at: SocketAddr,
    /// The status and the text.
    pub answered: Result<(u16, String), String>,
}

/// Whether the operators' door says that the server takes clients.
pub fn ready(ready: &Ready) -> Check {
    let Ready { at, answered } = ready;
    match answered {
        Ok((200, _)) => Check::good(READY, format!("http://{at}/readyz says so")),
        Ok((status, text)) => Check::fails(
            READY,
            format!("http://{at}/readyz answers {status}: {}", text.lines().next().unwrap_or_default()),
            "see the log of the server, and the check `disk`",
        ),
        Err(why) => Check::fails(
            READY,
            format!("nobody answers at the operators' door {at}: {why}"),
            "see the log of the server",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::check::Verdict::{Fails, Good, Skipped, Warns};

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_port_is_free_or_listened_on_as_the_settings_say() {
        let holder = |program: &str| Some(Holder { pid: 7, program: program.to_owned() });
        let (said, other) = (Some("127.0.0.1:8470"), Some(address("127.0.0.1:9")));
        for (said, taken, verdict, has) in [
            (said, Taken::Free, Good, "is free"),
            (Some("127.0.0.1:0"), Taken::Free, Good, "choose a port"),
            (None, Taken::Free, Skipped, "listen.address is none"),
            (said, Taken::Listens(Some(address("127.0.0.1:8470"))), Good, "as listen.address says"),
            (Some("127.0.0.1:0"), Taken::Listens(other), Good, "127.0.0.1:9"),
            (said, Taken::Listens(other), Warns, "start the server anew"),
            (said, Taken::Listens(None), Warns, "no such door"),
            (None, Taken::Listens(other), Warns, "is none"),
            (said, Taken::InUse(holder("nginx")), Fails, "by nginx (pid 7)"),
            (said, Taken::InUse(holder("nginx")), Fails, "--listen ADDR (listen.address)"),
            (said, Taken::InUse(holder("hubcache")), Fails, "--data DIR"),
            (said, Taken::InUse(None), Fails, "another user"),
            (said, Taken::Refused("no such address".into()), Fails, "--listen ADDR"),
        ] {
            let of = Port {
                name: "port-listen",
                setting: "listen.address",
                flag: "--listen",
                address: said.map(address),
            };
            let check = port(&of, &taken);
            let all = format!("{}\n{}", check.found, check.fix.clone().unwrap_or_default());
            assert!(check.verdict == verdict && all.contains(has), "{taken:?} {check:#?}");
        }
    }

    #[test]
    fn who_answers_is_told_apart() {
        let at = Place::parse("127.0.0.1:8470", None).unwrap();
        for (answered, verdict) in [
            (None, Skipped),
            (Some(Answered::Here), Good),
            (Some(Answered::Other("404".into())), Fails),
            (Some(Answered::Silent("refused".into())), Fails),
        ] {
            assert_eq!(server(&at, answered.as_ref()).verdict, verdict, "{answered:?}");
        }
        for (opened, has) in [
            (Ok(()), "own certificate"),
            (Err(TunnelTrouble::Refused("403".into())), "403"),
            (Err(TunnelTrouble::Certificate("UnknownIssuer".into())), "not of the authority"),
            (Err(TunnelTrouble::Silent("reset".into())), "reset"),
        ] {
            assert!(tunnel(&at, &opened).found.contains(has), "{opened:?}");
        }
        let door = |answered| ready(&Ready { at: address("127.0.0.1:8471"), answered });
        assert_eq!(door(Ok((200, String::new()))).verdict, Good);
        assert!(door(Ok((503, "no room\n".into()))).found.ends_with("503: no room"));
        assert_eq!(door(Err("refused".into())).verdict, Fails);
    }
}
