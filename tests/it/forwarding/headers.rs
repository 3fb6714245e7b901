//! Header by header.

use super::{backend, credential, has_none_of, lines, proxy, refused, seen};
use crate::harness::proxy::ALICE;
use crate::harness::{Client, apis};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_clients_secret_is_replaced_wherever_it_was() {
    let secrets = [
        format!("authorization: Bearer {ALICE}\r\n"),
        format!("Authorization: bearer {ALICE}\r\n"),
        format!("x-api-key: {ALICE}\r\n"),
        format!("api-key: {ALICE}\r\n"),
        format!("x-goog-api-key: {ALICE}\r\n"),
        // The same one twice is one.
        format!("x-api-key: {ALICE}\r\nauthorization: Bearer {ALICE}\r\n"),
    ];
    for api in apis::ALL {
        let backend = backend();
        let proxy = proxy(&backend, "");
        for secret in &secrets {
            let request = String::from_utf8(api.call("-", secret)).expect("text");
            let own = request.lines().find(|line| line.starts_with(api.credential)).expect("a credential").to_owned();
            let request = request.replacen(&format!("{own}\r\n"), "", 1);
            let seen = seen(&proxy, &backend, request.as_bytes()).await;
            has_none_of(&seen, &[ALICE]);
            let credentials = ["authorization", "x-api-key", "api-key", "x-goog-api-key"];
            let credentials = lines(&seen)
                .into_iter()
                .filter(|line| credentials.iter().any(|name| line.starts_with(&format!("{name}:"))));
            assert_eq!(credentials.collect::<Vec<_>>(), [credential(api)], "{} {secret}", api.name);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_in_the_query_is_replaced_too() {
    for api in apis::ALL {
        let backend = backend();
        let proxy = proxy(&backend, "");
        let (path, body) = (api.path, api.body);
        let separator = if path.contains('?') { '&' } else { '?' };
        let length = body.len();
        let request = format!(
            "POST {path}{separator}key={ALICE} HTTP/1.1\r\nhost: proxy\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        let seen = seen(&proxy, &backend, request.as_bytes()).await;
        has_none_of(&seen, &[ALICE]);
        assert_eq!(seen.path(), path);
        assert!(lines(&seen).contains(&credential(api)), "{}", seen.head);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_the_hop_or_of_who_the_client_claims_to_be_goes_on() {
    let more = "connection: keep-alive, x-mine\r\nx-mine: 1\r\nkeep-alive: timeout=5\r\nproxy-connection: keep-alive\r\nproxy-authorization: Basic YQ==\r\n\
        te: trailers\r\ntrailer: x-t\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\nexpect: 100-continue\r\n\
        x-forwarded-for: 192.0.2.9\r\nx-forwarded-host: evil\r\nx-forwarded-proto: https\r\nx-forwarded-prefix: /admin\r\nforwarded: for=192.0.2.9\r\n\
        x-real-ip: 192.0.2.9\r\ntrue-client-ip: 192.0.2.9\r\ncf-connecting-ip: 192.0.2.9\r\nx-original-url: /admin\r\nx-rewrite-url: /admin\r\n\
        x-http-method-override: DELETE\r\nx-http-method: DELETE\r\nx-method-override: DELETE\r\nx_api_key: a\r\ncontent_length: 1\r\n\
        openai-organization: theirs\r\nopenai-project: theirs\r\nx-goog-user-project: theirs\r\nocp-apim-subscription-key: theirs\r\n";
    for api in apis::ALL {
        let backend = backend();
        let proxy = proxy(&backend, "");
        let seen = seen(&proxy, &backend, &api.call(ALICE, more)).await;
        has_none_of(
            &seen,
            &[
                "connection",
                "x-mine",
                "keep-alive",
                "proxy-",
                "te:",
                "trailer",
                "upgrade",
                "http2-settings",
                "expect",
                "forwarded",
                "192.0.2.9",
                "x-real-ip",
                "true-client-ip",
                "cf-connecting-ip",
                "/admin",
                "method",
                "x_api_key",
                "content_length",
                "evil",
                "theirs",
            ],
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_client_names_hop_by_hop_takes_nothing_of_ours_away() {
    for api in apis::ALL {
        let backend = backend();
        let proxy = proxy(&backend, "");
        let named = "connection: authorization, x-api-key, api-key, x-goog-api-key, host, content-length, content-type, accept-encoding, x-request-id\r\nx-request-id: it-2\r\n";
        let seen = seen(&proxy, &backend, &api.call(ALICE, named)).await;
        for ours in [
            credential(api),
            format!("host: {}", backend.address),
            format!("content-length: {}", api.body.len()),
            "x-request-id: it-2".to_owned(),
            "content-type: application/json".to_owned(),
            "accept-encoding: identity".to_owned(),
        ] {
            assert!(lines(&seen).contains(&ours), "{ours}: {}", seen.head);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_else_goes_on_as_it_came() {
    let backend = backend();
    let proxy = proxy(&backend, "");
    let kept = [
        "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "tracestate: a=b,c=d",
        "anthropic-version: 2023-06-01",
        "anthropic-beta: one,two",
        "idempotency-key: k",
        "x-stainless-lang: python",
        "accept: text/event-stream",
        "user-agent: caf\u{e9}",
        "x-twice: 1",
        "x-twice: 2",
    ];
    let more = kept.map(|line| format!("{line}\r\n")).concat();
    for api in apis::ALL {
        let seen = seen(&proxy, &backend, &api.call(ALICE, &more)).await;
        for line in kept {
            assert!(lines(&seen).iter().any(|seen| seen == line), "{line}: {}", seen.head);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_codings_that_can_be_metered_are_asked_for() {
    let backend = backend();
    let proxy = proxy(&backend, "");
    for (asked, passed) in [
        ("gzip, deflate, br, zstd", "gzip, deflate, br"),
        ("zstd", "identity"),
        ("*", "identity"),
        ("br;q=0.5, gzip;q=0", "br"),
    ] {
        let more = format!("accept-encoding: {asked}\r\n");
        let seen = seen(&proxy, &backend, &apis::ANTHROPIC.stream_call(ALICE, &more)).await;
        assert_eq!(seen.header("accept-encoding").as_deref(), Some(passed), "{asked}");
    }
    // Out of a compressed stream nothing can be taken.
    let seen = seen(&proxy, &backend, &apis::OPENAI.stream_call(ALICE, "accept-encoding: gzip\r\n")).await;
    assert_eq!(seen.header("accept-encoding").as_deref(), Some("identity"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chunked_request_goes_on_with_its_length_and_without_trailers() {
    let backend = backend();
    let proxy = proxy(&backend, "");
    let body = apis::OPENAI.body;
    let (start, rest) = body.split_at(10);
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: proxy\r\nauthorization: Bearer {ALICE}\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\ntrailer: x-t\r\n\r\n{:x};a=b\r\n{start}\r\n{:x}\r\n{rest}\r\n0\r\nx-t: 1\r\nauthorization: Bearer other\r\n\r\n",
        start.len(),
        rest.len()
    );
    let seen = seen(&proxy, &backend, request.as_bytes()).await;
    assert_eq!(seen.text(), body);
    assert_eq!(seen.header("content-length"), Some(body.len().to_string()));
    has_none_of(&seen, &["transfer-encoding", "trailer", "x-t", "other"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_secrets_never_reach_a_backend() {
    let backend = backend();
    let proxy = proxy(&backend, "");
    for more in
        ["x-api-key: other-secret-00\r\n", "authorization: Bearer other-secret-00\r\n", "api-key: other-secret-00\r\n"]
    {
        refused(&Client::once(proxy.address, &apis::OPENAI.call(ALICE, more)).await, &backend);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_without_a_credential_gets_none() {
    let backend = backend();
    let text = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\ndrain_timeout = \"100ms\"\n[[upstreams]]\nname = \"local\"\ndialect = \"openai\"\nurl = \"http://{}\"\nmodels = [\"*\"]\n",
        backend.address
    );
    let keys = crate::harness::Proxy::keys_of(&[("alice", ALICE, "")]);
    let proxy = crate::harness::Proxy::start(&text, &keys, keyward::clock::Clock::system());
    let seen = seen(&proxy, &backend, &apis::OPENAI.call(ALICE, "")).await;
    has_none_of(&seen, &["authorization", "api-key", ALICE]);
}
