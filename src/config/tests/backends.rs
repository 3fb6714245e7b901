//! Upstreams, and what names them: aliases, prices, passthrough paths.

use super::*;
use crate::policy::{DialectName, Price};
use crate::upstream::Kind;

#[test]
fn upstreams_are_named_once_and_serve_something() {
    assert_eq!(faults(""), ["1:1: upstreams: is missing: at least one [[upstreams]] is required"]);
    assert_eq!(faults("upstreams = []"), ["1:13: upstreams: is empty: at least one upstream is required"]);
    assert_eq!(faults("upstreams = [5]"), ["1:14: upstreams[0]: 5 is not a table"]);
    assert_eq!(faults("upstreams = 5"), ["1:13: upstreams: 5 is not a list of tables"]);
    assert_eq!(
        upstream_fault("models = []"),
        "2:10: upstreams[0].models: is empty, so this upstream would serve nothing; [\"*\"] is every model"
    );
    assert_eq!(
        upstream_fault("models = [\"a b\"]"),
        "2:11: upstreams[0].models[0]: \"a b\" is not a model name or a pattern with \"*\""
    );
    assert_eq!(upstream_fault("name = \"a b\""), "2:8: upstreams[0].name: \"a b\" is not 1 to 64 of A-Z a-z 0-9 . _ -");
    assert_eq!(upstream_fault("retries = 11"), "2:11: upstreams[0].retries: 11 is not a whole number from 0 to 10");
    assert_eq!(upstream_fault("dialect = \"sandbox\""), "4:7: upstreams[0].url: the built-in backend takes none");
    assert_eq!(faults(&LEAST.repeat(2)), ["6:8: upstreams[1].name: \"s\" is the name of upstreams[0] already"]);
    let config = good("");
    assert_eq!((config.upstreams[0].kind, config.upstreams[0].urls.len()), (Kind::Sandbox, 0));
}

#[test]
fn urls_are_taken_apart_and_never_told() {
    let parsed = upstreams::urls::parse_url("https://api.example.com/base/").unwrap();
    assert_eq!((parsed.tls, &*parsed.host, parsed.port, &*parsed.prefix), (true, "api.example.com", 443, "/base"));
    let parsed = upstreams::urls::parse_url("http://[::1]:8000").unwrap();
    assert_eq!((parsed.tls, &*parsed.host, parsed.port, &*parsed.prefix), (false, "::1", 8000, ""));
    assert_eq!(parsed.authority.as_str(), "[::1]:8000");
    for (bad, why) in [
        ("api.example.com", "is not an http or https URL"),
        ("ftp://h", "is not an http or https URL"),
        ("https://", "names no host"),
        ("https://:80", "names no host"),
        ("https://a b", "names no host"),
        ("https://[::1", "names no host"),
        ("https://h:0", "names a port that is not 1 to 65535"),
        ("https://h:65536", "names a port that is not 1 to 65535"),
        ("https://h:", "names a port that is not 1 to 65535"),
        ("https://me:S3CRET@h", "carries a user name; a credential belongs into api_key"),
        ("https://h?key=S3CRET", "carries a query or a fragment; a URL without one is expected"),
        ("https://h#x", "carries a query or a fragment; a URL without one is expected"),
        ("https://h/a/../b", "has a path that backends could read in different ways"),
        ("https://h/a//b", "has a path that backends could read in different ways"),
        ("https://h/%2e", "has a path that backends could read in different ways"),
        ("https://h//", "has a path that backends could read in different ways"),
    ] {
        assert_eq!(upstreams::urls::parse_url(bad), Err(why), "{bad}");
        let told = upstream_fault(&format!("url = \"{bad}\""));
        assert_eq!(told, format!("2:7: upstreams[0].url: {why}"));
    }
    assert_eq!(upstream_fault("url = [\"http://h\", \"http://h\"]"), "2:20: upstreams[0].url[1]: is listed twice");
    let text = "[[upstreams]]\nname=\"a\"\ndialect=\"openai\"\nurl=[\"http://h/v1\", \"http://g\"]\nmodels=[\"*\"]";
    let config = parse_text(text).unwrap();
    assert_eq!(config.upstreams[0].kind, Kind::Http(DialectName::OpenAi));
    assert_eq!(config.warnings, [], "a version at the end is as good as none: it is not sent twice");
}

