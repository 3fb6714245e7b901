//! A "no" of the admin API in words.

use http::StatusCode;
use serde_json::Value;

use crate::cli::failure::Failure;
use crate::cli::output::plain;

/// How much is shown of an answer that is no JSON, characters.
const SHOWN: usize = 200;

/// The answer's own words, one line for each fault, and for a 401 what to set.
pub fn failure(status: StatusCode, body: &[u8]) -> Failure {
    let detail =
        serde_json::from_slice::<Value>(body).ok().and_then(|mut body| body.get_mut("detail").map(Value::take));
    let words = match &detail {
        Some(Value::String(text)) => plain(text),
        Some(Value::Array(faults)) if !faults.is_empty() => faults.iter().map(line).collect::<Vec<_>>().join("\n  "),
        Some(other) => plain(&other.to_string()),
        None => {
            let text = String::from_utf8_lossy(body);
            plain(&text.trim().chars().take(SHOWN).collect::<String>())
        }
    };
    Failure::Failed(match status {
        StatusCode::UNAUTHORIZED => {
            format!(
                "the server does not take this token ({words}); set KEYWARD_ADMIN_TOKEN or KEYWARD_ADMIN_TOKEN_FILE to one of its own"
            )
        }
        StatusCode::UNPROCESSABLE_ENTITY if matches!(detail, Some(Value::Array(_))) => {
            format!("the server refuses what was asked:\n  {words}")
        }
        _ if detail.is_some() => format!("{words} ({})", status.as_u16()),
        _ => format!("the server answers {status}: {words}; is --admin-url the admin listener?"),
    })
}

/// `rpm_limit: Input should be greater than or equal to 1`.
fn line(fault: &Value) -> String {
    let mut place = String::new();
    for part in fault["loc"].as_array().into_iter().flatten() {
        match part {
            Value::String(name)
                if place.is_empty() && matches!(name.as_str(), "body" | "query" | "path" | "header") => {}
            Value::String(name) if place.is_empty() => place.push_str(name),
            Value::String(name) => place.push_str(&format!(".{name}")),
            other => place.push_str(&format!("[{other}]")),
        }
    }
    let message = fault["msg"].as_str().map_or_else(|| fault.to_string(), str::to_owned);
    if place.is_empty() { plain(&message) } else { plain(&format!("{place}: {message}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(status: u16, body: &str) -> String {
        let status = StatusCode::from_u16(status).expect("a status");
        match failure(status, body.as_bytes()) {
            Failure::Failed(why) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_fault_has_a_line_of_its_own() {
        let body = r#"{"detail":[
            {"loc":["body","rpm_limit"],"msg":"Input should be greater than or equal to 1","type":"greater_than_equal"},
            {"loc":["body","allowed_ips",1],"msg":"not an address","type":"value_error"},
            {"loc":["body"],"msg":"Field required","type":"missing"}]}"#;
        let expected = "the server refuses what was asked:\n  rpm_limit: Input should be greater than or equal to 1\n  allowed_ips[1]: not an address\n  Field required";
        assert_eq!(said(422, body), expected);
    }

    #[test]
    fn other_answers_are_told_in_their_own_words_and_a_401_says_what_to_set() {
        assert_eq!(said(404, r#"{"detail":"no such key"}"#), "no such key (404)");
        assert!(said(401, r#"{"detail":"bad token"}"#).contains("KEYWARD_ADMIN_TOKEN_FILE"));
        let page = said(502, &format!("<html>\u{1b}[31m{}", "x".repeat(500)));
        assert!(page.contains("502 Bad Gateway") && page.contains("--admin-url"), "{page}");
        assert!(page.len() < 400 && !page.contains('\u{1b}'), "{page}");
        assert!(said(500, "").contains("500"));
    }
}
