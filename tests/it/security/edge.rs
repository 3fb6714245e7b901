//! The edge: refuse, never repair.

use keyward::clock::Clock;

use crate::edge::{Attack, Edge, line};
use crate::harness::proxy::ALICE;
use crate::harness::{self, Backend, Client, Proxy};

/// Paths that are offered, each with what it is called with.
const OFFERED: [(&str, &str); 5] = [
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/messages"),
    ("POST", "/v1beta/models/m:generateContent"),
    ("POST", "/openai/deployments/m/chat/completions"),
    ("GET", "/v1/models"),
];

/// What some server takes for nothing, for a slash, for an end, or for a step.
const INSERTED: [&str; 24] = [
    "/",
    "/./",
    "/../",
    "/x/../",
    "\\",
    ";",
    ";a=b",
    "%2e",
    "%2E%2e/",
    "%2f",
    "%5c",
    "%3b",
    "%00",
    "%09",
    "%0d%0a",
    "%20",
    "%252f",
    "%c0%af",
    "%ef%bc%8f",
    "%u002f",
    "\u{e9}",
    "\u{2215}",
    "#",
    "%",
];

fn request(method: &str, path: &str) -> Vec<u8> {
    if method == "GET" {
        line(&format!("GET {path} HTTP/1.1")).into_bytes()
    } else {
        harness::post(path, ALICE, &harness::chat("m", false))
    }
}

/// At every place of every path, whatever could be normalised away: never the path it would become.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_path_is_normalised_into_an_allowed_one() {
    let edge = Edge::start();
    for (method, path) in OFFERED {
        let places = path
            .char_indices()
            .filter(|(_, c)| "/:".contains(*c))
            .flat_map(|(at, _)| [at, at + 1])
            .chain([path.len(), path.len() - 1]);
        let odd = places
            .flat_map(|at| INSERTED.iter().map(move |inserted| format!("{}{inserted}{}", &path[..at], &path[at..])));
        let cases = path
            .char_indices()
            .filter(|(_, c)| c.is_ascii_lowercase())
            .map(|(at, c)| format!("{}{}{}", &path[..at], c.to_ascii_uppercase(), &path[at + 1..]));
        let escaped =
            path.char_indices().skip(1).map(|(at, c)| format!("{}%{:02x}{}", &path[..at], c as u32, &path[at + 1..]));
        for bad in odd.chain(cases).chain(escaped) {
            // Another model's name, in the letter case it stands in, is that model; it is not a route's other spelling.
            let is_a_model = [("/v1beta/models/M:generateContent"), ("/openai/deployments/M/chat/completions")]
                .contains(&bad.as_str());
            if is_a_model {
                continue;
            }
            let answer = Client::once(edge.proxy.address, &request(method, &bad)).await;
            assert!([400, 404].contains(&answer.status), "{method} {bad:?}: {} {}", answer.status, answer.text());
        }
    }
    edge.is_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_method_is_the_routes_own_and_no_header_makes_it_another() {
    let backend = Backend::json("{}");
    let passthrough = "[[passthrough]]\npath = \"/v1/files\"\nmethods = [\"GET\", \"DELETE\"]\nupstream = \"openai\"\n";
    let config = Proxy::config_for(&backend, passthrough);
    let proxy = Proxy::start(&config, &Proxy::keys_of(&[("alice", ALICE, "")]), Clock::system());
    for method in ["TRACE", "CONNECT", "PATCH", "PUT", "POST", "OPTIONS", "get", "DELETE\u{0}", "PRI", "TRACK", "DEBUG"]
    {
        let answer = Client::once(proxy.address, line(&format!("{method} /v1/files HTTP/1.1")).as_bytes()).await;
        assert!([400, 405].contains(&answer.status), "{method}: {}", answer.status);
        assert!(!answer.text().contains(ALICE), "nothing is echoed: {}", answer.text());
    }
    assert_eq!(backend.seen().len(), 0);
    for name in ["x-http-method-override", "x-http-method", "x-method-override", "X_HTTP_METHOD_OVERRIDE"] {
        let request = line("GET /v1/files HTTP/1.1").replacen("host:", &format!("{name}: DELETE\r\nhost:"), 1);
        assert_eq!(Client::once(proxy.address, request.as_bytes()).await.status, 200);
    }
    for seen in backend.seen() {
        assert!(seen.head.starts_with("GET /v1/files ") && !seen.head.contains("DELETE"), "{}", seen.head);
    }
}

