//! The four APIs as a client meets them: a call, its answer, what it used. Every answer here uses the same: 11 tokens in, 7 out.

use std::net::SocketAddr;

/// Tokens in, and out, of every answer here.
pub const INPUT: u64 = 11;
pub const OUTPUT: u64 = 7;
/// What an answer costs, by default prices.
pub const UNITS: u64 = INPUT + OUTPUT;

/// A call of one API and its answers.
pub struct Api {
    pub name: &'static str,
    pub path: &'static str,
    pub stream_path: &'static str,
    pub body: &'static str,
    pub stream_body: &'static str,
    pub json: &'static str,
    /// The events of a streamed answer, whole.
    pub events: &'static [&'static str],
    /// Which of them is there only because usage was asked for.
    pub usage_event: Option<usize>,
    /// The header its clients send their secret in.
    pub credential: &'static str,
    pub request_id: &'static str,
}

const OPENAI_EVENTS: &[&str] = &[
    "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n",
    "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"usage \\\"usage\\\":{} \u{fc}\"}}]}\n\n",
    "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
    "data: {\"id\":\"c\",\"choices\":[],\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":7,\"total_tokens\":18}}\n\n",
    "data: [DONE]\n\n",
];

pub const OPENAI_JSON: &str = "{\"id\":\"c\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"Hi\"}}],\n \"usage\":{\"prompt_tokens\":11,\"completion_tokens\":7,\"total_tokens\":18}}";

pub const OPENAI: Api = Api {
    name: "openai",
    path: "/v1/chat/completions",
    stream_path: "/v1/chat/completions",
    body: "{\"model\":\"gpt-4o\",\"messages\":[{\"role\":\"user\",\"content\":\"Hello\"}]}",
    stream_body: "{\"model\":\"gpt-4o\",\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"Hello\"}]}",
    json: OPENAI_JSON,
    events: OPENAI_EVENTS,
    usage_event: Some(3),
    credential: "authorization",
    request_id: "x-request-id",
};

pub const AZURE: Api = Api {
    name: "azure",
    path: "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21",
    stream_path: "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21",
    body: "{\"messages\":[{\"role\":\"user\",\"content\":\"Hello\"}]}",
    stream_body: "{\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"Hello\"}]}",
    credential: "api-key",
    ..OPENAI
};

pub const ANTHROPIC: Api = Api {
    name: "anthropic",
    path: "/v1/messages",
    stream_path: "/v1/messages",
    body: "{\"model\":\"claude\",\"max_tokens\":50,\"messages\":[{\"role\":\"user\",\"content\":\"Hello\"}]}",
    stream_body: "{\"model\":\"claude\",\"max_tokens\":50,\"messages\":[{\"role\":\"user\",\"content\":\"Hello\"}],\"stream\":true}",
    json: "{\"type\":\"message\",\"content\":[{\"type\":\"text\",\"text\":\"Hi\"}],\"usage\":{\"input_tokens\":11,\"output_tokens\":7}}",
    events: &[
        "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"usage\":{\"input_tokens\":11,\"output_tokens\":1}}}\n\n",
        "event: ping\ndata: {\"type\": \"ping\"}\n\n",
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"H\u{e9}\"}}\n\n",
        "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":7}}\n\n",
        "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
    ],
    usage_event: None,
    credential: "x-api-key",
    request_id: "request-id",
};

pub const GEMINI: Api = Api {
    name: "gemini",
    path: "/v1beta/models/gemini-pro:generateContent",
    stream_path: "/v1beta/models/gemini-pro:streamGenerateContent?alt=sse",
    body: "{\"contents\":[{\"parts\":[{\"text\":\"Hello\"}]}]}",
    stream_body: "{\"contents\":[{\"parts\":[{\"text\":\"Hello\"}]}]}",
    json: "{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"Hi\"}]}}],\"usageMetadata\":{\"promptTokenCount\":11,\"candidatesTokenCount\":7,\"totalTokenCount\":18}}",
    events: &[
        "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"H\"}]}}],\"usageMetadata\":{\"promptTokenCount\":11,\"totalTokenCount\":11}}\r\n\r\n",
        "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"i\"}]}}]}\r\n\r\n",
        "data: {\"candidates\":[{\"finishReason\":\"STOP\"}],\"usageMetadata\":{\"promptTokenCount\":11,\"candidatesTokenCount\":7,\"totalTokenCount\":18}}\r\n\r\n",
    ],
    usage_event: None,
    credential: "x-goog-api-key",
    request_id: "x-request-id",
};

pub const ALL: [&Api; 4] = [&OPENAI, &ANTHROPIC, &GEMINI, &AZURE];

impl Api {
    /// A call, with further header lines (each with its end).
    pub fn call(&self, key: &str, more: &str) -> Vec<u8> {
        self.request(self.path, key, more, self.body)
    }

    /// A call for a stream.
    pub fn stream_call(&self, key: &str, more: &str) -> Vec<u8> {
        self.request(self.stream_path, key, more, self.stream_body)
    }

    /// A POST with this API's credential.
    pub fn request(&self, path: &str, key: &str, more: &str, body: &str) -> Vec<u8> {
        let scheme = if self.credential == "authorization" { "Bearer " } else { "" };
        let (credential, length) = (self.credential, body.len());
        format!(
            "POST {path} HTTP/1.1\r\nhost: proxy\r\n{credential}: {scheme}{key}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n{more}\r\n{body}"
        )
        .into_bytes()
    }

    /// All events as a backend sends them when usage was asked for.
    pub fn whole_stream(&self) -> String {
        self.events.concat()
    }

    /// The events a client gets that did not ask for usage.
    pub fn plain_stream(&self) -> String {
        let kept = self.events.iter().enumerate().filter(|(at, _)| Some(*at) != self.usage_event);
        kept.map(|(_, event)| *event).collect()
    }

    /// The error code of one of our answers, or of an error event's data.
    pub fn error_code(&self, error: &serde_json::Value) -> String {
        let code = match self.name {
            "anthropic" => &error["error"]["details"]["error_code"],
            "gemini" => &error["error"]["details"][0]["reason"],
            _ => &error["error"]["code"],
        };
        code.as_str().unwrap_or_else(|| panic!("no {} error: {error}", self.name)).to_ascii_lowercase()
    }
}

/// A configuration of the four APIs at these addresses, with further lines for the server, for each upstream, and at the end.
pub fn config(addresses: &[SocketAddr], server: &str, upstream: &str, more: &str) -> String {
    let urls = addresses.iter().map(|address| format!("\"http://{address}\"")).collect::<Vec<_>>().join(", ");
    let mut text = format!("[server]\nlisten = \"127.0.0.1:0\"\nworkers = 2\ndrain_timeout = \"100ms\"\n{server}\n");
    for api in ALL {
        let name = api.name;
        text.push_str(&format!(
            "[[upstreams]]\nname = \"{name}\"\ndialect = \"{name}\"\nurl = [{urls}]\napi_key = \"upstream-credential-{name}\"\nmodels = [\"*\"]\n{upstream}\n"
        ));
    }
    text + more
}
