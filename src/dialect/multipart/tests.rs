//! Forms by exact bytes.

use super::*;
use proptest::prelude::*;

const MODEL: &str = "Content-Disposition: form-data; name=\"model\"\r\n\r\nwhisper-1";

fn boundary() -> Boundary {
    Boundary::from_parameters(b" boundary=b").unwrap()
}

fn form(parts: &[&str]) -> String {
    let parts: String = parts.iter().map(|part| format!("--b\r\n{part}\r\n")).collect();
    format!("{parts}--b--\r\n")
}

fn of(parts: &[&str]) -> Result<Form, BodyFlaw> {
    read(form(parts).as_bytes(), &boundary())
}

fn is_form_flaw(result: &Result<Form, BodyFlaw>) -> bool {
    matches!(result, Err(BodyFlaw::Multipart { .. }))
}

#[test]
fn a_transcription_as_the_python_sdk_sends_it() {
    let file = "Content-Disposition: form-data; name=\"file\"; filename=\"a.mp3\"\r\nContent-Type: audio/mpeg\r\n\r\n\0\r\n--\r\n\x7f";
    let stream = "content-disposition: form-data; name=\"stream\"\r\n\r\ntrue";
    let prompt =
        "Content-Disposition: form-data; name=\"prompt\"\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nnames: Zoë";
    let list = "Content-Disposition: form-data; name=\"timestamp_granularities[]\"\r\n\r\nword";
    let body = form(&[MODEL, file, stream, prompt, list, list]);
    let form = read(body.as_bytes(), &boundary()).unwrap();
    let (model, range) = form.model.clone().unwrap();
    assert_eq!((model.as_str(), &body[range]), ("whisper-1", "whisper-1"));
    assert!(form.stream && form.n.is_none());
    assert_eq!((form.text_bytes, form.files, form.file_bytes), (9 + 4 + 11 + 8, 1, 8));
}

#[test]
fn boundaries() {
    for good in [
        "boundary=b",
        "Boundary=\"b\"",
        " boundary=----WebKitFormBoundary7MA4YWxkTrZu0gW",
        "boundary=\"a b=c/d:e?(f),g\"",
        "boundary=0123456789012345678901234567890123456789012345678901234567890123456789",
    ] {
        assert!(Boundary::from_parameters(good.as_bytes()).is_ok(), "{good}");
    }
    for bad in [
        "",
        "boundary",
        "boundary=",
        "boundary=\"\"",
        "boundary=\"a ",
        "boundary=\"a \"",
        "boundary=a;b",
        "boundary=a; boundary=b",
        "boundary=a; charset=utf-8",
        "charset=utf-8; boundary=a",
        "boundary*=utf-8''a",
        "boundary=\"a\\\"b\"",
        "boundary=a b",
        "boundary=a,b",
        "boundary=a\"b",
        "boundary=ä",
        "boundary=01234567890123456789012345678901234567890123456789012345678901234567890",
    ] {
        assert!(Boundary::from_parameters(bad.as_bytes()).is_err(), "{bad}");
    }
}

#[test]
fn shapes_that_parsers_read_differently() {
    let whole = form(&[MODEL]);
    for body in [
        String::new(),
        "--b--\r\n".to_owned(),
        "--b--".to_owned(),
        whole.replace("--b--\r\n", ""),
        whole.replace("--b--\r\n", "--b-"),
        whole.replace("--b--\r\n", "--b--\r\n\r\n"),
        whole.replace("--b--\r\n", "--b--epilogue"),
        whole.replace("--b--\r\n", "--b--\n"),
        format!("preamble\r\n{whole}"),
        format!("\r\n{whole}"),
        format!(" {whole}"),
        format!("{whole}{whole}"),
        whole.replace("\r\n", "\n"),
        whole.replace("--b\r\n", "--b \r\n"),
        whole.replace("--b\r\n", "--b\n"),
        whole.replace("--b\r\n", "--bc\r\n"),
        whole.replace("whisper-1", "whisper-1\n--b\r\nx"),
        whole.replace("whisper-1", "whisper-1--b"),
        whole.replace("whisper-1", "x\r\n--bb\r\ny"),
        whole.replace("--b\r\n", "--b\r\n--b\r\n"),
        whole.replace("\r\n\r\n", "\r\n"),
        whole.replace("name=", "\r\n name="),
        whole.replace("name=", "\r name="),
        whole.replace("Content-Disposition:", "Content-Disposition :"),
        whole.replace("Content-Disposition:", " Content-Disposition:"),
        whole.replace("Content-Disposition:", ":"),
        whole.replace("Content-Disposition: ", "Content-Disposition"),
        whole.replace("Content-Disposition", "X-Content-Disposition"),
        whole.replace("form-data; ", "attachment; "),
        whole.replace("form-data; ", ""),
        whole.replace("; name", " name"),
        whole.replace("name=\"model\"", "name=\"model"),
        whole.replace("name=\"model\"", "name=\"model\"x"),
        whole.replace("name=\"model\"", "name=\"\""),
        whole.replace("name=\"model\"", "name="),
        whole.replace("name=\"model\"", "name"),
        whole.replace("name=\"model\"", "x=\"model\""),
        whole.replace("name=\"model\"", "name=\"mo\\del\""),
        whole.replace("name=\"model\"", "name=\"mo%64el\""),
        whole.replace("name=\"model\"", "name=\"model\t;x\""),
        whole.replace("name=\"model\"", "name=\"x;model\""),
        whole.replace("name=\"model\"", "name=\" model\""),
        whole.replace("name=\"model\"", "name*=utf-8''model"),
        whole.replace("name=\"model\"", "name=\"a\"; name*=utf-8''model"),
        whole.replace("name=\"model\"", "name=\"model\"; name=\"a\""),
        whole.replace("name=\"model\"", "name=\"a\"; NAME=\"model\""),
        whole.replace("name=\"model\"", "name=\"model\"; filename=\"a\""),
        whole.replace("name=\"model\"", "name=\"model\"; filename*=utf-8''a"),
        whole.replace("name=\"model\"", "name=\"a\"; filename=\"b\\\"; name=\\\"model\""),
        whole.replace("name=\"model\"", "name=\"a\"; filename=\"b; name=model\""),
        whole.replace("name=\"model\"", "name=\"_charset_\""),
        whole.replace("name=\"model\"", "name=\"model\"\0"),
        whole.replace("\r\n\r\n", "\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n"),
        whole.replace("\r\n\r\n", "\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n"),
        whole.replace("\r\n\r\n", "\r\nContent-Type: text/plain; charset=utf-7\r\n\r\n"),
        whole.replace("\r\n\r\n", "\r\nContent-Type: application/json\r\n\r\n"),
        whole.replace("\r\n\r\n", "\r\nContent-Transfer-Encoding: base64\r\n\r\n"),
        whole.replace("\r\n\r\n", "\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"),
        whole.replace("\r\n\r\n", &format!("\r\nX: {}\r\n\r\n", "x".repeat(5_000))),
        whole.replace("\r\n\r\n", &format!("{}\r\n\r\n", "\r\nX: y".repeat(20))),
    ] {
        let result = read(body.as_bytes(), &boundary());
        assert!(is_form_flaw(&result), "{result:?}: {body}");
    }
}

