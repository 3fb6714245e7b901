//! What a request wants of a model, in one shape for every dialect.

use serde_json::Value;

/// How much of a prompt is quoted, in characters.
const QUOTED: usize = 400;
/// The longest name of a tool that is called, in bytes; OpenAI and Anthropic take 64 and 128.
const NAME: usize = 256;

/// What a request wants.
#[derive(Debug, Default)]
pub(super) struct Wish<'a> {
    /// The last thing the user, or a tool, said; cut to what is quoted.
    pub(super) last: String,
    /// Whether `last` is a tool's answer.
    pub(super) from_tool: bool,
    /// The tool to call.
    pub(super) tool: Option<Tool<'a>>,
    /// The schema the answer is to follow.
    pub(super) schema: Option<&'a Value>,
    /// The most output tokens of one choice.
    pub(super) most: Option<u64>,
    /// How many choices, 1 to 128.
    pub(super) choices: u64,
}

/// A tool that a request offers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tool<'a> {
    /// Its name.
    pub(super) name: &'a str,
    /// The schema of its arguments.
    pub(super) schema: &'a Value,
}

/// What a request says about calling tools.
enum Calling<'a> {
    Never,
    Free,
    Must(Option<&'a str>),
}

/// The member of that name, null when there is none.
pub(super) fn member<'a>(value: &'a Value, name: &str) -> &'a Value {
    value.get(name).unwrap_or(&Value::Null)
}

/// The items of a member that is a list.
pub(super) fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    member(value, name).as_array().map_or(&[], Vec::as_slice)
}

/// A member that is a string.
pub(super) fn text<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    member(value, name).as_str()
}

/// A member that is a count, also as a form writes it.
pub(super) fn count(value: &Value, name: &str) -> Option<u64> {
    let member = member(value, name);
    member.as_u64().or_else(|| member.as_str()?.parse().ok())
}

/// Whether a member is true, also as a form writes it.
pub(super) fn flag(value: &Value, name: &str) -> bool {
    let member = member(value, name);
    member.as_bool().unwrap_or_else(|| member.as_str() == Some("true"))
}

/// The first characters of all text in `content`: a string, or a list of strings and of objects with a `text`.
pub(super) fn quoted(content: &Value) -> String {
    let mut quote = String::new();
    collect(content, &mut quote, 0);
    quote
}

fn collect(content: &Value, quote: &mut String, depth: u32) {
    let room = QUOTED.saturating_sub(quote.chars().count());
    if room == 0 || depth > 4 {
        return;
    }
    match content {
        Value::String(text) => {
            if !quote.is_empty() {
                quote.push(' ');
            }
            quote.extend(text.chars().take(room));
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, quote, depth + 1)),
        Value::Object(members) => {
            for name in ["text", "output", "content", "parts", "functionResponse", "response"] {
                if let Some(inner) = members.get(name) {
                    collect(inner, quote, depth + 1);
                }
            }
        }
        _ => {}
    }
}

fn choose<'a>(tools: impl Iterator<Item = Tool<'a>>, calling: &Calling<'a>, from_tool: bool) -> Option<Tool<'a>> {
    let mut tools = tools.filter(|tool| tool.name.len() <= NAME);
    match calling {
        Calling::Never => None,
        // After a tool's answer a model talks again, else a client's loop would never end.
        Calling::Free if from_tool => None,
        Calling::Free | Calling::Must(None) => tools.next(),
        Calling::Must(Some(name)) => tools.find(|tool| tool.name == *name),
    }
}

fn most(body: &Value, names: &[&str]) -> Option<u64> {
    names.iter().filter_map(|name| count(body, name)).min()
}

impl<'a> Wish<'a> {
    /// openai `/v1/chat/completions`.
    pub(super) fn chat(body: &'a Value) -> Self {
        let messages = list(body, "messages");
        let last = messages.iter().rev().find(|said| matches!(text(said, "role"), Some("user" | "tool" | "function")));
        let from_tool = last.is_some_and(|said| text(said, "role") != Some("user"));
        let tools = list(body, "tools").iter().filter_map(|tool| {
            let function = tool.get("function")?;
            Some(Tool { name: text(function, "name")?, schema: member(function, "parameters") })
        });
        let named = member(body, "tool_choice").get("function");
        let calling = openai_calling(body, named.and_then(|function| text(function, "name")));
        let format = member(body, "response_format");
        Self {
            last: last.map(|said| quoted(member(said, "content"))).unwrap_or_default(),
            from_tool,
            tool: choose(tools, &calling, from_tool),
            schema: openai_schema(format, format.get("json_schema")),
            most: most(body, &["max_tokens", "max_completion_tokens"]),
            choices: count(body, "n").unwrap_or(1),
        }
    }

    /// openai `/v1/completions`, for one of its prompts.
    pub(super) fn completion(body: &'a Value, prompt: &Value) -> Self {
        let choices = count(body, "n").unwrap_or(1);
        Self { last: quoted(prompt), most: most(body, &["max_tokens"]), choices, ..Self::default() }
    }

