"""The world of ``benchmarks.dpo``: preference pairs in the dolly format, and models in the shape of Pythia-31m.

WORLD/reference/ has weights a tenth larger than those of WORLD/model/: were both the same, every loss would be ln 2.
"""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.dpo_like import Pair, generate_pairs
from benchmarks.world import FORMAT, ROWS, SHAPE, SYMBOLS, as_text
from benchmarks.worlds import World, main
from tunesmith.text.tree import Message


def read_preferences(path: Path, count: int) -> list[Pair]:
    """The first ``count`` usable pairs of a file with prompt, chosen and rejected as texts."""
    found: list[Pair] = []
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            pair = Pair(row["prompt"], row["chosen"], row["rejected"])
            if pair.prompt.strip() and pair.chosen.strip() and pair.rejected.strip() and pair.chosen != pair.rejected:
                found.append(pair)
            if len(found) == count:
                break
    return found


def as_preference(pair: Pair) -> dict[str, str]:
    """The text of a pair in the dolly format, cut where the replies begin."""
    question = Message("user", pair.prompt)
    asked = FORMAT.split(question, ())
    chosen, rejected = (FORMAT.split(Message("assistant", text), (question,)) for text in (pair.chosen, pair.rejected))
    prompt = as_text((*asked.given, *chosen.given))
    return {"prompt": prompt, "chosen": as_text(chosen.produced), "rejected": as_text(rejected.produced)}


MODELS = {"model": {}, "reference": {"initializer_range": 0.022}}
WORLD = World(FORMAT, generate_pairs, read_preferences, as_preference, SYMBOLS, SHAPE, ROWS, MODELS)


if __name__ == "__main__":
    main(WORLD)
