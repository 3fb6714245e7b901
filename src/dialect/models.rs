//! The list of models, in each dialect's shape.

use serde::Serialize;

use crate::dialect::ModelEntry;
use crate::dialect::wording::times::rfc3339;

/// OpenAI's list.
#[derive(Serialize)]
pub(super) struct OpenAiList<'a> {
    object: &'static str,
    data: Vec<OpenAiModel<'a>>,
}

/// OpenAI's model.
#[derive(Serialize)]
pub(super) struct OpenAiModel<'a> {
    id: &'a str,
    object: &'static str,
    created: i64,
    owned_by: &'a str,
}

/// `{"object":"list","data":[...]}`
pub(super) fn openai_list(models: &[ModelEntry]) -> OpenAiList<'_> {
    OpenAiList { object: "list", data: models.iter().map(openai_model).collect() }
}

/// One model of it.
pub(super) fn openai_model(model: &ModelEntry) -> OpenAiModel<'_> {
    OpenAiModel { id: model.id.as_str(), object: "model", created: model.created_unix, owned_by: &model.owned_by }
}

/// Anthropic's list: always one page.
#[derive(Serialize)]
pub(super) struct AnthropicList<'a> {
    data: Vec<AnthropicModel<'a>>,
    has_more: bool,
    first_id: Option<&'a str>,
    last_id: Option<&'a str>,
}

/// Anthropic's model. `lifecycle` is a member its current SDKs take for granted.
#[derive(Serialize)]
pub(super) struct AnthropicModel<'a> {
    r#type: &'static str,
    id: &'a str,
    display_name: &'a str,
    created_at: String,
    lifecycle: &'static str,
}

/// `{"data":[...],"has_more":false,"first_id":...,"last_id":...}`
pub(super) fn anthropic_list(models: &[ModelEntry]) -> AnthropicList<'_> {
    AnthropicList {
        data: models.iter().map(anthropic_model).collect(),
        has_more: false,
        first_id: models.first().map(|model| model.id.as_str()),
        last_id: models.last().map(|model| model.id.as_str()),
    }
}

/// One model of it.
pub(super) fn anthropic_model(model: &ModelEntry) -> AnthropicModel<'_> {
    AnthropicModel {
        r#type: "model",
        id: model.id.as_str(),
        display_name: model.id.as_str(),
        created_at: rfc3339(model.created_unix.saturating_mul(1000)),
        lifecycle: "active",
    }
}

/// Gemini's list: always one page.
#[derive(Serialize)]
pub(super) struct GeminiList<'a> {
    models: Vec<GeminiModel<'a>>,
}

/// Gemini's model. Which calls a backend truly takes for it is not known here, so every call with a route is named.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct GeminiModel<'a> {
    name: String,
    display_name: &'a str,
    description: String,
    supported_generation_methods: [&'static str; 5],
}

/// `{"models":[...]}`
pub(super) fn gemini_list(models: &[ModelEntry]) -> GeminiList<'_> {
    GeminiList { models: models.iter().map(gemini_model).collect() }
}

/// One model of it.
pub(super) fn gemini_model(model: &ModelEntry) -> GeminiModel<'_> {
    GeminiModel {
        name: format!("models/{}", model.id),
        display_name: model.id.as_str(),
        description: format!("{}, served by {}", model.id, model.owned_by),
        supported_generation_methods: [
            "generateContent",
            "streamGenerateContent",
            "countTokens",
            "embedContent",
            "batchEmbedContents",
        ],
    }
}

#[cfg(test)]
mod tests {
    use crate::dialect::{DialectName, ModelEntry, of};
    use crate::units::ModelName;
    use serde_json::{Value, json};

    fn entries() -> Vec<ModelEntry> {
        ["gpt-4o", "org/model:free"]
            .iter()
            .map(|id| ModelEntry {
                id: ModelName::new(id).unwrap(),
                owned_by: "main".into(),
                created_unix: 1_767_225_600,
            })
            .collect()
    }

    fn list(dialect: DialectName, models: &[ModelEntry]) -> Value {
        let answer = of(dialect).models(models);
        assert_eq!((answer.status.as_u16(), &answer.headers["content-type"]), (200, "application/json"));
        serde_json::from_slice(&answer.body).unwrap()
    }

    #[test]
    fn each_dialect_lists_in_its_own_shape() {
        let openai = list(DialectName::OpenAi, &entries());
        assert_eq!(openai["object"], "list");
        let first = json!({"id": "gpt-4o", "object": "model", "created": 1_767_225_600, "owned_by": "main"});
        assert_eq!(openai["data"][0], first);
        assert_eq!(list(DialectName::Azure, &entries()), openai);
        let anthropic = list(DialectName::Anthropic, &entries());
        assert_eq!((&anthropic["first_id"], &anthropic["last_id"]), (&json!("gpt-4o"), &json!("org/model:free")));
        assert_eq!(anthropic["data"][1]["created_at"], "2026-01-01T00:00:00Z");
        let gemini = list(DialectName::Gemini, &entries());
        assert_eq!(gemini["models"][1]["name"], "models/org/model:free");
    }

    #[test]
    fn an_empty_list_is_a_list() {
        assert_eq!(list(DialectName::OpenAi, &[]), json!({"object": "list", "data": []}));
        let none = json!({"data": [], "has_more": false, "first_id": null, "last_id": null});
        assert_eq!(list(DialectName::Anthropic, &[]), none);
        assert_eq!(list(DialectName::Gemini, &[]), json!({"models": []}));
    }

    #[test]
    fn one_model_is_what_the_list_says_of_it() {
        for dialect in DialectName::ALL {
            let entries = entries();
            let one: Value = serde_json::from_slice(&of(dialect).model(&entries[0]).body).unwrap();
            let list = list(dialect, &entries);
            let all = list.get("data").or_else(|| list.get("models")).unwrap();
            assert_eq!(one, all[0], "{dialect:?}");
        }
    }
}
