"""The openai package, OpenAI and AsyncOpenAI: everything that works."""

import asyncio
import json
import math

import openai
import pytest
from pydantic import BaseModel

from conftest import KEYS, TOOL_SCHEMA, URL, assert_calls_the_tool, assert_is_png, recording

HELLO = [{"role": "user", "content": "Say hello."}]
TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": TOOL_SCHEMA}}
RESPONSE_TOOL = {"type": "function", "name": "get_weather", "parameters": TOOL_SCHEMA, "strict": True}


@pytest.fixture
def client():
    with openai.OpenAI(base_url=f"{URL}/v1", api_key=KEYS["alice"], max_retries=0) as client:
        yield client


def text_of(chunks):
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def test_chat_streams_the_same_text_as_it_answers_whole(client):
    whole = client.chat.completions.create(model="gpt-4o-mini", messages=HELLO)
    text = whole.choices[0].message.content
    assert "Say hello." in text and whole.choices[0].finish_reason == "stop"
    assert whole.usage.prompt_tokens > 0 and whole.usage.completion_tokens == len(text.split())
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
    chunks = list(client.chat.completions.create(model="gpt-4o-mini", messages=HELLO, stream=True))
    assert text_of(chunks) == text
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert len(chunks) > 3


def test_usage_streams_only_to_those_who_ask(client):
    create = client.chat.completions.create
    for plain in (
        create(model="gpt-4o-mini", messages=HELLO, stream=True),
        create(model="gpt-4o-mini", messages=HELLO, stream=True, stream_options={"include_usage": False}),
    ):
        chunks = list(plain)
        # A backend that was asked for usage also writes `"usage": null` into the other chunks; bytes pass as they are.
        assert all(chunk.choices and chunk.usage is None for chunk in chunks)
    asked = list(create(model="gpt-4o-mini", messages=HELLO, stream=True, stream_options={"include_usage": True}))
    assert [chunk.usage is None for chunk in asked] == [True] * (len(asked) - 1) + [False]
    assert asked[-1].choices == [] and asked[-1].usage.completion_tokens == len(text_of(asked).split())


def test_an_alias_reaches_the_model_behind_it(client):
    assert client.chat.completions.create(model="fast", messages=HELLO).model == "gpt-4o-mini"


def test_the_most_output_and_n_are_kept(client):
    cut = client.chat.completions.create(model="gpt-4o-mini", messages=HELLO, max_completion_tokens=3, n=2)
    assert [choice.finish_reason for choice in cut.choices] == ["length", "length"]
    assert cut.usage.completion_tokens == 6


def test_tools_are_called_whole_and_streamed_and_answered(client):
    whole = client.chat.completions.create(model="gpt-4o", messages=HELLO, tools=[TOOL])
    call = whole.choices[0].message.tool_calls[0]
    assert whole.choices[0].finish_reason == "tool_calls"
    assert_calls_the_tool(call.function.name, json.loads(call.function.arguments))
    with client.chat.completions.stream(model="gpt-4o", messages=HELLO, tools=[TOOL]) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.tool_calls[0].function.arguments == call.function.arguments
    told = {"role": "tool", "tool_call_id": call.id, "content": "It rains."}
    messages = [*HELLO, whole.choices[0].message, told]
    answered = client.chat.completions.create(model="gpt-4o", messages=messages, tools=[TOOL])
    assert "It rains." in answered.choices[0].message.content


def test_a_structured_answer_parses(client):
    class Weather(BaseModel):
        city: str
        degrees: int

    parsed = client.chat.completions.parse(model="gpt-4o", messages=HELLO, response_format=Weather)
    assert isinstance(parsed.choices[0].message.parsed, Weather)
    assert isinstance(client.responses.parse(model="gpt-4o", input="Weather?", text_format=Weather).output_parsed, Weather)


def test_completions_work_whole_and_streamed(client):
    whole = client.completions.create(model="gpt-3.5-turbo-instruct", prompt="Once")
    stream = client.completions.create(model="gpt-3.5-turbo-instruct", prompt="Once", stream=True)
    assert "".join(chunk.choices[0].text for chunk in stream) == whole.choices[0].text


