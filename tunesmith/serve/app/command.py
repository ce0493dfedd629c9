"""`tunesmith serve`: load models, then serve them."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping

from tunesmith.apps.model_opening import silence_libraries
from tunesmith.serve.app.factory import ServerParts, build_app
from tunesmith.serve.app.process import open_socket, run_server
from tunesmith.serve.app.settings import ServerSettings
from tunesmith.serve.engine.load import LoadLimits
from tunesmith.serve.engine.models import ServedModels, open_models
from tunesmith.text.visible import visible


def serve(
    paths: Mapping[str, str],
    settings: ServerSettings,
    *,
    format: str | None = None,
    limits: LoadLimits | None = None,
) -> None:
    """Serve models until a signal.

    paths: name -> directory of a run or model.
    settings: of the server.
    format: the prompt format of the models that declare none.
    limits: what each model accepts; None for the defaults.
    Raises UsageError for a port that cannot be used, and as ``open_models``.
    """
    silence_libraries()
    listener = open_socket(settings)
    try:
        models = ServedModels(open_models(paths, format, limits or LoadLimits(), print_line))
        parts = ServerParts(models, settings, print_line)
        _print_start(paths, settings, listener.getsockname()[1])
        run_server(build_app(parts), parts, listener)
    finally:
        listener.close()
    print_line("stopped")


def print_line(text: str) -> None:
    """Write to standard error; every line of an error has the time."""
    for line in text.rstrip("\n").split("\n"):
        print(f"{time.strftime('%H:%M:%S')} {visible(line)}", file=sys.stderr, flush=True)


def _print_start(paths: Mapping[str, str], settings: ServerSettings, port: int) -> None:
    """Say where the server is and how to ask it."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    print_line(f"serving {', '.join(paths)} at http://{host}:{port}/v1 (Ctrl-C stops the server)")
