//! The members a body is watched for, and why each is.

use crate::dialect::json::{Name, Names};
use crate::policy::BodyFlaw;

/// What a watched top-level member is to the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Member {
    /// The model.
    Model,
    /// Further models, tried when the first fails (OpenRouter).
    Models,
    /// The same (LiteLLM).
    Fallbacks,
    /// OpenRouter's `"fallback"`: only beside `models`, else it would pick one itself.
    Route,
    Stream,
    StreamOptions,
    /// Answers to one prompt.
    N,
    BestOf,
    /// Limits of the output, each the own one of some endpoint.
    MaxTokens,
    MaxCompletionTokens,
    MaxOutputTokens,
    /// Limits of the output that no endpoint here has, but that some backend prefers to the endpoint's own (llama-server reads
    /// `n_predict` before `max_tokens`).
    ForeignLimit(u8),
    /// A number of answers that some backend prefers to `n` (llama-server).
    ForeignChoices,
    /// Text, texts, or a stored prompt, which may carry a model.
    Prompt,
    /// An answer fetched later cannot be metered.
    Background,
    /// May name the models of built-in tools.
    Tools,
    /// May name models (OpenRouter).
    Plugins,
    /// Merged into the request by LiteLLM, an own member of Google's imitation of OpenAI.
    ExtraBody,
    /// gemini; in either of protobuf's two spellings.
    GenerationConfig,
    /// anthropic: what is thought, which the limit of the output has to cover.
    Thinking,
    /// gemini batches: each names the model again.
    Requests,
    /// gemini countTokens: names the model again.
    GenerateContentRequest,
    /// Read by no rule, but two of it would be two different prompts.
    Once(u8),
    /// The same, of what goes on with an earlier call: the backend reads that too.
    Earlier(u8),
    /// Lets a backend pick another address, account or model, or not answer at all.
    Refused,
}

impl Member {
    /// The bit that remembers having seen it; `None` where the first one is refused anyway.
    pub(super) fn bit(self) -> Option<u64> {
        let index = match self {
            Self::Once(index) | Self::Earlier(index) => 32 + u32::from(index),
            Self::ForeignLimit(index) => 48 + u32::from(index),
            Self::Model => 0,
            Self::Models => 1,
            Self::Fallbacks => 2,
            Self::Route => 3,
            Self::Stream => 4,
            Self::StreamOptions => 5,
            Self::N => 6,
            Self::BestOf => 7,
            Self::MaxTokens => 8,
            Self::MaxCompletionTokens => 9,
            Self::MaxOutputTokens => 10,
            Self::ForeignChoices => 11,
            Self::Prompt => 12,
            Self::Background => 13,
            Self::Tools => 14,
            Self::Plugins => 15,
            Self::ExtraBody => 16,
            Self::GenerationConfig => 17,
            Self::Requests => 18,
            Self::GenerateContentRequest => 19,
            Self::Thinking => 20,
            Self::Refused => return None,
        };
        Some(1 << index)
    }
}

