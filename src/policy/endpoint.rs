//! The calls the proxy knows, by dialect, and which of them a key may make.

use crate::units::Tokens;

/// Whose API a caller speaks. Decided by the path, refined for `/v1/models` by the headers (ECOSYSTEM: an anthropic or a
/// google client asks for it too).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DialectName {
    /// OpenAI's HTTP API.
    OpenAi,
    /// Anthropic's Messages API.
    Anthropic,
    /// Google's Gemini API.
    Gemini,
    /// Azure OpenAI.
    Azure,
}

impl DialectName {
    /// Every dialect.
    pub const ALL: [Self; 4] = [Self::OpenAi, Self::Anthropic, Self::Gemini, Self::Azure];

    /// The name used in configuration, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
            Self::Azure => "azure",
        }
    }
}

/// One call of an API, whatever the model or deployment in its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `/v1/chat/completions`, also below an Azure deployment.
    ChatCompletions,
    /// `/v1/completions`
    Completions,
    /// `/v1/responses`
    Responses,
    /// `/v1/embeddings`
    Embeddings,
    /// `/v1/moderations`
    Moderations,
    /// `/v1/images/generations`
    ImageGenerations,
    /// `/v1/images/edits` (multipart)
    ImageEdits,
    /// `/v1/images/variations` (multipart)
    ImageVariations,
    /// `/v1/audio/speech`
    AudioSpeech,
    /// `/v1/audio/transcriptions` (multipart)
    AudioTranscriptions,
    /// `/v1/audio/translations` (multipart)
    AudioTranslations,
    /// `/v1/rerank`
    Rerank,
    /// `/v1/messages`
    Messages,
    /// `/v1/messages/count_tokens`
    CountTokens,
    /// gemini `{m}:generateContent`
    GenerateContent,
    /// gemini `{m}:streamGenerateContent`
    StreamGenerateContent,
    /// gemini `{m}:embedContent`
    EmbedContent,
    /// gemini `{m}:batchEmbedContents`
    BatchEmbedContents,
    /// gemini `{m}:countTokens`
    GeminiCountTokens,
    /// The list of models, answered by the proxy itself and filtered by key.
    Models,
    /// One model of that list.
    Model,
    /// `GET /v1/key`: what the holder of a key may know of it.
    KeyStatus,
    /// `GET /api/usage/token/`: the same for tools of the new-api family.
    TokenUsage,
    /// A path the operator lists under `[[passthrough]]`.
    Passthrough,
    /// `/v1/realtime`, a websocket. Each of its responses is a call of its own.
    Realtime,
}

/// The names an operator may use for several endpoints at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EndpointGroup {
    /// Everything that answers a prompt with text: chat, completions, responses, messages, generateContent, token counts.
    Chat,
    /// Embeddings and rerank.
    Embeddings,
    /// Images in or out as the main thing.
    Images,
    /// Speech, transcription, translation.
    Audio,
    /// The list of models.
    Models,
    /// Moderations.
    Moderations,
    /// The operator's own passthrough paths.
    Passthrough,
    /// Conversations over a websocket.
    Realtime,
}

impl Endpoint {
    /// Every endpoint.
    pub const ALL: [Self; 25] = [
        Self::ChatCompletions,
        Self::Completions,
        Self::Responses,
        Self::Embeddings,
        Self::Moderations,
        Self::ImageGenerations,
        Self::ImageEdits,
        Self::ImageVariations,
        Self::AudioSpeech,
        Self::AudioTranscriptions,
        Self::AudioTranslations,
        Self::Rerank,
        Self::Messages,
        Self::CountTokens,
        Self::GenerateContent,
        Self::StreamGenerateContent,
        Self::EmbedContent,
        Self::BatchEmbedContents,
        Self::GeminiCountTokens,
        Self::Models,
        Self::Model,
        Self::KeyStatus,
        Self::TokenUsage,
        Self::Passthrough,
        Self::Realtime,
    ];

