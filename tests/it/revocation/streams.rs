//! Event streams, between two events and while nothing flows.

use keyward::clock::NS_PER_SECOND;

use super::{ALICE, Gated, OLD, disable, ends_with, previous, remove, settled, start, streaming};
use crate::harness::{Proxy, apis};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disabling_a_key_ends_its_idle_streams() {
    for api in apis::ALL {
        let gated = Gated::start();
        let (proxy, _) = start(&gated, "", "");
        let entry = proxy.entry(ALICE);
        let (one, two) = (streaming(&proxy, api, ALICE).await, streaming(&proxy, api, ALICE).await);
        disable(&proxy);
        let lines = [ends_with("key_disabled", api, one).await, ends_with("key_disabled", api, two).await];
        gated.is_cancelled().await;
        settled(&proxy, entry.limits(), &lines).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn removing_a_key_ends_its_idle_streams() {
    for api in apis::ALL {
        let gated = Gated::start();
        let (proxy, _) = start(&gated, "", "");
        let entry = proxy.entry(ALICE);
        let running = streaming(&proxy, api, ALICE).await;
        remove(&proxy);
        let line = ends_with("key_deleted", api, running).await;
        gated.is_cancelled().await;
        settled(&proxy, entry.limits(), &[line]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_expires_ends_its_idle_streams_and_not_before() {
    for api in apis::ALL {
        let gated = Gated::start();
        let (proxy, clock) = start(&gated, "expires_at = \"2027-01-15T08:00:10Z\"", "");
        let entry = proxy.entry(ALICE);
        let mut running = streaming(&proxy, api, ALICE).await;
        clock.advance_ns(10 * NS_PER_SECOND - 1_000_000);
        gated.go.add_permits(1);
        let second = running.0.chunk().await.expect("still running");
        assert_eq!(second, api.events[1].as_bytes());
        clock.advance_ns(1_000_000);
        let line = ends_with("key_expired", api, running).await;
        gated.is_cancelled().await;
        settled(&proxy, entry.limits(), &[line]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_grace_ends_the_streams_of_the_old_secret_alone() {
    for api in apis::ALL {
        let gated = Gated::start();
        let (proxy, clock) = start(&gated, &previous("2027-01-15T08:00:10Z"), "");
        let entry = proxy.entry(ALICE);
        let (old, mut new) = (streaming(&proxy, api, OLD).await, streaming(&proxy, api, ALICE).await);
        clock.advance_ns(10 * NS_PER_SECOND);
        let line = ends_with("grace_ended", api, old).await;
        gated.is_cancelled().await;
        gated.let_go();
        let (text, is_whole) = super::rest(&mut new.0).await;
        assert!(is_whole && api.plain_stream().ends_with(&text), "{text}");
        let other = crate::harness::log::access(&new.1.header(api.request_id).expect("an id")).await;
        assert_eq!(other["units"], apis::UNITS.to_string());
        settled(&proxy, entry.limits(), &[line, other]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grace_ended_early_ends_the_streams_of_the_old_secret() {
    let api = &apis::OPENAI;
    let gated = Gated::start();
    let (proxy, _) = start(&gated, &previous("2027-02-01T00:00:00Z"), "");
    let running = streaming(&proxy, api, OLD).await;
    proxy.put(&Proxy::keys_of(&[("alice", ALICE, "")]));
    ends_with("grace_ended", api, running).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_without_a_grace_ends_the_streams_of_the_secret_before() {
    let api = &apis::ANTHROPIC;
    let gated = Gated::start();
    let (proxy, _) = start(&gated, "", "");
    let running = streaming(&proxy, api, ALICE).await;
    proxy.put(&Proxy::keys_of(&[("alice", "alice-secret-0002", "")]));
    ends_with("grace_ended", api, running).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_with_a_grace_and_any_other_change_leaves_streams_alone() {
    let api = &apis::GEMINI;
    let gated = Gated::start();
    let (proxy, _) = start(&gated, "", "");
    let mut running = streaming(&proxy, api, OLD_IS_CURRENT).await;
    for lines in [
        "rpm_limit = 1",
        "models_allowed = [\"other\"]",
        "allowed_ips = [\"192.0.2.1\"]",
        "quota_limit = 1",
        "expires_at = \"2027-02-01T00:00:00Z\"",
    ] {
        proxy.put(&Proxy::keys_of(&[("alice", OLD_IS_CURRENT, lines)]));
    }
    gated.let_go();
    let (text, is_whole) = super::rest(&mut running.0).await;
    assert!(is_whole && api.plain_stream().ends_with(&text), "{text}");
}

const OLD_IS_CURRENT: &str = ALICE;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_keys_streams_go_on() {
    for api in apis::ALL {
        let gated = Gated::start();
        let (proxy, _) = start(&gated, "", "");
        const BOB: &str = "bobs-secret-0001";
        proxy.put(&Proxy::keys_of(&[("bob", BOB, "")]));
        let (alices, mut bobs) = (streaming(&proxy, api, ALICE).await, streaming(&proxy, api, BOB).await);
        disable(&proxy);
        ends_with("key_disabled", api, alices).await;
        gated.let_go();
        let (text, is_whole) = super::rest(&mut bobs.0).await;
        assert!(is_whole && api.plain_stream().ends_with(&text), "{text}");
        proxy.quiet().await;
        assert_eq!(proxy.entry(BOB).limits().quota_used(), apis::UNITS);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_may_let_streams_run_on() {
    let api = &apis::OPENAI;
    let gated = Gated::start();
    let (proxy, clock) = start(&gated, "expires_at = \"2027-01-15T08:00:10Z\"", "cut_streams = false");
    let mut running = streaming(&proxy, api, ALICE).await;
    clock.advance_ns(20 * NS_PER_SECOND);
    // Time for several looks at the deadlines, none of which is to cut it: with less time a fault could be missed, but nothing else go wrong.
    tokio::time::sleep(std::time::Duration::from_millis(400)).await;
    gated.let_go();
    let (text, is_whole) = super::rest(&mut running.0).await;
    assert!(is_whole && api.plain_stream().ends_with(&text), "{text}");
    let refused = crate::harness::Client::once(proxy.address, &api.call(ALICE, "")).await;
    assert_eq!(refused.status, 401);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_is_charged_with_what_was_metered() {
    let api = &apis::ANTHROPIC;
    let gated = Gated::start();
    let (proxy, _) = start(&gated, "", "");
    let entry = proxy.entry(ALICE);
    let mut running = streaming(&proxy, api, ALICE).await;
    gated.go.add_permits(3);
    // What comes at once may leave in one piece.
    let (expected, mut came) = (api.events[1..4].concat(), Vec::new());
    while came.len() < expected.len() {
        came.extend(running.0.chunk().await.expect("the next events"));
    }
    assert_eq!(String::from_utf8_lossy(&came), expected);
    disable(&proxy);
    let (event, _) = super::rest(&mut running.0).await;
    assert!(event.contains("key_disabled"), "{event}");
    let line = crate::harness::log::access(&running.1.header("request-id").expect("an id")).await;
    assert_eq!((line["input_tokens"].as_str(), line["output_tokens"].as_str()), ("11", "7"));
    settled(&proxy, entry.limits(), &[line]).await;
}
