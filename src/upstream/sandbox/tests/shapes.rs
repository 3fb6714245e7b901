//! The shape of each endpoint's whole answer.

use super::*;

const WEATHER: &str = r#"{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}"#;

fn weather() -> Value {
    serde_json::from_str(WEATHER).unwrap()
}

#[test]
fn chat_answers_every_choice_and_counts_them_all() {
    let body =
        json!({ "n": 3, "messages": [{ "role": "user", "content": [{ "type": "text", "text": "hello there" }] }] });
    let answer = json_of(Endpoint::ChatCompletions, &body);
    let choices = answer["choices"].as_array().unwrap();
    assert_eq!(choices.len(), 3);
    let text = choices[2]["message"]["content"].as_str().unwrap();
    assert!(text.starts_with("You said: hello there\n"), "{text}");
    assert_eq!((&choices[2]["finish_reason"], &choices[2]["index"]), (&json!("stop"), &json!(2)));
    let words = text.split_whitespace().count() as u64;
    assert_eq!(answer["usage"]["prompt_tokens"], PROMPT);
    assert_eq!(answer["usage"]["completion_tokens"], 3 * words);
    assert_eq!(answer["usage"]["total_tokens"], PROMPT + 3 * words);
}

#[test]
fn a_limit_on_the_output_is_kept_to_the_token_under_each_of_its_names() {
    for (endpoint, member, ended, expected, used) in [
        (Endpoint::ChatCompletions, "max_tokens", "/choices/0/finish_reason", "length", "/usage/completion_tokens"),
        (
            Endpoint::ChatCompletions,
            "max_completion_tokens",
            "/choices/0/finish_reason",
            "length",
            "/usage/completion_tokens",
        ),
        (Endpoint::Completions, "max_tokens", "/choices/0/finish_reason", "length", "/usage/completion_tokens"),
        (
            Endpoint::Responses,
            "max_output_tokens",
            "/incomplete_details/reason",
            "max_output_tokens",
            "/usage/output_tokens",
        ),
        (Endpoint::Messages, "max_tokens", "/stop_reason", "max_tokens", "/usage/output_tokens"),
    ] {
        let mut body = body_for(endpoint);
        body[member] = json!(4);
        let answer = json_of(endpoint, &body);
        assert_eq!(answer.pointer(ended), Some(&json!(expected)), "{answer}");
        assert_eq!(answer.pointer(used), Some(&json!(4)), "{answer}");
    }
    let mut body = body_for(Endpoint::GenerateContent);
    body["generationConfig"] = json!({ "maxOutputTokens": 4 });
    let answer = json_of(Endpoint::GenerateContent, &body);
    assert_eq!(answer["candidates"][0]["finishReason"], "MAX_TOKENS");
    assert_eq!(answer["usageMetadata"]["candidatesTokenCount"], 4);
}

