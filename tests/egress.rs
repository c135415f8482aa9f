//! Where connections may go, with the real resolver and the real ports, in a network of the test's own.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::support;
use support::client::Request;
use support::daemon::Daemon;
use support::hub::ScriptedHub;
use support::{netns, tls};

/// An address that is public, and here one of this machine.
const PUBLIC: &str = "93.184.216.34";

/// Counts the connections that it gets, and answers none.
#[derive(Clone, Default)]
struct Canary(Arc<AtomicUsize>);

impl Canary {
    fn listen(&self, address: &str) {
        let listener = TcpListener::bind(address).unwrap_or_else(|e| panic!("{address}: {e}"));
        let count = self.0.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                count.fetch_add(1, Ordering::SeqCst);
                drop(stream);
            }
        });
    }

    fn connections(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// Spellings of targets that must not be connected to, also where every name is allowed.
const FORBIDDEN: [&str; 56] = [
    "127.0.0.1",
    "127.1",
    "127.0.1",
    "127.255.255.254",
    "2130706433",
    "0x7f000001",
    "0x7F.1",
    "0x7f.0x0.0x0.0x1",
    "017700000001",
    "0177.0.0.1",
    "0177.1",
    "00000177.0.0.1",
    "127.0.0.1.",
    "127.0.0.0x1",
    "127.00.00.01",
    "①②⑦.⓪.⓪.①",
    "127。0。0。1",
    "0",
    "0.0.0.0",
    "0x0",
    "0.1.2.3",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[0:0:0:0:0:ffff:127.0.0.1]",
    "[::127.0.0.1]",
    "[64:ff9b::127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[64:ff9b:1::7f00:1]",
    "[2002:7f00:1::]",
    "localhost",
    "LOCALHOST",
    "localhost.",
    "localHost.localdomain",
    "user@127.0.0.1",
    "user:password@127.0.0.1",
    "huggingface.co@127.0.0.1",
    "127.0.0.1%2e",
    "%31%32%37.0.0.1",
    "127.0.0.1%00",
    "[::1%25lo]",
    "169.254.169.254",
    "0xa9fea9fe",
    "2852039166",
    "[fe80::1]",
    "[fd00:ec2::254]",
    "[::ffff:169.254.169.254]",
    "10.0.0.1",
    "192.168.0.1",
    "172.16.0.1",
    "100.64.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "[fc00::1]",
];

#[test]
fn no_spelling_of_a_forbidden_target_is_connected_to() {
    netns::enter();
    let canary = Canary::default();
    for address in ["127.0.0.1:80", "127.0.0.1:443", "[::1]:80", "[::1]:443"] {
        canary.listen(address);
    }
    for address in ["10.0.0.1/32", "192.168.0.1/32", "172.16.0.1/32", "100.64.0.1/32"] {
        netns::add_address(address);
    }
    for address in ["10.0.0.1:80", "192.168.0.1:80", "172.16.0.1:443", "100.64.0.1:443"] {
        canary.listen(address);
    }
    let hub = ScriptedHub::start();
    let daemon = Daemon::builder().hub(&hub).set("egress.mode", "open").start();
    daemon.wait_for_log("egress.mode is open");
    for host in FORBIDDEN {
        let url = format!("http://{host}/latest/meta-data");
        let reply = Request::get(&daemon.url()).target(&url).send();
        // A name that no name server knows is 504.
        assert!(matches!(reply.status, 400 | 403 | 504), "{url}: {} {}", reply.status, reply.text());
        let answer = tls::tunnel(daemon.listen(), &format!("{host}:443"), "");
        let status = answer.map_err(|answer| answer.status).err();
        assert!(matches!(status, Some(400 | 403 | 501 | 504)), "CONNECT {host}:443: {status:?}");
    }
    for port in ["22", "8080", "0", "65536", "-1", "80:80"] {
        let reply = Request::get(&daemon.url()).target(&format!("http://{PUBLIC}:{port}/")).send();
        assert!(matches!(reply.status, 400 | 403), "{port}: {}", reply.text());
    }
    assert_eq!(canary.connections(), 0, "{}", daemon.log());
    // The canary would have sung.
    drop(std::net::TcpStream::connect("127.0.0.1:80").unwrap());
    while canary.connections() == 0 {
        thread::yield_now();
    }
}

/// A name server whose every second answer is a loopback address, and the other public.
fn alternating_name_server() {
    let socket = UdpSocket::bind("127.0.0.1:53").unwrap();
    thread::spawn(move || {
        let mut packet = [0; 512];
        for turn in 0.. {
            let Ok((size, from)) = socket.recv_from(&mut packet) else { return };
            let address: [u8; 4] = if turn / 2 % 2 == 0 { [93, 184, 216, 34] } else { [127, 0, 0, 1] };
            answer(&socket, &packet[..size], from, address);
        }
    });
}

/// Answers a question for an IPv4 address; of any other kind there is none.
fn answer(socket: &UdpSocket, question: &[u8], to: SocketAddr, address: [u8; 4]) {
    let name = question[12..].iter().position(|b| *b == 0).unwrap() + 13;
    let is_a = question[name..name + 2] == [0, 1];
    let mut reply = question[..name + 4].to_vec();
    reply[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, u8::from(is_a), 0, 0, 0, 0]);
    if is_a {
        reply.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
        reply.extend_from_slice(&address);
    }
    socket.send_to(&reply, to).unwrap();
}

#[test]
fn a_name_that_changes_between_two_questions_never_leads_to_loopback() {
    netns::enter();
    netns::add_address(&format!("{PUBLIC}/32"));
    let (public, loopback) = (Canary::default(), Canary::default());
    public.listen(&format!("{PUBLIC}:80"));
    loopback.listen("127.0.0.1:80");
    alternating_name_server();
    let resolver = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(resolver.path(), "nameserver 127.0.0.1\noptions timeout:2 attempts:2\n").unwrap();
    netns::mount(resolver.path(), "/etc/resolv.conf");
    let hub = ScriptedHub::start();
    let daemon = Daemon::builder().hub(&hub).arg("--egress-allow").arg("*.rebind.example").start();
    let mut refused = 0;
    for n in 0..24 {
        let url = format!("http://{n}.rebind.example/");
        let reply = Request::get(&daemon.url()).target(&url).send();
        refused += usize::from(reply.status == 403);
    }
    assert_eq!(loopback.connections(), 0, "{}", daemon.log());
    assert!(refused > 0 && public.connections() > 0, "{refused} refused, {} public", public.connections());
}
