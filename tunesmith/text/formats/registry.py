"""The prompt formats by name."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

from tunesmith.errors import RecipeError
from tunesmith.text.formats.chat import Chatml, Llama2, Tulu, Vicuna, Zephyr
from tunesmith.text.formats.chat_template import TokenizerTemplate
from tunesmith.text.formats.format import Format
from tunesmith.text.formats.instruction import Alpaca, Dolly, Plain
from tunesmith.text.formats.oasst import Oasst
from tunesmith.text.formats.t5 import T5Dolly

FORMATS: dict[str, type[Format]] = {
    "dolly": Dolly,
    "oasst": Oasst,
    "tulu": Tulu,
    "alpaca": Alpaca,
    "vicuna": Vicuna,
    "chatml": Chatml,
    "llama-2": Llama2,
    "zephyr": Zephyr,
    "plain": Plain,
    "t5-dolly": T5Dolly,
    "tokenizer": TokenizerTemplate,
}

ENCODER_DECODER = frozenset({"t5-dolly"})
"""The formats for encoder-decoders, whose encoder reads the user message; all others are for causal models."""


def build_format(name: str, options: Mapping[str, Any] | None = None) -> Format:
    """Build a format from its name and options.

    name: a key of ``FORMATS``.
    options: values of the format's dataclass fields.

    Raises RecipeError for an unknown name, option or value.
    """
    if name not in FORMATS:
        raise RecipeError(f"unknown prompt format {name!r}", advice=_suggest(name, list(FORMATS)))
    kind = FORMATS[name]
    types = {field.name: get_type_hints(kind)[field.name] for field in fields(kind) if field.init}
    for option, value in (options or {}).items():
        if option not in types:
            advice = _suggest(option, list(types))
            raise RecipeError(f"prompt format {name!r} has no option {option!r}", advice=advice)
        expected = _expected(types[option], value)
        if expected:
            advice = f"use {expected}"
            raise RecipeError(f"option {option!r} of prompt format {name!r} cannot be {value!r}", advice=advice)
    if kind is TokenizerTemplate and "template" not in (options or {}):
        what = f"prompt format {name!r} is the chat template of a tokenizer, but no tokenizer was asked for it"
        raise RecipeError(what, advice="give the option 'template', or name another prompt format")
    return kind(**dict(options or {}))


def _suggest(name: str, known: list[str]) -> str:
    """Return advice that names the most similar of the known names, or all of them."""
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"known: {', '.join(known)}" if known else "leave it out"


def _expected(kind: Any, value: Any) -> str | None:
    """Return what values an option of type ``kind`` may have, or None if ``value`` is one. A float is a probability."""
    if kind is str:
        return None if isinstance(value, str) else "text"
    if kind is int:
        return None if type(value) is int and value >= 0 else "a whole number, 0 or more"
    if kind is float:
        return None if type(value) in (int, float) and 0 <= value <= 1 else "a number from 0 to 1"
    allowed = get_args(kind) if get_origin(kind) is Literal else (False, True)
    if any(value is choice or (isinstance(value, str) and value == choice) for choice in allowed):
        return None
    return " or ".join("true" if x is True else "false" if x is False else repr(x) for x in allowed)
