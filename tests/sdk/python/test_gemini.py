"""The google-genai package: what works and what is refused."""

import asyncio
import math

import httpx2
import pytest
from google import genai
from google.genai import errors, types

from conftest import KEYS, TOOL_SCHEMA, URL, assert_calls_the_tool, burn, first_refusal

MODEL = "gemini-2.5-flash"
BODY = {"contents": [{"role": "user", "parts": [{"text": "a"}]}], "generationConfig": {"maxOutputTokens": 1}}


def client(key, **options):
    return genai.Client(api_key=KEYS.get(key, key), vertexai=False, http_options=types.HttpOptions(base_url=URL, **options))


def say(client, model=MODEL, **config):
    return client.models.generate_content(model=model, contents="Say hello.", config=config or None)


def refusal(call):
    with pytest.raises(errors.ClientError) as refused:
        call()
    return refused.value.code, refused.value.status


def test_an_answer_streams_the_same_text_as_it_comes_whole():
    alice = client("alice")
    whole = say(alice)
    assert "Say hello." in whole.text and whole.candidates[0].finish_reason == types.FinishReason.STOP
    usage = whole.usage_metadata
    assert usage.candidates_token_count == len(whole.text.split())
    assert usage.total_token_count == usage.prompt_token_count + usage.candidates_token_count
    chunks = list(alice.models.generate_content_stream(model=MODEL, contents="Say hello."))
    assert len(chunks) > 3 and "".join(chunk.text or "" for chunk in chunks) == whole.text
    assert chunks[-1].usage_metadata.candidates_token_count == usage.candidates_token_count


def test_both_versions_of_the_api_work():
    for version in ["v1", "v1beta"]:
        assert say(client("alice", api_version=version)).text


def test_the_most_output_is_kept():
    cut = say(client("alice"), max_output_tokens=3)
    assert cut.candidates[0].finish_reason == types.FinishReason.MAX_TOKENS
    assert cut.usage_metadata.candidates_token_count == 3


def test_a_function_is_called():
    function = types.FunctionDeclaration(name="get_weather", parameters_json_schema=TOOL_SCHEMA)
    answer = say(client("alice"), tools=[types.Tool(function_declarations=[function])])
    assert_calls_the_tool(answer.function_calls[0].name, answer.function_calls[0].args)


def test_embeddings_and_token_counts_work():
    alice = client("alice")
    config = types.EmbedContentConfig(output_dimensionality=16)
    vectors = alice.models.embed_content(model="gemini-embedding-001", contents=["one", "two"], config=config).embeddings
    assert [len(vector.values) for vector in vectors] == [16, 16]
    assert math.hypot(*vectors[0].values) == pytest.approx(1, abs=1e-4)
    assert alice.models.count_tokens(model=MODEL, contents="word " * 50).total_tokens > 10


def test_the_models_are_those_of_the_key():
    # A client that nothing holds closes itself, also under an iterator of its own.
    alice, limited = client("alice"), client("some-models")
    everything = {model.name for model in alice.models.list()}
    some = {model.name for model in limited.models.list()}
    assert {"models/gemini-2.5-flash", "models/gemini-2.5-pro"} <= everything
    assert "models/gemini-2.5-flash" in some and "models/gemini-2.5-pro" not in some


def test_the_async_client_does_it_too():
    async def everything():
        alice = client("alice").aio
        whole = await alice.models.generate_content(model=MODEL, contents="Say hello.")
        chunks = await alice.models.generate_content_stream(model=MODEL, contents="Say hello.")
        return whole.text, "".join([chunk.text or "" async for chunk in chunks])

    whole, streamed = asyncio.run(everything())
    assert "Say hello." in whole and streamed == whole


def test_refusals_are_client_errors_with_the_status_of_the_api():
    assert refusal(lambda: say(client("AIza-wrong-0123456789"))) == (401, "UNAUTHENTICATED")
    assert refusal(lambda: say(client("some-models"), model="gemini-2.5-pro")) == (403, "PERMISSION_DENIED")
    assert refusal(lambda: say(client("elsewhere"))) == (403, "PERMISSION_DENIED")
    assert refusal(lambda: say(client("alice"), model="no-such-model")) == (404, "NOT_FOUND")
    assert refusal(lambda: say(client("quota-gemini"))) == (429, "RESOURCE_EXHAUSTED")
    with pytest.raises(errors.ClientError, match="expired") as refused:
        say(client("expired"))
    assert (refused.value.code, refused.value.status) == (401, "UNAUTHENTICATED")


def test_requests_over_the_rate_say_when_to_come_back_and_are_retried():
    again = types.HttpRetryOptions(attempts=4, initial_delay=0.5, http_status_codes=[429])
    hasty, patient = client("rpm-gemini"), client("rpm-gemini", retry_options=again)
    burn(f"/v1beta/models/{MODEL}:generateContent", "rpm-gemini", BODY)
    refused = first_refusal(lambda: say(hasty), errors.ClientError)
    assert (refused.code, refused.status) == (429, "RESOURCE_EXHAUSTED")
    details = refused.details["error"]["details"]
    retry = next(detail for detail in details if detail["@type"].endswith("google.rpc.RetryInfo"))
    assert 0 < float(retry["retryDelay"].removesuffix("s")) <= 1
    assert say(patient).text


def test_an_error_of_the_backend_passes_through():
    with pytest.raises(errors.ServerError) as failed:
        say(client("alice"), model="sandbox-error-500")
    assert (failed.value.code, failed.value.status) == (500, "INTERNAL")


def test_a_broken_stream_raises_after_what_came():
    alice, chunks = client("alice"), []
    # Whichever it sees first: our error event, or the end of a body that is not whole.
    with pytest.raises((errors.APIError, errors.UnknownApiResponseError, httpx2.HTTPError)):
        for chunk in alice.models.generate_content_stream(model="sandbox-cut", contents="Say hello."):
            chunks.append(chunk)
    assert chunks
