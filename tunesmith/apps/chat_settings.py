"""The sampling settings of a chat as people write and read them."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from tunesmith.errors import UsageError
from tunesmith.generate.sampling import SamplingParameters

BOOLEANS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def parse_setting(name: str, value: str) -> Any:
    """The value of a sampling setting from text, with the type of its default. Raises UsageError."""
    defaults = asdict(SamplingParameters())
    if name not in defaults:
        near = difflib.get_close_matches(name, defaults, n=1)
        advice = f"did you mean {near[0]!r}?" if near else f"the settings are {', '.join(defaults)}"
        raise UsageError(f"there is no setting {name!r}", advice=advice)
    kind = type(defaults[name])
    expected = {bool: "true or false", int: "a whole number", float: "a number"}[kind]
    try:
        return BOOLEANS[value.lower()] if kind is bool else kind(value)
    except (KeyError, ValueError):
        raise UsageError(f"{name} must be {expected}, not {value!r}", where="sampling") from None


def describe_sampling(sampling: SamplingParameters) -> str:
    """The settings on one line, without those that have no effect."""
    limits = [f"max_new_tokens={sampling.max_new_tokens}"]
    if sampling.min_new_tokens:
        limits.append(f"min_new_tokens={sampling.min_new_tokens}")
    if sampling.repetition_penalty != 1:
        limits.append(f"repetition_penalty={sampling.repetition_penalty:g}")
    if not sampling.do_sample:
        return " ".join(["do_sample=false", *limits])
    shape: Sequence[str] = [f"temperature={sampling.temperature:g}"]
    neutral = {"top_k": 0, "top_p": 1.0, "typical_p": 1.0}
    shape = [
        *shape,
        *(f"{name}={getattr(sampling, name):g}" for name, off in neutral.items() if getattr(sampling, name) != off),
    ]
    return " ".join([*shape, *limits])
