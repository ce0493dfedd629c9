"""`tunesmith benchmark` compared with the model of lm-evaluation-harness: ``python -m benchmarks.harness --json FILE``.

The seven tasks of the dolly card on the same random weights (the shape of Pythia-31m) in float32 on one CPU thread,
every runner in a separate process, ours before and after the other, which runs with both memory allocators: CPU
seconds, and whether scores, greedy flags and log-likelihoods agree. README.md says what is counted.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.comparison import run

BATCH_SIZES = (1, 4, 8, 16, 32)
TRIED = 20  # items of each task with which the batch size is chosen
ALLOCATORS = ("default", "kept")
"""Memory allocators of the other side: that of the C library, and ours, which keeps freed memory."""
SHAPE = {
    "architecture": "gpt_neox",
    **{"hidden_size": 256, "num_hidden_layers": 6, "num_attention_heads": 8, "intermediate_size": 1024},
    "max_position_embeddings": 2048,
}
ROWS = 50304
ACCURACY = 1e-4
FLOAT32_STEP = 2**-23  # the harness adds in float32: of a sum of -1,000 the last bit is 6e-5


def write_data(source: Path, target: Path, records: Path, count: int) -> None:
    """The first rows of every file; BoolQ and HellaSwag are made of records of dolly where there is no file.

    source: a directory as `tunesmith benchmark --data` takes it. records: a file of databricks-dolly-15k.
    """
    target.mkdir()
    for path in source.glob("*.jsonl"):
        lines = path.read_bytes().splitlines(keepends=True)[:count]
        (target / path.name).write_bytes(b"".join(lines))
    rows = [json.loads(line) for line in records.read_text(encoding="utf-8").splitlines()]
    long = [row for row in rows if len(row["context"]) > 400][:count]
    draw = random.Random(0)
    made = {
        "boolq.validation.jsonl": [
            {"question": row["instruction"].rstrip("?"), "passage": row["context"][:1500], "label": index % 2}
            for index, row in enumerate(long)
        ],
        "hellaswag.validation.jsonl": [
            {
                "activity_label": row["category"],
                "ctx_a": row["context"].split(". ")[0][:200],
                "ctx_b": "then",
                "endings": [other["response"][:120] or "nothing" for other in draw.sample(rows, 4)],
                "label": str(index % 4),
            }
            for index, row in enumerate(long)
        ],
    }
    for name, lines_of in made.items():
        if not (target / name).exists():
            (target / name).write_text("".join(json.dumps(row) + "\n" for row in lines_of), encoding="utf-8")


def compare_items(ours: Sequence[Mapping[str, Any]], theirs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What differs between the results of one task: the largest difference of a log-likelihood, beyond its last bit.

    ours, theirs: ``benchmark.results.ItemResult`` as JSON.
    """
    largest = excess = 0.0
    flags = 0
    for one, other in zip(ours, theirs, strict=True):
        for (value, greedy), (expected, expected_greedy) in zip(one["responses"], other["responses"], strict=True):
            difference = abs(value - expected)
            largest = max(largest, difference)
            excess = max(excess, difference - abs(expected) * FLOAT32_STEP)
            flags += greedy != expected_greedy
    metrics = sum(one["metrics"] != other["metrics"] for one, other in zip(ours, theirs, strict=True))
    return {"largest_difference": largest, "beyond_rounding": excess, "greedy_flags": flags, "metrics": metrics}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="files of the tasks")
    parser.add_argument("--records", type=Path, required=True, help="a file of databricks-dolly-15k")
    parser.add_argument("--tokenizer", type=Path, required=True, help="the directory of the tokenizer of Pythia")
    parser.add_argument("--items", type=int, default=500, help="items of each task")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as text:
        root = Path(text)
        write_data(options.data, root / "data", options.records, options.items)
        write_model(root / "model", options.tokenizer)
        found = measure(root)
    print(json.dumps(found, indent=2))
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    wrong = {name: task for name, task in found["tasks"].items() if task["metrics"] or task["greedy_flags"]}
    if wrong or any(task["beyond_rounding"] > ACCURACY for task in found["tasks"].values()):
        raise SystemExit("the results differ")


def write_model(target: Path, tokenizer: Path) -> None:
    """A model with random weights and the tokenizer of a directory."""
    from tunesmith.model.load import new_model

    new_model(SHAPE, ROWS, 1).save_pretrained(target)
    for path in tokenizer.iterdir():
        shutil.copy(path, target / path.name)


def measure(root: Path) -> dict[str, Any]:
    """CPU seconds and agreement. root: holds ``model`` and ``data``; results of the runners are written there."""

    def theirs(allocator: str, items: int, sizes: Sequence[int]) -> Any:
        result = root / f"harness-{allocator}.json"
        run("benchmarks.harness_hflm", str(root), str(result), allocator, str(items), *map(str, sizes))
        return json.loads(result.read_text())

    def ours(name: str) -> Any:
        run("benchmarks.harness_tunesmith", str(root), str(root / name))
        return json.loads((root / name).read_text())

    tried = {allocator: theirs(allocator, TRIED, BATCH_SIZES)["seconds"] for allocator in ALLOCATORS}
    best = {allocator: min(seconds, key=seconds.__getitem__) for allocator, seconds in tried.items()}
    before = ours("before.json")
    others = {allocator: theirs(allocator, 0, [int(size)]) for allocator, size in best.items()}
    after = ours("after.json")
    tasks = {
        one["task"]: {
            "items": len(one["items"]),
            "score": one["score"],
            "tokens": one["work"]["computed"],
            "tokens_alone": one["work"]["naive"],
            **compare_items(one["items"], expected["items"]),
        }
        for one, expected in zip(before["tasks"], others["default"]["tasks"], strict=True)
    }
    rounds = [before["seconds"], after["seconds"]]
    seconds = {allocator: others[allocator]["seconds"][size] for allocator, size in best.items()}
    return {
        "tasks": tasks,
        "cpu_seconds": statistics.mean(rounds),
        "rounds": rounds,
        "harness_cpu_seconds": seconds,
        "ratio": {allocator: value / statistics.mean(rounds) for allocator, value in seconds.items()},
        "harness_batch_size": {allocator: int(size) for allocator, size in best.items()},
        "tried": tried,
        "versions": {name: version(name) for name in ("lm_eval", "torch", "transformers")},
    }


if __name__ == "__main__":
    main()