    /// openai `/v1/responses`.
    pub(super) fn responses(body: &'a Value) -> Self {
        let input = member(body, "input");
        let items = list(body, "input");
        let tool_said = |item: &Value| text(item, "type") == Some("function_call_output");
        let last = items.iter().rev().find(|item| tool_said(item) || text(item, "role") == Some("user"));
        let from_tool = last.is_some_and(tool_said);
        let tools = list(body, "tools").iter().filter(|tool| text(tool, "type") == Some("function"));
        let tools =
            tools.filter_map(|tool| Some(Tool { name: text(tool, "name")?, schema: member(tool, "parameters") }));
        let calling = openai_calling(body, text(member(body, "tool_choice"), "name"));
        let format = member(member(body, "text"), "format");
        Self {
            last: last.map_or_else(|| if input.is_string() { quoted(input) } else { String::new() }, quoted),
            from_tool,
            tool: choose(tools, &calling, from_tool),
            schema: openai_schema(format, Some(format)),
            most: most(body, &["max_output_tokens"]),
            choices: 1,
        }
    }

    /// anthropic `/v1/messages`.
    pub(super) fn messages(body: &'a Value) -> Self {
        let last = list(body, "messages").iter().rev().find(|said| text(said, "role") == Some("user"));
        let content = last.map_or(&Value::Null, |said| member(said, "content"));
        let results = content.as_array().map_or(&[][..], Vec::as_slice);
        let from_tool = results.iter().any(|block| text(block, "type") == Some("tool_result"));
        // Tools without a schema are the backend's own and run there.
        let tools = list(body, "tools").iter();
        let tools =
            tools.filter_map(|tool| Some(Tool { name: text(tool, "name")?, schema: tool.get("input_schema")? }));
        let choice = member(body, "tool_choice");
        let calling = match text(choice, "type") {
            Some("none") => Calling::Never,
            Some("any") => Calling::Must(None),
            Some("tool") => Calling::Must(text(choice, "name")),
            _ => Calling::Free,
        };
        Self {
            last: quoted(content),
            from_tool,
            tool: choose(tools, &calling, from_tool),
            schema: member(member(body, "output_config"), "format").get("schema"),
            most: most(body, &["max_tokens"]),
            choices: 1,
        }
    }

    /// gemini `generateContent` and `streamGenerateContent`. Its JSON may be written in either case.
    pub(super) fn generate(body: &'a Value) -> Self {
        let last = list(body, "contents").iter().rev().find(|said| text(said, "role") != Some("model"));
        // A single content may stand without its list.
        let last = last.unwrap_or_else(|| member(body, "contents"));
        let parts = list(last, "parts");
        let from_tool = parts.iter().any(|part| !either(part, "functionResponse", "function_response").is_null());
        let tools = list(body, "tools").iter();
        let tools = tools.flat_map(|tool| either(tool, "functionDeclarations", "function_declarations").as_array());
        let tools = tools.flatten().filter_map(|function| {
            let json = either(function, "parametersJsonSchema", "parameters_json_schema");
            let schema = if json.is_null() { member(function, "parameters") } else { json };
            Some(Tool { name: text(function, "name")?, schema })
        });
        let calling = gemini_calling(body);
        let config = either(body, "generationConfig", "generation_config");
        let schema = [("responseSchema", "response_schema"), ("responseJsonSchema", "response_json_schema")];
        let schema = schema.iter().map(|(camel, snake)| either(config, camel, snake)).find(|schema| !schema.is_null());
        Self {
            last: quoted(member(last, "parts")),
            from_tool,
            tool: choose(tools, &calling, from_tool),
            schema,
            most: most(config, &["maxOutputTokens", "max_output_tokens"]),
            choices: most(config, &["candidateCount", "candidate_count"]).unwrap_or(1),
        }
    }
}

/// A member that protobuf's JSON takes in two spellings.
pub(super) fn either<'a>(value: &'a Value, camel: &str, snake: &str) -> &'a Value {
    value.get(camel).or_else(|| value.get(snake)).unwrap_or(&Value::Null)
}

fn openai_calling<'a>(body: &'a Value, named: Option<&'a str>) -> Calling<'a> {
    match (text(body, "tool_choice"), named) {
        (Some("none"), _) => Calling::Never,
        (Some("required"), _) => Calling::Must(None),
        (_, Some(name)) => Calling::Must(Some(name)),
        _ => Calling::Free,
    }
}

fn gemini_calling(body: &Value) -> Calling<'_> {
    let config = either(body, "toolConfig", "tool_config");
    let config = either(config, "functionCallingConfig", "function_calling_config");
    match text(config, "mode") {
        Some("NONE") => Calling::Never,
        Some("ANY") => {
            let allowed = either(config, "allowedFunctionNames", "allowed_function_names");
            Calling::Must(allowed.get(0).and_then(Value::as_str))
        }
        _ => Calling::Free,
    }
}

/// The schema of an answer that must be JSON; an object without members where any JSON will do.
fn openai_schema<'a>(format: &'a Value, holder: Option<&'a Value>) -> Option<&'a Value> {
    match text(format, "type") {
        Some("json_schema") => holder?.get("schema"),
        Some("json_object") => Some(format),
        _ => None,
    }
}