    /// The name used in `endpoints_allowed`, logs and metrics: the dialect path without its version.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ChatCompletions => "chat/completions",
            Self::Completions => "completions",
            Self::Responses => "responses",
            Self::Embeddings => "embeddings",
            Self::Moderations => "moderations",
            Self::ImageGenerations => "images/generations",
            Self::ImageEdits => "images/edits",
            Self::ImageVariations => "images/variations",
            Self::AudioSpeech => "audio/speech",
            Self::AudioTranscriptions => "audio/transcriptions",
            Self::AudioTranslations => "audio/translations",
            Self::Rerank => "rerank",
            Self::Messages => "messages",
            Self::CountTokens => "messages/count_tokens",
            Self::GenerateContent => "generateContent",
            Self::StreamGenerateContent => "streamGenerateContent",
            Self::EmbedContent => "embedContent",
            Self::BatchEmbedContents => "batchEmbedContents",
            Self::GeminiCountTokens => "countTokens",
            Self::Models => "models",
            Self::Model => "models/{model}",
            Self::KeyStatus => "key",
            Self::TokenUsage => "usage/token",
            Self::Passthrough => "passthrough",
            Self::Realtime => "realtime",
        }
    }

    /// The group it belongs to; `None` for what every key may ask (its own status).
    pub fn group(self) -> Option<EndpointGroup> {
        match self {
            Self::ChatCompletions
            | Self::Completions
            | Self::Responses
            | Self::Messages
            | Self::CountTokens
            | Self::GenerateContent
            | Self::StreamGenerateContent
            | Self::GeminiCountTokens => Some(EndpointGroup::Chat),
            Self::Embeddings | Self::EmbedContent | Self::BatchEmbedContents | Self::Rerank => {
                Some(EndpointGroup::Embeddings)
            }
            Self::ImageGenerations | Self::ImageEdits | Self::ImageVariations => Some(EndpointGroup::Images),
            Self::AudioSpeech | Self::AudioTranscriptions | Self::AudioTranslations => Some(EndpointGroup::Audio),
            Self::Models | Self::Model => Some(EndpointGroup::Models),
            Self::Moderations => Some(EndpointGroup::Moderations),
            Self::Passthrough => Some(EndpointGroup::Passthrough),
            Self::Realtime => Some(EndpointGroup::Realtime),
            Self::KeyStatus | Self::TokenUsage => None,
        }
    }

    /// Answered by the proxy itself, from memory; costs nothing and takes nothing.
    pub fn is_local(self) -> bool {
        matches!(self, Self::Models | Self::Model | Self::KeyStatus | Self::TokenUsage)
    }

    /// Counts tokens without generating any: reserves no tokens and no quota.
    pub fn is_free(self) -> bool {
        matches!(self, Self::CountTokens | Self::GeminiCountTokens)
    }

    /// Whether its answer has generated text, so that an output allowance is reserved.
    pub fn has_output(self) -> bool {
        matches!(
            self,
            Self::ChatCompletions
                | Self::Completions
                | Self::Responses
                | Self::Messages
                | Self::GenerateContent
                | Self::StreamGenerateContent
                | Self::Realtime
        )
    }

    /// Whether what a request asks for can be lowered to what a quota still covers. In a conversation it cannot: how much of it the
    /// backend reads again is known only afterwards.
    pub fn can_clamp(self) -> bool {
        self.has_output() && self != Self::Realtime
    }
}

impl Endpoint {
    /// Whether it is a verb behind the model in one of gemini's paths.
    pub fn is_gemini_verb(self) -> bool {
        matches!(
            self,
            Self::GenerateContent
                | Self::StreamGenerateContent
                | Self::EmbedContent
                | Self::BatchEmbedContents
                | Self::GeminiCountTokens
        )
    }

    /// The lowest limit of an answer's output that the API takes, in tokens: OpenAI's responses want 16 at least.
    pub fn least_output(self) -> Tokens {
        if self == Self::Responses { 16 } else { 1 }
    }
}

impl EndpointGroup {
    /// Every group.
    pub const ALL: [Self; 8] = [
        Self::Chat,
        Self::Embeddings,
        Self::Images,
        Self::Audio,
        Self::Models,
        Self::Moderations,
        Self::Passthrough,
        Self::Realtime,
    ];

    /// The name used in `endpoints_allowed`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Embeddings => "embeddings",
            Self::Images => "images",
            Self::Audio => "audio",
            Self::Models => "models",
            Self::Moderations => "moderations",
            Self::Passthrough => "passthrough",
            Self::Realtime => "realtime",
        }
    }
}

/// `endpoints_allowed`, compiled to one bit an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndpointRules(u32);

impl EndpointRules {
    /// Every endpoint.
    pub const ALL: Self = Self(u32::MAX);

