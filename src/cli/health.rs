//! `keyward healthcheck`: one request to `/readyz`, for images that hold nothing but this program.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Builder;
use tokio::time::timeout;

use crate::clock::Clock;

use super::client::Server;
use super::client::address::Address;
use super::client::stream::Way;
use super::output::{plain, say};
use super::{FAILED, NOT_IN_ORDER, OK};

const PATIENCE: Duration = Duration::from_secs(5);

/// The rest between two looks.
const REST: Duration = Duration::from_millis(50);

/// Exit code 0 when ready, or once ready within `wait`.
pub fn check(server: &Server, wait: Duration) -> u8 {
    let (way, runtime) = match (Way::to(server), Builder::new_current_thread().enable_all().build()) {
        (Ok(way), Ok(runtime)) => (way, runtime),
        (Err(why), _) => {
            eprintln!("keyward: {why}");
            return NOT_IN_ORDER;
        }
        (_, Err(error)) => {
            eprintln!("keyward: no runtime: {error}");
            return FAILED;
        }
    };
    let ask = || {
        let asked = async { timeout(PATIENCE, ask(&way)).await.unwrap_or_else(|late| Err(late.into())) };
        runtime.block_on(asked)
    };
    let clock = Clock::system();
    let until_ns = clock.monotonic_ns().saturating_add(u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX));
    let mut answer = ask();
    while !answer.as_ref().is_ok_and(|status| status == "200") && clock.monotonic_ns() < until_ns {
        std::thread::sleep(REST);
        answer = ask();
    }
    match answer {
        Ok(status) if status == "200" => say("ready", OK),
        Ok(status) => say(&format!("not ready ({})", plain(&status)), FAILED),
        Err(error) => {
            eprintln!("keyward: {}: {error}", way.address.authority);
            FAILED
        }
    }
}

async fn ask(way: &Way) -> std::io::Result<String> {
    let mut stream = way.connect().await?;
    let Address { authority, base, .. } = &way.address;
    let request = format!("GET {base}/readyz HTTP/1.1\r\nhost: {authority}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let mut head = [0_u8; 64];
    let mut length = 0;
    while length < head.len() {
        match stream.read(&mut head[length..]).await? {
            0 => break,
            count => length += count,
        }
    }
    let line = String::from_utf8_lossy(&head[..length]);
    line.split(' ').nth(1).map(str::to_owned).ok_or_else(|| std::io::Error::other("not an HTTP answer"))
}
