"""Sampling reports for tests."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Prompts = Sequence[tuple[str | Mapping[str, Any], Mapping[str, Sequence[str]]]]
"""(prompt, sampling configuration -> outputs). A prompt is a text, or an object with prompt, messages and tools."""


def write_report(
    path: Path,
    model: str,
    prompts: Prompts,
    end_tokens: Sequence[str] = (),
    additions: Mapping[str, Any] | None = None,
) -> Path:
    """Write a report in the published form and return its path.

    end_tokens: that its ``args`` name, if any.
    additions: ``args.prompt_additions``, if any.
    """
    found = [
        {
            **({"prompt": prompt} if isinstance(prompt, str) else prompt),
            "results": [
                {"sampling_config": name, "sampling_params": {"top_k": 50}, "outputs": list(outputs)}
                for name, outputs in configurations.items()
            ],
        }
        for prompt, configurations in prompts
    ]
    args: dict[str, Any] = {"end_tokens": list(end_tokens)} if end_tokens else {}
    args |= {"prompt_additions": dict(additions)} if additions else {}
    report = {"model_name": model, "date": "2023-04-03T20:32:13.225641", "args": args, "prompts": found}
    path.write_text(json.dumps(report, indent=2), encoding="utf-8")
    return path
