"""`tunesmith chat`: a conversation with a trained model, in a terminal or through pipes."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from tunesmith.apps.chat_loop import ChatFiles, ChatStreams, hold_chat, open_terminal
from tunesmith.apps.local_chat_model import LocalChatModel
from tunesmith.apps.model_opening import open_run, silence_libraries
from tunesmith.generate.export_directory import read_sampling


def run(
    path: str,
    *,
    format: str | None = None,
    system: str | None = None,
    sampling: Mapping[str, Any] | None = None,
    seed: int | None = None,
    files: ChatFiles | None = None,
    streams: ChatStreams | None = None,
) -> None:
    """Chat until the input ends.

    If input or output is a pipe, every line of the input is a message, replies are written to the output and
    everything else to the error stream, and the first error ends the chat.

    path: the directory of a run or of a model.
    format: the prompt format of a model directory without tunesmith.json.
    system: the system message; None for no system message.
    sampling: settings that override those of the export; None leaves a setting unchanged.
    seed: the random seed; None chooses a new one, which is printed.
    files: where conversations and typed lines are kept; None keeps neither.
    streams: None uses the standard ones.
    Raises UsageError and errors of loading and generation.
    """
    files = files or ChatFiles()
    terminal = open_terminal(streams or ChatStreams(), files)
    silence_libraries()
    engine, declared = open_run(path, format, terminal.notice)
    overrides = {name: value for name, value in (sampling or {}).items() if value is not None}
    chosen_sampling = read_sampling({**asdict(declared), **overrides})
    chosen_seed = secrets.randbelow(2**31) if seed is None else seed
    hold_chat(LocalChatModel(engine, chosen_sampling, chosen_seed), terminal, files, system)