#[test]
fn watched_fields_follow_the_rules_of_watched_members() {
    let field = |name: &str, value: &str| format!("Content-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}");
    let with = |name: &str, value: &str| of(&[MODEL, &field(name, value)]);
    assert_eq!(with("model", "other"), Err(BodyFlaw::DuplicateMember { member: "model" }));
    for name in ["Model", "MODEL", "model[]", "model[0]", "model.x", "mode\u{17F}".replace('\u{17F}', "L").as_str()] {
        assert_eq!(with(name, "other"), Err(BodyFlaw::MisspelledMember { member: "model" }), "{name}");
    }
    assert_eq!(with("\u{17F}tream", "true"), Err(BodyFlaw::MisspelledMember { member: "stream" }));
    for name in ["api_base", "models", "fallbacks", "api_key", "custom_llm_provider"] {
        assert!(matches!(with(name, "x"), Err(BodyFlaw::MemberNotAllowed { member }) if member == name), "{name}");
    }
    for (name, value) in [
        ("stream", "1"),
        ("stream", "True"),
        ("stream", ""),
        ("n", "0"),
        ("n", "129"),
        ("n", "1.0"),
        ("n", "01"),
        ("n", "+1"),
        ("n", ""),
    ] {
        assert!(
            matches!(with(name, value), Err(BodyFlaw::BadMember { member, .. }) if member == name),
            "{name} {value}"
        );
    }
    for value in ["", " whisper-1", "whisper-1\r\n", "a\0", "..", "a b"] {
        assert!(matches!(of(&[&field("model", value)]), Err(BodyFlaw::BadMember { member: "model", .. })), "{value:?}");
    }
    let latin1 = b"--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n\xE9\r\n--b--";
    assert!(matches!(read(latin1, &boundary()), Err(BodyFlaw::BadMember { member: "model", .. })));
    assert_eq!(with("n", "128").map(|form| form.n), Ok(Some(128)));
    assert_eq!(of(&[&field("prompt", "x")]).map(|form| form.model), Ok(None));
}

#[test]
fn headers_that_change_nothing_are_taken() {
    for part in [
        "CONTENT-DISPOSITION:form-data;name=\"model\"\r\n\r\nm",
        "Content-Disposition: form-data; name=model\r\n\r\nm",
        "Content-Type: text/plain\r\nContent-Disposition: form-data ; name=\"model\" \r\nContent-Length: 1\r\n\r\nm",
        "Content-Disposition: form-data; name=\"model\"\r\nContent-Transfer-Encoding: 8BIT\r\n\r\nm",
    ] {
        let model = of(&[part]).unwrap().model.map(|(model, _)| model);
        assert_eq!(model.as_ref().map(ModelName::as_str), Some("m"), "{part}");
    }
    let unicode = "Content-Disposition: form-data; name=\"file\"; filename=\"Zoë; x.mp3\"; filename*=utf-8''Zo%C3%AB.mp3\r\n\r\nx";
    assert_eq!(of(&[MODEL, unicode]).map(|form| form.files), Ok(1));
}

proptest! {
    #[test]
    fn noise_never_panics_and_never_names_a_model_twice(
        pieces in proptest::collection::vec(prop_oneof![
            Just("--b".to_owned()), Just("\r\n".to_owned()), Just("--".to_owned()), Just("\r\n\r\n".to_owned()),
            Just("Content-Disposition: form-data; name=\"model\"".to_owned()), Just("m".to_owned()), "[\\x00-\\x7f]{0,5}",
        ], 0..30),
    ) {
        let body = pieces.concat();
        if let Ok(Form { model: Some((model, range)), .. }) = read(body.as_bytes(), &boundary()) {
            prop_assert_eq!(model.as_str(), &body[range]);
            prop_assert_eq!(body.matches("name=\"model\"").count(), 1);
        }
    }
}