/// CVE-2026-48710, CVE-2026-48746: a backend that makes a URL of `Host` would find a path of the client's choosing in it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_is_one_bare_authority_and_the_targets_own() {
    let hosts = [
        "host: a/b?\r\n",
        "host: a/v1/models\r\n",
        "host: a?x\r\n",
        "host: a#x\r\n",
        "host: u@a\r\n",
        "host: u:p@a\r\n",
        "host: a b\r\n",
        "host: a,b\r\n",
        "host: a\\b\r\n",
        "host: a%2fb\r\n",
        "host: [::1\r\n",
        "host: [v1.a]\r\n",
        "host: a:80:80\r\n",
        "host: a:99999\r\n",
        "host: :80\r\n",
        "host: \r\n",
        "host: http://a\r\n",
        "host: \u{e9}\r\n",
        "host: a\r\nhost: a\r\n",
        "host: a\r\nHost: b\r\n",
        "",
    ];
    let mut attacks: Vec<_> = hosts
        .iter()
        .map(|host| Attack::new(format!("GET /v1/models HTTP/1.1\r\nx-api-key: {ALICE}\r\n{host}\r\n"), 400))
        .collect();
    for target in [
        "http://other/v1/models",
        "http://proxy:81/v1/models",
        "http://u@proxy/v1/models",
        "http:///v1/models",
        "ftp://proxy/v1/models",
        "//proxy/v1/models",
        "proxy/v1/models",
    ] {
        attacks.push(Attack::new(line(&format!("GET {target} HTTP/1.1")), 400));
    }
    Edge::start().refuses(&attacks).await;
}

/// Whoever the client says it is, wherever it wants to be sent, whatever it asks to be left out: the backend sees what we say.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_header_of_the_hop_of_identity_or_of_direction_reaches_a_backend() {
    let backend = Backend::json("{}");
    let proxy = Proxy::with_key(&backend, "");
    let body = harness::chat("m", false);
    let hostile = "connection: keep-alive, authorization, content-length, content-type, host, x-request-id, x-mine\r\nx-mine: 1\r\nkeep-alive: 5\r\n\
        proxy-connection: x\r\nproxy-authorization: Basic a\r\nte: trailers\r\ntrailer: x\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n\
        x-forwarded-for: 6.6.6.6\r\nx-forwarded-host: evil\r\nx-forwarded-proto: https\r\nx-forwarded-prefix: /x\r\nforwarded: for=6.6.6.6\r\n\
        x-real-ip: 6.6.6.6\r\ntrue-client-ip: 6.6.6.6\r\ncf-connecting-ip: 6.6.6.6\r\nx-original-url: /v1/evil\r\nx-rewrite-url: /v1/evil\r\n\
        x-http-method-override: DELETE\r\nx_forwarded_for: 6.6.6.6\r\nauthorization_: evil\r\nopenai-organization: evil\r\ncookie: evil=1\r\n\
        helicone-target-url: http://evil\r\nx-portkey-custom-host: http://evil\r\ncf-aig-metadata: evil\r\nexpect: 100-continue\r\n";
    let request = harness::post("/v1/chat/completions", ALICE, &body);
    let request =
        String::from_utf8(request).expect("text").replacen("host: proxy\r\n", &format!("host: proxy\r\n{hostile}"), 1);
    let answer = Client::once(proxy.address, request.as_bytes()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let seen = &backend.seen()[0];
    let mut names: Vec<_> = seen
        .head
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once(':'))
        .map(|(name, _)| name.to_ascii_lowercase())
        .collect();
    names.sort();
    let ours = ["accept-encoding", "authorization", "content-length", "content-type", "host", "x-request-id"];
    assert_eq!(names, ours, "{}", seen.head);
    assert_eq!(seen.header("authorization").as_deref(), Some("Bearer upstream-credential-openai"));
    assert_eq!(seen.header("host"), Some(backend.address.to_string()));
    assert!(!seen.head.contains("evil") && !seen.head.contains("6.6.6.6") && seen.text() == body);
}
