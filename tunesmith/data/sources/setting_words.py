"""How a setting of a source is written, for the advice of messages: as a word for the command line where it has one."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping

COMMAND_LINE = "--"  # in place of the key: a command with options instead of a recipe
OPTIONS: Mapping[str, str] = {"fields": "--field", "options": "--option"}  # of these two, one for each entry
PLAIN = re.compile(r"[A-Za-z_][\w.-]*(?: [\w.-]+)*")
NO_TEXT = ("true", "false", "null", "yes", "no", "on", "off", "nan", "inf")  # words of YAML that are no texts


def setting_words(key: str, name: str, value: str | Mapping[str, str] | None) -> str:
    """``append 'data.sources.0.fields={prompt: question}'``, quoted for a shell.

    key: of the source in the recipe; ``--`` for a command with options; empty where neither is known.
    name: of the setting.
    value: of it; None for null.
    """
    if key == COMMAND_LINE:
        if value is None:
            return f"leave --{name} out"
        if isinstance(value, Mapping):
            return "add " + " ".join(f"{OPTIONS[name]} {shlex.quote(f'{a}={b}')}" for a, b in value.items())
        return f"add --{name} {shlex.quote(value)}"
    if isinstance(value, Mapping):
        text = "{" + ", ".join(f"{field}: {as_yaml(column)}" for field, column in value.items()) + "}"
    else:
        text = "null" if value is None else as_yaml(value)
    return f"append {shlex.quote(f'{key}.{name}={text}')}" if key else f"set {name} to {text}"


def as_yaml(text: str) -> str:
    """A text as a value in YAML, in quotes where it would mean something else without them."""
    return text if PLAIN.fullmatch(text) and text.lower() not in NO_TEXT else json.dumps(text, ensure_ascii=False)
