//! Bodies that some backend reads as another request than a naive proxy does.

use super::Flaw::*;
use super::*;

/// Every row is one body that must be refused for exactly this flaw.
fn refused(call: &Call, rows: &[(&[u8], Flaw)]) {
    for (body, flaw) in rows {
        assert_eq!(call.flaw(body).as_ref(), Some(flaw), "{}", String::from_utf8_lossy(body));
    }
}

#[test]
fn what_is_not_one_json_object_in_utf8() {
    let rows: &[(&[u8], Flaw)] = &[
        (b"", Syntax(0)),
        (b" ", Syntax(1)),
        (b"\0", Syntax(0)),
        (b"null", NotObject),
        (b"[{\"model\":\"m\"}]", NotObject),
        (b"\"model\"", NotObject),
        (b"1", NotObject),
        (b"model=m&messages=x", Syntax(0)),
        (b"\xEF\xBB\xBF{\"model\":\"m\"}", Utf8(0)),
        (b"\xFF\xFE{\0\"\0m\0\"\0", Utf8(0)),
        (b"\xFE\xFF\0{\0\"", Utf8(0)),
        (b"{\0\"\0m\0o\0d\0e\0l\0\"\0:\0", Syntax(1)),
        (b"\0{\0\"\0m", Syntax(0)),
        (b"{\"model\":\"m\",\"a\":\"\xFF\"}", Utf8(18)),
        (b"{\"model\":\"m\",\"a\":\"\xC0\xAF\"}", Utf8(18)),
        (b"{\"model\":\"m\",\"a\":\"\xE0\x80\xAF\"}", Utf8(18)),
        (b"{\"model\":\"m\",\"a\":\"\xED\xA0\x80\"}", Utf8(18)),
        (b"{\"model\":\"m\",\"a\":\"\xF4\x90\x80\x80\"}", Utf8(18)),
        (b"{\"model\":\"m\",\"a\":\"\xC3\"}", Utf8(18)),
        (b"{\"model\":\"m\",\"a\":\"\xF0\x9F\x98\"}", Utf8(18)),
        (b"{\"model\":\"m\",\"\x80\":1}", Utf8(14)),
        (b"{\"model\":\"m\"}\xFF", Utf8(13)),
        (b"\xC2\xA0{\"model\":\"m\"}", Syntax(0)),
        (b"{\xC2\xA0\"model\":\"m\"}", Syntax(1)),
        (b"\x0B{\"model\":\"m\"}", Syntax(0)),
        (b"{\x0C\"model\":\"m\"}", Syntax(1)),
        (b"{\"model\"\x0B:\"m\"}", Syntax(8)),
        (b"{\"model\":\"m\"}\x0C", Trailing(13)),
        (b"{\"model\":\"m\"}\xC2\x85", Trailing(13)),
        (b"{\"model\":\"m\"}\xE2\x80\xA8", Trailing(13)),
        (b"{\"model\":\"m\"}\0", Trailing(13)),
        (b"{\"model\":\"m\"}x", Trailing(13)),
        (b"{\"model\":\"m\"}}", Trailing(13)),
        (b"{\"model\":\"m\"}{\"model\":\"n\"}", Trailing(13)),
        (b"{\"model\":\"m\"}\n{\"model\":\"n\"}", Trailing(14)),
        (b"{\"model\":\"m\"},{\"model\":\"n\"}", Trailing(13)),
        (b"{\"model\":\"m\"}//", Trailing(13)),
        (b"{\"model\":\"m\"};", Trailing(13)),
        (b"\x1E{\"model\":\"m\"}\n", Syntax(0)),
        (b")]}',\n{\"model\":\"m\"}", Syntax(0)),
    ];
    refused(&Call::chat(), rows);
}

#[test]
fn what_lenient_parsers_take_for_json() {
    let rows: &[(&[u8], Flaw)] = &[
        (b"{", Syntax(1)),
        (b"{\"model\"", Syntax(8)),
        (b"{\"model\":", Syntax(9)),
        (b"{\"model\":\"m", Syntax(11)),
        (b"{\"model\":\"m\"", Syntax(12)),
        (b"{\"model\":\"m\",}", Syntax(13)),
        (b"{,\"model\":\"m\"}", Syntax(1)),
        (b"{\"model\":\"m\",,\"a\":1}", Syntax(13)),
        (b"{\"model\":\"m\" \"a\":1}", Syntax(13)),
        (b"{\"model\" \"m\"}", Syntax(9)),
        (b"{\"model\"=\"m\"}", Syntax(8)),
        (b"{\"model\"::\"m\"}", Syntax(9)),
    ];
    refused(&Call::chat(), rows);
}