const HTTP: &str = "[[upstreams]]\nname=\"a\"\ndialect=\"openai\"\nmodels=[\"*\"]\nurl=\"http://h\"\n";

/// The one fault of an HTTP upstream with this line added.
fn http_fault(line: &str) -> String {
    fault(&format!("{HTTP}{line}")).split_once(": ").unwrap().1.to_owned()
}

#[test]
fn endpoints_have_weights_and_are_few_enough() {
    let text = HTTP.replace("\"http://h\"", "[\"http://h\", { url = \"http://g\", weight = 3 }]");
    let urls = &parse_text(&text).unwrap().upstreams[0].urls;
    assert_eq!(urls.iter().map(|target| target.weight).collect::<Vec<_>>(), [1, 3]);
    let twice = text.replace("http://g", "http://h");
    assert_eq!(faults(&twice), ["5:26: upstreams[0].url[1].url: is listed twice"]);
    let none = text.replace("weight = 3", "weight = 0");
    assert_eq!(faults(&none), ["5:47: upstreams[0].url[1].weight: 0 is not a whole number from 1 to 1000"]);
    let many = (0..65).map(|n| format!("\"http://h{n}\"")).collect::<Vec<_>>().join(",");
    let told = faults(&HTTP.replace("\"http://h\"", &format!("[{many}]")));
    assert_eq!(told, ["5:5: upstreams[0].url: holds 65 URLs; 64 is the most"]);
}

#[test]
fn headers_of_framing_hop_and_credential_are_not_the_operators() {
    for name in [
        "Host",
        "content-length",
        "transfer-encoding",
        "connection",
        "te",
        "upgrade",
        "authorization",
        "x-api-key",
        "api-key",
        "x-goog-api-key",
        "proxy-authorization",
        "content-type",
        "accept-encoding",
    ] {
        let told = http_fault(&format!("headers = {{ {name} = \"S3CRET\" }}"));
        let why = "this header is not the operator's to set; a credential belongs into api_key";
        assert_eq!(told, format!("upstreams[0].headers.{name}: {why}"));
    }
    let twice = http_fault("headers = { x-a = \"1\", X-A = \"2\" }");
    assert!(twice.ends_with("this header is there already, in another letter case"));
    let config = parse_text(&format!("{HTTP}headers = {{ openai-organization = \"org-1\" }}")).unwrap();
    assert_eq!(config.upstreams[0].headers[0].1, "org-1");
    assert!(!format!("{config:?}").contains("org-1"), "it may be a secret");
    assert_eq!(config.warnings, []);
}

#[test]
fn credentials_may_be_several_and_each_once() {
    let config = parse_text(&format!("{HTTP}api_key = [\"one\", \"two\"]")).unwrap();
    assert_eq!(config.upstreams[0].credentials.len(), 2);
    let twice = parse_text(&format!("{HTTP}api_key = [\"one\", \"one\"]")).unwrap();
    assert_eq!(twice.upstreams[0].credentials.len(), 1, "it is taken once, and told");
    assert_eq!(twice.warnings.iter().filter(|warning| warning.problem == "is listed twice").count(), 1);
    assert_eq!(
        http_fault("api_key = []"),
        "upstreams[0].api_key: is empty; leave it out where the upstream wants none"
    );
}

#[test]
fn only_answers_that_can_mean_that_nothing_was_done_are_tried_again() {
    let told = http_fault("retry_on = [500]");
    assert_eq!(
        told,
        "upstreams[0].retry_on[0]: 500 does not say that nothing was done; 429 and 503 may be tried again"
    );
    let config = parse_text(&format!("{HTTP}retry_on = [429, 503]")).unwrap();
    assert_eq!(config.upstreams[0].retry_on.len(), 2);
}

