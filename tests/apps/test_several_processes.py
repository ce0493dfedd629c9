"""`sample`, `score` and `benchmark` in two processes write the bytes that one process writes, also after a kill."""

from __future__ import annotations

import io
import os
import signal
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.apps.sampled_models import write_causal
from tests.benchmark.small_tasks import write_lines, write_model, write_tasks
from tests.reward_worlds import judge_recipe
from tests.train.launched import run_launched
from tunesmith.apps import benchmark, sample, score
from tunesmith.apps.benchmark import BenchmarkOptions
from tunesmith.apps.sample import SampleSettings
from tunesmith.apps.score import ReaderChoice
from tunesmith.benchmark import scoring
from tunesmith.compose import train_recipe
from tunesmith.evaluate import reward_scorer
from tunesmith.files import write_json

DAY = datetime(2026, 3, 4, 5, 6, 7, 8)
SETTINGS = SampleSettings("prompts.txt", ("mine.json",), batch_size=2)
SAMPLING = {
    "default": {"generate_args": {"do_sample": True, "max_new_tokens": 6}},
    "configurations": [{"name": "k9", "generate_args": {"top_k": 9}}, {"name": "k3", "generate_args": {"top_k": 3}}],
}
PROMPTS = ("What is this?", "Name three.", "Ü", "What is this?", "Why is the sky blue?")
DIVIDED = 3
"""Replies after which something happens to the second process."""
SMALL_BATCH = 60
"""Tokens of a batch, so that there are several."""


