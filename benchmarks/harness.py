"""`tunesmith benchmark` compared with the model of lm-evaluation-harness: ``python -m benchmarks.harness --json FILE``.

The seven tasks of the dolly card on the same random weights (the shape of Pythia-31m) in float32 on one CPU thread: CPU
seconds of both, and whether scores, greedy flags and log-likelihoods agree. README.md says what is counted.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import shutil
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

BATCH_SIZES = (1, 4, 16, 32)
TRIED = 12  # items of each task with which the batch size is chosen
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


def compare_items(ours: Sequence[Any], theirs: Sequence[Any]) -> dict[str, Any]:
    """What differs between the results of one task: the largest difference of a log-likelihood, beyond its last bit."""
    largest = excess = 0.0
    flags = 0
    for one, other in zip(ours, theirs, strict=True):
        for (value, greedy), (expected, expected_greedy) in zip(one.responses, other.responses, strict=True):
            difference = abs(value - expected)
            largest = max(largest, difference)
            excess = max(excess, difference - abs(expected) * FLOAT32_STEP)
            flags += greedy != expected_greedy
    metrics = sum(one.metrics != other.metrics for one, other in zip(ours, theirs, strict=True))
    return {"largest_difference": largest, "beyond_rounding": excess, "greedy_flags": flags, "metrics": metrics}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="files of the tasks")
    parser.add_argument("--records", type=Path, required=True, help="a file of databricks-dolly-15k")
    parser.add_argument("--tokenizer", type=Path, required=True, help="the directory of the tokenizer of Pythia")
    parser.add_argument("--items", type=int, default=500, help="items of each task")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    os.environ.update(TQDM_DISABLE="1", HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    with tempfile.TemporaryDirectory() as text:
        root = Path(text)
        write_data(options.data, root / "data", options.records, options.items)
        found = measure(root, options.tokenizer)
    print(json.dumps(found, indent=2))
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    wrong = {name: task for name, task in found["tasks"].items() if task["metrics"] or task["greedy_flags"]}
    if wrong or any(task["beyond_rounding"] > ACCURACY for task in found["tasks"].values()):
        raise SystemExit("the results differ")


def measure(root: Path, tokenizer: Path) -> dict[str, Any]:
    """CPU seconds and agreement; the model is written below ``root``, which holds the data."""
    import torch
    from lm_eval.models.huggingface import HFLM

    from tunesmith.benchmark.evaluation import evaluate_tasks
    from tunesmith.benchmark.language_model import TreeLanguageModel
    from tunesmith.benchmark.models import open_benchmark_model
    from tunesmith.benchmark.suites import DOLLY
    from tunesmith.benchmark.tasks import prepare_tasks
    from tunesmith.model.load import new_model

    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    model = root / "model"
    new_model(SHAPE, ROWS, 1).save_pretrained(model)
    for path in tokenizer.iterdir():
        shutil.copy(path, model / path.name)
    opened = open_benchmark_model(str(model))
    stock = HFLM(pretrained=str(model), tokenizer=str(model), device="cpu", batch_size=1, dtype="float32")

    def theirs(size: int, limit: int | None = None) -> tuple[float, Any]:
        with prepare_tasks(DOLLY, str(root / "data")) as prepared:
            stock.batch_size_per_gpu = size
            start = time.process_time()
            scores = evaluate_tasks(stock, prepared, limit=limit)
            return time.process_time() - start, scores

    tried = {size: theirs(size, TRIED)[0] for size in BATCH_SIZES}
    best = min(tried, key=lambda size: tried[size])
    with prepare_tasks(DOLLY, str(root / "data")) as prepared:
        start = time.process_time()
        language_model = TreeLanguageModel(opened.parts(None), {}, root / "journal")
        ours = evaluate_tasks(language_model, prepared, work=language_model.work)
        our_seconds = time.process_time() - start
    their_seconds, others = theirs(best)
    tasks = {
        one.task: {
            "items": len(one.items),
            "score": one.score,
            "tokens": one.work.computed if one.work else None,
            "tokens_alone": one.work.naive if one.work else None,
            **compare_items(one.items, other.items),
        }
        for one, other in zip(ours, others, strict=True)
    }
    return {
        "tasks": tasks,
        "cpu_seconds": our_seconds,
        "harness_cpu_seconds": their_seconds,
        "ratio": their_seconds / our_seconds,
        "harness_batch_size": best,
        "tried": tried,
        "versions": {name: version(name) for name in ("lm_eval", "torch", "transformers")},
    }


if __name__ == "__main__":
    main()
