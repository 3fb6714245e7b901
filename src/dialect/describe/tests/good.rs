//! Bodies as real clients send them, and what is read from each.

use super::*;
use crate::dialect::estimate::MEDIA_TOKENS;

fn named(described: &Described) -> Option<&str> {
    described.facts.model.as_ref().map(ModelName::as_str)
}

#[test]
fn openai_python_chat() {
    let body = r#"{"messages":[{"role":"user","content":"Say hi"}],"model":"gpt-4o-mini","max_tokens":20,"n":2,"stream":true,"temperature":0.7}"#;
    let described = Call::chat().good(body);
    assert_eq!(named(&described), Some("gpt-4o-mini"));
    assert!(described.facts.stream && described.facts.other_models.is_empty());
    let prompt = (body.len() as u64).div_ceil(3);
    assert_eq!(
        described.facts.estimate,
        Estimate { prompt, output: 40, choices: 2, output_is_stated: true, least_output: 1 }
    );
    assert_eq!(described.size, PromptSize { text_bytes: body.len() as u64, ..PromptSize::default() });
    assert!(described.splices.can_splice_usage() && !described.splices.asks_usage());
}

#[test]
fn other_writers_of_the_same_chat() {
    for body in [
        "{\n  \"model\": \"openai/gpt-4o\",\n  \"messages\": [ ] ,\r\n\t\"stream\" : false }\n",
        r#"{"model":"openai\/gpt-4o","messages":[{"content":"a\/b \ud83d\ude00 \u00e9"}]}"#,
        r#"{"model": "openai/gpt-4o", "max_tokens": null, "stream": null, "stream_options": null, "n": null, "tools": null, "api_base": null}"#,
        r#"{"model":"openai/gpt-4o","messages":[{"content":"truncated \ud83d"}],"metadata":{"model":"x","Model":1,"api_base":"y"}}"#,
        r#"{"model":"openai/gpt-4o","temperature":1e400,"logit_bias":{"50256":-100},"seed":123456789012345678901234567890}"#,
        r#"{"model":"openai/gpt-4o","provider":{"order":["azure"]},"transforms":[],"extra_body":{"google":{"model":"inner"}},"plugins":[{"id":"web"}]}"#,
        r#"{"model":"openai/gpt-4o","tools":[{"type":"function","function":{"name":"f","parameters":{"properties":{"model":{"type":"string"}}}}}]}"#,
        r#"{"model":"openai/gpt-4o","user":"u","stop":["\u0000"],"response_format":{"type":"json_object"},"modeler":1,"mod":2}"#,
    ] {
        let described = Call::chat().good(body);
        assert_eq!(named(&described), Some("openai/gpt-4o"), "{body}");
        assert!(!described.facts.stream && !described.splices.can_splice_usage());
        assert_eq!((described.facts.estimate.output, described.facts.estimate.output_is_stated), (512, false));
    }
}

#[test]
fn two_limits_of_a_chat_count_as_the_larger() {
    let described = Call::chat().good(r#"{"model":"m","max_tokens":10,"max_completion_tokens":30,"n":3,"best_of":4}"#);
    assert_eq!(described.facts.estimate.output, 120);
    let zero = Call::chat().good(r#"{"model":"m","max_tokens":0}"#).facts.estimate;
    assert_eq!((zero.output, zero.output_is_stated), (512, false), "zero means no limit to some backends");
}

#[test]
fn every_model_a_body_names_is_reported() {
    let body = r#"{"model":"a","models":["b","c/d"],"route":"fallback","fallbacks":["e",{"model":"f","user":"x"}],
        "tools":[{"type":"image_generation","model":"gpt-image-1"},{"type":"web_search"},null]}"#;
    let described = Call::chat().good(body);
    let others: Vec<&str> = described.facts.other_models.iter().map(ModelName::as_str).collect();
    assert_eq!(others, ["b", "c/d", "e", "f", "gpt-image-1"]);
}

#[test]
fn a_completion_is_one_answer_for_each_prompt() {
    let completion = Call::openai(Endpoint::Completions);
    for (prompt, choices) in
        [(r#""x""#, 2), (r#"["x","y","z"]"#, 6), ("[1,2,3]", 2), ("[[1],[2,3]]", 4), ("[]", 2), ("null", 2)]
    {
        let body = format!(r#"{{"model":"m","prompt":{prompt},"max_tokens":5,"n":1,"best_of":2}}"#);
        let estimate = completion.good(body).facts.estimate;
        assert_eq!((estimate.choices, estimate.output), (choices, choices * 5), "{prompt}");
    }
}

#[test]
fn codex_and_the_vercel_sdk_on_responses() {
    let body = r#"{"model":"gpt-5","input":[{"role":"user","content":[{"type":"input_text","text":"hi"},
        {"type":"input_image","image_url":"data:image/png;base64,iVBORw0KGgo="}]}],"previous_response_id":"resp_1","conversation":null,
        "instructions":"be brief","max_output_tokens":64,"stream":true,"background":false,"store":false,"prompt":null,"include":["reasoning.encrypted_content"]}"#;
    let described = Call::openai(Endpoint::Responses).good(body);
    assert_eq!((named(&described), described.facts.estimate.output), (Some("gpt-5"), 64));
    assert_eq!(described.size.media_items, 1);
    assert!(!described.splices.can_splice_usage(), "responses report usage by themselves");
}

