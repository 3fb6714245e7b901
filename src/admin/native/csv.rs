//! CSV as RFC 4180 writes it, and safe to open in a spreadsheet.

use axum::http::{HeaderMap, header};

use crate::store::UsageRow;

/// Whether `Accept` prefers CSV to JSON.
pub fn is_preferred(headers: &HeaderMap) -> bool {
    let weight = |wanted: [&str; 3]| -> f32 {
        let mut best: (usize, f32) = (0, 0.0);
        for value in headers.get_all(header::ACCEPT) {
            for range in value.to_str().unwrap_or_default().split(',') {
                let mut parts = range.split(';').map(str::trim);
                let kind = parts.next().unwrap_or_default();
                // The most exact range that fits decides.
                let Some(at) = wanted.iter().position(|name| kind.eq_ignore_ascii_case(name)) else { continue };
                let weight = parts.find_map(|part| part.strip_prefix("q=")).and_then(|q| q.parse().ok());
                if wanted.len() - at >= best.0 {
                    best = (wanted.len() - at, weight.unwrap_or(1.0));
                }
            }
        }
        best.1
    };
    let (csv, json) = (weight(["text/csv", "text/*", "*/*"]), weight(["application/json", "application/*", "*/*"]));
    csv > json
}

const HEAD: &str = "group,name,requests,refused,errors,estimated,input_tokens,cached_input_tokens,output_tokens,units,\
first_byte_p50_ms,first_byte_p99_ms,duration_p50_ms,duration_p99_ms\r\n";

/// Sums of usage, one a line.
pub fn usage(rows: &[UsageRow]) -> String {
    let mut text = String::from(HEAD);
    for row in rows {
        let refused: u64 = row.refusals.iter().map(|(_, count)| count).sum();
        let counts = [
            row.requests,
            refused,
            row.errors,
            row.estimated,
            row.input_tokens,
            row.cached_input_tokens,
            row.output_tokens,
            row.units,
        ];
        let times = [row.first_byte_p50_ms, row.first_byte_p99_ms, row.duration_p50_ms, row.duration_p99_ms];
        let mut cells = vec![cell(&row.group), cell(row.name.as_deref().unwrap_or_default())];
        cells.extend(counts.map(|count| count.to_string()));
        cells.extend(times.map(|time| time.map(|ms| ms.to_string()).unwrap_or_default()));
        text.push_str(&cells.join(","));
        text.push_str("\r\n");
    }
    text
}

/// A text in quotes where it needs them. One that a spreadsheet would take for a formula is made a text by a quote before it.
pub fn cell(text: &str) -> String {
    let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let safe = if is_formula { format!("'{text}") } else { text.to_owned() };
    if safe.contains([',', '"', '\r', '\n', '\'']) { format!("\"{}\"", safe.replace('"', "\"\"")) } else { safe }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn a_text_is_quoted_and_never_a_formula() {
        assert_eq!(cell("plain"), "plain");
        assert_eq!(cell("a,\"b\""), "\"a,\"\"b\"\"\"");
        assert_eq!(cell("=1+1"), "\"'=1+1\"");
        assert_eq!(cell("-x"), "\"'-x\"");
    }

    #[test]
    fn a_row_has_a_cell_for_every_name() {
        let row =
            UsageRow { group: "gpt-4o".to_owned(), requests: 3, first_byte_p50_ms: Some(1.5), ..UsageRow::default() };
        let text = usage(&[row]);
        let lines: Vec<_> = text.split_terminator("\r\n").collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0].split(',').count(), lines[1].split(',').count());
        assert_eq!(lines[1], "gpt-4o,,3,0,0,0,0,0,0,0,1.5,,,");
    }

    #[test]
    fn csv_is_given_to_who_prefers_it() {
        let prefers = |accept: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
            is_preferred(&headers)
        };
        assert!(prefers("text/csv") && prefers("text/csv, application/json;q=0.5") && prefers("text/*"));
        assert!(!prefers("*/*") && !prefers("application/json") && !prefers("text/csv;q=0.1, */*"));
        assert!(!is_preferred(&HeaderMap::new()));
    }
}
