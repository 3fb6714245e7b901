//! Answers as the real APIs send them, and what they used.

use crate::dialect::meter::Framing;
use crate::policy::{DialectName, Endpoint, Usage};

/// An answer and what is to be read from it.
pub struct Golden {
    pub name: &'static str,
    pub dialect: DialectName,
    pub endpoint: Endpoint,
    pub framing: Framing,
    pub body: &'static str,
    /// `None`: nothing is reported.
    pub usage: Option<Usage>,
    pub text: u64,
    pub is_complete: bool,
}

const NONE: Usage =
    Usage { input: 0, cached_input: 0, cache_write: 0, output: 0, reasoning: 0, audio_ms: 0, estimated: false };

const fn used(input: u64, output: u64) -> Option<Usage> {
    Some(Usage { input, output, ..NONE })
}

pub const CHAT_STREAM: &str = r#"data: {"id":"chatcmpl-B9MBs8","object":"chat.completion.chunk","created":1741569952,"model":"gpt-4o-2024-08-06","service_tier":"default","system_fingerprint":"fp_44709d6fcb","choices":[{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"logprobs":null,"finish_reason":null}],"usage":null,"obfuscation":"n5X"}

data: {"id":"chatcmpl-B9MBs8","object":"chat.completion.chunk","created":1741569952,"model":"gpt-4o-2024-08-06","service_tier":"default","system_fingerprint":"fp_44709d6fcb","choices":[{"index":0,"delta":{"content":"Hello"},"logprobs":null,"finish_reason":null}],"usage":null,"obfuscation":"Q"}

data: {"id":"chatcmpl-B9MBs8","object":"chat.completion.chunk","created":1741569952,"model":"gpt-4o-2024-08-06","service_tier":"default","system_fingerprint":"fp_44709d6fcb","choices":[{"index":0,"delta":{"content":", \"usage\": {\"prompt_tokens\":999}"},"logprobs":null,"finish_reason":null}],"usage":null,"obfuscation":"Q"}

data: {"id":"chatcmpl-B9MBs8","object":"chat.completion.chunk","created":1741569952,"model":"gpt-4o-2024-08-06","service_tier":"default","system_fingerprint":"fp_44709d6fcb","choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}],"usage":null,"obfuscation":"wX"}

data: {"id":"chatcmpl-B9MBs8","object":"chat.completion.chunk","created":1741569952,"model":"gpt-4o-2024-08-06","service_tier":"default","system_fingerprint":"fp_44709d6fcb","choices":[],"usage":{"prompt_tokens":1019,"completion_tokens":10,"total_tokens":1029,"prompt_tokens_details":{"cached_tokens":896,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":4,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}},"obfuscation":""}

data: [DONE]

"#;

const TOOL_STREAM: &str = r#": keep-alive

data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"gpt-4o","choices":[{"index":0,"delta":{"role":"assistant","content":null,"tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"usage","arguments":""}}]},"finish_reason":null}]}

data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"gpt-4o","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"usage\":"}}]},"finish_reason":null}]}

data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"gpt-4o","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"1}"}}]},"finish_reason":null}]}

data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"gpt-4o","choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}],"usage":{"prompt_tokens":82,"completion_tokens":17,"total_tokens":99}}

data: [DONE]

"#;

/// Usage on every chunk, growing, as vLLM sends it on request.
const CONTINUOUS_STREAM: &str = r#"data: {"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"a"}}],"usage":{"prompt_tokens":7,"total_tokens":8,"completion_tokens":1}}

