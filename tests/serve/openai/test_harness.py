"""lm-evaluation-harness, unmodified, gets the numbers of ``tunesmith benchmark`` from the completions API."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from lm_eval.models.openai_completions import LocalCompletionsAPI

from tests.benchmark.small_tasks import write_model, write_tasks
from tests.serve.served import LOG, end_models, new_parts, running_server
from tunesmith.apps.benchmark import BenchmarkOptions
from tunesmith.apps.benchmark import run as run_benchmark
from tunesmith.benchmark.evaluation import evaluate_tasks
from tunesmith.benchmark.suites import DOLLY
from tunesmith.benchmark.tasks import prepare_tasks
from tunesmith.generate.export_directory import open_engine
from tunesmith.serve.app.settings import ServerSettings
from tunesmith.serve.engine.load import LoadLimits
from tunesmith.serve.engine.models import ServedModels, new_served_model


def test_all_seven_tasks_have_the_numbers_of_the_benchmark(tmp_path: Path) -> None:
    directory = write_model(tmp_path / "bench")
    data = write_tasks(tmp_path / "data", items=4)
    run_benchmark([str(directory)], BenchmarkOptions(("dolly",), str(data), tmp_path / "out"))
    ours = json.loads((tmp_path / "out" / "benchmark.json").read_text())["models"][0]["tasks"]
    items = [json.loads(line) for line in (tmp_path / "out" / "items-1.jsonl").read_text().splitlines()]
    served = new_served_model("bench", *open_engine(directory, "plain"), LoadLimits(), LOG.append)
    served.thread.start()
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    with running_server(new_parts(ServedModels([served]), ServerSettings(port=0))) as address:
        harness = LocalCompletionsAPI(
            base_url=f"{address}/v1/completions", model="bench", tokenizer=str(directory), batch_size=8,
            max_length=512, tokenizer_backend="huggingface",
        )  # fmt: skip
        with prepare_tasks(DOLLY, str(data), None) as prepared:
            found = evaluate_tasks(harness, prepared)
    end_models(ServedModels([served]))
    assert {task.task: task.score for task in found} == {name: task["score"] for name, task in ours.items()}
    theirs = {(task.task, item.document): item.responses for task in found for item in task.items}
    assert len(theirs) == len(items)
    for item in items:
        pairs = zip(item["responses"], theirs[item["task"], item["document"]], strict=True)
        for (value, greedy), (expected, expected_greedy) in pairs:
            assert value == pytest.approx(expected, abs=1e-4, rel=1e-6)
            assert greedy == expected_greedy