#[test]
fn claude_code_sends_a_long_body_with_stream_last() {
    let tool = r#"{"name":"Bash","description":"Runs \"commands\"\n","input_schema":{"type":"object","properties":{"model":{"type":"string"}}}},"#;
    let text = "Line of code with \\\"quotes\\\" and \\t tabs\\n".repeat(2_500);
    let body = format!(
        r#"{{"model":"claude-sonnet-4-5","messages":[{{"role":"user","content":[{{"type":"text","text":"{text}"}}]}}],"system":[{{"type":"text","text":"x"}}],"tools":[{}{{"name":"last"}}],"metadata":{{"user_id":"u"}},"max_tokens":32000,"thinking":{{"type":"enabled","budget_tokens":1024}},"stream":true}}"#,
        tool.repeat(40)
    );
    assert!(body.len() > 100_000);
    let described = Call::messages().good(&body);
    assert_eq!(named(&described), Some("claude-sonnet-4-5"));
    assert!(described.facts.stream && described.facts.other_models.is_empty());
    assert_eq!((described.facts.estimate.output, described.facts.estimate.least_output), (32_000, 1_025));
    assert_eq!(described.facts.estimate.prompt, (body.len() as u64).div_ceil(3));
    assert!(!described.splices.can_splice_usage());
}