@pytest.fixture
def prompts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with what `tunesmith sample` needs."""
    monkeypatch.chdir(tmp_path)
    write_causal(tmp_path / "oasst")
    Path("prompts.txt").write_text("".join(f"{text}\n" for text in PROMPTS), encoding="utf-8")
    write_json(Path("mine.json"), SAMPLING)
    return tmp_path


def sample_in(directory: Path) -> None:
    os.chdir(directory)
    sample.run(["oasst"], SETTINGS, Path("out"), now=lambda: DAY)


def sample_together(rank: int, directory: Path) -> None:
    sample_in(directory)


def sample_with_signal(rank: int, directory: Path) -> None:
    """The second process receives the signal that `DIR/signal` names after some replies."""
    if rank == 1:
        finished = sample._finished_replies

        def interrupted(*args: Any) -> Iterator[tuple[int, str, int, int]]:
            for done, reply in enumerate(finished(*args)):
                if done == DIVIDED:
                    os.kill(os.getpid(), int((directory / "signal").read_text()))
                yield reply

        sample._finished_replies = interrupted
    sample_in(directory)


def report_of(directory: Path) -> bytes:
    """The only file that was written."""
    (path,) = (directory / "out").iterdir()
    content = path.read_bytes()
    path.unlink()
    return content


@pytest.mark.processes
@pytest.mark.slow
def test_a_sampling_report_of_two_processes_has_the_bytes_of_one(prompts: Path) -> None:
    sample_in(prompts)
    expected = report_of(prompts)
    found = run_launched(sample_together, 2, prompts)
    assert [each.code for each in found] == [0, 0], found
    assert "wrote out" in found[0].text
    assert found[1].text == "", "only the first process prints"
    assert report_of(prompts) == expected


@pytest.mark.processes
@pytest.mark.parametrize(
    ("number", "codes", "said"),
    [
        (signal.SIGUSR1, [75, 75], "stopped by SIGUSR1; "),
        (signal.SIGKILL, [70, -signal.SIGKILL], "rank 1 of 2: it has ended without a message"),
    ],
)
def test_stopped_sampling_continues_with_any_number_of_processes(
    number: signal.Signals, codes: list[int], said: str, prompts: Path
) -> None:
    sample_in(prompts)
    expected = report_of(prompts)
    (prompts / "signal").write_text(str(int(number)))
    for continued in (lambda: sample_in(prompts), lambda: run_launched(sample_together, 2, prompts)):
        for output in prompts.glob("output-*"):
            output.unlink()
        found = run_launched(sample_with_signal, 2, prompts)
        assert [each.code for each in found] == codes, found
        assert said in found[0].text
        (journal,) = (prompts / "out").iterdir()
        assert len(journal.read_text().splitlines()) < 1 + len(PROMPTS) * 2 * SETTINGS.samples
        continued()
        assert report_of(prompts) == expected


def score_records(directory: Path, output: str) -> bytes:
    """Score records; returns what is written."""
    reward_scorer.BATCH_TOKENS = SMALL_BATCH
    path, source = directory / f"{output}.jsonl", str(directory / "records.jsonl")
    reading = ReaderChoice("ultrafeedback")
    score.run(str(directory / "run"), [source], output=path, reading=reading, errors=io.StringIO())
    return path.read_bytes()


def score_report(directory: Path, output: str) -> bytes:
    """Score a sampling report; returns what is written."""
    reward_scorer.BATCH_TOKENS = SMALL_BATCH
    path, source = directory / f"{output}.json", str(directory / "report.json")
    score.run(str(directory / "run"), [source], output=path, reading=None, errors=io.StringIO())
    return path.read_bytes()


def score_records_together(rank: int, directory: Path) -> None:
    score_records(directory, "two")


def score_report_together(rank: int, directory: Path) -> None:
    score_report(directory, "two")


@pytest.mark.processes
def test_scores_of_two_processes_have_the_bytes_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reward_scorer, "BATCH_TOKENS", SMALL_BATCH)
    train_recipe(judge_recipe(tmp_path, ["train.steps=1"]))
    rows = (tmp_path / "lists.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "records.jsonl").write_text("".join(rows[:9]))
    texts = ["red", "blue old", "big red old", "old"]
    prompts = [
        {"prompt": f"Say {word}.", "results": [{"sampling_config": "k", "sampling_params": {}, "outputs": texts}]}
        for word in ("red", "blue", "old", "big")
    ]
    write_json(tmp_path / "report.json", {"model_name": "m", "date": "", "args": {}, "prompts": prompts})
    for alone, together, ending in (
        (score_records, score_records_together, "jsonl"),
        (score_report, score_report_together, "json"),
    ):
        found = run_launched(together, 2, tmp_path)
        assert [each.code for each in found] == [0, 0], found
        assert (tmp_path / f"two.{ending}").read_bytes() == alone(tmp_path, "one")


def benchmark_in(directory: Path, output: str) -> list[bytes]:
    """Evaluate a model on log-likelihoods and on replies; returns what is written."""
    scoring.BATCH_TOKENS = SMALL_BATCH
    os.chdir(directory)
    options = BenchmarkOptions(("piqa", "gsm8k"), "data", Path(output), shots=1)
    benchmark.run(["model"], options, io.StringIO(), io.StringIO())
    return [Path(output, name).read_bytes() for name in ("benchmark.json", "benchmark.csv", "items-1.jsonl")]


def benchmark_together(rank: int, directory: Path) -> None:
    benchmark_in(directory, "two")


def benchmark_killed(rank: int, directory: Path) -> None:
    """The second process is killed at its second batch."""
    compute, calls = scoring.CausalScorer._compute, list[int]()

    def killed(self: Any, batch: Any) -> Any:
        calls.append(batch.tokens)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return compute(self, batch)

    if rank == 1:
        scoring.CausalScorer._compute = killed
    benchmark_in(directory, "two")


@pytest.mark.processes
def test_a_benchmark_of_two_processes_has_the_bytes_of_one_also_after_a_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "BATCH_TOKENS", SMALL_BATCH)
    monkeypatch.chdir(tmp_path)
    data = write_tasks(tmp_path / "data")
    (data / "piqa.train.jsonl").write_bytes((data / "piqa.validation.jsonl").read_bytes())
    rows = [{"question": f"What is {n} and {n}?", "answer": f"It is\n#### {2 * n}"} for n in range(3)]
    for split in ("test", "train"):
        write_lines(data / f"gsm8k.{split}.jsonl", rows)
    write_model(tmp_path / "model")
    expected = benchmark_in(tmp_path, "one")
    ended = run_launched(benchmark_killed, 2, tmp_path)
    assert [each.code for each in ended] == [70, -signal.SIGKILL], ended
    assert "rank 1 of 2: it has ended without a message" in ended[0].text
    found = run_launched(benchmark_together, 2, tmp_path)
    assert [each.code for each in found] == [0, 0], found
    assert [Path("two", name).read_bytes() for name in ("benchmark.json", "benchmark.csv", "items-1.jsonl")] == expected
    assert sorted(path.name for path in Path("two/journal").iterdir()) == sorted(
        path.name for path in Path("one/journal").iterdir()
    )