#[test]
fn what_lenient_parsers_take_for_json_inside_a_value() {
    let rows: &[(&[u8], Flaw)] = &[
        (b"{\"a\"::1}", Syntax(5)),
        (b"{model:\"m\"}", Syntax(1)),
        (b"{'model':'m'}", Syntax(1)),
        (b"{\"model\":'m'}", Syntax(9)),
        (b"{\"a\":'m'}", Syntax(5)),
        (b"{`model`:1}", Syntax(1)),
        (b"{1:\"m\"}", Syntax(1)),
        (b"{null:\"m\"}", Syntax(1)),
        (b"{/**/\"model\":\"m\"}", Syntax(1)),
        (b"{//\n\"model\":\"m\"}", Syntax(1)),
        (b"{#\n\"model\":\"m\"}", Syntax(1)),
        (b"{\"a\":1/*,\"model\":\"x\"*/}", Syntax(6)),
        (b"{\"a\":[1,]}", Syntax(8)),
        (b"{\"a\":[,1]}", Syntax(6)),
        (b"{\"a\":[1 2]}", Syntax(8)),
        (b"{\"a\":[1}}", Syntax(7)),
        (b"{\"a\":{\"b\":1]}", Syntax(11)),
        (b"{\"a\":{\"b\"}}", Syntax(9)),
        (b"{\"a\":{\"b\":1,}}", Syntax(12)),
        (b"{\"a\":NaN}", Syntax(5)),
        (b"{\"a\":Infinity}", Syntax(5)),
        (b"{\"a\":-Infinity}", Syntax(6)),
        (b"{\"a\":undefined}", Syntax(5)),
        (b"{\"a\":True}", Syntax(5)),
        (b"{\"a\":nul}", Syntax(5)),
        (b"{\"a\":nullx}", Syntax(9)),
        (b"{\"a\":+1}", Syntax(5)),
        (b"{\"a\":.5}", Syntax(5)),
        (b"{\"a\":5.}", Syntax(7)),
        (b"{\"a\":01}", Syntax(6)),
        (b"{\"a\":-01}", Syntax(7)),
        (b"{\"a\":00}", Syntax(6)),
        (b"{\"a\":-}", Syntax(6)),
        (b"{\"a\":1e}", Syntax(7)),
        (b"{\"a\":1e+}", Syntax(8)),
        (b"{\"a\":1.e1}", Syntax(7)),
        (b"{\"a\":0x10}", Syntax(6)),
        (b"{\"a\":1_000}", Syntax(6)),
        (b"{\"a\":1n}", Syntax(6)),
        (b"{\"a\":\"\n\"}", Syntax(6)),
        (b"{\"a\":\"\t\"}", Syntax(6)),
        (b"{\"a\":\"\0\"}", Syntax(6)),
        (b"{\"a\":\"0123456789012345678901234567890123456789\x1F\"}", Syntax(46)),
        (b"{\"a\":\"\\x41\"}", Syntax(6)),
        (b"{\"a\":\"\\u00g0\"}", Syntax(6)),
        (b"{\"a\":\"\\u+041\"}", Syntax(6)),
        (b"{\"a\":\"\\U0041\"}", Syntax(6)),
        (b"{\"a\":\"\\'\"}", Syntax(6)),
        (b"{\"a\":\"\\\n\"}", Syntax(6)),
        (b"{\"a\":\"\\", Syntax(6)),
        (b"{\"a\":\"\\u12\"}", Syntax(6)),
        (b"{\"a\nb\":1}", Syntax(3)),
        (b"{\"\\ud800\":1}", Syntax(2)),
        (b"{\"mod\\ud800el\":\"x\"}", Syntax(2)),
        (b"{\"a\":{\"\\udfff\":1}}", Syntax(7)),
    ];
    refused(&Call::chat(), rows);
}

