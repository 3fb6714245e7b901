//! The document as a page to read: no script, nothing from elsewhere.

use std::fmt::Write as _;

use serde_json::{Map, Value};

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a;background:#fff}\
h1{margin-bottom:0}section{border-top:1px solid #ddd;padding:1rem 0}code,pre{font:14px/1.4 ui-monospace,monospace}\
pre{background:#f6f6f6;padding:.75rem;overflow-x:auto}table{border-collapse:collapse;width:100%}\
td,th{text-align:left;vertical-align:top;padding:.25rem .75rem .25rem 0}th{font-weight:600}\
.method{display:inline-block;min-width:4.5rem;font-weight:700}nav a{display:block}.about{color:#555}\
@media(prefers-color-scheme:dark){body{color:#ddd;background:#161616}pre{background:#222}section{border-color:#333}.about{color:#aaa}a{color:#8ab4f8}}";

/// The page.
pub fn page(document: &Value) -> String {
    let (title, version) = (text(&document["info"]["title"]), text(&document["info"]["version"]));
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{title}</title><style>{STYLE}</style></head><body><h1>{title}</h1><p class=\"about\">Version {version} \u{b7} \
         <a href=\"/openapi.json\">openapi.json</a></p><p>{}</p>",
        text(&document["info"]["description"])
    );
    let operations = operations(document);
    page.push_str("<nav>");
    for (path, method, operation) in &operations {
        let (id, path) = (text(&operation["operationId"]), escape(path));
        let method = method.to_uppercase();
        write(
            &mut page,
            format_args!("<a href=\"#{id}\"><code><span class=\"method\">{method}</span>{path}</code></a>"),
        );
    }
    page.push_str("</nav>");
    operations.iter().for_each(|operation| describe(&mut page, operation));
    page.push_str("<section><h2>Schemas</h2>");
    for (name, schema) in members(&document["components"]["schemas"]) {
        let name = escape(name);
        write(&mut page, format_args!("<h3 id=\"schema-{name}\">{name}</h3>"));
        properties(&mut page, schema);
    }
    page.push_str("</section></body></html>");
    page
}

type Described<'a> = (&'a str, &'a str, &'a Value);

fn operations(document: &Value) -> Vec<Described<'_>> {
    let paths = members(&document["paths"]);
    let methods = ["get", "post", "put", "delete"];
    paths
        .flat_map(|(path, item)| methods.into_iter().map(move |method| (path.as_str(), method, &item[method])))
        .filter(|(_, _, operation)| operation.is_object())
        .collect()
}

fn describe(page: &mut String, (path, method, operation): &Described<'_>) {
    let (id, path, method) = (text(&operation["operationId"]), escape(path), method.to_uppercase());
    write(
        page,
        format_args!("<section id=\"{id}\"><h2><code>{method} {path}</code></h2><p>{}", text(&operation["summary"])),
    );
    write(page, format_args!(" {}</p>", text(&operation["description"])));
    let parameters = operation["parameters"].as_array().map(Vec::as_slice).unwrap_or_default();
    if !parameters.is_empty() {
        page.push_str("<table><tr><th>Parameter</th><th>In</th><th>Type</th><th></th></tr>");
        for parameter in parameters {
            let (name, place) = (text(&parameter["name"]), text(&parameter["in"]));
            let (kind, about) = (kind(&parameter["schema"]), text(&parameter["description"]));
            let row =
                format_args!("<tr><td><code>{name}</code></td><td>{place}</td><td>{kind}</td><td>{about}</td></tr>");
            write(page, row);
        }
        page.push_str("</table>");
    }
    for (media, content) in members(&operation["requestBody"]["content"]) {
        write(page, format_args!("<p>Body: {} as <code>{}</code></p>", kind(&content["schema"]), escape(media)));
    }
    page.push_str("<table><tr><th>Answer</th><th></th><th>Body</th></tr>");
    for (status, response) in members(&operation["responses"]) {
        let bodies: Vec<_> = members(&response["content"]).map(|(_, content)| kind(&content["schema"])).collect();
        let about = text(&response["description"]);
        let row = format_args!("<tr><td>{}</td><td>{about}</td><td>{}</td></tr>", escape(status), bodies.join(", "));
        write(page, row);
    }
    page.push_str("</table></section>");
}

fn properties(page: &mut String, schema: &Value) {
    write(page, format_args!("<p>{}</p>", text(&schema["description"])));
    let (mut all, mut required) = (Vec::new(), Vec::new());
    let parts = schema["allOf"].as_array().map(Vec::as_slice).unwrap_or_default();
    for part in std::iter::once(schema).chain(parts) {
        all.extend(members(&part["properties"]));
        required.extend(part["required"].as_array().into_iter().flatten().filter_map(Value::as_str));
        if part["$ref"].is_string() {
            write(page, format_args!("<p>All of {}, and:</p>", kind(part)));
        }
    }
    if all.is_empty() {
        return;
    }
    page.push_str("<table><tr><th>Field</th><th>Type</th><th></th></tr>");
    for (name, property) in all {
        let mark = if required.contains(&name.as_str()) { "" } else { " (may be absent)" };
        let (name, kind, about) = (escape(name), kind(property), text(&property["description"]));
        write(page, format_args!("<tr><td><code>{name}</code>{mark}</td><td>{kind}</td><td>{about}</td></tr>"));
    }
    page.push_str("</table>");
}

/// A schema in a few words; HTML.
fn kind(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next()) {
        let name = escape(name);
        return format!("<a href=\"#schema-{name}\">{name}</a>");
    }
    for (word, joint) in [("oneOf", " or "), ("anyOf", " or "), ("allOf", " and ")] {
        if let Some(parts) = schema[word].as_array() {
            return parts.iter().map(kind).collect::<Vec<_>>().join(joint);
        }
    }
    let mut words = match &schema["type"] {
        Value::Array(kinds) => kinds.iter().map(text).collect::<Vec<_>>().join(" or "),
        one => text(one),
    };
    if schema["items"].is_object() {
        let _ = write!(words, " of {}", kind(&schema["items"]));
    }
    if let Some(choices) = schema["enum"].as_array() {
        let choices: Vec<_> =
            choices.iter().map(|choice| format!("<code>{}</code>", escape(&choice.to_string()))).collect();
        let _ = write!(words, ": {}", choices.join(", "));
    }
    for (word, shown) in
        [("format", ""), ("minimum", "\u{2265} "), ("maximum", "\u{2264} "), ("maxLength", "length \u{2264} ")]
    {
        if !schema[word].is_null() {
            let _ = write!(words, ", {shown}{}", text(&schema[word]));
        }
    }
    if schema["pattern"].is_string() {
        let _ = write!(words, ", <code>{}</code>", text(&schema["pattern"]));
    }
    words
}

fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

/// A string as it is, anything else as JSON, nothing for null; escaped.
fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => escape(text),
        other => escape(&other.to_string()),
    }
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

fn write(page: &mut String, what: std::fmt::Arguments<'_>) {
    // Writing into a String does not fail.
    let _ = page.write_fmt(what);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::native;

    #[test]
    fn every_operation_stands_on_the_page_and_nothing_comes_from_elsewhere() {
        let document = native::document();
        let page = page(&document);
        let all = operations(&document);
        assert_eq!(all.len(), 17);
        for (path, _, operation) in all {
            assert!(page.contains(&escape(path)) && page.contains(&text(&operation["operationId"])), "{path}");
        }
        assert!(!page.contains("<script") && !page.contains("http:") && !page.contains("https:"));
    }

    #[test]
    fn markup_in_a_description_is_text() {
        assert_eq!(text(&Value::String("<b a='\"'>&".to_owned())), "&lt;b a=&#39;&quot;&#39;&gt;&amp;");
    }
}
