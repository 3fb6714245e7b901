"""The anthropic package, Anthropic and AsyncAnthropic: what works and what is refused."""

import asyncio
import json

import anthropic
import httpx2
import pytest

from conftest import KEYS, TOOL_SCHEMA, URL, assert_calls_the_tool, burn, first_refusal

MODEL = "claude-haiku-4-5"
HELLO = {"max_tokens": 64, "messages": [{"role": "user", "content": "Say hello."}]}
TOOL = {"name": "get_weather", "description": "Weather", "input_schema": TOOL_SCHEMA}


def client(key, retries=0, seen=None, **options):
    http = {"http_client": seen.client()} if seen else {}
    return anthropic.Anthropic(base_url=URL, api_key=KEYS.get(key, key), max_retries=retries, **http, **options)


def say(client, model=MODEL, **options):
    return client.messages.create(model=model, **{**HELLO, **options})


def test_a_message_streams_the_same_text_as_it_answers_whole():
    alice = client("alice")
    whole = say(alice)
    assert "Say hello." in whole.content[0].text and whole.stop_reason == "end_turn"
    assert whole.usage.input_tokens > 0 and whole.usage.output_tokens == len(whole.content[0].text.split())
    with alice.messages.stream(model=MODEL, **HELLO) as stream:
        assert "".join(stream.text_stream) == whole.content[0].text
        final = stream.get_final_message()
    assert final.usage.output_tokens == whole.usage.output_tokens
    assert final.usage.input_tokens > 0 and final.stop_reason == "end_turn"
    types = [event.type for event in say(alice, stream=True)]
    assert types[0] == "message_start" and types[-2:] == ["message_delta", "message_stop"]


def test_the_most_output_is_kept():
    cut = say(client("alice"), max_tokens=3)
    assert cut.stop_reason == "max_tokens" and cut.usage.output_tokens == 3


def test_tools_are_called_whole_and_streamed_and_answered():
    alice = client("alice")
    whole = say(alice, tools=[TOOL])
    call = whole.content[0]
    assert whole.stop_reason == "tool_use"
    assert_calls_the_tool(call.name, call.input)
    with alice.messages.stream(model=MODEL, tools=[TOOL], **HELLO) as stream:
        pieces = [event.partial_json for event in stream if event.type == "input_json"]
        assert json.loads("".join(pieces)) == call.input == stream.get_final_message().content[0].input
    told = {"type": "tool_result", "tool_use_id": call.id, "content": "It rains."}
    history = [*HELLO["messages"], {"role": "assistant", "content": whole.content}, {"role": "user", "content": [told]}]
    assert "It rains." in say(alice, tools=[TOOL], messages=history).content[0].text


def test_tokens_are_counted():
    count = client("alice").messages.count_tokens
    short = count(model=MODEL, messages=HELLO["messages"]).input_tokens
    long = count(model=MODEL, messages=[{"role": "user", "content": "word " * 500}]).input_tokens
    assert 0 < short < long


def test_the_models_are_those_of_the_key():
    everything = {model.id for model in client("alice").models.list()}
    some = {model.id for model in client("some-models").models.list()}
    assert {"claude-haiku-4-5", "claude-opus-4-1"} <= everything
    assert "claude-haiku-4-5" in some and "claude-opus-4-1" not in some


def test_the_async_client_does_it_too():
    async def everything():
        async with anthropic.AsyncAnthropic(base_url=URL, api_key=KEYS["alice"], max_retries=0) as alice:
            async def streamed():
                async with alice.messages.stream(model=MODEL, **HELLO) as stream:
                    return "".join([piece async for piece in stream.text_stream])

            return await asyncio.gather(
                alice.messages.create(model=MODEL, **HELLO),
                streamed(),
                alice.messages.count_tokens(model=MODEL, messages=HELLO["messages"]),
            )

    whole, streamed, count = asyncio.run(everything())
    assert streamed == whole.content[0].text and count.input_tokens > 0


def test_a_secret_works_as_a_bearer_token_too():
    bearer = anthropic.Anthropic(base_url=URL, auth_token=KEYS["alice"], max_retries=0)
    assert say(bearer).content


def test_keys_are_refused_as_authentication_errors(seen):
    with pytest.raises(anthropic.AuthenticationError) as refused:
        say(client("sk-ant-wrong-0123456789", retries=2, seen=seen))
    assert refused.value.body["error"]["type"] == "authentication_error" and seen.statuses == [401]
    with pytest.raises(anthropic.AuthenticationError, match="expired"):
        say(client("expired"))


def test_what_is_not_allowed_is_a_permission_error(seen):
    with pytest.raises(anthropic.PermissionDeniedError) as refused:
        say(client("some-models", retries=2, seen=seen), model="claude-opus-4-1")
    assert refused.value.body["error"]["type"] == "permission_error"
    with pytest.raises(anthropic.PermissionDeniedError):
        say(client("elsewhere", retries=2, seen=seen))
    assert seen.statuses == [403, 403]


def test_an_unknown_model_is_not_found():
    with pytest.raises(anthropic.NotFoundError):
        say(client("alice"), model="no-such-model")


def test_requests_over_the_rate_are_refused_with_the_time_to_wait_and_waited_for(seen):
    hasty, patient = client("rpm-anthropic"), client("rpm-anthropic", retries=2, seen=seen)
    burn("/v1/messages", "rpm-anthropic", {"model": MODEL, **HELLO, "max_tokens": 1})
    refused = first_refusal(lambda: say(hasty), anthropic.RateLimitError)
    assert refused.body["error"]["type"] == "rate_limit_error"
    assert refused.response.headers["retry-after"] == "1"
    assert refused.response.headers["anthropic-ratelimit-requests-limit"] == "60"
    seen.assert_waits(lambda: say(patient))


def test_a_prompt_over_the_tokens_of_a_minute_is_refused():
    with pytest.raises(anthropic.RateLimitError):
        say(client("tpm-anthropic"), messages=[{"role": "user", "content": "word " * 400}])


def test_one_at_a_time_is_one_at_a_time():
    one = client("parallel-anthropic")
    with say(one, model="sandbox-stall", stream=True) as stream:
        assert next(iter(stream)).type == "message_start"
        with pytest.raises(anthropic.RateLimitError):
            say(one)
    assert say(client("parallel-anthropic", retries=3)).content


def test_a_spent_quota_is_not_retried(seen):
    with pytest.raises(anthropic.RateLimitError) as refused:
        say(client("quota-anthropic", retries=2, seen=seen))
    assert refused.value.response.headers["x-should-retry"] == "false" and seen.statuses == [429]


def test_an_error_of_the_backend_passes_through():
    for status, kind in [(500, "api_error"), (529, "overloaded_error")]:
        with pytest.raises(anthropic.APIStatusError) as failed:
            say(client("alice"), model=f"sandbox-error-{status}")
        assert failed.value.status_code == status and failed.value.body["error"]["type"] == kind


def test_a_broken_stream_raises_after_what_came():
    for model in ["sandbox-cut", "sandbox-stream-error"]:
        events = []
        # The SDK hands on what its HTTP client says of a body that is not whole, when no error event came before.
        with pytest.raises((anthropic.APIError, httpx2.HTTPError)):
            for event in say(client("alice"), model=model, stream=True):
                events.append(event)
        assert events, model


def test_a_slow_backend_meets_the_client_s_own_timeout():
    for model in ["sandbox-slow", "sandbox-hang"]:
        with pytest.raises(anthropic.APITimeoutError):
            say(client("alice", timeout=0.3), model=model)
