//! Addresses: whether they can be listened on, and who has those that cannot.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};

use super::super::server::{Holder, Port, Taken};
use crate::admin::control::Status;
use crate::config::Config;

/// The addresses of the settings.
pub fn ports(config: &Config) -> [Port; 3] {
    let port = |name, setting, flag, address| Port { name, setting, flag, address };
    let tls = config.listen.tls.as_ref().map(|tls| tls.address);
    [
        port("port-listen", "listen.address", "--listen", Some(config.listen.address)),
        port("port-listen-tls", "listen.tls_address", "--listen-tls", tls),
        port("port-admin", "admin.address", "--admin", Some(config.admin.address)),
    ]
}

/// Where the server that runs listens.
pub fn listens(port: &Port, status: &Status) -> Taken {
    Taken::Listens(match port.setting {
        "listen.address" => Some(status.listen),
        "listen.tls_address" => status.listen_tls,
        _ => Some(status.admin),
    })
}

/// Whether an address can be listened on now. It is for a moment, and nobody is accepted.
pub fn taken(port: &Port) -> Taken {
    let Some(address) = port.address else { return Taken::Free };
    match TcpListener::bind(address) {
        Ok(_) => Taken::Free,
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Taken::InUse(holder(address)),
        Err(error) => Taken::Refused(error.to_string()),
    }
}

/// Who listens at the port, as far as this user may know.
fn holder(address: SocketAddr) -> Option<Holder> {
    let tables =
        ["/proc/net/tcp", "/proc/net/tcp6"].map(|table| fs::read_to_string(table).unwrap_or_default());
    let sockets: Vec<String> = tables
        .iter()
        .flat_map(|table| listening(table, address.port()))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    let processes =
        fs::read_dir("/proc").ok()?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let mut holders = processes.filter(|pid| {
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let mut targets = descriptors.filter_map(|descriptor| fs::read_link(descriptor.path()).ok());
        targets
            .any(|target| target.to_str().is_some_and(|target| sockets.iter().any(|socket| socket == target)))
    });
    let pid = holders.next()?;
    let program = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned();
    Some(Holder { pid, program })
}

/// The inodes of the sockets that listen at a port, in a table of the form of `/proc/net/tcp`.
fn listening(table: &str, port: u16) -> Vec<u64> {
    const LISTEN: &str = "0A";
    let inode = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (_, digits) = fields.get(1)?.rsplit_once(':')?;
        let is_it = u16::from_str_radix(digits, 16) == Ok(port) && *fields.get(3)? == LISTEN;
        is_it.then(|| fields.get(9)?.parse().ok()).flatten()
    };
    table.lines().skip(1).filter_map(inode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_that_listen_are_found_in_the_table_of_the_kernel() {
        let table = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:2116 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 12345 1 0 100 0 0 10 0
   1: 0100007F:2116 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 12346 1 0 100 0 0 10 0
   2: 0100007F:2117 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 12347 1 0 100 0 0 10 0
   3: broken
";
        assert_eq!(listening(table, 8470), [12345]);
        assert_eq!(listening(table, 1), [0; 0]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn who_has_a_port_is_told() {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = held.local_addr().unwrap();
        let port = Port { name: "p", setting: "s", flag: "--f", address: Some(address) };
        let Taken::InUse(Some(Holder { pid, .. })) = taken(&port) else {
            panic!("it is taken by this process")
        };
        assert_eq!(pid, std::process::id());
        drop(held);
        assert!(matches!(taken(&port), Taken::Free));
    }
}
