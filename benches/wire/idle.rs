//! Connections that have asked once and then stay open.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::json;

use super::http::{HEAD_MAX, Place, broken, read_head};

/// Longer than an answer to a small request may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Opens the connections one after the other, says so, and holds them until standard input ends.
pub fn run(place: &Place, connections: u32) -> io::Result<()> {
    let mut buffer = vec![0; HEAD_MAX];
    let mut open = Vec::new();
    for _ in 0..connections {
        open.push(connect(place, &mut buffer)?);
    }
    println!("{}", json!({"connections": open.len()}));
    io::stdin().read_to_end(&mut buffer)?;
    Ok(())
}

/// A connection on which one request was answered.
fn connect(place: &Place, buffer: &mut [u8]) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(&place.address)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let request =
        format!("GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: wire\r\n\r\n", place.path, place.address);
    stream.write_all(request.as_bytes())?;
    let (head, body) = read_head(&mut stream, buffer)?.ok_or_else(|| broken("closed without an answer"))?;
    let length = head.length().filter(|_| head.status() == 200).ok_or_else(|| broken(head.first.clone()))?;
    let here = body.len() as u64;
    io::copy(&mut (&stream).take(length.saturating_sub(here)), &mut io::sink())?;
    Ok(stream)
}
