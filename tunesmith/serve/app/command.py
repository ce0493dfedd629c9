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
from tunesmith.serve.chat.models import ChatModels, ModelPlaces
from tunesmith.serve.chat.routes import BodyReader, chat_router
from tunesmith.serve.chat.service import ChatService
from tunesmith.serve.conversations.store import ConversationStore
from tunesmith.serve.engine.load import LoadLimits
from tunesmith.serve.engine.models import ServedModels, open_models
from tunesmith.serve.log_entry import LogEntry
from tunesmith.serve.page.routes import page_router
from tunesmith.serve.page.runs import chat_models


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
    models = ServedModels(open_models(paths, format, limits, write_entry))
    parts = ServerParts(models, place.settings, write_entry)
    service = open_chat(parts, place.store, runs, limits)
    _print_start(paths, runs, place)
    app = build_app(parts, [chat_router(service, body_reader(parts)), page_router(runs)])
    run_server(app, parts, place.listener)
    write_entry(LogEntry("stopped"))


def open_chat(parts: ServerParts, store: ConversationStore, runs: Path | None, limits: LoadLimits) -> ChatService:
    """The service of the chat page, which ends with the server."""
    models = ChatModels(
        parts.models,
        ModelPlaces(parts.add, parts.remove),
        partial(chat_models, runs) if runs is not None else dict,
        limits,
        parts.log,
    )
    service = ChatService(store, models, parts.log)
    parts.closers.append(service.close)
    return service


def body_reader(parts: ServerParts) -> BodyReader:
    """Reads the bodies of the chat page's requests with the limits of the server."""
    return partial(read_request, limits=parts.settings.limits)


def write_entry(entry: LogEntry) -> None:
    """Write to standard error: lines for people on a terminal, otherwise one line of JSON."""
    moment = time.time()
    lines = entry.as_lines(moment) if sys.stderr.isatty() else [entry.as_json(moment)]
    sys.stderr.write("\n".join(lines) + "\n")  # one call, since several threads write
    sys.stderr.flush()


def _print_start(paths: Mapping[str, str], runs: Path | None, place: ServerPlace) -> None:
    """Say where the server is and how to ask it."""
    host, port = place.settings.host, place.listener.getsockname()[1]
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    what = ", ".join(paths) or f"the runs in {runs}"
    fields = {"address": address, "models": what, "data": str(place.data)}
    write_entry(LogEntry(f"serving {what} at {address}/ (Ctrl-C stops the server)", fields=fields))
    which = "" if paths else " (the models that the chat page has opened)"
    write_entry(LogEntry(f"for programs: {address}/v1{which}"))
    write_entry(LogEntry(f"conversations: {place.data}"))
