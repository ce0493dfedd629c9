"""`tunesmith chat`: a conversation with a trained model, in a terminal or through pipes."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Mapping
from dataclasses import asdict
from io import TextIOWrapper
from pathlib import Path
from typing import Any, TextIO

from tunesmith.apps.commands import is_command, run_command
from tunesmith.apps.conversation import Conversation, describe_sampling
from tunesmith.apps.model_opening import open_run, silence_libraries
from tunesmith.apps.terminal import Terminal
from tunesmith.errors import TunesmithError, UsageError
from tunesmith.generate.export_directory import read_sampling


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

    If input or output is a pipe, every line of the input is a message, replies are written to ``output`` and everything
    else to ``errors``, and the first error ends the chat.

    path: the directory of a run or of a model.
    format: the prompt format of a model directory without tunesmith.json.
    system: the system message; None for no system message.
    sampling: settings that override those of the export; None leaves a setting unchanged.
    seed: the random seed; None chooses a new one, which is printed.
    save: a new file to which the conversation is written after every reply.
    source, output, errors: the streams; None uses standard input, output and error.
    Raises UsageError and errors of loading and generation.
    """
    if save is not None and save.exists():
        raise UsageError("the file already exists", where=save, advice="choose another name for --save")
    terminal = Terminal(_with_replacement(source or sys.stdin), output or sys.stdout, errors or sys.stderr)
    silence_libraries()
    engine, declared = open_run(path, format, terminal.notice)
    overrides = {name: value for name, value in (sampling or {}).items() if value is not None}
    chosen_sampling = read_sampling({**asdict(declared), **overrides})
    chosen_seed = secrets.randbelow(2**31) if seed is None else seed
    conversation = Conversation(engine, terminal, chosen_sampling, chosen_seed, system)
    _print_settings(conversation)
    if engine.notice is not None:
        terminal.notice(f"({engine.notice})")
    running = True
    while running and (line := _next_line(terminal)) is not None:
        try:
            running = _process_line(conversation, line)
            if save is not None and conversation.messages:
                conversation.save(save)
        except TunesmithError as error:
            if not terminal.interactive:
                raise
            terminal.error(str(error))


def _print_settings(conversation: Conversation) -> None:
    engine, seed = conversation.engine, f", seed {conversation.seed}" if conversation.sampling.do_sample else ""
    about = f"prompt format {engine.renderer.format.name}, {describe_sampling(conversation.sampling)}{seed}"
    conversation.terminal.notice(about)
    if conversation.terminal.interactive:
        if conversation.passage_label or (conversation.passage_label == "" and not engine.renderer.format.multi_turn):
            conversation.terminal.notice("to ask about a text, give it first: /context TEXT")
        conversation.terminal.notice("/help lists the commands, Ctrl-D ends the chat")


def _next_line(terminal: Terminal) -> str | None:
    """The next line. An interrupt discards a typed line; if input or output is a pipe, it ends the chat."""
    while True:
        try:
            return terminal.read()
        except KeyboardInterrupt:
            if not terminal.interactive:
                raise
            terminal.notice("(Ctrl-D ends the chat)")


def _process_line(conversation: Conversation, line: str) -> bool:
    """Run a command or send a message; a blank line is ignored. Returns False if the chat ends."""
    if is_command(line):
        return run_command(conversation, line)
    if line.strip():
        conversation.send(line.removeprefix("/") if line.startswith("//") else line)
    return True


def _with_replacement(source: TextIO) -> TextIO:
    """The same stream, but bytes that are invalid in its encoding are read as U+FFFD instead of raising an error."""
    if isinstance(source, TextIOWrapper):
        source.reconfigure(errors="replace")
    return source
