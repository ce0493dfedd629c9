"""What both runners of ``benchmarks.harness`` have in common: settings of the process, data and the file of results."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

os.environ.update(TQDM_DISABLE="1", HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

import torch

from tunesmith.benchmark.results import TaskScore
from tunesmith.benchmark.suites import DOLLY
from tunesmith.benchmark.tasks import PreparedTasks, prepare_tasks

Scores = Sequence[TaskScore]


def measure(data: Path, evaluate: Callable[[PreparedTasks], Scores]) -> tuple[float, Scores]:
    """(CPU seconds, scores) of the seven tasks, from building the prompts to the metrics."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    with prepare_tasks(DOLLY, str(data)) as prepared:
        start = time.process_time()
        scores = evaluate(prepared)
        return time.process_time() - start, scores


def write(path: Path, seconds: float | Mapping[int, float], scores: Scores) -> None:
    """Write times and scores as JSON."""
    path.write_text(json.dumps({"seconds": seconds, "tasks": [asdict(score) for score in scores]}), encoding="utf-8")
