//! Amplification: what an attacker's bytes cost in answers, in log lines and in memory.
//!
//! The rule: a request costs a fixed sum (its answer's head, one log line, the memory of a connection), and beyond that at most ten
//! times its bytes. The fixed sums are bounded by what the peer takes and by the caps on connections. `cargo test --test it
//! amplification -- --nocapture` prints the worst found. Not counted is what a key's holder pays for: the output of a model.

use std::fs;

use super::attacks::{self, Request};
use crate::harness::program::Running;
use crate::harness::{Client, Proxy};

const MOST: f64 = 10.0;
/// What every answer may cost beside that, and every log line.
const ANSWER: u64 = 768;
const LINE: u64 = 768;
/// What a connection may hold with a request under way, whatever it sends, in a program that is not optimised.
const CONNECTION: u64 = 128 * 1024;
/// How many connections memory is measured by.
const CROWD: usize = 200;

const CONFIG: &str = "keys_file = \"keys.toml\"\n[server]\nlisten = \"127.0.0.1:0\"\nworkers = 2\nfailed_attempts_per_minute = 1000000\n\
    [admin]\nlisten = \"127.0.0.1:0\"\n[storage]\npepper = \"file:pepper\"\n[[upstreams]]\nname = \"sandbox\"\ndialect = \"sandbox\"\nmodels = [\"m\", \"gpt-*\"]\n";

async fn start() -> Running {
    let keys = Proxy::keys_of(&[("a", attacks::SECRET, "models_allowed = [\"m\"]")]);
    Running::start(CONFIG, |home| fs::write(home.join("keys.toml"), keys).expect("written")).await
}

/// Beyond the fixed sum, how many times its own size something costs.
fn times(cost: u64, fixed: u64, request: &Request) -> f64 {
    cost.saturating_sub(fixed) as f64 / request.bytes.len() as f64
}

/// Bytes of the log, once the line about this request stands in it.
async fn logged(running: &Running, before: u64) -> u64 {
    running.until_log(|log| log.len() as u64 > before && log.ends_with('\n')).await;
    running.log().len() as u64
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_is_answered_or_logged_at_more_than_ten_times_its_size() {
    let running = start().await;
    let mut worst = (0.0_f64, String::new());
    for request in attacks::all() {
        let before = running.log().len() as u64;
        let mut client = Client::connect(running.data).await;
        client.send(&request.bytes).await;
        let answer = client.answer().await;
        let answer = (answer.head.len() + answer.body.len()) as u64;
        let line = logged(&running, before).await - before;
        let cost = times(answer, ANSWER, &request).max(times(line, LINE, &request));
        println!(
            "{:44} {:8} bytes: {answer:6} answered, {line:5} logged, {cost:5.2} times beyond the fixed",
            request.name,
            request.bytes.len()
        );
        assert!(cost < MOST, "{}: {answer} bytes answered, {line} logged", request.name);
        if cost > worst.0 {
            worst = (cost, request.name);
        }
    }
    println!("worst output: {:.2} times, {}", worst.0, worst.1);
}

fn resident(running: &Running) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", running.child.id())).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).expect("a number") * 1024
}

/// Many connections that have sent all but the last byte; what each holds of the program's memory.
async fn held_by_each(request: &Request) -> u64 {
    let running = start().await;
    let before = resident(&running);
    let bytes = &request.bytes[..request.bytes.len() - 1];
    let mut crowd = Vec::new();
    for _ in 0..CROWD {
        let mut client = Client::connect(running.data).await;
        client.send(bytes).await;
        crowd.push(client);
    }
    // What was sent is read when the kernel keeps none of it any more.
    let all_read = async {
        loop {
            let table = fs::read_to_string("/proc/net/tcp").expect("the table of sockets");
            let port = format!(":{:04X}", running.data.port());
            let is_unread = |line: &str| {
                let words: Vec<_> = line.split_whitespace().collect();
                words[1].ends_with(&port) && words[3] == "01" && !words[4].ends_with(":00000000")
            };
            if !table.lines().skip(1).any(is_unread) {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::harness::program::PATIENCE, all_read).await.expect("what was sent is read");
    resident(&running).saturating_sub(before) / CROWD as u64
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_holds_more_than_ten_times_its_size_of_memory() {
    let mut worst = (0.0_f64, String::new());
    for request in attacks::held() {
        let each = held_by_each(&request).await;
        let cost = times(each, CONNECTION, &request);
        println!(
            "{:44} {:8} bytes: {each:8} held, {cost:5.2} times beyond a connection's",
            request.name,
            request.bytes.len()
        );
        assert!(cost < MOST, "{}: {each} bytes held", request.name);
        if cost > worst.0 {
            worst = (cost, request.name);
        }
    }
    println!("worst memory: {:.2} times, {}", worst.0, worst.1);
}
