"""Uploads with one planted fault: what can be seen at any moment, how they end, and whether the next completes them."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import HfApi, close_session, constants, get_session, set_client_factory
from huggingface_hub.utils import _http
from huggingface_hub.utils.tqdm import disable_progress_bars

from tests.publish.hub.server import LARGE, TOKEN, Fault, Hub, serve_hub
from tunesmith.errors import TunesmithError
from tunesmith.publish.hub import push as module
from tunesmith.publish.hub.connection import limit_waiting
from tunesmith.publish.hub.contents import PublishedFile, find_files, hash_file
from tunesmith.publish.hub.push import STAGING, Access, push
from tunesmith.publish.hub.repository import HubRepository

NAME = "me/model"
CONTENT = {
    "README.md": b"---\nlicense: apache-2.0\n---\n# A model\n",
    "config.json": b'{"model_type": "llama"}\n',
    "model-00001-of-00002.safetensors": bytes(range(256)) * 8,
    "model-00002-of-00002.safetensors": bytes(range(255, -1, -1)) * 8,
    "adapter/adapter_config.json": b"{}\n",
}
OLD = {"config.json": b'{"model_type": "gpt_neox"}\n', "model.safetensors": b"old" * 1000}
KINDS: Sequence[str | int] = (403, 404, 429, 500, 503, "cut", "lost", "damaged", "refused", "silent")
"""Those of ``Fault``, and ``refused``: there is no connection."""
OPEN = Access(public=True, gate="manual")
SILENCE = 0.3
"""Seconds that an answer is waited for if it will not come."""


@dataclass(frozen=True, slots=True)
class Case:
    """older: whether the repository has other files. The others are those of ``Fault``."""

    kind: str | int
    request: int
    lasting: bool
    older: bool

    def __str__(self) -> str:
        times = "all from" if self.lasting else "only"
        return f"{self.kind}, {times} request {self.request}, {'older files' if self.older else 'no repository'}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a case ended.

    broken: what must not be, in words; empty if all is well.
    error: the message of the first upload; None if it succeeded.
    waited: seconds that the client library wanted to wait between its attempts.
    """

    broken: Sequence[str]
    error: str | None
    waited: float


def write_files(directory: Path) -> list[PublishedFile]:
    """The files of CONTENT, written and hashed."""
    for name, content in CONTENT.items():
        path = directory / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(content)
    return [hash_file(name, path) for name, path in find_files(directory).items()]


@contextmanager
def without_waiting() -> Iterator[list[float]]:
    """The client library does not wait between attempts; the list gets the seconds that it wanted to.

    Files of the tests are staged as if they were large, and the library's other protocol for uploads is off.
    """
    waited: list[float] = []
    log = logging.getLogger("huggingface_hub")
    level = log.level
    with pytest.MonkeyPatch.context() as patch, disable_progress_bars():
        patch.setattr(_http, "time", SimpleNamespace(sleep=waited.append))
        patch.setattr(_http, "_GLOBAL_CLIENT_FACTORY", _http._GLOBAL_CLIENT_FACTORY)
        patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        patch.setattr(module, "LARGE", LARGE)
        log.setLevel(logging.ERROR)
        limit_waiting()
        try:
            yield waited
        finally:
            log.setLevel(level)
    close_session()


@contextmanager
def refusing(request: int, *, lasting: bool) -> Iterator[None]:
    """A request, or all from it on, go to a port at which nobody listens."""
    limited, factory = get_session(), _http._GLOBAL_CLIENT_FACTORY
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed: int = free.getsockname()[1]
    sent = iter(range(1 << 20))

    def misdirect(message: Any) -> None:
        number = next(sent)
        if number == request or (lasting and number > request):
            message.url = message.url.copy_with(port=closed)

    hooks = [*limited.event_hooks["request"], misdirect]
    set_client_factory(lambda: type(limited)(event_hooks={"request": hooks}, follow_redirects=True))
    try:
        yield
    finally:
        set_client_factory(factory)


@contextmanager
def impatient() -> Iterator[None]:
    """An answer is waited for a short time only."""
    factory = _http._GLOBAL_CLIENT_FACTORY
    limit_waiting(answering=SILENCE)
    try:
        yield
    finally:
        set_client_factory(factory)


def publish(
    hub: Hub, files: Sequence[PublishedFile], access: Access | None = None, *, replace: bool = True, token: str = TOKEN
) -> list[str]:
    """Publish, and return what was reported."""
    notices: list[str] = []
    repository = HubRepository(NAME, HfApi(endpoint=hub.url, token=token))
    push(repository, files, access or Access(), "Publish the model", notices.append, replace=replace)
    return notices


def count_requests(files: Sequence[PublishedFile], *, older: bool) -> int:
    """How many requests an upload without a fault makes."""
    with serve_hub() as hub:
        if older:
            hub.add(NAME, OLD)
        publish(hub, files, OPEN)
        return len(hub.log)


def try_case(case: Case, files: Sequence[PublishedFile], waited: list[float]) -> Outcome:
    """Publish with a fault, then again without one."""
    waited.clear()
    broken: list[str] = []
    error: str | None = None
    before = OLD if case.older else {}
    with serve_hub() as hub:
        if case.older:
            hub.add(NAME, OLD)
        hub.seen = lambda: broken.extend(_find_wrong(hub, before))
        try:
            with _planted(case, hub):
                publish(hub, files, OPEN)
        except TunesmithError as failure:
            error = str(failure)
            if not failure.advice or NAME not in error or "\n" in error:
                broken.append(f"the message does not say what to do: {error!r}")
        except Exception as failure:
            broken.append(f"{type(failure).__name__} instead of an error of the user: {failure}")
        else:
            broken.extend(_find_unfinished(hub, "the upload with the fault"))
        wanted = sum(waited)
        try:
            publish(hub, files, OPEN)
        except TunesmithError as failure:
            broken.append(f"the next upload failed: {failure}")
        broken.extend(_find_unfinished(hub, "the next upload"))
    return Outcome(broken, error, wanted)


@contextmanager
def _planted(case: Case, hub: Hub) -> Iterator[None]:
    if case.kind == "refused":
        with refusing(case.request, lasting=case.lasting):
            yield
        return
    hub.fault = Fault(case.request, case.kind, case.lasting)
    with impatient() if case.kind == "silent" else nullcontext():
        try:
            yield
        finally:
            hub.fault = None


def _find_wrong(hub: Hub, before: dict[str, bytes]) -> Iterator[str]:
    """What a repository must not be at any moment."""
    found = hub.repositories[NAME]
    published = hub.published(NAME)
    if published not in (before, CONTENT):
        yield f"main is a mixture: {sorted(published)}"
    if not found.private and published != CONTENT:
        yield "public before the end"
    stored = {content for _, files in found.branches.values() for content, _ in files.values()}
    if not found.gated and CONTENT["README.md"] in stored:
        yield "files without a gate"


def _find_unfinished(hub: Hub, what: str) -> Iterator[str]:
    """What is missing after an upload that succeeded."""
    found = hub.repositories.get(NAME)
    if found is None or hub.published(NAME) != CONTENT:
        yield f"{what} did not publish the files"
    elif STAGING in found.branches:
        yield f"{what} left its branch"
    elif found.private or found.gated != "manual":
        yield f"{what} did not set who may read"
