"""`tunesmith chat`: a conversation with a trained model, in a terminal or through pipes."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Mapping
from dataclasses import asdict
from io import TextIOWrapper
from pathlib import Path
from typing import Any, TextIO

from transformers.utils.logging import disable_progress_bar, set_verbosity_error

from tunesmith.apps.commands import is_command, run_command
from tunesmith.apps.conversation import Conversation, describe_sampling
from tunesmith.apps.terminal import Terminal
from tunesmith.compose.methods.registry import METHODS
from tunesmith.compose.run_export import describe_newer_checkpoint, has_checkpoints, load_checkpoint_model
from tunesmith.errors import TunesmithError, UsageError
from tunesmith.generate.engine import Engine
from tunesmith.generate.export_directory import build_engine, find_export, open_engine, read_sampling
from tunesmith.generate.sampling import SamplingParameters
from tunesmith.model.directory import EXPORT


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
    _silence_libraries()
    engine, declared = _open_model(path, format, terminal)
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


def _open_model(path: str, format: str | None, terminal: Terminal) -> tuple[Engine, SamplingParameters]:
    """The engine and the sampling of a model directory, or of the newest checkpoint of a run without an export.

    format: the prompt format of a model directory without tunesmith.json.
    Raises as ``open_engine`` and ``load_checkpoint_model``; UsageError for a reward model.
    """
    directory = Path(path).expanduser()
    if not has_checkpoints(directory) or (directory / EXPORT).is_dir():
        terminal.notice(f"loading {find_export(path)}")
        if (newer := describe_newer_checkpoint(directory)) is not None:
            terminal.notice(newer)
        return open_engine(path, format)
    terminal.notice(f"loading the newest checkpoint of {directory}, which has no export yet")
    found = load_checkpoint_model(directory, "last", terminal.notice)
    if METHODS[found.recipe.objective.kind].kind == "reward":
        what = "this run trains a reward model: it scores replies and cannot write any"
        raise UsageError(what, where=directory, advice="export it, and score replies with it: tunesmith score")
    terminal.notice(f"this is the model after step {found.step:,}")
    return build_engine(found.model, found.renderer), read_sampling(found.recipe.sampling.model_dump())


def _print_settings(conversation: Conversation) -> None:
    engine, seed = conversation.engine, f", seed {conversation.seed}" if conversation.sampling.do_sample else ""
    about = f"prompt format {engine.renderer.format.name}, {describe_sampling(conversation.sampling)}{seed}"
    conversation.terminal.notice(about)
    if conversation.terminal.interactive:
        if conversation.passage_label or (conversation.passage_label == "" and not engine.renderer.format.multi_turn):
            conversation.terminal.notice("to ask about a text, give it first: /context TEXT")
        conversation.terminal.notice("/help lists the commands, Ctrl-D ends the chat")


def _silence_libraries() -> None:
    """Keep bars and warnings of transformers, which are about defaults that are not used here, out of the chat."""
    disable_progress_bar()  # type: ignore[no-untyped-call]
    set_verbosity_error()  # type: ignore[no-untyped-call]


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