data: {"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"b"}}],"usage":{"prompt_tokens":7,"total_tokens":9,"completion_tokens":2}}

data: [DONE]

"#;

const COMPLETION_STREAM: &str = r#"data: {"id":"cmpl-7","object":"text_completion","created":1690759702,"choices":[{"text":"This","index":0,"logprobs":null,"finish_reason":null}],"model":"gpt-3.5-turbo-instruct"}

data: {"id":"cmpl-7","object":"text_completion","created":1690759702,"choices":[{"text":" is","index":0,"logprobs":null,"finish_reason":"length"}],"model":"gpt-3.5-turbo-instruct"}

data: {"id":"cmpl-7","object":"text_completion","created":1690759702,"choices":[],"model":"gpt-3.5-turbo-instruct","usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7}}

data: [DONE]

"#;

const NO_USAGE_STREAM: &str = r#"data: {"id":"c","object":"chat.completion.chunk","model":"llama","choices":[{"index":0,"delta":{"content":"Hello"},"finish_reason":null}]}

data: {"id":"c","object":"chat.completion.chunk","model":"llama","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}

data: [DONE]

"#;

const RESPONSES_STREAM: &str = r#"event: response.created
data: {"type":"response.created","sequence_number":0,"response":{"id":"resp_67c9","object":"response","created_at":1741290958,"status":"in_progress","error":null,"model":"gpt-4o-2024-08-06","output":[],"metadata":{"usage":"7"},"usage":null}}

event: response.output_item.added
data: {"type":"response.output_item.added","sequence_number":2,"output_index":0,"item":{"id":"msg_67","type":"message","status":"in_progress","role":"assistant","content":[]}}

event: response.output_text.delta
data: {"type":"response.output_text.delta","sequence_number":4,"item_id":"msg_67","output_index":0,"content_index":0,"delta":"Hi"}

event: response.output_text.delta
data: {"type":"response.output_text.delta","sequence_number":5,"item_id":"msg_67","output_index":0,"content_index":0,"delta":" there!"}

event: response.output_text.done
data: {"type":"response.output_text.done","sequence_number":6,"item_id":"msg_67","output_index":0,"content_index":0,"text":"Hi there!"}

event: response.function_call_arguments.delta
data: {"type":"response.function_call_arguments.delta","item_id":"fc_1","output_index":1,"delta":"{}"}

event: response.completed
data: {"type":"response.completed","sequence_number":9,"response":{"id":"resp_67c9","object":"response","created_at":1741290958,"status":"completed","error":null,"model":"gpt-4o-2024-08-06","output":[{"id":"msg_67","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","text":"Hi there!","annotations":[]}]}],"usage":{"input_tokens":37,"input_tokens_details":{"cached_tokens":12},"output_tokens":11,"output_tokens_details":{"reasoning_tokens":3},"total_tokens":48},"user":null,"metadata":{"usage":"7"}}}

"#;

const MESSAGE_STREAM: &str = r#"event: message_start
data: {"type":"message_start","message":{"id":"msg_1nZdL29xx5MUA1yADyHTEsnR8uuvGzszyy","type":"message","role":"assistant","content":[],"model":"claude-opus-4-20250514","stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":25,"cache_creation_input_tokens":100,"cache_read_input_tokens":2000,"cache_creation":{"ephemeral_5m_input_tokens":100,"ephemeral_1h_input_tokens":0},"output_tokens":1,"service_tier":"standard"}}}

event: content_block_start
data: {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}

event: ping
data: {"type": "ping"}

event: content_block_delta
data: {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}}

event: content_block_delta
data: {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "!"}}

event: content_block_stop
data: {"type": "content_block_stop", "index": 0}

event: content_block_start
data: {"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"toolu_01","name":"get_weather","input":{"usage":{"output_tokens":77}}}}

event: content_block_delta
data: {"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\"a\""}}

event: content_block_delta
data: {"type":"content_block_delta","index":2,"delta":{"type":"thinking_delta","thinking":"Hm."}}

event: message_delta
data: {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence":null}, "usage": {"output_tokens": 15}}

event: message_stop
data: {"type": "message_stop"}

"#;

const OVERLOADED_STREAM: &str = r#"event: message_start
data: {"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","content":[],"usage":{"input_tokens":25,"output_tokens":1}}}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hello"}}

event: error
data: {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}

"#;

const GEMINI_STREAM: &str = r#"data: {"candidates": [{"content": {"parts": [{"text": "Hel"}],"role": "model"},"index": 0}],"usageMetadata": {"promptTokenCount": 10,"totalTokenCount": 10,"promptTokensDetails": [{"modality": "TEXT","tokenCount": 10}]},"modelVersion": "gemini-2.5-flash","responseId": "x"}

data: {"candidates": [{"content": {"parts": [{"text": "lo"}],"role": "model"},"finishReason": "STOP","index": 0}],"usageMetadata": {"promptTokenCount": 10,"candidatesTokenCount": 7,"totalTokenCount": 42,"cachedContentTokenCount": 4,"thoughtsTokenCount": 20,"toolUsePromptTokenCount": 5},"modelVersion": "gemini-2.5-flash","responseId": "x"}

"#;

const GEMINI_ARRAY: &str = r#"[{
  "candidates": [{"content": {"parts": [{"text": "Hel"}], "role": "model"}, "index": 0}],
  "usageMetadata": {"promptTokenCount": 10, "totalTokenCount": 10},
  "modelVersion": "gemini-2.5-flash"
}
,
{
  "candidates": [{"content": {"parts": [{"text": "lo \"usageMetadata\": {}"}, {"functionCall": {"name": "f", "args": {"usageMetadata": {"promptTokenCount": 1}}}}], "role": "model"}, "finishReason": "STOP", "index": 0}],
  "usageMetadata": {"promptTokenCount": 10, "candidatesTokenCount": 7, "totalTokenCount": 17},
  "modelVersion": "gemini-2.5-flash"
}
]"#;

