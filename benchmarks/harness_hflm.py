"""The side of lm-evaluation-harness in ``benchmarks.harness``.

``python -m benchmarks.harness_hflm DIRECTORY RESULT ALLOCATOR ITEMS SIZE...`` evaluates ``ITEMS`` items of each task (0
for all) with every batch size; the scores are those of the last one. ``ALLOCATOR`` is ``default``, or ``kept`` for the
memory allocator of Tunesmith's command line.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tunesmith.memory import keep_freed_memory

if sys.argv[3:4] == ["kept"]:
    keep_freed_memory()  # before torch is loaded

from lm_eval.models.huggingface import HFLM

from benchmarks.harness_process import measure, write
from tunesmith.benchmark.evaluation import evaluate_tasks


def main(root: Path, result: Path, items: int, sizes: Sequence[int]) -> None:
    """root: holds ``model`` and ``data``. items: of each task; 0 for all."""
    model = str(root / "model")
    stock = HFLM(pretrained=model, tokenizer=model, device="cpu", batch_size=1, dtype="float32")
    seconds = {}
    for size in sizes:
        stock.batch_size_per_gpu = size
        seconds[size], scores = measure(root / "data", partial(evaluate_tasks, stock, limit=items or None))
    write(result, seconds, scores)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[4]), [int(size) for size in sys.argv[5:]])
