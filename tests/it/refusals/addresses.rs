//! From where: a key's own addresses, and whom to believe about them.

use super::{ALICE, BODY, SPEAKERS, Stage};

/// Header lines from a trusted peer, and whether the client behind it is 203.0.113.7.
const FROM_TRUSTED: &[(&str, bool)] = &[
    ("", false),
    ("x-forwarded-for: 203.0.113.7\r\n", true),
    ("x-forwarded-for: 198.51.100.1\r\n", false),
    // What stands left of the first untrusted hop is that hop's own claim.
    ("x-forwarded-for: 203.0.113.7, 198.51.100.1\r\n", false),
    ("x-forwarded-for: 198.51.100.1, 203.0.113.7\r\n", true),
    ("x-forwarded-for: 203.0.113.7, 127.0.0.9, 10.1.2.3\r\n", true),
    ("x-forwarded-for: 203.0.113.7\r\nx-forwarded-for: 198.51.100.1\r\n", false),
    ("x-forwarded-for: 198.51.100.1\r\nx-forwarded-for: 203.0.113.7\r\n", true),
    ("x-forwarded-for: 203.0.113.7:4711\r\n", true),
    ("x-forwarded-for: ::ffff:203.0.113.7\r\n", true),
    ("x-forwarded-for: [::ffff:203.0.113.7]:80\r\n", true),
    // A malformed entry ends the walk.
    ("x-forwarded-for: 203.0.113.7, \r\n", false),
    ("x-forwarded-for: 203.0.113.7, unknown\r\n", false),
    ("x-forwarded-for: 203.0.113.7, 10.1.2.3.4\r\n", false),
    ("x-forwarded-for: 203.0.113.7 10.1.2.3\r\n", false),
    ("x-forwarded-for: 203.0.113.07\r\n", false),
    ("x-forwarded-for: 0xcb007107\r\n", false),
    ("x-forwarded-for: 3405803783\r\n", false),
    ("x-forwarded-for: \u{ff12}03.0.113.7\r\n", false),
    ("forwarded: for=203.0.113.7\r\n", true),
    ("forwarded: For=\"203.0.113.7:80\";proto=https\r\n", true),
    ("forwarded: for=203.0.113.7, for=198.51.100.1\r\n", false),
    ("forwarded: for=203.0.113.7, for=_hidden\r\n", false),
    ("forwarded: for=203.0.113.7;for=203.0.113.7\r\n", false),
    ("forwarded: by=203.0.113.7\r\n", false),
    ("x-forwarded-for: 198.51.100.1\r\nforwarded: for=203.0.113.7\r\n", false),
    // Nobody is believed about these.
    ("x-real-ip: 203.0.113.7\r\n", false),
    ("true-client-ip: 203.0.113.7\r\n", false),
    ("cf-connecting-ip: 203.0.113.7\r\n", false),
    ("x-client-ip: 203.0.113.7\r\n", false),
    ("x_forwarded_for: 203.0.113.7\r\n", false),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trusted_peer_is_believed_about_the_hop_before_it() {
    let server = "trusted_proxies = [\"127.0.0.0/8\", \"10.0.0.0/8\"]";
    let stage = Stage::start(server, &[("alice", ALICE, "allowed_ips = [\"203.0.113.0/24\"]")]);
    for speaker in &SPEAKERS {
        for (headers, is_allowed) in FROM_TRUSTED {
            let answer = stage.ask(&speaker.call(ALICE, headers, BODY)).await;
            let expected = if *is_allowed { 200 } else { 403 };
            assert_eq!(answer.status, expected, "{} {headers:?}: {}", speaker.name, answer.text());
            if !is_allowed {
                assert_eq!(speaker.code(&answer), "ip_not_allowed");
            }
        }
    }
    let allowed = FROM_TRUSTED.iter().filter(|(_, is_allowed)| *is_allowed).count();
    assert_eq!(stage.backend.seen().len(), allowed * SPEAKERS.len());
    for seen in stage.backend.seen() {
        assert!(!seen.head.contains("203.0.113"), "where a client is stays here: {}", seen.head);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_other_peer_is_the_client_whatever_it_says() {
    let stage = Stage::alice("allowed_ips = [\"203.0.113.0/24\", \"2001:db8::/32\"]");
    for speaker in &SPEAKERS {
        for (headers, _) in FROM_TRUSTED {
            let answer = stage.ask(&speaker.call(ALICE, headers, BODY)).await;
            assert_eq!(answer.status, 403, "{headers:?}");
            assert!(speaker.message(&answer).contains("127.0.0.1"), "{}", answer.text());
        }
    }
    assert_eq!(stage.backend.seen().len(), 0);
    let here = Stage::alice("allowed_ips = [\"::ffff:127.0.0.1\"]");
    assert_eq!(here.ask(&SPEAKERS[0].call(ALICE, "", BODY)).await.status, 200, "a mapped address is its IPv4");
}
