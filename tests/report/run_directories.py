"""Directories of runs that were never trained: with hostile texts everywhere, or with very many steps."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

CHECKS = ("pass", "warn", "fail", "skip")


def write_run(
    directory: Path,
    recipe: dict[str, Any],
    manifest: dict[str, Any],
    status: dict[str, Any],
    metrics: Iterable[dict[str, Any]],
    shown: Iterable[dict[str, Any]] = (),
    timing: Iterable[dict[str, Any]] = (),
) -> Path:
    """Write the files of a run."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "recipe.yaml").write_text(yaml.safe_dump(recipe, allow_unicode=False))
    (directory / "manifest.json").write_text(json.dumps(manifest))
    (directory / "status.json").write_text(json.dumps(status))
    for name, records in (("metrics", metrics), ("shown", shown), ("timing", timing)):
        (directory / f"{name}.jsonl").write_text("".join(json.dumps(each) + "\n" for each in records))
    return directory


def recipe_values(name: str = "small", **values: Any) -> dict[str, Any]:
    """A recipe as a run records it, as far as its page reads it."""
    best = {"metrics": [{"name": "validation/loss", "mode": "min", "weight": 1.0}], "save": "wins", "keep": 1}
    return {
        "name": name,
        "model": {"path": "owner/model"},
        "objective": {"kind": "sft"},
        "train": {"best": best},
        **values,
    }


def evaluation(step: int, loss: float, sources: Sequence[str] = ("data",), **more: float) -> dict[str, Any]:
    """The line of an evaluation."""
    values = {"loss": loss, "accuracy": 0.5, **more}
    return {"step": step, "checkpoint": True, "validation": dict.fromkeys((*sources, "all"), values)}


def write_hostile_run(root: Path, texts: Sequence[str]) -> Path:
    """A run with hostile texts as names, recipe values, metrics, sources, prompts, replies, checks and manifest."""
    name = next(text for text in texts if "onerror" in text and "/" not in text)
    metrics: list[dict[str, Any]] = [
        {"step": step, "epoch": 0, "loss": 1 / step, **dict.fromkeys(texts, step)} for step in range(1, 5)
    ]
    metrics[2:2] = [evaluation(2, 0.5, texts, **dict.fromkeys(texts, 1.0))]
    texts_shown = [[label, text] for text in texts for label in ("prompt", text, "reply")]
    counts = {"records": 1, "used": 1, "rejected": dict.fromkeys(texts, 1), "dropped": {}, "tokens": 1}
    return write_run(
        root / name,
        recipe_values(texts[0], about=texts[1], model={"path": texts[2]}, notes=list(texts)),
        {
            "data": {"report": {"sources": dict.fromkeys(texts, counts)}},
            "notes": list(texts),
            **dict.fromkeys(texts, 1),
        },
        {
            **{
                "state": "failed",
                "step": 4,
                "steps": 9,
                "updated": texts[3],
                "remaining": None,
                "reason": " ".join(texts),
            },
            "checks": [
                {"kind": "proof", "name": text, "status": CHECKS[index % 4], "summary": text}
                for index, text in enumerate(texts)
            ],
        },
        metrics,
        [{"step": step, "texts": texts_shown} for step in (0, 2)],
    )


def write_long_run(directory: Path, steps: int = 60_000) -> Path:
    """A run with very many steps and evaluations, several sources and long replies."""
    names = ("loss", "accuracy", "learning_rate", "gradient_norm", *(f"further/{index}" for index in range(12)))
    sources = [f"source-{index}" for index in range(8)]

    def records() -> Iterable[dict[str, Any]]:
        for step in range(1, steps + 1):
            value = math.sin(step) / 3 + 1e3 / (step + 300)
            yield {"step": step, "epoch": 0, **{name: value + index for index, name in enumerate(names)}}
            if step % 100 == 0:
                yield evaluation(step, value, sources, **dict.fromkeys(names[2:], value))

    reply = "a word that is repeated " * 200
    return write_run(
        directory,
        recipe_values(notes="x" * 300_000),
        {"data": {"report": {"sources": {}}}},
        {
            "state": "finished",
            "step": steps,
            "steps": steps,
            "updated": "",
            "remaining": None,
            "reason": "",
            "checks": [],
        },
        records(),
        (
            {
                "step": step,
                "texts": [[label, f"{index} {step} {reply}"] for index in range(30) for label in ("prompt", "reply")],
            }
            for step in range(0, steps + 1, steps // 60)
        ),
        ({"step": step, "seconds": 0.5, "tokens": 500 + step % 50} for step in range(1, steps + 1)),
    )
