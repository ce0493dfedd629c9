"""Sampling reports as Open-Assistant's ``sampling_report.py`` writes them: the name of the file and its text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunesmith.generate.sampling_configurations import UNSAFE


@dataclass(frozen=True, slots=True)
class ConfigurationOutputs:
    """The replies to one prompt with one sampling configuration.

    name: of the configuration.
    parameters: its arguments of ``generate``.
    outputs: the replies, with their end tokens.
    """

    name: str
    parameters: Mapping[str, Any]
    outputs: Sequence[str]


@dataclass(frozen=True, slots=True)
class PromptOutputs:
    """A prompt with all replies to it.

    prompt: ``prompt``, and further keys in the report.
    results: one for every configuration.
    """

    prompt: Mapping[str, Any]
    results: Sequence[ConfigurationOutputs]


def report_name(model: str, date: str, stem: str) -> str:
    """The name of a report's file.

    model: its name.
    date: as in the report.
    stem: the name of the file of sampling configurations without its suffix.
    """
    return f"{date.split('T')[0]}_{name_tail(model, stem)}"


def name_tail(model: str, stem: str) -> str:
    """The name of a report's file after its date."""
    return f"{UNSAFE.sub('_', model)}_sampling_{stem}.json"


def report_text(model: str, date: str, args: Mapping[str, Any], prompts: Sequence[PromptOutputs]) -> str:
    """The content of a report's file: JSON indented by two spaces, in ASCII, without a line break at the end.

    date: ISO 8601, UTC without a time zone.
    args: with what it was written; null is kept here.
    """
    found = [
        {
            **each.prompt,
            "results": [
                {
                    "sampling_config": result.name,
                    "sampling_params": dict(result.parameters),
                    "outputs": list(result.outputs),
                }
                for result in each.results
            ],
        }
        for each in prompts
    ]
    return json.dumps({"model_name": model, "date": date, "args": dict(args), "prompts": found}, indent=2)
