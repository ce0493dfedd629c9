"""A client of OpenAI's API for one chat: names of models, and streamed replies."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx

from tunesmith.apps.api_events import (
    ModelFacts,
    add_state,
    error_message,
    event_data,
    listed_models,
    parse_object,
    parts_of,
    read_parts,
)
from tunesmith.apps.chat_model import ReplyPart
from tunesmith.errors import DataError, MissingInputError, TunesmithError, UsageError

CONNECT_SECONDS = 10.0
SILENT_SECONDS = 600.0
"""How long a server may send nothing: a long prompt on a slow computer takes minutes."""
LARGEST_ANSWER = 2**24  # bytes
CONTEXT_FULL = "context_length_exceeded"


class ApiClient:
    """Requests to one server.

    base: the address, without ``/chat/completions``; see ``base_address``.
    key: the API key; None sends none.
    key_name: where the key comes from, for messages.
    Raises UsageError for a key that cannot be sent.
    """

    def __init__(self, base: httpx.URL, key: str | None, key_name: str) -> None:
        self.base, self._key_name = base, key_name
        if key is not None and not (key.isascii() and key.isprintable()):
            raise UsageError("an API key has ASCII characters only, without line breaks", where=key_name)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        timeout = httpx.Timeout(SILENT_SECONDS, connect=CONNECT_SECONDS)
        self._client = httpx.Client(headers=headers, timeout=timeout, trust_env=not is_this_computer(base))

    @property
    def sends_key_in_clear(self) -> bool:
        """Whether the key can be read on the way to the server."""
        has_key = "Authorization" in self._client.headers
        return has_key and self.base.scheme == "http" and not is_this_computer(self.base)

    def models(self) -> list[ModelFacts]:
        """The models that the server has. Raises MissingInputError, DataError."""
        with self._answer("GET", f"{self.base.path}/models", None) as answer:
            return listed_models(parse_object(_body(answer)))

    def add_facts(self, model: ModelFacts) -> ModelFacts:
        """What `tunesmith serve` says about one of its models; of another server nothing is asked."""
        if not model.is_ours:
            return model
        try:
            with self._answer("GET", f"{self.base.path.removesuffix('/v1')}/api/state", None) as answer:
                return add_state(model, parse_object(_body(answer)))
        except DataError:
            return model

    def reply(self, request: Mapping[str, Any], drafts: int) -> Iterator[ReplyPart]:
        """The replies to a request, piece by piece. Raises MissingInputError, DataError, UsageError."""
        with self._answer("POST", f"{self.base.path}/chat/completions", {**request, "stream": True}) as answer:
            if "text/event-stream" in answer.headers.get("content-type", ""):
                yield from read_parts(event_data(answer.iter_bytes()), drafts)
            else:  # a server that does not stream
                yield from parts_of(parse_object(_body(answer)), "message", drafts)

    @contextmanager
    def _answer(self, method: str, path: str, body: Mapping[str, Any] | None) -> Iterator[httpx.Response]:
        """The answer to a request, whose body is read in the block. Closing it early ends the reply on the server."""
        address = self.base.copy_with(path=path)
        try:
            with self._client.stream(method, address, json=body) as answer:
                if answer.status_code != 200:
                    raise self._refusal(answer)
                yield answer
        except httpx.ConnectError as error:
            advice = "check the address, and that the server runs: `tunesmith serve RUN`"
            raise MissingInputError("no server can be reached", where=str(self.base), advice=advice) from error
        except httpx.TimeoutException as error:
            raise MissingInputError("the server does not answer in time", where=str(self.base)) from error
        except httpx.HTTPError as error:
            what = "the connection to the server ended before its answer was complete"
            raise MissingInputError(what, where=str(self.base), advice="try again") from error

    def _refusal(self, answer: httpx.Response) -> TunesmithError:
        """Why a request was not answered."""
        status = answer.status_code
        if status in (401, 403):
            advice = f"put the key of the server into the environment variable {self._key_name}"
            return UsageError(f"the server refuses access (status {status})", where=str(self.base), advice=advice)
        try:
            found = parse_object(_body(answer))
        except DataError:
            found = {}
        what = error_message(found) or f"the server answers with status {status}"
        error = found.get("error")
        full = isinstance(error, dict) and error.get("code") == CONTEXT_FULL
        if full:
            return DataError(what, advice="/reset begins a new conversation")
        if status == 404 and not found:
            return DataError(what, where=str(self.base), advice="check the address, which often ends with /v1")
        return DataError(what, advice="try again later" if status in (429, 503) else None)


def base_address(url: str) -> httpx.URL:
    """The address of the API: a URL without a path gets ``/v1``. Raises UsageError."""
    try:
        found = httpx.URL(url.strip())
    except (httpx.InvalidURL, ValueError, TypeError) as error:
        raise UsageError(f"{url!r} is not a URL", where="--url", advice="write http://127.0.0.1:8000") from error
    if found.scheme not in ("http", "https") or not found.host:
        raise UsageError(f"{url!r} is not a URL of a server", where="--url", advice="write http://127.0.0.1:8000")
    if found.userinfo or found.query or found.fragment:
        what = "the URL has a password, a query or a fragment"
        raise UsageError(what, where="--url", advice="give the address alone")
    path = found.path.rstrip("/").removesuffix("/chat/completions")
    return found.copy_with(path=path or "/v1")


def is_this_computer(url: httpx.URL) -> bool:
    """Whether a URL leads to this computer, where nothing passes a proxy and nobody else reads along."""
    if url.host == "localhost":
        return True
    try:
        return ipaddress.ip_address(url.host).is_loopback
    except ValueError:
        return False


def _body(answer: httpx.Response) -> bytes:
    """The whole body. Raises DataError if it is too large."""
    found = bytearray()
    for chunk in answer.iter_bytes():
        found += chunk
        if len(found) > LARGEST_ANSWER:
            raise DataError(f"the answer of the server has more than {LARGEST_ANSWER:,} bytes")
    return bytes(found)