#[test]
fn the_first_tool_is_called_with_the_smallest_valid_arguments() {
    let function = json!({ "name": "weather", "parameters": weather() });
    let asked = |tools: Value| json!({ "max_tokens": 64, "messages": [{ "role": "user", "content": "rain?" }], "tools": tools });
    let chat = json_of(Endpoint::ChatCompletions, &asked(json!([{ "type": "function", "function": function }])));
    let call = &chat["choices"][0]["message"]["tool_calls"][0]["function"];
    assert_eq!((&call["name"], &call["arguments"]), (&json!("weather"), &json!(r#"{"city":"a"}"#)));
    assert_eq!(chat["choices"][0]["finish_reason"], "tool_calls");
    let tool = json!({ "type": "function", "name": "weather", "parameters": weather() });
    let responses = json_of(Endpoint::Responses, &json!({ "input": "rain?", "tools": [tool] }));
    let call = &responses["output"][0];
    assert_eq!((&call["type"], &call["arguments"]), (&json!("function_call"), &json!(r#"{"city":"a"}"#)));
    let messages = json_of(Endpoint::Messages, &asked(json!([{ "name": "weather", "input_schema": weather() }])));
    assert_eq!(
        (&messages["content"][0]["input"], &messages["stop_reason"]),
        (&json!({ "city": "a" }), &json!("tool_use"))
    );
    let mut gemini = body_for(Endpoint::GenerateContent);
    gemini["tools"] = json!([{ "functionDeclarations": [function] }]);
    let gemini = json_of(Endpoint::GenerateContent, &gemini);
    assert_eq!(gemini["candidates"][0]["content"]["parts"][0]["functionCall"]["args"], json!({ "city": "a" }));
}

#[test]
fn a_tool_is_not_called_when_forbidden_or_when_one_just_answered() {
    let tools = json!([{ "type": "function", "function": { "name": "a" } }, { "type": "function", "function": { "name": "b" } }]);
    let asked = json!({ "role": "user", "content": "go" });
    let told = json!({ "role": "tool", "tool_call_id": "1", "content": "rain" });
    let said = |messages: Value, choice: Value| {
        let body = json!({ "messages": messages, "tools": tools, "tool_choice": choice });
        json_of(Endpoint::ChatCompletions, &body)["choices"][0]["message"].clone()
    };
    assert!(said(json!([asked]), json!("none"))["content"].is_string());
    let after = said(json!([asked, told]), json!("auto"));
    assert!(after["content"].as_str().unwrap().starts_with("The tool answered: rain"));
    let named = said(json!([asked]), json!({ "type": "function", "function": { "name": "b" } }));
    assert_eq!(named["tool_calls"][0]["function"], json!({ "name": "b", "arguments": "{}" }));
}

#[test]
fn a_schema_asked_for_is_followed() {
    let format = json!({ "type": "json_schema", "json_schema": { "name": "w", "schema": weather() } });
    let chat = json_of(Endpoint::ChatCompletions, &json!({ "messages": [], "response_format": format }));
    assert_eq!(chat["choices"][0]["message"]["content"], r#"{"city":"a"}"#);
    let format = json!({ "format": { "type": "json_schema", "name": "w", "schema": weather() } });
    let responses = json_of(Endpoint::Responses, &json!({ "input": "x", "text": format }));
    assert_eq!(responses["output"][0]["content"][0]["text"], r#"{"city":"a"}"#);
}

#[test]
fn a_completion_answers_each_prompt_n_times_and_pays_for_best_of() {
    let answer =
        json_of(Endpoint::Completions, &json!({ "prompt": ["a", "b"], "n": 2, "best_of": 3, "max_tokens": 2 }));
    let texts: Vec<&str> =
        answer["choices"].as_array().unwrap().iter().map(|choice| choice["text"].as_str().unwrap()).collect();
    assert_eq!(texts, ["You said:"; 4]);
    assert_eq!(answer["usage"]["completion_tokens"], 2 * 3 * 2);
}

#[test]
fn embeddings_are_unit_vectors_that_both_encodings_agree_on() {
    let body = json!({ "input": ["one", "two", "one"], "dimensions": 12 });
    let answer = json_of(Endpoint::Embeddings, &body);
    let vectors: Vec<Vec<f32>> = answer["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| serde_json::from_value(item["embedding"].clone()).unwrap())
        .collect();
    assert_eq!((vectors.len(), vectors[0].len()), (3, 12));
    assert_eq!(vectors[0], vectors[2]);
    assert_ne!(vectors[0], vectors[1]);
    for vector in &vectors {
        assert!((vector.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-5);
    }
    assert_eq!(answer["usage"], json!({ "prompt_tokens": PROMPT, "total_tokens": PROMPT }));
    let encoded =
        json_of(Endpoint::Embeddings, &json!({ "input": "one", "dimensions": 12, "encoding_format": "base64" }));
    let bytes: Vec<u8> = vectors[0].iter().flat_map(|x| x.to_le_bytes()).collect();
    assert_eq!(encoded["data"][0]["embedding"], fingerprint::base64(&bytes));
    let plain = json_of(Endpoint::Embeddings, &json!({ "input": "one" }));
    assert_eq!(plain["data"][0]["embedding"].as_array().unwrap().len(), 1_536);
}

#[test]
fn gemini_embeds_one_text_and_many() {
    let one = json_of(Endpoint::EmbedContent, &body_for(Endpoint::EmbedContent));
    assert_eq!(one["embedding"]["values"].as_array().unwrap().len(), 768);
    let ask = json!({ "content": { "parts": [{ "text": "hello" }] }, "outputDimensionality": 4 });
    let many = json_of(Endpoint::BatchEmbedContents, &json!({ "requests": [ask, ask] }));
    assert_eq!(many["embeddings"][1]["values"].as_array().unwrap().len(), 4);
    assert_eq!(many["usageMetadata"]["promptTokenCount"], PROMPT);
}

#[test]
fn counting_answers_the_estimate_of_the_prompt() {
    assert_eq!(json_of(Endpoint::CountTokens, &body_for(Endpoint::CountTokens)), json!({ "input_tokens": PROMPT }));
    let gemini = json_of(Endpoint::GeminiCountTokens, &body_for(Endpoint::GeminiCountTokens));
    assert_eq!(gemini["totalTokens"], PROMPT);
}

#[test]
fn moderation_flags_the_category_that_a_text_names() {
    let answer = json_of(Endpoint::Moderations, &json!({ "input": ["sheer violence", "peace"] }));
    let results = answer["results"].as_array().unwrap();
    assert_eq!((&results[0]["flagged"], &results[1]["flagged"]), (&json!(true), &json!(false)));
    assert_eq!(results[0]["categories"]["violence"], true);
    assert_eq!(results[0]["categories"]["hate"], false);
}

#[test]
fn rerank_puts_the_document_with_the_query_s_words_first() {
    let body = json!({ "query": "red fox", "documents": ["a dog", { "text": "the red fox" }, "red"], "top_n": 2, "return_documents": true });
    let answer = json_of(Endpoint::Rerank, &body);
    let results = answer["results"].as_array().unwrap();
    assert_eq!(results.len(), 2);
    assert_eq!((&results[0]["index"], &results[0]["relevance_score"]), (&json!(1), &json!(1.0)));
    assert_eq!((&results[1]["index"], &results[1]["document"]["text"]), (&json!(2), &json!("red")));
}

#[test]
fn images_come_as_base64_or_as_a_url_one_token_each() {
    let answer = json_of(Endpoint::ImageGenerations, &json!({ "prompt": "a cat", "n": 2 }));
    let data = answer["data"].as_array().unwrap();
    assert_eq!(data.len(), 2);
    assert!(data[0]["b64_json"].as_str().unwrap().starts_with("iVBORw0KGgo"));
    assert_ne!(data[0], data[1]);
    assert_eq!((&answer["usage"]["output_tokens"], &answer["usage"]["input_tokens"]), (&json!(2), &json!(PROMPT)));
    let url = json_of(Endpoint::ImageGenerations, &json!({ "prompt": "a cat", "response_format": "url" }));
    assert!(url["data"][0]["url"].as_str().unwrap().starts_with("data:image/png;base64,"));
}

fn upload(endpoint: Endpoint, fields: &[(&str, &str)]) -> Play {
    let mut body = String::new();
    for (name, value) in fields {
        body.push_str(&format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"));
    }
    body.push_str(
        "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.mp3\"\r\n\r\n0123456789\r\n--b--\r\n",
    );
    let model = fields.first().map_or("", |field| field.1);
    answer(&Ask {
        dialect: DialectName::OpenAi,
        endpoint,
        model,
        stream: false,
        sse: false,
        content_type: Some(b"multipart/form-data; boundary=b"),
        body: body.as_bytes(),
        prompt_tokens: PROMPT,
    })
}

#[test]
fn a_recording_is_transcribed_in_each_format() {
    let said = "This recording has 10 bytes and lasts about 1 seconds.";
    let json = |play: Play| serde_json::from_slice::<Value>(&play.body()).unwrap();
    let whisper = json(upload(Endpoint::AudioTranscriptions, &[("model", "whisper-1")]));
    assert_eq!(whisper, json!({ "text": said, "usage": { "type": "duration", "seconds": 1 } }));
    let newer = json(upload(Endpoint::AudioTranscriptions, &[("model", "gpt-4o-transcribe")]));
    assert_eq!((&newer["usage"]["input_tokens"], &newer["usage"]["output_tokens"]), (&json!(PROMPT), &json!(10)));
    let verbose = [("model", "whisper-1"), ("response_format", "verbose_json")];
    let verbose = json(upload(Endpoint::AudioTranslations, &verbose));
    assert_eq!((&verbose["task"], &verbose["segments"][0]["text"]), (&json!("translate"), &json!(said)));
    let text = upload(Endpoint::AudioTranscriptions, &[("model", "whisper-1"), ("response_format", "text")]);
    assert_eq!(
        (&text.headers[header::CONTENT_TYPE], text.body()),
        ("text/plain; charset=utf-8", format!("{said}\n").into_bytes())
    );
    let stream = upload(Endpoint::AudioTranscriptions, &[("model", "gpt-4o-transcribe"), ("stream", "true")]);
    let events = events_of(&stream);
    let (done, deltas) = events.split_last().unwrap();
    let joined: String = deltas.iter().map(|event| event["delta"].as_str().unwrap()).collect();
    assert_eq!((joined.as_str(), &done["text"]), (said, &json!(said)));
    assert_eq!(done["usage"], newer["usage"]);
}

#[test]
fn an_image_edited_from_a_form_counts_its_n() {
    let play = upload(Endpoint::ImageEdits, &[("model", "gpt-image-1"), ("n", "3")]);
    let answer: Value = serde_json::from_slice(&play.body()).unwrap();
    assert_eq!(answer["data"].as_array().unwrap().len(), 3);
}

#[test]
fn speech_is_a_wav_also_in_events() {
    let play = play(Endpoint::AudioSpeech, "tts-1", &json!({ "input": "one two" }));
    assert_eq!(&play.headers[header::CONTENT_TYPE], "audio/wav");
    assert_eq!((&play.body()[..4], play.body().len()), (&b"RIFF"[..], 44 + 800));
    let stream = super::play(Endpoint::AudioSpeech, "tts-1", &json!({ "input": "one two", "stream_format": "sse" }));
    let events = events_of(&stream);
    assert_eq!(events.first().unwrap()["audio"], fingerprint::base64(&play.body()));
    assert_eq!(events.last().unwrap()["usage"]["output_tokens"], 2);
}
