//! `keyward healthcheck`: one request to `/readyz`, for images that hold nothing but this program.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use crate::clock::Clock;

use super::output::{plain, say};
use super::{FAILED, NOT_IN_ORDER, OK};

const PATIENCE: Duration = Duration::from_secs(5);

/// The rest between two looks.
const REST: Duration = Duration::from_millis(50);

/// Exit code 0 when ready, or once ready within `wait`.
pub fn check(admin_url: &str, wait: Duration) -> u8 {
    let Some(authority) = admin_url.strip_prefix("http://").map(|rest| rest.trim_end_matches('/')) else {
        eprintln!("keyward: --admin-url {admin_url}: expected http://HOST:PORT");
        return NOT_IN_ORDER;
    };
    let clock = Clock::system();
    let until_ns = clock.monotonic_ns().saturating_add(u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX));
    let mut answer = ask(authority);
    while !answer.as_ref().is_ok_and(|status| status == "200") && clock.monotonic_ns() < until_ns {
        std::thread::sleep(REST);
        answer = ask(authority);
    }
    match answer {
        Ok(status) if status == "200" => say("ready", OK),
        Ok(status) => say(&format!("not ready ({})", plain(&status)), FAILED),
        Err(error) => {
            eprintln!("keyward: {authority}: {error}");
            FAILED
        }
    }
}

fn ask(authority: &str) -> std::io::Result<String> {
    let address = authority.to_socket_addrs()?.next().ok_or_else(|| std::io::Error::other("no such host"))?;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(stream, "GET /readyz HTTP/1.1\r\nhost: {authority}\r\nconnection: close\r\n\r\n")?;
    let mut head = [0_u8; 64];
    let mut length = 0;
    while length < head.len() {
        match stream.read(&mut head[length..])? {
            0 => break,
            count => length += count,
        }
    }
    let line = String::from_utf8_lossy(&head[..length]);
    line.split(' ').nth(1).map(str::to_owned).ok_or_else(|| std::io::Error::other("not an HTTP answer"))
}