const CHAT_BODY: &str = r#"{
  "id": "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT",
  "object": "chat.completion",
  "created": 1741569952,
  "model": "gpt-4.1-2025-04-14",
  "choices": [
    {
      "index": 0,
      "message": {
        "role": "assistant",
        "content": "Hello! \"usage\": {\"prompt_tokens\": 1}",
        "refusal": null,
        "annotations": [],
        "usage": {"prompt_tokens": 5, "completion_tokens": 5}
      },
      "logprobs": null,
      "finish_reason": "stop"
    }
  ],
  "usage": {
    "prompt_tokens": 19,
    "completion_tokens": 10,
    "total_tokens": 29,
    "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0}
  },
  "service_tier": "default"
}
"#;

const MESSAGE_BODY: &str = r#"{"id":"msg_013","type":"message","role":"assistant","model":"claude-sonnet-4","content":[{"type":"text","text":"Hi!"},{"type":"tool_use","id":"t","name":"n","input":{"usage":{"input_tokens":9}}}],"stop_reason":"end_turn","usage":{"input_tokens":2095,"cache_creation_input_tokens":7,"cache_read_input_tokens":11,"output_tokens":503}}"#;

const RESPONSES_BODY: &str = r#"{"id":"resp_1","object":"response","status":"completed","output":[{"type":"message","content":[{"type":"output_text","text":"Hey"}]}],"usage":{"input_tokens":36,"input_tokens_details":{"cached_tokens":0},"output_tokens":87,"output_tokens_details":{"reasoning_tokens":64},"total_tokens":123},"metadata":{}}"#;

const EMBEDDING_BASE64: &str = r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":"AAAAvwAAgD8AAEBA/////w=="}],"model":"text-embedding-3-small","usage":{"prompt_tokens":8,"total_tokens":8}}"#;

const EMBEDDING_FLOATS: &str = r#"{"object":"list","data":[{"object":"embedding","embedding":[0.0023064255,-0.009327292,-1e-05,0.5],"index":0},{"object":"embedding","embedding":[1,2,3],"index":1}],"model":"text-embedding-ada-002","usage":{"prompt_tokens":8,"total_tokens":8}}"#;

const TRANSCRIPT_BODY: &str = r#"{"text":"Imagine the wildest idea","usage":{"type":"tokens","input_tokens":14,"input_token_details":{"text_tokens":0,"audio_tokens":14},"output_tokens":45,"total_tokens":59}}"#;

const TRANSCRIPT_VERBOSE: &str = r#"{"task":"transcribe","language":"english","duration":8.470000267028809,"text":"The beach","segments":[{"id":0,"seek":0,"start":0.0,"end":3.31,"text":" The beach","tokens":[50364,440],"temperature":0.0,"duration":99}],"usage":{"type":"duration","seconds":9}}"#;

const TRANSCRIPT_OLD: &str =
    r#"{"task":"transcribe","language":"english","duration":8.4700002,"text":"The beach","segments":[]}"#;

const TRANSCRIPT_STREAM: &str = r#"data: {"type":"transcript.text.delta","delta":"I","logprobs":[]}

data: {"type":"transcript.text.delta","delta":" see","logprobs":[]}

data: {"type":"transcript.text.done","text":"I see","usage":{"type":"tokens","input_tokens":14,"input_token_details":{"text_tokens":0,"audio_tokens":14},"output_tokens":45,"total_tokens":59}}

"#;

const IMAGE_BODY: &str = r#"{"created":1713833628,"data":[{"b64_json":"iVBORw0KGgo="}],"usage":{"total_tokens":100,"input_tokens":50,"output_tokens":50,"input_tokens_details":{"text_tokens":10,"image_tokens":40}}}"#;

const IMAGE_STREAM: &str = r#"event: image_generation.partial_image
data: {"type":"image_generation.partial_image","b64_json":"iVBORw0KGgo=","partial_image_index":0}

event: image_generation.completed
data: {"type":"image_generation.completed","b64_json":"iVBORw0KGgo=","usage":{"total_tokens":100,"input_tokens":50,"output_tokens":50,"input_tokens_details":{"text_tokens":10,"image_tokens":40}}}

"#;

const RERANK_COHERE: &str = r#"{"id":"07734bd2","results":[{"index":3,"relevance_score":0.999}],"meta":{"api_version":{"version":"2"},"billed_units":{"search_units":1},"tokens":{"input_tokens":120,"output_tokens":0}}}"#;

const RERANK_JINA: &str =
    r#"{"model":"jina-reranker","usage":{"total_tokens":38},"results":[{"index":0,"relevance_score":0.9}]}"#;