    /// Compiles the names of groups and endpoints; the paths of POLICY 1 are understood too, with `{m}` (any word in braces, or
    /// `*`) for a model and `*` at the end for all that begins so: `/v1/images/*`, `/v1beta/models/{m}:generateContent`,
    /// `/openai/deployments/{m}/chat/completions`. An empty list allows everything.
    ///
    /// # Errors
    /// The first name that is neither.
    pub fn compile<S: AsRef<str>>(names: &[S]) -> Result<Self, String> {
        if names.is_empty() {
            return Ok(Self::ALL);
        }
        let mut bits = 0;
        for name in names {
            let name = name.as_ref();
            let found = Endpoint::ALL
                .into_iter()
                .filter(|endpoint| named(name, *endpoint))
                .map(bit)
                .fold(0, |all, bit| all | bit);
            if found == 0 {
                return Err(name.to_owned());
            }
            bits |= found;
        }
        // One value for rules that allow the same.
        bits |= bit(Endpoint::KeyStatus) | bit(Endpoint::TokenUsage);
        Ok(if bits == bits_of_all() { Self::ALL } else { Self(bits) })
    }

    /// The fewest names that [`EndpointRules::compile`] takes for the same: groups where they are whole, else single calls; empty for
    /// all. Where nothing is allowed, what every key may ask stands alone: an empty list would be everything.
    pub fn entries(self) -> Vec<&'static str> {
        let asked = || Endpoint::ALL.into_iter().filter_map(|endpoint| Some((endpoint, endpoint.group()?)));
        if asked().all(|(endpoint, _)| self.allows(endpoint)) {
            return Vec::new();
        }
        let is_whole = |group| asked().filter(|(_, of)| *of == group).all(|(endpoint, _)| self.allows(endpoint));
        let mut names = Vec::new();
        for (endpoint, group) in asked().filter(|(endpoint, _)| self.allows(*endpoint)) {
            let name = if is_whole(group) { group.as_str() } else { endpoint.as_str() };
            if !names.contains(&name) {
                names.push(name);
            }
        }
        if names.is_empty() {
            names.push(Endpoint::KeyStatus.as_str());
        }
        names
    }

    /// Whether `endpoint` may be called. A key may always ask for its own status.
    pub fn allows(self, endpoint: Endpoint) -> bool {
        endpoint.group().is_none() || self.0 & bit(endpoint) != 0
    }
}

/// Whether `name`, as the operator wrote it, means `endpoint` among others.
fn named(name: &str, endpoint: Endpoint) -> bool {
    if let Some((model, verb)) = gemini_path(name) {
        let is_verb = endpoint.is_gemini_verb();
        return is_any(model) && is_verb && (is_any(verb) || verb == endpoint.as_str());
    }
    if let Some(deployment) = name.strip_prefix("/openai/deployments/") {
        let is_below = endpoint != Endpoint::Realtime;
        let call = deployment.split_once('/');
        return is_below && call.is_some_and(|(model, call)| is_any(model) && openai_call(call, endpoint));
    }
    if let Some(call) = name.strip_prefix("/openai/v1/").or_else(|| name.strip_prefix("/openai/"))
        && !call.starts_with("models")
    {
        return openai_call(call, endpoint);
    }
    let prefixes = ["/openai/v1/", "/openai/", "/v1beta/", "/v1/"];
    let bare = prefixes.into_iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name);
    if let Some(model) = bare.strip_prefix("models/") {
        return is_any(model) && endpoint == Endpoint::Model;
    }
    let in_group = endpoint.group().is_some_and(|group| group.as_str() == bare);
    in_group || endpoint.as_str() == bare || is_below(bare, endpoint)
}

/// A model and a verb of one of the three paths that gemini's calls have.
fn gemini_path(name: &str) -> Option<(&str, &str)> {
    let prefixes = ["/v1beta/models/", "/v1/models/", "/models/"];
    prefixes.into_iter().find_map(|prefix| name.strip_prefix(prefix))?.rsplit_once(':')
}

/// `*`, or a placeholder in braces: whatever stands there.
fn is_any(text: &str) -> bool {
    text == "*"
        || text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).is_some_and(|word| !word.contains(['{', '/']))
}

/// `images/*`: everything below it.
fn is_below(pattern: &str, endpoint: Endpoint) -> bool {
    pattern.strip_suffix('*').is_some_and(|prefix| prefix.ends_with('/') && endpoint.as_str().starts_with(prefix))
}

/// A call of OpenAI's, which Azure has below its own prefixes.
fn openai_call(call: &str, endpoint: Endpoint) -> bool {
    let is_openai = !endpoint.is_local()
        && !endpoint.is_gemini_verb()
        && !matches!(endpoint, Endpoint::Messages | Endpoint::CountTokens | Endpoint::Passthrough);
    is_openai && (call == "*" || call == endpoint.as_str() || is_below(call, endpoint))
}

fn bits_of_all() -> u32 {
    Endpoint::ALL.into_iter().map(bit).fold(0, |all, bit| all | bit)
}

