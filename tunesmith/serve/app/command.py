"""`tunesmith serve`: load models, then serve them, the chat page and the list of runs."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from tunesmith.apps.model_opening import silence_libraries
from tunesmith.serve.app.exchange import read_request
from tunesmith.serve.app.factory import ServerParts, build_app
from tunesmith.serve.app.place import ServerPlace
from tunesmith.serve.app.process import run_server
from tunesmith.serve.chat.models import ChatModels
from tunesmith.serve.chat.routes import BodyReader, chat_router
from tunesmith.serve.chat.service import ChatService
from tunesmith.serve.conversations.store import ConversationStore
from tunesmith.serve.engine.load import LoadLimits
from tunesmith.serve.engine.models import ServedModels, open_models
from tunesmith.serve.page.routes import page_router
from tunesmith.serve.page.runs import chat_models
from tunesmith.text.visible import visible


def serve(
    paths: Mapping[str, str],
    place: ServerPlace,
    *,
    runs: Path | None = None,
    format: str | None = None,
    limits: LoadLimits | None = None,
) -> None:
    """Serve models until a signal.

    paths: name -> directory of a run or model.
    place: port and conversations.
    runs: a directory whose runs are listed, and opened when somebody chats with them; None for none.
    format: the prompt format of the models that declare none.
    limits: what each model accepts; None for the defaults.
    Raises as ``open_models``.
    """
    silence_libraries()
    limits = limits or LoadLimits()
    models = ServedModels(open_models(paths, format, limits, print_line))
    parts = ServerParts(models, place.settings, print_line)
    service = open_chat(parts, place.store, runs, limits)
    _print_start(paths, runs, place)
    app = build_app(parts, [chat_router(service, body_reader(parts)), page_router(runs)])
    run_server(app, parts, place.listener)
    print_line("stopped")


def open_chat(parts: ServerParts, store: ConversationStore, runs: Path | None, limits: LoadLimits) -> ChatService:
    """The service of the chat page, which ends with the server."""
    closed = chat_models(runs) if runs is not None else {}
    service = ChatService(store, ChatModels(parts.models, parts.add, closed, limits, parts.log), parts.log)
    parts.closers.append(service.close)
    return service


def body_reader(parts: ServerParts) -> BodyReader:
    """Reads the bodies of the chat page's requests with the limits of the server."""
    return partial(read_request, limits=parts.settings.limits)


def print_line(text: str) -> None:
    """Write to standard error; every line of an error has the time."""
    for line in text.rstrip("\n").split("\n"):
        print(f"{time.strftime('%H:%M:%S')} {visible(line)}", file=sys.stderr, flush=True)


def _print_start(paths: Mapping[str, str], runs: Path | None, place: ServerPlace) -> None:
    """Say where the server is and how to ask it."""
    host, port = place.settings.host, place.listener.getsockname()[1]
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    what = ", ".join(paths) or f"the runs in {runs}"
    print_line(f"serving {what} at {address}/ (Ctrl-C stops the server)")
    which = "" if paths else " (the models that the chat page has opened)"
    print_line(f"for programs: {address}/v1{which}")
    print_line(f"conversations: {place.data}")