#[test]
fn probes_proxies_and_certificates_are_what_they_should_be() {
    assert_eq!(
        http_fault("probe = { expect = 200 }"),
        "upstreams[0].probe.expect: needs a path: a connection has no status"
    );
    assert!(http_fault("probe = { path = \"/a/../b\" }").contains("is not a path such as"));
    assert!(
        http_fault("probe = { interval = \"1ms\" }").contains("upstreams[0].probe.interval: \"1ms\" is not within")
    );
    assert!(http_fault("proxy = \"https://p\"").ends_with("an http URL with host and port alone is expected"));
    let directory = env!("CARGO_MANIFEST_DIR");
    let key = http_fault(&format!("tls = {{ cert = \"{directory}/Cargo.toml\" }}"));
    assert_eq!(key, "upstreams[0].tls.key: is missing: a certificate is of no use without its key");
    let ca = http_fault(&format!("tls = {{ ca = \"{directory}/Cargo.toml\" }}"));
    assert_eq!(ca, "upstreams[0].tls.ca: holds no certificate that can be trusted as a root");
    assert!(http_fault("http = \"3\"").contains("is not one of \"1.1\", \"2\", \"auto\""));
    for name in ["headers = {}", "probe = {}", "http = \"2\"", "tls = {}", "proxy = \"http://p\""] {
        let told = faults(&format!("{LEAST}{name}\n"));
        assert!(told.len() == 1 && told[0].ends_with("the built-in backend takes none"), "{told:?}");
    }
}

#[test]
fn limits_of_a_pool_are_never_zero() {
    for name in ["max_outstanding", "max_outstanding_per_endpoint", "eject_after"] {
        assert!(http_fault(&format!("{name} = 0")).contains("0 is not a whole number from 1 to"));
    }
    let config = parse_text(HTTP).unwrap();
    assert_eq!(config.upstreams[0].health, crate::upstream::HealthSettings::default());
}

#[test]
fn aliases_stand_for_names_and_not_for_aliases() {
    assert_eq!(
        fault("[models]\na = \"b\"\nb = \"c\""),
        "2:5: models.a: \"b\" is itself an alias; an alias stands for a model's own name"
    );
    assert!(fault("[models]\na = \"a\"").contains("\"a\" is itself an alias"));
    assert!(fault("[models]\n\"a b\" = \"c\"").starts_with("2:9: models.\"a b\": the alias is not a model name"));
    assert!(fault("[models]\na = 5").starts_with("2:5: models.a: 5 is not a model name"));
    let config = good("[models]\nfast = \"gpt-4o-mini\"");
    assert_eq!(config.aliases, [(ModelName::new("fast").unwrap(), ModelName::new("gpt-4o-mini").unwrap())]);
    let text = format!("[models]\nfast = \"gpt-4o-mini\"\n{}", LEAST.replace('*', "claude-*"));
    let warning = parse_text(&text).unwrap().warnings.remove(0);
    assert_eq!(warning.problem, "no upstream serves the model this alias stands for");
}

#[test]
fn prices_default_to_the_price_of_input() {
    let config = good(
        "[prices.\"gpt-*\"]\ninput = 7\n[prices.o3]\ninput = 1\ncached_input = 2\ncache_write = 3\noutput = 4\nrequest = 5",
    );
    let seven = Price { input: 7, cached_input: 7, cache_write: 7, output: 7, request: 0 };
    assert_eq!(config.prices.price("gpt-4o"), seven);
    assert_eq!(config.prices.price("o3"), Price { input: 1, cached_input: 2, cache_write: 3, output: 4, request: 5 });
    assert_eq!(
        fault("[prices.x]\noutput = 1"),
        "1:1: prices.x.input: is missing: units per million input tokens is required"
    );
    assert_eq!(
        fault("[prices.\"a b\"]\ninput = 1"),
        "1:1: prices.\"a b\": the price's name is not a model name or a pattern with \"*\""
    );
    assert_eq!(fault("[prices]\nx = 1"), "2:5: prices.x: 1 is not a table");
}

