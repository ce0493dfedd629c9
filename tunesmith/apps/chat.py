"""`tunesmith chat`: talk to a trained model, in a terminal or through pipes."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Mapping
from dataclasses import asdict
from io import TextIOWrapper
from pathlib import Path
from typing import Any, TextIO

from transformers.utils.logging import disable_progress_bar

from tunesmith.apps.commands import carry_out, is_command
from tunesmith.apps.conversation import Conversation, described
from tunesmith.apps.terminal import Terminal
from tunesmith.errors import TunesmithError, UsageError
from tunesmith.generate.export_directory import find_export, open_engine, read_sampling


def run(
    path: str,
    *,
    format: str | None = None,
    system: str | None = None,
    sampling: Mapping[str, Any] | None = None,
    seed: int | None = None,
    save: Path | None = None,
    source: TextIO | None = None,
    output: TextIO | None = None,
    errors: TextIO | None = None,
) -> None:
    """Chat until the input ends.

    path: a run directory or a model directory. format: the prompt format of a directory that does not carry one.
    system: the system message. sampling: settings that override those of the export; None leaves one as it is.
    seed: of the random numbers; by default a new one, which is shown. save: a file that holds the conversation after
    every reply. source, output, errors: standard streams by default. From a pipe every line is a message, replies
    go to ``output`` and everything else to ``errors``, and the first error ends the chat.
    """
    if save is not None and save.exists():
        raise UsageError("the file exists already", where=save, advice="choose another name for --save")
    terminal = Terminal(_lenient(source or sys.stdin), output or sys.stdout, errors or sys.stderr)
    terminal.notice(f"loading {find_export(path)}")
    if not terminal.interactive:
        disable_progress_bar()  # type: ignore[no-untyped-call]
    engine, declared = open_engine(path, format)
    overrides = {name: value for name, value in (sampling or {}).items() if value is not None}
    chosen_sampling = read_sampling({**asdict(declared), **overrides})
    chosen_seed = secrets.randbelow(2**31) if seed is None else seed
    conversation = Conversation(engine, terminal, chosen_sampling, chosen_seed, system)
    _greet(conversation)
    going = True
    while going and (line := _next_line(terminal)) is not None:
        try:
            going = _take(conversation, line)
            if save is not None and conversation.messages:
                conversation.save(save)
        except TunesmithError as error:
            if not terminal.interactive:
                raise
            terminal.fault(str(error))


def _greet(conversation: Conversation) -> None:
    engine, seed = conversation.engine, f", seed {conversation.seed}" if conversation.sampling.do_sample else ""
    about = f"prompt format {engine.renderer.format.name}, {described(conversation.sampling)}{seed}"
    conversation.terminal.notice(about)
    if conversation.terminal.interactive:
        conversation.terminal.notice("/help lists the commands, Ctrl-D leaves")


def _next_line(terminal: Terminal) -> str | None:
    """The next line; an interrupt discards what was typed so far, and ends a chat through pipes."""
    while True:
        try:
            return terminal.read()
        except KeyboardInterrupt:
            if not terminal.interactive:
                raise
            terminal.say("\n")
            terminal.notice("(Ctrl-D leaves)")


def _take(conversation: Conversation, line: str) -> bool:
    """A command, or a message unless it is blank; False leaves the chat."""
    if is_command(line):
        return carry_out(conversation, line)
    if line.strip():
        conversation.say(line.removeprefix("/") if line.startswith("//") else line)
    return True


def _lenient(source: TextIO) -> TextIO:
    """Bytes that are not text in the stream's encoding are read as U+FFFD instead of ending the chat."""
    if isinstance(source, TextIOWrapper):
        source.reconfigure(errors="replace")
    return source
