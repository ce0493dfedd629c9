"""An encoder-decoder beside transformers' Seq2SeqTrainer: ``python -m benchmarks.seq2seq --json FILE``.

Same random weights (the shape of T5 1.1, small), same records, float32, two CPU threads; every contender in a process of its
own, in alternating rounds. See README.md for what is counted.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.contender import THREADS, WARM_UP, tokens_per_second
from benchmarks.sft import run

CONTENDERS = {
    "ours": ("benchmarks.seq2seq_ours", "train"),
    "trainer": ("benchmarks.seq2seq_trainer", "default"),
    "trainer_grouped": ("benchmarks.seq2seq_trainer", "grouped"),
}
PACKAGES = ("torch", "transformers", "datasets", "accelerate")
SHOWN = ("ratio", "ratio_grouped", "memory_ratio", "loss_difference")


def contend(world: Path, contender: str) -> dict[str, Any]:
    """One round of one contender, as ``contender.Measured`` writes it; its tokens are targets."""
    module, mode = CONTENDERS[contender]
    result = world / "result.json"
    load = os.getloadavg()[0]
    run(module, str(world), str(result), mode)
    measured: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    if not measured["seconds"]:
        raise SystemExit(f"{contender} has no step after the {WARM_UP} of its warm-up; give more --records")
    measured["load_before"] = load
    measured["targets_per_second"] = tokens_per_second(measured["tokens"], measured["seconds"])
    return measured


def loss_difference(world: Path) -> float:
    """Difference of the first batch's loss. The token ids must be the same."""
    found = []
    for module in ("benchmarks.seq2seq_ours", "benchmarks.seq2seq_trainer"):
        run(module, str(world), str(world / "loss.json"), "loss")
        found.append(json.loads((world / "loss.json").read_text(encoding="utf-8")))
    if found[0]["ids"] != found[1]["ids"]:
        raise SystemExit("the contenders do not train on the same tokens")
    return abs(float(found[0]["loss"]) - float(found[1]["loss"]))


def compare(rounds: dict[str, list[dict[str, Any]]]) -> dict[str, float]:
    """Medians over the rounds, and their ratios."""
    speed = {name: statistics.median(each["targets_per_second"] for each in found) for name, found in rounds.items()}
    memory = {name: statistics.median(each["peak_memory"] for each in found) for name, found in rounds.items()}
    return {
        "ratio": speed["ours"] / speed["trainer"],
        "ratio_grouped": speed["ours"] / speed["trainer_grouped"],
        "memory_ratio": memory["ours"] / memory["trainer"],
        **{f"targets_per_second_{name}": value for name, value in speed.items()},
        **{f"peak_memory_{name}": value for name, value in memory.items()},
    }


def benchmark(given: argparse.Namespace) -> dict[str, Any]:
    """All rounds and what follows from them."""
    rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in CONTENDERS}
    with tempfile.TemporaryDirectory() as directory:
        world = Path(directory)
        source = [f"--data={given.data.resolve()}"] if given.data else []
        source += [f"--tokenizer={given.tokenizer}"] if given.tokenizer else []
        run("benchmarks.seq2seq_world", directory, f"--records={given.records}", *source)
        difference = loss_difference(world)
        for number in range(given.rounds):
            for name, found in rounds.items():
                found.append(contend(world, name))
                speed, memory = found[-1]["targets_per_second"], found[-1]["peak_memory"] / 2**20
                print(f"round {number + 1}  {name:15} {speed:8.0f} targets/s  peak {memory:6.0f} MiB", flush=True)
    settings = {
        "records": given.records,
        "rounds": given.rounds,
        "data": given.data.name if given.data else "generated",
        "tokenizer": "given" if given.tokenizer else "generated",
        "threads": THREADS,
        "warm_up_steps": WARM_UP,
    }
    versions = {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}
    figures = {**compare(rounds), "loss_difference": difference}
    return {**figures, "settings": settings, "versions": versions, "rounds": rounds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--data", type=Path, help="a .jsonl file in dolly's form; without it, generated records")
    parser.add_argument("--tokenizer", help="a T5 tokenizer directory; without it, one trained on generated text")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--records", type=int, default=160, help="records in each round (default %(default)s)")
    given = parser.parse_args()
    found = benchmark(given)
    for name in SHOWN:
        print(f"{name:16} {found[name]:.6f}" if name == "loss_difference" else f"{name:16} {found[name]:.3f}")
    if given.json:
        given.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