#[test]
fn passthrough_paths_are_exact_new_and_lead_somewhere() {
    let http_upstream = "[[upstreams]]\nname=\"a\"\ndialect=\"openai\"\nurl=\"http://h\"\nmodels=[\"*\"]\n";
    let told = |path: &str, upstream: &str| {
        let route = format!("[[passthrough]]\npath = \"{path}\"\nmethods = [\"GET\"]\nupstream = \"{upstream}\"\n");
        fault(&format!("{route}{http_upstream}"))
    };
    for path in ["/v1/chat/completions", "/v1/images/x", "/openai/deployments/a", "/v1/key"] {
        assert_eq!(told(path, "a"), format!("2:8: passthrough[0].path: {path:?} is a path that is routed already"));
    }
    for path in ["v1/files", "/", "/v1//files", "/v1/../x", "/v1/%66iles", "/v1/f?x", "/v1/files/", "/v1;x"] {
        let expected = "is not an exact path such as \"/v1/files\", nothing in it encoded";
        assert_eq!(told(path, "a"), format!("2:8: passthrough[0].path: {path:?} {expected}"));
    }
    assert_eq!(told("/v1/files", "b"), "4:12: passthrough[0].upstream: \"b\" is not the name of an upstream");
    assert_eq!(
        told("/v1/files", "s"),
        "4:12: passthrough[0].upstream: the built-in backend knows no paths but the dialects' own"
    );
    let text = "[[passthrough]]\npath = \"/v1/files\"\nmethods = [\"TRACE\"]\nupstream = \"a\"\n";
    assert_eq!(
        fault(&format!("{text}{http_upstream}")),
        "3:12: passthrough[0].methods[0]: \"TRACE\" is not one of \"GET\", \"POST\", \"DELETE\", \"HEAD\", \"OPTIONS\""
    );
    let config = good(&format!("{}{http_upstream}", text.replace("TRACE", "GET")));
    assert_eq!(config.server.passthrough[0].methods, [http::Method::GET]);
    assert_eq!((&*config.server.passthrough[0].path, config.server.passthrough[0].model_free), ("/v1/files", false));
}

#[test]
fn a_fault_in_an_upstream_is_not_told_again_where_it_is_named() {
    let text = "[[passthrough]]\npath = \"/v1/files\"\nmethods = [\"GET\"]\nupstream = \"a\"\n\
                [[upstreams]]\nname=\"a\"\ndialect=\"opnai\"\nmodels=[\"*\"]\n";
    assert_eq!(faults(text).len(), 1);
}

#[test]
fn fallbacks_are_lists_of_other_names() {
    let told = fault("[fallbacks]\na = [\"b\", \"a\"]");
    assert_eq!(told, "2:11: fallbacks.a[1]: \"a\" is no fallback for itself");
    assert!(fault("[fallbacks]\na = [\"b\", \"b\"]").contains("\"b\" is listed twice"));
    assert!(fault("[fallbacks]\na = []").contains("is empty"));
    assert!(fault("[fallbacks]\na = \"b\"").contains("is not a list of model names"));
    assert!(fault("[fallbacks]\na = [\"gpt-*\"]").contains("\"gpt-*\" is not a model name"));
    assert!(fault("[fallbacks]\n\"a*\" = [\"b\"]").contains("what has fallbacks is not a model name"));
    let name = |name| ModelName::new(name).unwrap();
    let config = good("[fallbacks]\na = [\"c\", \"b\"]\nb = [\"a\"]");
    assert_eq!(config.fallbacks, [(name("a"), vec![name("c"), name("b")]), (name("b"), vec![name("a")])]);
    let http = HTTP.replace("[\"*\"]", "[\"gpt-*\"]");
    assert_ne!(http, HTTP);
    let text = format!(
        "[models]\nfast = \"gpt-4o-mini\"\n[fallbacks]\ngpt-4o = [\"fast\", \"slow\"]\no3 = [\"fast\"]\n{http}"
    );
    let warnings = parse_text(&text).unwrap().warnings;
    let told = warnings.iter().map(|warning| (warning.path.as_str(), warning.problem.as_str())).collect::<Vec<_>>();
    let never = "no upstream serves the model these stand in for, so they are never tried";
    assert_eq!(told, [("fallbacks.gpt-4o[1]", "no upstream serves this fallback"), ("fallbacks.o3", never)]);
}
