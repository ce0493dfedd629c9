"""The inputs of ``benchmarks.dpo``: preference pairs in the dolly format, and two models in the shape of Pythia-31m.

The weights in reference/ are a tenth larger than those in model/: with equal weights every first loss would be ln 2.
"""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.inputs import Inputs, main
from benchmarks.sft_inputs import FORMAT, ROWS, SHAPE, SYMBOLS, piece_text
from benchmarks.ultrafeedback_like import Pair, generate_pairs
from tunesmith.text.tree import Message


def read_preferences(path: Path, count: int) -> list[Pair]:
    """The first ``count`` usable pairs of a file whose records have prompt, chosen and rejected as texts."""
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
    """A pair in the dolly format as the prompt and the two replies that TRL gets."""
    question = Message("user", pair.prompt)
    asked = FORMAT.split(question, ())
    chosen, rejected = (FORMAT.split(Message("assistant", text), (question,)) for text in (pair.chosen, pair.rejected))
    prompt = piece_text((*asked.given, *chosen.given))
    return {"prompt": prompt, "chosen": piece_text(chosen.produced), "rejected": piece_text(rejected.produced)}


MODELS = {"model": {}, "reference": {"initializer_range": 0.022}}
INPUTS = Inputs(FORMAT, generate_pairs, read_preferences, as_preference, SYMBOLS, SHAPE, ROWS, MODELS)


if __name__ == "__main__":
    main(INPUTS)
