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

    def assert_waited_and_succeeded(self):
        """One refusal at least, then success, and between two answers no less than what the refusal asked for."""
        assert self.statuses[-1] == 200 and self.statuses[:-1] and set(self.statuses[:-1]) == {429}
        for (at, _, headers), (later, _, _) in zip(self.answers, self.answers[1:]):
            asked = int(headers["retry-after-ms"]) / 1000 if "retry-after-ms" in headers else int(headers["retry-after"])
            assert 0 < asked <= 2
            assert asked - 0.05 <= later - at < asked + 2


@pytest.fixture
def seen():
    return Seen()


def burn(path, key, body):
    """Uses up the minute's requests of a key (60, then one a second); returns the first refusal."""
    with httpx2.Client(base_url=URL, headers={"authorization": f"Bearer {KEYS[key]}"}, timeout=30) as client:
        for _ in range(400):
            response = client.post(path, json=body)
            if response.status_code == 429:
                return response
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
