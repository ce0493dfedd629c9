"""Tunesmith's side of ``benchmarks.harness``: ``python -m benchmarks.harness_tunesmith DIRECTORY RESULT``."""

from __future__ import annotations

import sys
from pathlib import Path

from tunesmith.memory import keep_freed_memory

keep_freed_memory()  # before torch is loaded, as the command line does

# ruff: noqa: E402
from benchmarks.harness_process import Scores, measure, write
from tunesmith.benchmark.evaluation import evaluate_tasks
from tunesmith.benchmark.language_model import TreeLanguageModel
from tunesmith.benchmark.models import open_benchmark_model
from tunesmith.benchmark.tasks import PreparedTasks


def main(root: Path, result: Path) -> None:
    """Evaluate all items. root: holds ``model`` and ``data``."""
    opened = open_benchmark_model(str(root / "model"))

    def evaluate(prepared: PreparedTasks) -> Scores:
        language_model = TreeLanguageModel(opened.parts(None), {}, root / f"{result.stem}-journal")
        return evaluate_tasks(language_model, prepared, work=language_model.work)

    write(result, *measure(root / "data", evaluate))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
