"""Supervised fine-tuning beside TRL's SFTTrainer: ``python -m benchmarks.sft --json FILE``.

Same random weights (the shape of Pythia-31m), same records, completion-only loss, float32, two CPU threads; every
contender in a process of its own, in alternating rounds. See README.md for what is counted.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.contender import THREADS, WARM_UP, tokens_per_second

CONTENDERS = {
    "ours": ("benchmarks.sft_ours", "train"),
    "trl_default": ("benchmarks.sft_trl", "default"),
    "trl_packing": ("benchmarks.sft_trl", "packing"),
}
PACKAGES = ("torch", "transformers", "trl", "datasets", "accelerate")
REPOSITORY = Path(__file__).resolve().parent.parent


def run(module: str, *arguments: str) -> None:
    """One module in a process of its own; its output is shown only if it fails."""
    command = [sys.executable, "-m", module, *arguments]
    finished = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if finished.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{finished.stdout[-2000:]}{finished.stderr[-4000:]}")


def contend(world: Path, contender: str) -> dict[str, Any]:
    """One round of one contender, as ``contender.Measured`` writes it."""
    module, mode = CONTENDERS[contender]
    result = world / "result.json"
    load = os.getloadavg()[0]
    run(module, str(world), str(result), mode)
    measured: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    measured["load_before"] = load
    if not measured["seconds"]:
        raise SystemExit(f"{contender} has no step after the {WARM_UP} of its warm-up; give more --records")
    measured["tokens_per_second"] = tokens_per_second(measured["tokens"], measured["seconds"])
    return measured


def loss_difference(world: Path) -> float:
    """Difference of the first batch's loss. The token ids must be the same."""
    found = []
    for module in ("benchmarks.sft_ours", "benchmarks.sft_trl"):
        run(module, str(world), str(world / "loss.json"), "loss")
        found.append(json.loads((world / "loss.json").read_text(encoding="utf-8")))
    if found[0]["ids"] != found[1]["ids"]:
        raise SystemExit("the contenders do not train on the same tokens")
    return abs(float(found[0]["loss"]) - float(found[1]["loss"]))


def compare(rounds: dict[str, list[dict[str, Any]]]) -> dict[str, float]:
    """Medians over the rounds, and their ratios."""
    speed = {name: statistics.median(each["tokens_per_second"] for each in found) for name, found in rounds.items()}
    memory = {name: statistics.median(each["peak_memory"] for each in found) for name, found in rounds.items()}
    shares = [
        each["details"]["operations_per_second"] / each["details"]["multiplication_rate"] for each in rounds["ours"]
    ]
    return {
        "ratio_default": speed["ours"] / speed["trl_default"],
        "ratio_packing": speed["ours"] / speed["trl_packing"],
        "memory_ratio": memory["ours"] / memory["trl_default"],
        "gemm_share": statistics.median(shares),
        **{f"tokens_per_second_{name}": value for name, value in speed.items()},
        **{f"peak_memory_{name}": value for name, value in memory.items()},
    }


def benchmark(given: argparse.Namespace) -> dict[str, Any]:
    """All rounds and what follows from them."""
    rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in CONTENDERS}
    with tempfile.TemporaryDirectory() as directory:
        world = Path(directory)
        source = [f"--data={given.data.resolve()}"] if given.data else []
        source += [f"--tokenizer={given.tokenizer}"] if given.tokenizer else []
        run("benchmarks.world", directory, f"--records={given.records}", *source)
        difference = loss_difference(world)
        for number in range(given.rounds):
            for name, found in rounds.items():
                found.append(contend(world, name))
                speed, memory = found[-1]["tokens_per_second"], found[-1]["peak_memory"] / 2**20
                print(f"round {number + 1}  {name:12} {speed:8.0f} tokens/s  peak {memory:6.0f} MiB", flush=True)
    settings = {
        "records": given.records,
        "rounds": given.rounds,
        "data": given.data.name if given.data else "generated",
        "tokenizer": "given" if given.tokenizer else "generated",
        "threads": THREADS,
        "warm_up_steps": WARM_UP,
    }
    versions = {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}
    return {
        **compare(rounds),
        "loss_difference": difference,
        "settings": settings,
        "versions": versions,
        "rounds": rounds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--data", type=Path, help="a .jsonl file in dolly's form; without it, generated records")
    parser.add_argument("--tokenizer", help="a tokenizer directory; without it, one trained on generated text")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--records", type=int, default=160, help="records in each round (default %(default)s)")
    given = parser.parse_args()
    found = benchmark(given)
    for name in ("ratio_default", "ratio_packing", "memory_ratio", "gemm_share", "loss_difference"):
        print(f"{name:16} {found[name]:.6f}" if name == "loss_difference" else f"{name:16} {found[name]:.3f}")
    if given.json:
        given.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