macro_rules! golden {
    ($name:literal, $dialect:ident, $endpoint:ident, $framing:ident, $body:expr, $usage:expr, $text:expr, $complete:expr) => {
        Golden {
            name: $name,
            dialect: DialectName::$dialect,
            endpoint: Endpoint::$endpoint,
            framing: Framing::$framing,
            body: $body,
            usage: $usage,
            text: $text,
            is_complete: $complete,
        }
    };
}

const CHAT_USAGE: Option<Usage> = Some(Usage { input: 1019, cached_input: 896, output: 10, reasoning: 4, ..NONE });

pub const ALL: &[Golden] = &[
    golden!("chat stream", OpenAi, ChatCompletions, EventStream, CHAT_STREAM, CHAT_USAGE, 37, true),
    golden!("chat stream, azure", Azure, ChatCompletions, EventStream, CHAT_STREAM, CHAT_USAGE, 37, true),
    golden!("tool calls", OpenAi, ChatCompletions, EventStream, TOOL_STREAM, used(82, 17), 11, true),
    golden!("usage on every chunk", OpenAi, ChatCompletions, EventStream, CONTINUOUS_STREAM, used(7, 2), 2, true),
    golden!("completions", OpenAi, Completions, EventStream, COMPLETION_STREAM, used(5, 2), 7, true),
    golden!("no usage", OpenAi, ChatCompletions, EventStream, NO_USAGE_STREAM, None, 5, true),
    golden!(
        "responses",
        OpenAi,
        Responses,
        EventStream,
        RESPONSES_STREAM,
        Some(Usage { input: 37, cached_input: 12, output: 11, reasoning: 3, ..NONE }),
        11,
        true
    ),
    golden!(
        "messages",
        Anthropic,
        Messages,
        EventStream,
        MESSAGE_STREAM,
        Some(Usage { input: 2125, cached_input: 2000, cache_write: 100, output: 15, ..NONE }),
        43,
        true
    ),
    golden!(
        "overloaded",
        Anthropic,
        Messages,
        EventStream,
        OVERLOADED_STREAM,
        Some(Usage { input: 25, output: 1, estimated: true, ..NONE }),
        5,
        false
    ),
    golden!(
        "gemini stream",
        Gemini,
        StreamGenerateContent,
        EventStream,
        GEMINI_STREAM,
        Some(Usage { input: 15, cached_input: 4, output: 27, reasoning: 20, ..NONE }),
        5,
        true
    ),
    golden!("gemini array", Gemini, StreamGenerateContent, Json, GEMINI_ARRAY, used(10, 7), 25, true),
    golden!("chat", OpenAi, ChatCompletions, Json, CHAT_BODY, used(19, 10), 36, true),
    golden!(
        "message",
        Anthropic,
        Messages,
        Json,
        MESSAGE_BODY,
        Some(Usage { input: 2113, cached_input: 11, cache_write: 7, output: 503, ..NONE }),
        3,
        true
    ),
    golden!(
        "response",
        OpenAi,
        Responses,
        Json,
        RESPONSES_BODY,
        Some(Usage { input: 36, output: 87, reasoning: 64, ..NONE }),
        3,
        true
    ),
    golden!("embeddings, base64", OpenAi, Embeddings, Json, EMBEDDING_BASE64, used(8, 0), 0, true),
    golden!("embeddings, floats", Azure, Embeddings, Json, EMBEDDING_FLOATS, used(8, 0), 0, true),
    golden!("transcript", OpenAi, AudioTranscriptions, Json, TRANSCRIPT_BODY, used(14, 45), 0, true),
    golden!(
        "verbose transcript",
        OpenAi,
        AudioTranscriptions,
        Json,
        TRANSCRIPT_VERBOSE,
        Some(Usage { audio_ms: 9000, ..NONE }),
        0,
        true
    ),
    golden!(
        "older transcript",
        OpenAi,
        AudioTranslations,
        Json,
        TRANSCRIPT_OLD,
        Some(Usage { audio_ms: 8471, ..NONE }),
        0,
        true
    ),
    golden!("transcript stream", OpenAi, AudioTranscriptions, EventStream, TRANSCRIPT_STREAM, used(14, 45), 5, true),
    golden!("transcript text", OpenAi, AudioTranscriptions, Opaque, "The \"usage\": {} beach\n", None, 0, true),
    golden!("image", OpenAi, ImageGenerations, Json, IMAGE_BODY, used(50, 50), 0, true),
    golden!("image stream", OpenAi, ImageGenerations, EventStream, IMAGE_STREAM, used(50, 50), 0, true),
    golden!("rerank, cohere", OpenAi, Rerank, Json, RERANK_COHERE, used(120, 0), 0, true),
    golden!("rerank, jina", OpenAi, Rerank, Json, RERANK_JINA, used(38, 0), 0, true),
];