/// What a backend reads beside the body says nothing of the body's own tokens.
#[test]
fn what_goes_on_with_something_else_is_told_from_what_is_whole() {
    for (call, refers, body) in [
        (
            Call::chat(),
            true,
            r#"{"model":"m","messages":[{"content":[{"type":"image_url","image_url":{"url":"https://h/cat.png"}}]}]}"#,
        ),
        (Call::chat(), false, r#"{"model":"m","messages":[{"role":"user","content":"https://h/cat.png"}]}"#),
        (
            Call::messages(),
            true,
            r#"{"model":"m","max_tokens":1,"messages":[{"content":[{"type":"image","source":{"type":"url","url":"https://h/c"}}]}]}"#,
        ),
        (Call::openai(Endpoint::Responses), true, r#"{"model":"m","input":"x","previous_response_id":"resp_1"}"#),
        (Call::openai(Endpoint::Responses), true, r#"{"model":"m","input":"x","conversation":{"id":"c"}}"#),
        (
            Call::openai(Endpoint::Responses),
            true,
            r#"{"model":"m","input":[{"content":[{"type":"input_image","image_url":"http://h/c"}]}]}"#,
        ),
        (
            Call::openai(Endpoint::Responses),
            false,
            r#"{"model":"m","input":"x","previous_response_id":null,"conversation":null}"#,
        ),
    ] {
        assert_eq!(call.good(body).size.refers, refers, "{body}");
    }
}

/// Its limit has to cover what is thought; of other calls, and where it says nothing, there is no least.
#[test]
fn what_may_be_thought_is_the_least_that_an_output_may_be_limited_to() {
    for (thinking, least) in [
        (r#"{"type":"enabled","budget_tokens":5000}"#, 5_001),
        (r#"{"budget_tokens":null,"type":"enabled"}"#, 1),
        (r#"{"type":"adaptive","display":{"budget_tokens":"x"}}"#, 1),
        (r#"{"type":"disabled"}"#, 1),
        ("null", 1),
        ("7", 1),
    ] {
        let body = format!(r#"{{"model":"m","max_tokens":9000,"thinking":{thinking},"messages":[]}}"#);
        assert_eq!(Call::messages().good(&body).facts.estimate.least_output, least.max(1), "{body}");
        assert_eq!(Call::chat().good(&body).facts.estimate.least_output, 1, "{body}");
    }
}

#[test]
fn media_count_flat_in_every_dialect() {
    let base64 = "iVBORw0KGgoAAAANSUhEUgAA+/8=".repeat(4_000);
    for (call, body) in [
        (
            Call::chat(),
            format!(
                r#"{{"model":"m","messages":[{{"content":[{{"type":"image_url","image_url":{{"url":"data:image/png;base64,{base64}"}}}}]}}]}}"#
            ),
        ),
        (
            Call::chat(),
            format!(
                r#"{{"model":"m","messages":[{{"content":[{{"type":"input_audio","input_audio":{{"data":"{base64}","format":"wav"}}}}]}}]}}"#
            ),
        ),
        (
            Call::chat(),
            format!(
                r#"{{"model":"m","messages":[{{"content":[{{"type":"file","file":{{"file_data":"data:application/pdf;base64,{base64}"}}}}]}}]}}"#
            ),
        ),
        (
            Call::messages(),
            format!(
                r#"{{"model":"m","max_tokens":9,"messages":[{{"content":[{{"type":"image","source":{{"type":"base64","media_type":"image/png","data":"{base64}"}}}}]}}]}}"#
            ),
        ),
        (
            Call::gemini(Endpoint::GenerateContent),
            format!(r#"{{"contents":[{{"parts":[{{"inlineData":{{"mimeType":"image/png","data":"{base64}"}}}}]}}]}}"#),
        ),
    ] {
        let described = call.good(&body);
        assert_eq!(described.size.media_items, 1, "{:?}", call.dialect);
        let prompt = described.facts.estimate.prompt;
        assert!((MEDIA_TOKENS..MEDIA_TOKENS + 100).contains(&prompt), "{prompt}");
    }
    let text = Call::chat().good(format!(r#"{{"model":"m","messages":[{{"content":"{base64}"}}]}}"#));
    assert!(text.facts.estimate.prompt > 30_000, "base64 as a prompt's text is text");
}

#[test]
fn google_genai_names_the_model_in_the_path() {
    let call = Call::gemini(Endpoint::StreamGenerateContent);
    let body = r#"{"contents":[{"parts":[{"text":"hi"}],"role":"user"}],"generationConfig":{"maxOutputTokens":100,"candidateCount":2},"systemInstruction":{}}"#;
    let described = call.good(body);
    assert_eq!(named(&described), Some("gemini-2.5-flash"));
    assert!(described.facts.stream);
    assert_eq!(described.facts.estimate.output, 200);
    for body in [
        "{}",
        r#"{"model":"gemini-2.5-flash"}"#,
        r#"{"model":"models/gemini-2.5-flash"}"#,
        r#"{"model":"models\/gemini-2.5-flash"}"#,
        r#"{"generation_config":{"max_output_tokens":7}}"#,
        r#"{"generation_config":null}"#,
    ] {
        assert_eq!(named(&call.good(body)), Some("gemini-2.5-flash"), "{body}");
    }
    let batch = Call::gemini(Endpoint::BatchEmbedContents);
    let described =
        batch.good(r#"{"requests":[{"model":"models/gemini-2.5-flash","content":{}},{"content":{}},null]}"#);
    assert_eq!(described.facts.estimate.output, 0);
    let count = Call::gemini(Endpoint::GeminiCountTokens);
    let described = count.good(r#"{"generateContentRequest":{"model":"models/gemini-2.5-flash","contents":[]}}"#);
    assert_eq!(described.facts.estimate.total(), 0, "counting is free");
}

#[test]
fn azure_takes_the_deployment_for_the_model() {
    for body in [r#"{"messages":[]}"#, r#"{"messages":[],"model":"my-gpt"}"#] {
        assert_eq!(named(&Call::azure().good(body)), Some("my-gpt"));
    }
    let v1 = Call { path_model: None, ..Call::azure() };
    assert_eq!(named(&v1.good(r#"{"model":"gpt-4o","messages":[]}"#)), Some("gpt-4o"));
}

#[test]
fn endpoints_without_generated_text_reserve_none() {
    for (endpoint, body, output) in [
        (Endpoint::Embeddings, r#"{"input":["a"],"model":"m","encoding_format":"base64"}"#, 0),
        (Endpoint::Rerank, r#"{"query":"q","documents":["d"],"model":"m","top_n":3}"#, 0),
        (Endpoint::AudioSpeech, r#"{"input":"say","model":"m","voice":"alloy","instructions":"slow"}"#, 0),
        (Endpoint::Moderations, r#"{"input":"x","model":"m"}"#, 0),
        (
            Endpoint::ImageGenerations,
            r#"{"prompt":"a cat","model":"m","n":2,"background":"transparent"}"#,
            2 * IMAGE_OUTPUT_TOKENS,
        ),
    ] {
        let described = Call::openai(endpoint).good(body);
        assert_eq!((named(&described), described.facts.estimate.output), (Some("m"), output), "{endpoint:?}");
        assert!(described.facts.estimate.prompt > 0);
    }
    assert_eq!(named(&Call::openai(Endpoint::Moderations).good(r#"{"input":"x"}"#)), None);
    let counted = Call::to(DialectName::Anthropic, Endpoint::CountTokens).good(r#"{"model":"m","messages":[]}"#);
    assert_eq!(counted.facts.estimate.total(), 0);
}

#[test]
fn passthrough_is_scanned_for_a_model_unless_it_reaches_none() {
    let cohere = Call::openai(Endpoint::Passthrough);
    let described = cohere.good(r#"{"model":"command-r","messages":[],"max_tokens":77,"stream":true}"#);
    assert_eq!((named(&described), described.facts.estimate.output), (Some("command-r"), 77));
    // Without a model it is for the policy to say who may go there.
    for body in ["", "{\"a\":1}"] {
        let described = cohere.good(body);
        assert!(!described.facts.model_free && described.facts.model.is_none());
    }
    let file = Call::openai(Endpoint::Passthrough).with_type("text/csv").good("a,b");
    assert_eq!((file.facts.model_free, file.facts.model, file.size), (false, None, PromptSize::default()));
    let free = Call { model_free: true, ..cohere.with_type("application/octet-stream") };
    let described = free.good(b"\xFF\0 anything");
    assert!(described.facts.model_free && described.facts.model.is_none());
    assert_eq!(described.facts.estimate.total(), 0);
    assert_eq!(free.good("").facts.estimate.choices, 1);
}

#[test]
fn an_images_edit_may_be_json_or_a_form() {
    let call = Call::openai(Endpoint::ImageEdits);
    let described = call
        .good(r#"{"model":"gpt-image-1","prompt":"x","images":[{"image_url":"data:image/png;base64,AAAA"}],"n":1}"#);
    assert_eq!((named(&described), described.size.media_items), (Some("gpt-image-1"), 1));
    let form = "--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\ngpt-image-1\r\n--b\r\n\
        Content-Disposition: form-data; name=\"image[]\"; filename=\"a.png\"\r\nContent-Type: image/png\r\n\r\n\x01\r\n--b\r\n\
        Content-Disposition: form-data; name=\"n\"\r\n\r\n3\r\n--b--\r\n";
    let described = call.with_type("multipart/form-data; boundary=b").good(form);
    assert_eq!((named(&described), described.facts.estimate.choices), (Some("gpt-image-1"), 3));
    assert_eq!(described.facts.estimate.output, 3 * IMAGE_OUTPUT_TOKENS);
    assert_eq!(described.size, PromptSize { text_bytes: 12, media_items: 1, refers: false });
}
