"""How settings of a source are written, for the advice of messages: as words to append to the command."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from tunesmith.recipe.writing import flow

COMMAND_LINE = "--"  # in place of the key: a command with options instead of a recipe
OPTIONS: Mapping[str, str] = {"fields": "--field", "options": "--option"}  # of these two, one for each entry


def setting_words(key: str, name: str, value: str | Mapping[str, str] | None) -> str:
    """``append 'data.sources.0.fields={prompt: question}'``, quoted for a shell.

    key: of the source in the recipe; ``--`` for a command with options; empty where neither is known.
    name: of the setting.
    value: of it; None for null.
    """
    if key == COMMAND_LINE:
        return f"leave --{name} out" if value is None else f"add {source_words(key, {name: value})}"
    return f"append {source_words(key, {name: value})}" if key else f"set {name} to {flow(value)}"


def option_words(key: str, option: str, value: str) -> str:
    """``append data.sources.0.options.empty=drop``. key, value: as of ``setting_words``. option: of the reader."""
    if key == COMMAND_LINE:
        return setting_words(key, "options", {option: value})
    return setting_words(key, f"options.{option}", value)


def source_words(key: str, settings: Mapping[str, Any]) -> str:
    """The words that give a source these settings, without a verb.

    key: of the source in the recipe; ``--`` for a command with options.
    settings: name -> value.
    """
    return " ".join(word for name, value in settings.items() for word in _words(key, name, value))


def _words(key: str, name: str, value: Any) -> Iterator[str]:
    if key != COMMAND_LINE:
        yield shlex.quote(f"{key}.{name}={flow(value)}")
    elif isinstance(value, Mapping):
        for entry, held in value.items():
            text = held if isinstance(held, str) else flow(held)
            yield f"{OPTIONS[name]} {_quote(f'{entry}={text}')}"
    elif isinstance(value, list):
        yield from (f"--{name} {_quote(item)}" for item in value)
    else:
        yield f"--{name} {_quote(value)}"


def _quote(text: str) -> str:
    """The text as one word for a shell, on one line: with a line break or control character as ``$'a\\nb'``."""
    if text.isprintable():
        return shlex.quote(text)
    quoted = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"$'{escape_unprintable(quoted)}'"


def escape_unprintable(text: str) -> str:
    """The text on one line, with line breaks and other control characters as ``\\n`` or ``\\x1b``."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
