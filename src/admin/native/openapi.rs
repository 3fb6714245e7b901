//! The document: what the routes say of themselves, completed by what is true of all of them.

use serde_json::{Map, Value, json};
use utoipa::PartialSchema;
use utoipa::openapi::path::Operation;
use utoipa::openapi::{Components, Content, Info, OpenApi, Ref, RefOr, Response, Schema};

use crate::admin::native::refused::{Detail, Details, Fault};
use crate::admin::native::schema;

/// The document before any route is added.
pub fn head() -> OpenApi {
    let mut info = Info::new("Keyward admin API", env!("CARGO_PKG_VERSION"));
    info.description = Some(
        "Keys, what they used, and who changed them. Every call but the ones for this document wants an admin token; a token that is \
         bound to an organisation or a team sees and changes nothing outside of it. Moments are RFC 3339; numbers are whole unless \
         they say otherwise; unknown fields and parameters are refused."
            .to_owned(),
    );
    OpenApi::new(info, utoipa::openapi::Paths::new())
}

/// Adds the security scheme, the answers that every call may get, and the schemas of refusals.
pub fn complete(mut document: OpenApi) -> Value {
    let components = document.components.get_or_insert_with(Components::new);
    let schemas = [
        ("Refusal", Detail::schema()),
        ("HTTPValidationError", Details::schema()),
        ("ValidationError", Fault::schema()),
        ("Loc", loc()),
    ];
    for (name, schema) in schemas {
        components.schemas.insert(name.to_owned(), schema);
    }
    let bearer = json!({ "type": "http", "scheme": "bearer", "description": "An admin token." });
    if let Ok(scheme) = serde_json::from_value(bearer) {
        components.add_security_scheme("admin_token", RefOr::<utoipa::openapi::security::SecurityScheme>::T(scheme));
    }
    let requirement = utoipa::openapi::security::SecurityRequirement::new::<_, [&str; 0], &str>("admin_token", []);
    document.security = Some(vec![requirement]);
    for item in document.paths.paths.values_mut() {
        let all = [&mut item.get, &mut item.put, &mut item.post, &mut item.delete];
        all.into_iter().flatten().for_each(complete_operation);
    }
    value(&document)
}

fn loc() -> RefOr<Schema> {
    let either = json!({ "oneOf": [{ "type": "string" }, { "type": "integer", "minimum": 0 }] });
    serde_json::from_value::<Schema>(either).unwrap_or_default().into()
}

/// What every call may be answered, beside what it says itself.
const ALWAYS: [(&str, &str); 6] = [
    ("401", "There is no valid admin token"),
    ("403", "The token may not do this, or the request comes from a browser's page"),
    ("422", "What was sent is at fault; every fault is named"),
    ("429", "Too many failed logins from this address"),
    ("500", "An internal error"),
    ("503", "The store does not answer; nothing was changed"),
];

fn complete_operation(operation: &mut Operation) {
    let responses = &mut operation.responses.responses;
    for (status, about) in ALWAYS {
        responses.entry(status.to_owned()).or_insert_with(|| RefOr::T(Response::new(about)));
    }
    for (status, response) in responses.iter_mut() {
        let RefOr::T(response) = response else { continue };
        let is_error = status.starts_with(['4', '5']);
        if is_error && response.content.is_empty() {
            let name = if status == "422" { "HTTPValidationError" } else { "Refusal" };
            let content = Content::new(Some(RefOr::<Schema>::Ref(Ref::from_schema_name(name))));
            response.content.insert("application/json".to_owned(), RefOr::T(content));
        }
    }
}

/// The document as JSON, with what utoipa has no words for.
fn value(document: &OpenApi) -> Value {
    let mut value = serde_json::to_value(document).unwrap_or_default();
    let schemas = &mut value["components"]["schemas"];
    schemas["KeyCreateRequest"]["anyOf"] = schema::quota_rule(false);
    schemas["KeyUpdateRequest"]["anyOf"] = schema::quota_rule(true);
    flatten(schemas);
    for schema in members(schemas) {
        // What is answered has no members but those that are told.
        if schema.get("properties").is_some() && schema.get("additionalProperties").is_none() {
            schema["additionalProperties"] = json!(false);
        }
    }
    members(&mut value["paths"]).flat_map(members).for_each(optional_body);
    value
}

fn members(value: &mut Value) -> impl Iterator<Item = &mut Value> {
    value.as_object_mut().into_iter().flat_map(Map::values_mut)
}

/// A schema made of another and more becomes one with all members, so that it can be closed.
fn flatten(schemas: &mut Value) {
    let all = schemas.clone();
    for schema in members(schemas) {
        let Some(parts) = schema.get("allOf").and_then(Value::as_array).cloned() else { continue };
        let (mut properties, mut required) = (Map::new(), Vec::new());
        for part in &parts {
            let name = part["$ref"].as_str().and_then(|path| path.rsplit('/').next());
            let part = name.map_or(part, |name| &all[name]);
            properties.extend(part["properties"].as_object().cloned().unwrap_or_default());
            required.extend(part["required"].as_array().cloned().unwrap_or_default());
        }
        let about = schema.get("description").cloned().unwrap_or_default();
        *schema = json!({ "type": "object", "description": about, "required": required, "properties": properties });
    }
}

/// A body that may be absent is not one that may be `null`.
fn optional_body(operation: &mut Value) {
    let Some(body) = operation.get_mut("requestBody") else { return };
    let schema = &mut body["content"]["application/json"]["schema"];
    let named =
        schema["oneOf"].as_array().and_then(|parts| parts.iter().find(|part| part["$ref"].is_string())).cloned();
    if let Some(named) = named {
        *schema = named;
        body["required"] = json!(false);
    }
}