def test_responses_work_whole_and_streamed(client):
    whole = client.responses.create(model="gpt-4o", input="Say hello.", instructions="Be kind.")
    assert "Say hello." in whole.output_text and whole.status == "completed"
    assert whole.usage.output_tokens == len(whole.output_text.split())
    events = list(client.responses.create(model="gpt-4o", input="Say hello.", instructions="Be kind.", stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[0].type == "response.created" and events[-1].type == "response.completed"
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == whole.output_text == events[-1].response.output_text
    assert events[-1].response.usage.output_tokens == whole.usage.output_tokens
    cut = client.responses.create(model="gpt-4o", input="Say hello.", max_output_tokens=2)
    assert cut.status == "incomplete" and cut.incomplete_details.reason == "max_output_tokens"


def test_responses_call_tools_whole_and_streamed(client):
    whole = client.responses.create(model="gpt-4o", input="Rain?", tools=[RESPONSE_TOOL])
    assert whole.output[0].type == "function_call"
    assert_calls_the_tool(whole.output[0].name, json.loads(whole.output[0].arguments))
    with client.responses.stream(model="gpt-4o", input="Rain?", tools=[RESPONSE_TOOL]) as stream:
        final = stream.get_final_response()
    assert final.output[0].arguments == whole.output[0].arguments


def test_embeddings_are_unit_vectors_in_either_encoding(client):
    model = "text-embedding-3-small"
    # The SDK asks for base64 and decodes it, unless told otherwise.
    decoded = client.embeddings.create(model=model, input=["one", "two"], dimensions=64)
    floats = client.embeddings.create(model=model, input=["one", "two"], dimensions=64, encoding_format="float")
    for one, other in zip(decoded.data, floats.data, strict=True):
        assert len(one.embedding) == 64 and one.embedding == pytest.approx(other.embedding, abs=1e-6)
        assert math.hypot(*one.embedding) == pytest.approx(1, abs=1e-4)
    assert decoded.usage.prompt_tokens > 0
    assert len(client.embeddings.create(model=model, input="one").data[0].embedding) == 1536


def test_the_models_are_those_of_the_key(client):
    everything = {model.id for model in client.models.list()}
    assert {"gpt-4o-mini", "claude-haiku-4-5", "gemini-2.5-flash"} <= everything
    some = {model.id for model in client.with_options(api_key=KEYS["some-models"]).models.list()}
    assert {"gpt-4o", "gpt-4o-mini", "claude-haiku-4-5", "gemini-2.5-flash"} <= some < everything
    assert "claude-opus-4-1" not in some and "text-embedding-3-small" not in some


def test_a_recording_is_uploaded_and_transcribed(client):
    create = client.audio.transcriptions.create
    whole = create(model="gpt-4o-transcribe", file=recording())
    assert "4044 bytes" in whole.text and whole.usage.output_tokens == len(whole.text.split())
    assert create(model="whisper-1", file=recording(), response_format="text") == whole.text + "\n"
    verbose = create(model="whisper-1", file=recording(), response_format="verbose_json")
    assert verbose.segments[0].text == whole.text
    events = list(create(model="gpt-4o-transcribe", file=recording(), stream=True))
    assert "".join(event.delta for event in events if event.type == "transcript.text.delta") == whole.text
    assert events[-1].type == "transcript.text.done" and events[-1].text == whole.text
    assert "4044 bytes" in client.audio.translations.create(model="whisper-1", file=recording()).text


def test_speech_is_a_recording(client):
    speech = client.audio.speech.create(model="tts-1", voice="alloy", input="Hello there.", response_format="wav")
    assert speech.content[:4] == b"RIFF" and speech.content[8:12] == b"WAVE"


def test_images_are_made_and_edited(client):
    made = client.images.generate(model="gpt-image-1", prompt="A cat.", n=2)
    assert made.usage.output_tokens == 2 and made.usage.input_tokens > 0
    for picture in made.data:
        assert_is_png(picture.b64_json)
    edited = client.images.edit(model="gpt-image-1", image=("cat.png", b"\x89PNG", "image/png"), prompt="A dog.")
    assert_is_png(edited.data[0].b64_json)
    events = list(client.images.generate(model="gpt-image-1", prompt="A cat.", stream=True))
    assert events[-1].type == "image_generation.completed" and events[-1].usage.output_tokens == 1


def test_moderations_judge(client):
    results = client.moderations.create(model="omni-moderation-latest", input=["violence", "peace"]).results
    assert [result.flagged for result in results] == [True, False]


def test_the_limits_stand_in_the_headers_of_every_answer(client):
    client = client.with_options(api_key=KEYS["rpm-roomy"])
    headers = client.chat.completions.with_raw_response.create(model="gpt-4o", messages=HELLO).headers
    assert headers["x-ratelimit-limit-requests"] == "600" and headers["x-ratelimit-limit-tokens"] == "100000"
    assert 0 < int(headers["x-ratelimit-remaining-requests"]) < 600
    assert 0 < int(headers["x-ratelimit-remaining-tokens"]) < 100_000
    assert headers["x-ratelimit-reset-requests"].endswith("s") and headers["x-request-id"]


def test_the_async_client_does_all_of_it_at_once():
    async def everything():
        async with openai.AsyncOpenAI(base_url=f"{URL}/v1", api_key=KEYS["alice"], max_retries=0) as client:
            async def streamed():
                stream = await client.chat.completions.create(model="gpt-4o", messages=HELLO, stream=True)
                return text_of([chunk async for chunk in stream])

            return await asyncio.gather(
                client.chat.completions.create(model="gpt-4o", messages=HELLO),
                streamed(),
                client.responses.create(model="gpt-4o", input="Say hello."),
                client.embeddings.create(model="text-embedding-3-small", input="one", dimensions=8),
                client.audio.transcriptions.create(model="whisper-1", file=recording()),
                client.images.generate(model="gpt-image-1", prompt="A cat."),
                *(client.chat.completions.create(model="gpt-4o", messages=HELLO) for _ in range(20)),
            )

    whole, streamed, response, embeddings, transcript, images, *others = asyncio.run(everything())
    text = whole.choices[0].message.content
    assert streamed == text == response.output_text
    assert all(other.choices[0].message.content == text for other in others)
    assert len(embeddings.data[0].embedding) == 8 and "4044 bytes" in transcript.text
    assert_is_png(images.data[0].b64_json)
