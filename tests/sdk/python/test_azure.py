"""The openai package's AzureOpenAI: the deployment in the path, the credential in `api-key`."""

import asyncio

import openai
import pytest

from conftest import KEYS, URL, assert_is_png, burn, first_refusal, recording

HELLO = [{"role": "user", "content": "Say hello."}]
SMALL = {"model": "text-embedding-3-small", "input": "a", "dimensions": 1}


def client(key, retries=0, **options):
    secret = KEYS.get(key, key)
    options = {"api_key": secret, "api_version": "2024-10-21", "max_retries": retries, **options}
    return openai.AzureOpenAI(azure_endpoint=URL, **options)


def chat(client, model="gpt-4o", **options):
    return client.chat.completions.create(model=model, messages=HELLO, **options)


def test_chat_embeddings_audio_and_images_work():
    azure = client("alice")
    whole = chat(azure)
    stream = chat(azure, stream=True)
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    assert streamed == whole.choices[0].message.content and whole.usage.total_tokens > 0
    assert len(azure.embeddings.create(**{**SMALL, "dimensions": 8}).data[0].embedding) == 8
    assert "4044 bytes" in azure.audio.transcriptions.create(model="whisper-1", file=recording()).text
    assert_is_png(azure.images.generate(model="dall-e-3", prompt="A cat.").data[0].b64_json)


def test_the_version_1_api_works_with_the_ordinary_client():
    v1 = openai.OpenAI(base_url=f"{URL}/openai/v1", api_key=KEYS["alice"], max_retries=0)
    assert v1.responses.create(model="gpt-4o", input="Say hello.").output_text == chat(v1).choices[0].message.content


def test_a_deployment_fixed_in_the_client_is_the_model():
    azure = client("some-models", azure_deployment="gpt-4o")
    assert chat(azure).model == "gpt-4o"
    with pytest.raises(openai.PermissionDeniedError) as refused:
        chat(client("some-models", azure_deployment="gpt-5"), model="gpt-5")
    assert refused.value.code == "model_not_allowed"


def test_refusals_raise_the_sdk_s_own_errors(seen):
    with pytest.raises(openai.AuthenticationError):
        chat(client("wrong-key-0123456789"))
    with pytest.raises(openai.NotFoundError):
        chat(client("alice"), model="no-such-model")
    hasty, patient = client("rpm-azure"), client("rpm-azure", retries=2, http_client=seen.client())
    burn("/v1/embeddings", "rpm-azure", SMALL)
    refused = first_refusal(lambda: hasty.embeddings.create(**SMALL), openai.RateLimitError)
    assert refused.response.headers["retry-after"] == "1"
    seen.assert_waits(lambda: patient.embeddings.create(**SMALL))


def test_the_async_client_works():
    async def ask():
        options = {"api_key": KEYS["alice"], "api_version": "2024-10-21"}
        async with openai.AsyncAzureOpenAI(azure_endpoint=URL, **options) as azure:
            return await azure.chat.completions.create(model="gpt-4o", messages=HELLO)

    assert "Say hello." in asyncio.run(ask()).choices[0].message.content
