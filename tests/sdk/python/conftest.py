"""What every test needs: where Keyward listens, its keys, and clients that note each answer they get."""

import faulthandler
import json
import os
import time

import httpx2
import pytest

URL = os.environ["KEYWARD_TEST_URL"]
KEYS = json.loads(os.environ["KEYWARD_TEST_KEYS"])

# A client that hangs must fail the run with its stack, not hang it.
faulthandler.dump_traceback_later(120, exit=True)


class Seen:
    """The answers a client got, in order: how often it asked, when, and which headers came back."""

    def __init__(self):
        self.answers = []

    def note(self, response):
        self.answers.append((time.monotonic(), response.status_code, response.headers))

    async def note_async(self, response):
        self.note(response)

    @property
    def statuses(self):
        return [status for _, status, _ in self.answers]

    def client(self):
        return httpx2.Client(event_hooks={"response": [self.note]}, timeout=30)

    def async_client(self):
        return httpx2.AsyncClient(event_hooks={"response": [self.note_async]}, timeout=30)

    def assert_waits(self, call):
        """Calls until it met a refusal, which the client then retried: no earlier than the refusal asked for, and with success."""
        for _ in range(10):
            call()
            if 429 in self.statuses:
                break
        assert 429 in self.statuses and self.statuses[-1] == 200
        for (at, status, headers), (later, _, _) in zip(self.answers, self.answers[1:]):
            if status == 429:
                ms = headers.get("retry-after-ms")
                asked = int(ms) / 1000 if ms else int(headers["retry-after"])
                assert 0 < asked <= 2
                assert asked - 0.05 <= later - at < asked + 5


def first_refusal(call, error):
    """The refusal of a call that is over its rate: on a slow machine a request may have become free meanwhile."""
    for _ in range(10):
        try:
            call()
        except error as refused:
            return refused
    raise AssertionError("no call was refused")


@pytest.fixture
def seen():
    return Seen()


def burn(path, key, body):
    """Uses up the minute's requests of a key (60, then one a second)."""
    with httpx2.Client(base_url=URL, headers={"authorization": f"Bearer {KEYS[key]}"}, timeout=30) as client:
        for _ in range(400):
            response = client.post(path, json=body)
            if response.status_code == 429:
                return
            assert response.status_code == 200, response.text
    raise AssertionError("400 requests in a moment met no limit of 60 a minute")


def assert_is_png(encoded):
    import base64

    picture = base64.b64decode(encoded)
    assert picture.startswith(b"\x89PNG\r\n\x1a\n") and picture.endswith(b"IEND\xaeB`\x82")


def recording():
    """A WAV of a quarter of a second of silence, as a file to upload."""
    import io
    import wave

    file = io.BytesIO()
    with wave.open(file, "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(8000)
        wav.writeframes(bytes(4000))
    return ("silence.wav", file.getvalue(), "audio/wav")


TOOL_SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]}},
    "required": ["city", "unit"],
    "additionalProperties": False,
}


def assert_calls_the_tool(name, arguments):
    assert name == "get_weather"
    assert set(arguments) == {"city", "unit"}
    assert isinstance(arguments["city"], str) and arguments["unit"] in ("celsius", "fahrenheit")
