"""The openai package: every refusal and failure is the SDK's own exception, and it waits as it is told."""

import asyncio

import openai
import pytest

from conftest import KEYS, URL, burn, first_refusal

HELLO = [{"role": "user", "content": "Say hello."}]
SMALL = {"model": "text-embedding-3-small", "input": "a", "dimensions": 1}


def client(key, seen=None, retries=0, **options):
    http = {"http_client": seen.client()} if seen else {}
    secret = KEYS.get(key, key)
    return openai.OpenAI(base_url=f"{URL}/v1", api_key=secret, max_retries=retries, **http, **options)


def chat(client, model="gpt-4o", **options):
    return client.chat.completions.create(model=model, messages=HELLO, **options)


def test_a_wrong_key_is_an_authentication_error(seen):
    with pytest.raises(openai.AuthenticationError) as refused:
        chat(client("sk-wrong-0123456789", seen, retries=2))
    assert refused.value.code == "invalid_api_key" and "Incorrect API key provided" in refused.value.message
    assert "0123456789" not in str(refused.value)
    assert seen.statuses == [401]


def test_an_expired_key_is_an_authentication_error_that_says_so():
    with pytest.raises(openai.AuthenticationError, match="expired") as refused:
        chat(client("expired"))
    assert refused.value.code == "invalid_api_key"


def test_what_is_not_allowed_is_a_permission_error(seen):
    for key, model, code in [("some-models", "claude-opus-4-1", "model_not_allowed"), ("elsewhere", "gpt-4o", "ip_not_allowed")]:
        with pytest.raises(openai.PermissionDeniedError) as refused:
            chat(client(key, seen, retries=2), model=model)
        assert refused.value.code == code
    with pytest.raises(openai.PermissionDeniedError) as refused:
        client("chat-only", seen, retries=2).embeddings.create(**SMALL)
    assert refused.value.code == "endpoint_not_allowed"
    assert seen.statuses == [403, 403, 403]
    assert chat(client("some-models")).choices and chat(client("chat-only")).choices


def test_an_unknown_model_is_not_found():
    with pytest.raises(openai.NotFoundError) as refused:
        chat(client("alice"), model="no-such-model")
    assert refused.value.code == "model_not_found"


def test_a_body_that_cannot_be_read_is_a_bad_request():
    with pytest.raises(openai.BadRequestError):
        chat(client("alice"), extra_body={"Model": "gpt-4o-mini"})


def test_requests_over_the_rate_are_refused_with_the_time_to_wait_and_waited_for(seen):
    hasty, patient = client("rpm-openai"), client("rpm-openai", seen, retries=2)
    burn("/v1/embeddings", "rpm-openai", SMALL)
    refused = first_refusal(lambda: hasty.embeddings.create(**SMALL), openai.RateLimitError)
    assert refused.code == "rate_limit_exceeded" and refused.type == "requests"
    headers = refused.response.headers
    assert headers["retry-after"] == "1" and 0 < int(headers["retry-after-ms"]) <= 1000
    assert headers["x-ratelimit-limit-requests"] == "60" and headers["x-ratelimit-remaining-requests"] == "0"
    seen.assert_waits(lambda: patient.embeddings.create(**SMALL))


def test_the_async_client_waits_too(seen):
    async def ask():
        options = {"api_key": KEYS["rpm-openai-async"], "max_retries": 2, "http_client": seen.async_client()}
        async with openai.AsyncOpenAI(base_url=f"{URL}/v1", **options) as client:
            return await client.embeddings.create(**SMALL)

    burn("/v1/embeddings", "rpm-openai-async", SMALL)
    seen.assert_waits(lambda: asyncio.run(ask()))


def test_a_prompt_over_the_tokens_of_a_minute_is_refused():
    long = [{"role": "user", "content": "word " * 400}]
    with pytest.raises(openai.RateLimitError) as refused:
        client("tpm-openai").chat.completions.create(model="gpt-4o", messages=long)
    assert refused.value.code == "rate_limit_exceeded" and refused.value.type == "tokens"


def test_one_at_a_time_is_one_at_a_time():
    one = client("parallel-openai")
    with chat(one, model="sandbox-stall", stream=True) as stream:
        assert next(iter(stream)).choices
        with pytest.raises(openai.RateLimitError):
            chat(one)
    # The slot is free again as soon as Keyward sees that the stream is closed; the SDK's own retries bridge that moment.
    assert chat(client("parallel-openai", retries=3)).choices


def test_a_quota_is_never_overdrawn_and_a_spent_one_not_retried(seen):
    used, spender = 0, client("quota-openai", seen, retries=2)
    with pytest.raises(openai.RateLimitError) as refused:
        for _ in range(100):
            used += chat(spender, max_tokens=500).usage.total_tokens
    assert refused.value.code == refused.value.type == "insufficient_quota"
    assert refused.value.response.headers["x-should-retry"] == "false"
    assert "retry-after" not in refused.value.response.headers
    assert 500 < used <= 600
    assert seen.statuses.count(429) == 1 and seen.statuses[-1] == 429 and set(seen.statuses[:-1]) == {200}
    # Less was left than a whole answer may take, so the allowance was lowered, and said so.
    assert any("x-keyward-clamped" in headers for _, _, headers in seen.answers)


def test_a_sandbox_key_meets_no_bill():
    sandboxed = client("sandboxed")
    for _ in range(3):
        assert chat(sandboxed).choices
    # The built-in backend serves it whatever the routes are.
    assert chat(sandboxed, model="no-such-model").model == "no-such-model"


def test_the_async_client_does_not_retry_a_spent_quota(seen):
    async def ask():
        options = {"api_key": KEYS["quota-openai-async"], "max_retries": 2, "http_client": seen.async_client()}
        async with openai.AsyncOpenAI(base_url=f"{URL}/v1", **options) as client:
            await client.responses.create(model="gpt-4o", input="Say hello.")

    with pytest.raises(openai.RateLimitError) as refused:
        asyncio.run(ask())
    assert refused.value.code == "insufficient_quota" and seen.statuses == [429]


def test_an_error_of_the_backend_passes_through():
    for status, error in [(500, openai.InternalServerError), (400, openai.BadRequestError), (429, openai.RateLimitError)]:
        with pytest.raises(error, match="The sandbox was asked for this error") as failed:
            chat(client("alice"), model=f"sandbox-error-{status}")
        assert failed.value.status_code == status


def test_a_broken_stream_raises_after_what_came():
    for model in ["sandbox-cut", "sandbox-stream-error"]:
        chunks = []
        with pytest.raises(openai.APIError):
            for chunk in chat(client("alice"), model=model, stream=True):
                chunks.append(chunk)
        assert chunks, model


def test_a_broken_answer_raises():
    with pytest.raises(openai.APIError):
        chat(client("alice"), model="sandbox-cut")


def test_a_slow_backend_meets_the_client_s_own_timeout():
    for model in ["sandbox-slow", "sandbox-hang"]:
        with pytest.raises(openai.APITimeoutError):
            chat(client("alice", timeout=0.3), model=model)


def test_bytes_that_come_one_by_one_are_the_same_stream():
    def said(model):
        stream = chat(client("alice"), model=model, stream=True)
        return "".join(chunk.choices[0].delta.content or "" for chunk in stream)

    assert said("sandbox-drip") == said("gpt-4o")


def test_a_stream_without_usage_is_passed_on():
    chunks = list(chat(client("alice"), model="sandbox-no-usage", stream=True))
    assert chunks[-1].choices[0].finish_reason == "stop"