#[test]
fn depth_bombs() {
    let arrays = [b"{\"model\":\"m\",\"a\":".as_slice(), &b"[".repeat(200_000)].concat();
    let objects = b"{\"a\":".repeat(200_000);
    let inside_watched = [b"{\"stream_options\":{\"a\":".as_slice(), &b"[".repeat(127)].concat();
    let prompt = [b"{\"prompt\":".as_slice(), &b"[".repeat(128)].concat();
    for bomb in [arrays, objects, inside_watched, prompt] {
        assert_eq!(Call::chat().flaw(bomb), Some(Deep));
    }
}

#[test]
fn a_watched_member_twice_or_in_another_spelling() {
    let rows: &[(&[u8], Flaw)] = &[
        (br#"{"model":"a","model":"b"}"#, Dup("model")),
        (br#"{"model":"a","model":"a"}"#, Dup("model")),
        (br#"{"model":null,"model":"b"}"#, Dup("model")),
        (br#"{"model":"a","Model":"b"}"#, Mis("model")),
        (br#"{"Model":"b"}"#, Mis("model")),
        (br#"{"MODEL":"b","model":"a"}"#, Mis("model")),
        (br#"{"model":"a","\u006dodel":"b"}"#, Mis("model")),
        (br#"{"\u006Dodel":"b"}"#, Mis("model")),
        (br#"{"\u006d\u006f\u0064\u0065\u006c":"b"}"#, Mis("model")),
        (br#"{"\u004dODEL":"b"}"#, Mis("model")),
        (br#"{"model\u0000":"b","model":"a"}"#, Mis("model")),
        (br#"{"model\u0000junk":"b","model":"a"}"#, Mis("model")),
        (br#"{"model":"a","max_to\u212aens":9}"#, Mis("max_tokens")),
        ("{\"model\":\"a\",\"max_to\u{212A}ens\":9}".as_bytes(), Mis("max_tokens")),
        ("{\"model\":\"a\",\"max_token\u{17F}\":9}".as_bytes(), Mis("max_tokens")),
        ("{\"model\":\"a\",\"me\u{17F}\u{17F}ages\":[]}".as_bytes(), Mis("messages")),
        ("{\"model\":\"a\",\"max_complet\u{131}on_tokens\":9}".as_bytes(), Mis("max_completion_tokens")),
        ("{\"model\":\"a\",\"\u{130}nput\":9}".as_bytes(), Mis("input")),
        (br#"{"model":"a","\u017ftream":true}"#, Mis("stream")),
        (br#"{"model":"a","Stream":true}"#, Mis("stream")),
        (br#"{"model":"a","stream":false,"stream":true}"#, Dup("stream")),
        (br#"{"model":"a","N":2}"#, Mis("n")),
        (br#"{"model":"a","n":1,"n":2}"#, Dup("n")),
        (br#"{"model":"a","best_of":1,"best_of":2}"#, Dup("best_of")),
        (br#"{"model":"a","max_tokens":1,"max_tokens":2}"#, Dup("max_tokens")),
        (br#"{"model":"a","max_tokens":1,"Max_Tokens":2}"#, Mis("max_tokens")),
        (br#"{"model":"a","max_completion_tokens":1,"max_completion_tokens":2}"#, Dup("max_completion_tokens")),
        (br#"{"model":"a","messages":[],"messages":[1]}"#, Dup("messages")),
        (br#"{"model":"a","Messages":[]}"#, Mis("messages")),
        (br#"{"model":"a","input":1,"input":2}"#, Dup("input")),
        (br#"{"model":"a","prompt":"x","prompt":"y"}"#, Dup("prompt")),
        (br#"{"model":"a","contents":[],"contents":[]}"#, Dup("contents")),
        (br#"{"model":"a","system":"","system":""}"#, Dup("system")),
        (br#"{"model":"a","instructions":"","instructions":""}"#, Dup("instructions")),
        (br#"{"model":"a","previous_response_id":"x","previous_response_id":"y"}"#, Dup("previous_response_id")),
        (br#"{"model":"a","stream_options":{},"stream_options":null}"#, Dup("stream_options")),
        (br#"{"model":"a","stream_options":{"include_usage":true,"include_usage":false}}"#, Dup("include_usage")),
        (br#"{"model":"a","stream_options":{"Include_Usage":false}}"#, Mis("include_usage")),
        (br#"{"model":"a","stream_options":{"include\u005fusage":false}}"#, Mis("include_usage")),
        (br#"{"model":"a","models":["b"],"models":["c"]}"#, Dup("models")),
        (br#"{"model":"a","Fallbacks":["b"]}"#, Mis("fallbacks")),
        (br#"{"model":"a","API_BASE":"http://x"}"#, Mis("api_base")),
        (br#"{"model":"a","api\u005fbase":"http://x"}"#, Mis("api_base")),
        (br#"{"model":"a","api_\u212Aey":"x"}"#, Mis("api_key")),
        (br#"{"model":"a","tools":[],"tools":[]}"#, Dup("tools")),
    ];
    refused(&Call::chat(), rows);
}

#[test]
fn a_watched_member_of_the_wrong_type_or_out_of_range() {
    let rows: &[(&[u8], Flaw)] = &[
        (br#"{}"#, Missing),
        (br#"{"model":null}"#, Missing),
        (br#"{"messages":[{"model":"m"}]}"#, Missing),
        (br#"{"metadata":{"model":"m"}}"#, Missing),
        (br#"{"model":""}"#, Bad("model")),
        (br#"{"model":1}"#, Bad("model")),
        (br#"{"model":true}"#, Bad("model")),
        (br#"{"model":["a","b"]}"#, Bad("model")),
        (br#"{"model":{"id":"a"}}"#, Bad("model")),
        (br#"{"model":"a b"}"#, Bad("model")),
        (br#"{"model":" a"}"#, Bad("model")),
        (br#"{"model":"a\u0000"}"#, Bad("model")),
        (br#"{"model":"\u0061"}"#, Bad("model")),
        (br#"{"model":"a\n"}"#, Bad("model")),
        (br#"{"model":"\ud83d"}"#, Bad("model")),
        (br#"{"model":"../a"}"#, Bad("model")),
        (br#"{"model":"..\/a"}"#, Bad("model")),
        (br#"{"model":"a\\b"}"#, Bad("model")),
        (br#"{"model":"a?b=c"}"#, Bad("model")),
        (br#"{"model":"a,b"}"#, Bad("model")),
        (br#"{"model":"*"}"#, Bad("model")),
        ("{\"model\":\"gpt-4\u{F6}\"}".as_bytes(), Bad("model")),
        ("{\"model\":\"gpt\u{2010}4\"}".as_bytes(), Bad("model")),
        (br#"{"model":"a","stream":1}"#, Bad("stream")),
        (br#"{"model":"a","stream":"true"}"#, Bad("stream")),
        (br#"{"model":"a","stream":[]}"#, Bad("stream")),
        (br#"{"model":"a","stream":truex}"#, Syntax(26)),
        (br#"{"model":"a","stream_options":true}"#, Bad("stream_options")),
        (br#"{"model":"a","stream_options":[]}"#, Bad("stream_options")),
        (br#"{"model":"a","stream_options":{"include_usage":"no"}}"#, Bad("include_usage")),
        (br#"{"model":"a","n":0}"#, Bad("n")),
        (br#"{"model":"a","n":129}"#, Bad("n")),
        (br#"{"model":"a","n":-1}"#, Bad("n")),
        (br#"{"model":"a","n":1.0}"#, Bad("n")),
        (br#"{"model":"a","n":1e2}"#, Bad("n")),
        (br#"{"model":"a","n":"2"}"#, Bad("n")),
        (br#"{"model":"a","n":[2]}"#, Bad("n")),
        (br#"{"model":"a","n":18446744073709551617}"#, Bad("n")),
        (br#"{"model":"a","n":01}"#, Bad("n")),
        (br#"{"model":"a","n":10,"b":01}"#, Syntax(25)),
        (br#"{"model":"a","best_of":1000}"#, Bad("best_of")),
        (br#"{"model":"a","max_tokens":-1}"#, Bad("max_tokens")),
        (br#"{"model":"a","max_tokens":-0}"#, Bad("max_tokens")),
        (br#"{"model":"a","max_tokens":1.5}"#, Bad("max_tokens")),
        (br#"{"model":"a","max_tokens":1e400}"#, Bad("max_tokens")),
        (br#"{"model":"a","max_tokens":1E2}"#, Bad("max_tokens")),
        (br#"{"model":"a","max_tokens":"100"}"#, Bad("max_tokens")),
        (br#"{"model":"a","max_tokens":true}"#, Bad("max_tokens")),
        (br#"{"model":"a","max_tokens":{}}"#, Bad("max_tokens")),
        (br#"{"model":"a","max_tokens":2147483648}"#, Bad("max_tokens")),
        (br#"{"model":"a","max_tokens":4294967297}"#, Bad("max_tokens")),
        (br#"{"model":"a","max_tokens":9223372036854775808}"#, Bad("max_tokens")),
        (br#"{"model":"a","max_tokens":100000000000000000000000000000000}"#, Bad("max_tokens")),
        (br#"{"model":"a","max_tokens":NaN}"#, Syntax(26)),
        (br#"{"model":"a","max_tokens":007}"#, Syntax(27)),
        (br#"{"model":"a","max_completion_tokens":"1"}"#, Bad("max_completion_tokens")),
        (br#"{"model":"a","max_output_tokens":1}"#, Bad("max_output_tokens")),
        (br#"{"model":"a","max_tokens":1,"n_predict":100000}"#, Bad("n_predict")),
        (br#"{"model":"a","max_tokens":1,"max_new_tokens":100000}"#, Bad("max_new_tokens")),
        (br#"{"model":"a","n":1,"n_cmpl":100}"#, Bad("n_cmpl")),
        (br#"{"model":"a","generationConfig":[]}"#, Bad("generationConfig")),
    ];
    refused(&Call::chat(), rows);
    let long = format!(r#"{{"model":"{}"}}"#, "a".repeat(257));
    assert_eq!(Call::chat().flaw(long), Some(Bad("model")));
}

#[test]
fn a_member_that_picks_another_model_address_or_account() {
    let rows: &[(&[u8], Flaw)] = &[
        (br#"{"model":"a","api_base":"http://evil"}"#, Denied("api_base")),
        (br#"{"model":"a","base_url":"http://evil"}"#, Denied("base_url")),
        (br#"{"model":"a","api_key":"sk-x"}"#, Denied("api_key")),
        (br#"{"model":"a","user_config":{"model_list":[]}}"#, Denied("user_config")),
        (br#"{"model":"a","custom_llm_provider":"openai"}"#, Denied("custom_llm_provider")),
        (br#"{"model":"a","deployment_id":"x"}"#, Denied("deployment_id")),
        (br#"{"model":"a","mock_response":"x"}"#, Denied("mock_response")),
        (br#"{"model":"a","extra_headers":{"authorization":"x"}}"#, Denied("extra_headers")),
        (br#"{"model":"a","extra_body":{"model":"b"}}"#, Denied("extra_body")),
        (br#"{"model":"a","extra_body":{"Model":"b"}}"#, Mis("model")),
        (br#"{"model":"a","extra_body":{"api_base":null}}"#, Denied("extra_body")),
        (br#"{"model":"a","model_list":[]}"#, Denied("model_list")),
        (br#"{"model":"a","context_window_fallbacks":[{"a":["b"]}]}"#, Denied("context_window_fallbacks")),
        (br#"{"model":"a","aws_bedrock_runtime_endpoint":"x"}"#, Denied("aws_bedrock_runtime_endpoint")),
        (br#"{"model":"a","vertex_credentials":"x"}"#, Denied("vertex_credentials")),
        (br#"{"model":"a","kv_transfer_params":{"remote_host":"x"}}"#, Denied("kv_transfer_params")),
        (br#"{"model":"a","bootstrap_host":"x"}"#, Denied("bootstrap_host")),
        (br#"{"model":"a","lora_path":"x"}"#, Denied("lora_path")),
        (br#"{"model":"a","adapter_id":"x"}"#, Denied("adapter_id")),
        (br#"{"model":"a","draft_model":"x"}"#, Denied("draft_model")),
        (br#"{"model":"a","preset":"x"}"#, Denied("preset")),
        (br#"{"model":"a","data_sources":[{"type":"azure_search"}]}"#, Denied("data_sources")),
        (br#"{"model":"a","dataSources":[]}"#, Denied("dataSources")),
        (br#"{"model":"a","prompt":{"id":"pmpt_1"}}"#, Denied("prompt")),
        (br#"{"model":"a","route":"fallback"}"#, Denied("route")),
        (br#"{"model":"a","route":"sort","models":["b"]}"#, Bad("route")),
        (br#"{"model":"a","models":"b"}"#, Bad("models")),
        (br#"{"model":"a","models":[1]}"#, Bad("models")),
        (br#"{"model":"a","models":[null]}"#, Bad("models")),
        (br#"{"model":"a","models":["b c"]}"#, Bad("models")),
        (br#"{"model":"a","models":["\u0062"]}"#, Bad("models")),
        (br#"{"model":"a","models":[["b"]]}"#, Bad("models")),
        (br#"{"model":"a","fallbacks":{"a":["b"]}}"#, Bad("fallbacks")),
        (br#"{"model":"a","fallbacks":[{"a":["b"]}]}"#, Bad("fallbacks")),
        (br#"{"model":"a","fallbacks":[{"model":"b","model":"c"}]}"#, Dup("model")),
        (br#"{"model":"a","fallbacks":[{"model":"b","Model":"c"}]}"#, Mis("model")),
        (br#"{"model":"a","fallbacks":[{"model":"b","api_base":"x"}]}"#, Denied("api_base")),
        (br#"{"model":"a","fallbacks":[{"model":"b","max_tokens":9}]}"#, Denied("max_tokens")),
        (br#"{"model":"a","fallbacks":[{"model":null}]}"#, Bad("fallbacks")),
        (br#"{"model":"a","tools":[{"type":"image_generation","model":7}]}"#, Bad("tools")),
        (br#"{"model":"a","tools":[{"type":"image_generation","Model":"x"}]}"#, Mis("model")),
        (br#"{"model":"a","tools":[{"model":"x","model":"y"}]}"#, Dup("model")),
        (br#"{"model":"a","plugins":[{"id":"fusion","analysis_models":["b"]}]}"#, Denied("plugins")),
        (br#"{"model":"a","plugins":[{"id":"auto","allowed_MODELS":["b"]}]}"#, Denied("plugins")),
        (br#"{"model":"a","plugins":{"id":"web"}}"#, Bad("plugins")),
    ];
    refused(&Call::chat(), rows);
    let many = format!(r#"{{"model":"a","models":[{}"b"]}}"#, r#""b","#.repeat(64));
    assert_eq!(Call::chat().flaw(many), Some(Bad("models")), "65 names");
}

#[test]
fn each_endpoint_has_its_own_rules() {
    refused(
        &Call::openai(Endpoint::Responses),
        &[
            (br#"{"input":"x"}"#, Missing),
            (br#"{"input":"x","previous_response_id":"resp_1"}"#, Missing),
            (br#"{"prompt":{"id":"pmpt_1","version":"2"}}"#, Denied("prompt")),
            (br#"{"model":"a","prompt":{"id":"pmpt_1"}}"#, Denied("prompt")),
            (br#"{"model":"a","background":true}"#, Bad("background")),
            (br#"{"model":"a","max_tokens":5}"#, Bad("max_tokens")),
            (br#"{"model":"a","max_output_tokens":"5"}"#, Bad("max_output_tokens")),
        ],
    );
    refused(
        &Call::messages(),
        &[
            (br#"{"max_tokens":5,"messages":[]}"#, Missing),
            (br#"{"model":"a","max_tokens":5,"max_tokens_to_sample":9}"#, Bad("max_tokens_to_sample")),
            (br#"{"model":"a","max_completion_tokens":5}"#, Bad("max_completion_tokens")),
            (br#"{"model":"a","tools":[{"type":"advisor","model":"b c"}]}"#, Bad("tools")),
        ],
    );
    refused(
        &Call::openai(Endpoint::Embeddings),
        &[(br#"{"input":"x"}"#, Missing), (br#"{"model":"a","n":1.5}"#, Bad("n"))],
    );
    refused(&Call::openai(Endpoint::Passthrough), &[(b" ", Syntax(1)), (br#"{"model":1}"#, Bad("model"))]);
    let azure: &[(&[u8], Flaw)] = &[
        (br#"{"model":"other"}"#, Disagrees),
        (br#"{"model":"MY-GPT"}"#, Disagrees),
        (br#"{"model":1}"#, Bad("model")),
    ];
    refused(&Call::azure(), azure);
    refused(&Call { path_model: None, ..Call::azure() }, &[(br#"{"messages":[]}"#, Missing)]);
}

#[test]
fn gemini_names_the_model_in_many_places_and_all_must_agree() {
    let rows: &[(&[u8], Flaw)] = &[
        (br#"{"model":"gemini-2.5-pro"}"#, Disagrees),
        (br#"{"model":"models/gemini-2.5-pro"}"#, Disagrees),
        (br#"{"model":"models/models/gemini-2.5-flash"}"#, Disagrees),
        (br#"{"model":"tunedModels/gemini-2.5-flash"}"#, Disagrees),
        (br#"{"model":"models/"}"#, Bad("model")),
        (br#"{"generationConfig":{},"generation_config":{}}"#, Dup("generation_config")),
        (br#"{"generationconfig":{}}"#, Mis("generationConfig")),
        (br#"{"generationConfig":{"maxOutputTokens":1,"max_output_tokens":2}}"#, Dup("max_output_tokens")),
        (br#"{"generationConfig":{"maxOutputTokens":1,"maxOutputTokens":2}}"#, Dup("maxOutputTokens")),
        (br#"{"generationConfig":{"maxoutputtokens":1}}"#, Mis("maxOutputTokens")),
        (br#"{"generationConfig":{"candidateCount":1,"candidate_count":8}}"#, Dup("candidate_count")),
        (br#"{"generationConfig":{"candidateCount":0}}"#, Bad("candidateCount")),
        (br#"{"generationConfig":{"maxOutputTokens":"100"}}"#, Bad("maxOutputTokens")),
        (br#"{"generationConfig":{"maxOutputTokens":1e3}}"#, Bad("maxOutputTokens")),
        (br#"{"generationConfig":"x"}"#, Bad("generationConfig")),
        (br#"{"contents":[],"max_tokens":5}"#, Bad("max_tokens")),
        (br#"{"generateContentRequest":{"model":"models/gemini-2.5-pro"}}"#, Disagrees),
        (br#"{"generate_content_request":{"model":"models/gemini-2.5-pro"}}"#, Disagrees),
        (br#"{"generateContentRequest":{},"generate_content_request":{}}"#, Dup("generate_content_request")),
        (br#"{"generateContentRequest":[]}"#, Bad("generateContentRequest")),
    ];
    refused(&Call::gemini(Endpoint::GenerateContent), rows);
    let rows: &[(&[u8], Flaw)] = &[
        (br#"{"requests":[{"model":"models/gemini-2.5-flash"},{"model":"models/other"}]}"#, Disagrees),
        (br#"{"requests":[{"model":"models/gemini-2.5-flash","model":"models/other"}]}"#, Dup("model")),
        (br#"{"requests":[{"Model":"models/other"}]}"#, Mis("model")),
        (br#"{"requests":{"model":"models/other"}}"#, Bad("requests")),
        (br#"{"requests":["models/other"]}"#, Bad("requests")),
        (br#"{"requests":[],"requests":[]}"#, Dup("requests")),
    ];
    refused(&Call::gemini(Endpoint::BatchEmbedContents), rows);
    let pathless = Call { path_model: None, ..Call::gemini(Endpoint::GenerateContent) };
    refused(&pathless, &[(br#"{"model":"models/gemini-2.5-flash"}"#, Missing)]);
}

#[test]
fn the_content_type_is_the_endpoints_own() {
    let body = br#"{"model":"a"}"#;
    for taken in [
        JSON,
        "Application/JSON",
        "application/json; charset=utf-8",
        "application/json;charset=\"UTF-8\"",
        "application/json;",
    ] {
        assert_eq!(Call::chat().with_type(taken).flaw(body), None, "{taken}");
    }
    for refused in [
        "",
        "text/plain",
        "text/json",
        "application/x-www-form-urlencoded",
        "application/jsonp",
        "application/json5",
        "application/x-ndjson",
        "application/json; charset=utf-16",
        "application/json; charset=utf-8; charset=utf-7",
        "application/json, text/plain",
        "application/vnd.api+json",
        "multipart/form-data; boundary=x",
    ] {
        assert_eq!(Call::chat().with_type(refused).flaw(body), Some(Type), "{refused}");
    }
    assert_eq!(Call::openai(Endpoint::AudioTranscriptions).flaw(body), Some(Type));
    let input = BodyInput {
        dialect: DialectName::OpenAi,
        endpoint: Endpoint::ChatCompletions,
        path_model: None,
        path_stream: false,
        model_free: false,
        content_type: None,
        body: &Bytes::from_static(body),
    };
    assert_eq!(describe(&input, &Estimator::new(1)).err().map(Flaw::from), Some(Type));
}
