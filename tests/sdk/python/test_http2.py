"""The same SDK over HTTP/2: under TLS, where the two sides agree on it, and in clear by prior knowledge."""

import asyncio
import os
import ssl

import httpx2
import openai
import pytest

from conftest import KEYS, URL

TLS_URL = os.environ["KEYWARD_TEST_TLS_URL"]
CA = ssl.create_default_context(cafile=os.environ["KEYWARD_TEST_CA"])

MESSAGES = [{"role": "user", "content": "Hello"}]


def settings(way):
    if way == "tls":
        return TLS_URL, {"http2": True, "verify": CA}
    return URL, {"http1": False, "http2": True}


@pytest.mark.parametrize("way", ["tls", "clear"])
def test_answers_and_streams(way):
    url, how = settings(way)
    versions = []
    hooks = {"response": [lambda response: versions.append(response.http_version)]}
    with httpx2.Client(timeout=30, event_hooks=hooks, **how) as http:
        client = openai.OpenAI(base_url=f"{url}/v1", api_key=KEYS["alice"], http_client=http, max_retries=0)
        answer = client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
        assert answer.choices[0].message.content and answer.usage.total_tokens > 0
        chunks = list(client.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True))
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        with pytest.raises(openai.PermissionDeniedError):
            client.with_options(api_key=KEYS["some-models"]).chat.completions.create(model="gpt-3", messages=MESSAGES)
        with pytest.raises(openai.AuthenticationError):
            client.with_options(api_key="sk-wrong-0123456789").models.list()
    assert set(versions) == {"HTTP/2"}


@pytest.mark.parametrize("way", ["tls", "clear"])
def test_a_hundred_streams_at_once_on_one_connection(way):
    url, how = settings(way)

    async def all_of_them():
        limits = httpx2.Limits(max_connections=1)
        async with httpx2.AsyncClient(timeout=60, limits=limits, **how) as http:
            client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=KEYS["alice"], http_client=http, max_retries=0)

            async def one():
                stream = await client.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True)
                return [chunk async for chunk in stream]

            return await asyncio.gather(*(one() for _ in range(100)))

    assert all(len(chunks) > 2 for chunks in asyncio.run(all_of_them()))
