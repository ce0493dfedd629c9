"""huggingface_hub's client and curl, unmodified; `tests.campaigns.serve_clients` has those of other languages."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest
from huggingface_hub import InferenceClient
from huggingface_hub.errors import BadRequestError, HfHubHTTPError

from tests.serve.served import MESSAGES, running_server
from tunesmith.serve.app.factory import ServerParts


def test_the_client_of_the_hub_chats_and_streams(parts: ServerParts) -> None:
    with running_server(parts) as address:
        client = InferenceClient(base_url=f"{address}/v1", api_key="none")
        whole = client.chat.completions.create(model="chatml", messages=MESSAGES, temperature=0.0, logprobs=True)
        assert len(whole.choices[0].logprobs.content) <= whole.usage.completion_tokens
        chunks = client.chat_completion(MESSAGES, model="chatml", temperature=0.0, stream=True)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        assert text == whole.choices[0].message.content
        with pytest.raises((BadRequestError, HfHubHTTPError), match="tools"):
            client.chat_completion(MESSAGES, model="chatml", tools=[{"type": "function", "function": {"name": "f"}}])


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_gets_answers_streams_and_errors(parts: ServerParts) -> None:
    with running_server(parts) as address:

        def curl(*words: str) -> str:
            done = subprocess.run(["curl", "-sS", "-m", "60", *words], capture_output=True, text=True, check=True)
            return done.stdout

        url, kind = f"{address}/v1/chat/completions", ("-H", "Content-Type: application/json")
        body = {"model": "chatml", "messages": MESSAGES, "max_tokens": 5, "temperature": 0}
        assert "chatml" in curl(f"{address}/v1/models")
        whole = json.loads(curl(url, *kind, "-d", json.dumps(body)))
        streamed = curl("-N", url, *kind, "-d", json.dumps({**body, "stream": True}))
        lines = [line.removeprefix("data: ") for line in streamed.split("\n") if line]
        assert lines.pop() == "[DONE]"
        text = "".join(json.loads(line)["choices"][0]["delta"].get("content") or "" for line in lines)
        assert text == whole["choices"][0]["message"]["content"]
        # Without the header curl sends a form.
        assert json.loads(curl(url, "-d", json.dumps(body)))["error"]["code"] == "unsupported_media_type"
