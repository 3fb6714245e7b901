//! Forms that parsers read differently: boundaries, names, parts. The backend would find another model in each than we would.

use super::{Refusing, post};
use crate::harness::{Backend, Client, Proxy};

const CALLS: [&str; 2] = ["/v1/audio/transcriptions", "/v1/images/edits"];

fn named(disposition: &str, value: &str) -> String {
    format!("--b\r\nContent-Disposition: {disposition}\r\n\r\n{value}\r\n")
}

fn field(name: &str, value: &str) -> String {
    named(&format!("form-data; name=\"{name}\""), value)
}

const FILE: &str = "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\nContent-Type: audio/wav\r\n\r\nRIFF\r\n";

/// Forms with a second reading. `m` is what a naive reader would find.
fn forms() -> Vec<(String, &'static str)> {
    let model = field("model", "m");
    let form = |parts: &[&str]| format!("{}--b--\r\n", parts.concat());
    let multipart = "invalid_multipart";
    vec![
        (form(&[FILE]), "missing_required_parameter"),
        (form(&[FILE, &model, &field("model", "x")]), "duplicate_member"),
        (form(&[FILE, &model, &model]), "duplicate_member"),
        (form(&[FILE, &model, &field("Model", "x")]), "misspelled_member"),
        (form(&[FILE, &model, &field("model[]", "x")]), "misspelled_member"),
        (form(&[FILE, &model, &field("model[0]", "x")]), "misspelled_member"),
        (form(&[FILE, &model, &field("model.id", "x")]), "misspelled_member"),
        (form(&[FILE, &field("model", "m ")]), "invalid_value"),
        (form(&[FILE, &field("model", "m\r\n")]), "invalid_value"),
        (form(&[FILE, &field("model", "")]), "invalid_value"),
        (form(&[FILE, &model, &field("api_base", "http://evil")]), "member_not_allowed"),
        (form(&[FILE, &model, &field("models", "x")]), "member_not_allowed"),
        (form(&[FILE, &model, &named("form-data; name*=utf-8''model", "x")]), multipart),
        (form(&[FILE, &named("form-data; name=\"model\"; name*=utf-8''x", "m")]), multipart),
        (form(&[FILE, &named("form-data; name=\"model\"; name=\"x\"", "m")]), multipart),
        (form(&[FILE, &model, &named("form-data; name=\"model\\\"\"", "x")]), multipart),
        (form(&[FILE, &model, &named("form-data", "x")]), multipart),
        (form(&[FILE, &model, &named("attachment; name=\"model\"", "x")]), multipart),
        (form(&[FILE, &model, "--b\r\n\r\nx\r\n"]), multipart),
        (form(&[FILE, &model, "--b\r\nContent-Disposition: form-data;\r\n name=\"model\"\r\n\r\nx\r\n"]), multipart),
        (form(&[FILE, &model, "--b\r\nContent-Disposition : form-data; name=\"model\"\r\n\r\nx\r\n"]), multipart),
        (form(&[FILE, &model, "--b\nContent-Disposition: form-data; name=\"model\"\n\nx\n"]), multipart),
        (
            form(&[
                FILE,
                &model,
                "--b\r\nContent-Disposition: form-data; name=\"a\"\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nx\r\n",
            ]),
            multipart,
        ),
        (format!("{FILE}{model}--b--\r\n{}--b--\r\n", field("model", "x")), multipart),
        (format!("{FILE}{model}"), multipart),
        (format!("{FILE}{model}--b"), multipart),
        (format!("{FILE}{model}--c--\r\n"), multipart),
        (format!("{}{FILE}{model}--b--\r\n", "{\"model\":\"x\"}\r\n"), multipart),
        (format!("{FILE}--bx\r\n{model}--b--\r\n"), multipart),
        (String::new(), multipart),
    ]
}

/// Content types with a second boundary, or with one that is none.
const TYPES: &[&str] = &[
    "multipart/form-data",
    "multipart/form-data;",
    "multipart/form-data; boundary=",
    "multipart/form-data; boundary=\"\"",
    "multipart/form-data; boundary=b; boundary=c",
    "multipart/form-data; boundary=c; boundary=b",
    "multipart/form-data; boundary*=utf-8''b",
    "multipart/form-data; boundary*0=b; boundary*1=c",
    "multipart/form-data; boundary=b c",
    "multipart/form-data; boundary=\"b\\\"\"",
    "multipart/form-data; boundary=\"b",
    "multipart/form-data; boundary=b, multipart/form-data; boundary=c",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_form_that_two_parsers_read_differently_is_refused() {
    let mut proxy = Refusing::start().await;
    for path in CALLS {
        for (form, name) in forms() {
            proxy.refuses(path, "content-type: multipart/form-data; boundary=b\r\n", form.as_bytes(), 400, name).await;
        }
    }
    proxy.is_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_form_has_one_boundary() {
    let mut proxy = Refusing::start().await;
    let form = format!("{FILE}{}--b--\r\n", field("model", "m"));
    let long = format!("content-type: multipart/form-data; boundary={}\r\n", "b".repeat(71));
    for path in CALLS {
        for value in TYPES {
            proxy.refuses(path, &format!("content-type: {value}\r\n"), form.as_bytes(), 400, "invalid_multipart").await;
        }
        proxy.refuses(path, &long, form.as_bytes(), 400, "invalid_multipart").await;
    }
    proxy.is_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_form_arrives_as_it_was_sent() {
    let backend = Backend::json("{\"text\":\"a\"}");
    let proxy = Proxy::with_key(&backend, "models_allowed = [\"m\"]");
    let file = [
        b"--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"\xC3\xA9 a.wav\"\r\nContent-Type: audio/wav\r\n\r\n".as_slice(),
        // Bytes that look like a boundary, a part and an end, and are none.
        b"RIFF\0\xFF\r\n-- b--\r\n--B--\r\nname=\"model\"\r\n\r\n\r\n",
    ]
    .concat();
    let parts = [
        file,
        field("model", "m").into_bytes(),
        field("prompt", "\u{1F600} model").into_bytes(),
        b"--b--\r\n".to_vec(),
    ];
    let form = parts.concat();
    let answer =
        Client::once(proxy.address, &post(CALLS[0], "content-type: multipart/form-data; boundary=b\r\n", &form)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let seen = &backend.seen()[0];
    assert!(seen.body == form, "{}", seen.text());
    assert_eq!(seen.header("content-type").as_deref(), Some("multipart/form-data; boundary=b"));
    let other = String::from_utf8_lossy(&form).replace("\r\n\r\nm\r\n", "\r\n\r\nx\r\n");
    let answer = Client::once(
        proxy.address,
        &post(CALLS[0], "content-type: multipart/form-data; boundary=b\r\n", other.as_bytes()),
    )
    .await;
    assert_eq!(answer.status, 403, "{}", answer.text());
}