/// The watched members of a body, ordered by length. Left out on purpose: `metadata`, `user`, `timeout`, `provider` (which
/// host serves the same model, on the operator's account) and everything else that moves neither model, address, account nor
/// cost. The refused ones are read by LiteLLM, OpenRouter, vLLM, SGLang, LoRAX, TGI, mlx-lm or Azure's "on your data".
pub(super) static TOP: Names<Member> = Names::new(&[
    ("n", Member::N),
    ("input", Member::Once(0)),
    ("model", Member::Model),
    ("route", Member::Route),
    ("tools", Member::Tools),
    ("engine", Member::Refused),
    ("models", Member::Models),
    ("n_cmpl", Member::ForeignChoices),
    ("preset", Member::Refused),
    ("prompt", Member::Prompt),
    ("stream", Member::Stream),
    ("system", Member::Once(1)),
    ("api_key", Member::Refused),
    ("best_of", Member::BestOf),
    ("headers", Member::Refused),
    ("plugins", Member::Plugins),
    ("adapters", Member::Refused),
    ("api_base", Member::Refused),
    ("api_type", Member::Refused),
    ("base_url", Member::Refused),
    ("contents", Member::Once(2)),
    ("messages", Member::Once(3)),
    ("requests", Member::Requests),
    ("thinking", Member::Thinking),
    ("api_token", Member::Refused),
    ("fallbacks", Member::Fallbacks),
    ("lora_path", Member::Refused),
    ("n_predict", Member::ForeignLimit(2)),
    ("tenant_id", Member::Refused),
    ("adapter_id", Member::Refused),
    ("background", Member::Background),
    ("extra_body", Member::ExtraBody),
    ("max_tokens", Member::MaxTokens),
    ("model_info", Member::Refused),
    ("model_list", Member::Refused),
    ("api_version", Member::Refused),
    ("dataSources", Member::Refused),
    ("draft_model", Member::Refused),
    ("extra_query", Member::Refused),
    ("num_predict", Member::ForeignLimit(3)),
    ("region_name", Member::Refused),
    ("user_config", Member::Refused),
    ("conversation", Member::Earlier(6)),
    ("data_sources", Member::Refused),
    ("instructions", Member::Once(4)),
    ("organization", Member::Refused),
    ("aws_role_name", Member::Refused),
    ("client_secret", Member::Refused),
    ("deployment_id", Member::Refused),
    ("extra_headers", Member::Refused),
    ("mock_response", Member::Refused),
    ("adapter_source", Member::Refused),
    ("azure_ad_token", Member::Refused),
    ("azure_endpoint", Member::Refused),
    ("bootstrap_host", Member::Refused),
    ("bootstrap_port", Member::Refused),
    ("bootstrap_room", Member::Refused),
    ("litellm_params", Member::Refused),
    ("max_new_tokens", Member::ForeignLimit(1)),
    ("stream_options", Member::StreamOptions),
    ("vertex_project", Member::Refused),
    ("aws_region_name", Member::Refused),
    ("mock_tool_calls", Member::Refused),
    ("vertex_location", Member::Refused),
    ("aws_profile_name", Member::Refused),
    ("aws_session_name", Member::Refused),
    ("aws_sts_endpoint", Member::Refused),
    ("azure_deployment", Member::Refused),
    ("generationConfig", Member::GenerationConfig),
    ("aws_access_key_id", Member::Refused),
    ("aws_session_token", Member::Refused),
    ("default_fallbacks", Member::Refused),
    ("generation_config", Member::GenerationConfig),
    ("max_output_tokens", Member::MaxOutputTokens),
    ("systemInstruction", Member::Once(7)),
    ("vertex_ai_project", Member::Refused),
    ("kv_transfer_params", Member::Refused),
    ("system_instruction", Member::Once(7)),
    ("vertex_ai_location", Member::Refused),
    ("vertex_credentials", Member::Refused),
    ("custom_llm_provider", Member::Refused),
    ("specific_deployment", Member::Refused),
    ("max_tokens_to_sample", Member::ForeignLimit(0)),
    ("previous_response_id", Member::Earlier(5)),
    ("aws_secret_access_key", Member::Refused),
    ("max_completion_tokens", Member::MaxCompletionTokens),
    ("vertex_ai_credentials", Member::Refused),
    ("aws_web_identity_token", Member::Refused),
    ("generateContentRequest", Member::GenerateContentRequest),
    ("mock_testing_fallbacks", Member::Refused),
    ("litellm_credential_name", Member::Refused),
    ("content_policy_fallbacks", Member::Refused),
    ("context_window_fallbacks", Member::Refused),
    ("generate_content_request", Member::GenerateContentRequest),
    ("aws_bedrock_runtime_endpoint", Member::Refused),
    ("context_window_fallback_dict", Member::Refused),
]);

/// What a watched field of a form is to the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FormMember {
    /// The model.
    Model,
    /// Whether a stream is asked for.
    Stream,
    /// How many answers.
    N,
    /// Read by no rule, but not twice.
    Once,
    /// Lets a backend pick another model, address or account.
    Refused,
}

/// The watched member that a form's field is. Some servers read `model[]`, `model[0]` and `model.x` as `model`.
///
/// # Errors
/// [`BodyFlaw::MisspelledMember`].
pub fn form_member(field: &[u8]) -> Result<Option<(&'static str, FormMember)>, BodyFlaw> {
    let stem = field.iter().position(|byte| matches!(byte, b'[' | b'.')).unwrap_or(field.len());
    let Some((name, member)) = TOP.find(&Name::new(field, false))? else {
        let stem = TOP.like(field.get(..stem).unwrap_or_default());
        return stem.map_or(Ok(None), |member| Err(BodyFlaw::MisspelledMember { member }));
    };
    let member = match member {
        Member::Model => FormMember::Model,
        Member::Stream => FormMember::Stream,
        Member::N => FormMember::N,
        Member::Models
        | Member::Fallbacks
        | Member::Route
        | Member::Refused
        | Member::Tools
        | Member::Plugins
        | Member::ExtraBody
        | Member::ForeignChoices => FormMember::Refused,
        _ => FormMember::Once,
    };
    Ok(Some((name, member)))
}

/// Where only the model matters: inner requests, tools.
pub(super) static ONE_MODEL: Names<()> = Names::new(&[("model", ())]);

/// Inside `stream_options`.
pub(super) static STREAM_OPTIONS: Names<()> = Names::new(&[("include_usage", ())]);

/// Inside anthropic's `thinking`.
pub(super) static THINKING: Names<()> = Names::new(&[("budget_tokens", ())]);

/// What gemini's `generationConfig` is watched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Generation {
    Output,
    Choices,
}

/// Inside `generationConfig`, in either of protobuf's two spellings.
pub(super) static GENERATION: Names<Generation> = Names::new(&[
    ("candidateCount", Generation::Choices),
    ("candidate_count", Generation::Choices),
    ("maxOutputTokens", Generation::Output),
    ("max_output_tokens", Generation::Output),
]);
