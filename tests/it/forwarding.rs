//! What a backend sees: the client's request rebuilt, with the operator's credential and nothing of the hop.

mod bodies;
mod headers;
mod targets;

use keyward::clock::Clock;

use crate::harness::apis::{self, Api};
use crate::harness::proxy::ALICE;
use crate::harness::{Answer, Backend, Client, Proxy, Reply, Seen};

/// A backend that answers anything.
fn backend() -> Backend {
    Backend::start(|_, mut reply: Reply| async move {
        reply.json(200, "{}").await;
        reply
    })
}

/// A proxy whose configuration goes on with `more`.
fn proxy(backend: &Backend, more: &str) -> Proxy {
    Proxy::start(&Proxy::config_for(backend, more), &Proxy::keys_of(&[("alice", ALICE, "")]), Clock::system())
}

/// Sends a request as it is and gives what the backend saw of it.
async fn seen(proxy: &Proxy, backend: &Backend, request: &[u8]) -> Seen {
    let before = backend.seen().len();
    let answer = Client::once(proxy.address, request).await;
    assert_eq!(answer.status, 200, "{}\n{}", String::from_utf8_lossy(request), answer.text());
    backend.seen().get(before).cloned().expect("the backend was asked")
}

/// The header lines of a head, sorted, lower-case names.
fn lines(seen: &Seen) -> Vec<String> {
    let lines = seen.head.lines().skip(1).filter(|line| !line.is_empty());
    let mut lines = lines
        .map(|line| {
            let (name, value) = line.split_once(':').expect("a header");
            format!("{}:{value}", name.to_ascii_lowercase())
        })
        .collect::<Vec<_>>();
    lines.sort();
    lines
}

/// The line in which an upstream of this API looks for its credential.
fn credential(api: &Api) -> String {
    let scheme = if api.name == "openai" { "Bearer " } else { "" };
    format!("{}: {scheme}upstream-credential-{}", api.credential, api.name)
}

/// All of these must not be anywhere in a head.
fn has_none_of(seen: &Seen, words: &[&str]) {
    let head = seen.head.to_ascii_lowercase();
    for word in words {
        assert!(!head.contains(&word.to_ascii_lowercase()), "{word}: {head}");
    }
}

fn refused(answer: &Answer, backend: &Backend) {
    assert!((400..500).contains(&answer.status), "{}", answer.text());
    assert!(backend.seen().is_empty(), "{:?}", backend.seen());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_whole_head_is_as_expected() {
    for api in apis::ALL {
        let backend = backend();
        let proxy = proxy(&backend, "");
        let seen = seen(&proxy, &backend, &api.call(ALICE, "x-request-id: it-1\r\nuser-agent: sdk/1\r\n")).await;
        assert_eq!(seen.head.lines().next(), Some(&*format!("POST {} HTTP/1.1", api.path)));
        let mut expected = vec![
            "accept-encoding: identity".to_owned(),
            format!("content-length: {}", api.body.len()),
            "content-type: application/json".to_owned(),
            credential(api),
            format!("host: {}", backend.address),
            "user-agent: sdk/1".to_owned(),
            "x-request-id: it-1".to_owned(),
        ];
        expected.sort();
        assert_eq!(lines(&seen), expected, "{}", api.name);
        assert_eq!(seen.text(), api.body);
    }
}
