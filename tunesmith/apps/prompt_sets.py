"""The built-in prompts: JSON lines with ``messages`` and a ``category``, as the reader ``prompts`` reads them."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

PROMPT_SETS: Mapping[str, str] = {
    "general": "80 prompts of 17 kinds, mainly English; some have several turns, have no answer, or contain markup",
}
"""Name of a set -> what is in it."""


def prompt_set_path(name: str) -> Path | None:
    """The file of a built-in set of prompts, None for another name. name: a key of PROMPT_SETS."""
    return Path(str(files("tunesmith.apps").joinpath(f"prompts/{name}.jsonl"))) if name in PROMPT_SETS else None