fn bit(endpoint: Endpoint) -> u32 {
    1 << (endpoint as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_rule_allows_everything_and_a_rule_only_what_it_names() {
        let none: [&str; 0] = [];
        let all = EndpointRules::compile(&none).unwrap();
        assert!(Endpoint::ALL.iter().all(|e| all.allows(*e)));
        let some = EndpointRules::compile(&["embeddings", "/v1/messages"]).unwrap();
        assert!(some.allows(Endpoint::Embeddings) && some.allows(Endpoint::Rerank) && some.allows(Endpoint::Messages));
        assert!(!some.allows(Endpoint::CountTokens) && !some.allows(Endpoint::ChatCompletions));
        assert!(some.allows(Endpoint::KeyStatus) && some.allows(Endpoint::TokenUsage));
        assert_eq!(EndpointRules::compile(&["chat", "telepathy"]), Err("telepathy".to_owned()));
    }

    #[test]
    fn what_rules_are_shown_as_compiles_to_themselves() {
        for names in [
            &["chat"][..],
            &["/v1/images/*", "embeddings"],
            &["/v1/messages", "generateContent"],
            &["models"],
            &["/v1/models/{m}"],
        ] {
            let rules = EndpointRules::compile(names).unwrap();
            assert_eq!(EndpointRules::compile(&rules.entries()), Ok(rules), "{names:?}: {:?}", rules.entries());
        }
        assert_eq!(EndpointRules::compile(&["chat", "/v1/rerank"]).unwrap().entries(), ["chat", "rerank"]);
        assert_eq!(EndpointRules::ALL.entries(), Vec::<&str>::new());
    }

    #[test]
    fn rules_that_allow_nothing_are_not_shown_as_none() {
        let nothing = EndpointRules::compile(&["key"]).unwrap();
        assert_eq!(nothing.entries(), ["key"]);
        assert_eq!(EndpointRules::compile(&nothing.entries()), Ok(nothing));
        let groups = EndpointGroup::ALL.map(EndpointGroup::as_str);
        assert_eq!(EndpointRules::compile(&groups), Ok(EndpointRules::ALL));
    }

    #[test]
    fn every_spelling_of_the_table_of_paths_is_understood() {
        use Endpoint as E;
        let allowed = |name: &str| -> Vec<Endpoint> {
            let rules = EndpointRules::compile(&[name]).unwrap_or_else(|name| panic!("{name}"));
            E::ALL.into_iter().filter(|endpoint| endpoint.group().is_some() && rules.allows(*endpoint)).collect()
        };
        let images = vec![E::ImageGenerations, E::ImageEdits, E::ImageVariations];
        for (name, endpoints) in [
            ("/v1/images/*", images.clone()),
            ("/openai/v1/images/*", images),
            ("/v1/audio/*", vec![E::AudioSpeech, E::AudioTranscriptions, E::AudioTranslations]),
            ("/v1/models", vec![E::Models, E::Model]),
            ("/v1/models/{m}", vec![E::Model]),
            ("/v1beta/models", vec![E::Models, E::Model]),
            ("/v1beta/models/{m}:generateContent", vec![E::GenerateContent]),
            ("/v1/models/{m}:countTokens", vec![E::GeminiCountTokens]),
            ("/models/*:embedContent", vec![E::EmbedContent]),
            ("/openai/deployments/{m}/chat/completions", vec![E::ChatCompletions]),
            ("/openai/v1/responses", vec![E::Responses]),
            ("/v1/realtime", vec![E::Realtime]),
            ("/openai/realtime", vec![E::Realtime]),
            ("realtime", vec![E::Realtime]),
            ("/v1/messages", vec![E::Messages]),
            ("/v1/messages/count_tokens", vec![E::CountTokens]),
            ("generateContent", vec![E::GenerateContent]),
        ] {
            assert_eq!(allowed(name), endpoints, "{name}");
        }
        assert_eq!(allowed("/v1beta/models/{m}:{verb}").len(), 5);
        assert_eq!(allowed("/openai/deployments/{m}/*").len(), 12);
        for refused in [
            "/v1/images/x",
            "/v1/*x",
            "*",
            "/v1beta/models/gemini-2:generateContent",
            "/v1/models/gpt-4o",
            "/openai/deployments/gpt/chat/completions",
            "/v1beta/models/{m}:telepathy",
            "/openai/v1/messages",
            "",
        ] {
            assert_eq!(EndpointRules::compile(&[refused]), Err(refused.to_owned()));
        }
    }
}
