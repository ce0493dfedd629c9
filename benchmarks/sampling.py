"""Generating replies compared with transformers: ``python -m benchmarks.sampling --json FILE``.

A model in the shape of Pythia-31m with logits as peaked as a trained model's, prompts and replies as long as those of a
published report, one CPU thread, CPU seconds, everybody in turn in one process. README.md says what is counted.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path

import torch
from transformers import PreTrainedModel

from benchmarks.sampling_inputs import (
    REPLIES,
    REPLY,
    SETTINGS,
    VOCABULARY,
    Job,
    make_jobs,
    peaked_model,
    sampling_of,
    spread_lengths,
)
from benchmarks.sampling_peers import generate_continuously, generate_padded
from tunesmith.generate.requests import ReplyRequest, StoppingCriteria
from tunesmith.generate.scheduler import Scheduler
from tunesmith.generate.slot_rows import SlotRows

STOPPING = StoppingCriteria((), VOCABULARY, 2048)
SEED = 1
TARGETS = {
    "nucleus9_original": 10.0,
    "nucleus9_batch": 3.0,
    "k50_original": 8.0,
    "greedy_batch": 1.3,
}
"""Ratio -> the least that it should be."""
PEER_ROWS = (32, 64)
"""Rows of a batch of transformers; the faster number counts."""


def generate_ours(
    model: PreTrainedModel, requests: Sequence[ReplyRequest], batch_size: int
) -> dict[int, tuple[int, ...]]:
    """Number of the request -> ids of the reply."""
    scheduler = Scheduler(SlotRows(model, batch_size), STOPPING, batch_size)
    numbers = {scheduler.add(request): number for number, request in enumerate(requests)}
    return {numbers[ticket]: reply.ids for ticket, reply in scheduler.run()}


def make_requests(jobs: Sequence[Job], name: str) -> list[ReplyRequest]:
    """The requests of some jobs with one configuration."""
    return [ReplyRequest(job.prompt, sampling_of(name, job.length), SEED, number) for number, job in enumerate(jobs)]


def speed(run: Callable[[], object], jobs: Sequence[Job]) -> float:
    """Tokens of the replies per CPU second."""
    began = time.process_time()
    run()
    return sum(job.length for job in jobs) / (time.process_time() - began)


def measure_speed(model: PreTrainedModel, rows: int, replies: int, alone: int, scale: float) -> dict[str, float]:
    """Tokens per CPU second of everybody with every configuration, and our ratios.

    rows: our rows of a batch.
    replies: replies of our queue.
    alone: replies that are generated one at a time.
    scale: factor of the lengths of replies.
    """
    jobs, few, *batches = (make_jobs(count, scale) for count in (replies, alone, *PEER_ROWS))
    found: dict[str, float] = {}
    for name in SETTINGS:
        padded = [(partial(generate_padded, model, batch, name, len(batch)), batch) for batch in batches]
        runs: dict[str, list[tuple[Callable[[], object], Sequence[Job]]]] = {
            "ours": [(partial(generate_ours, model, make_requests(jobs, name), rows), jobs)],
            "batch": [*padded],
            "original": [(partial(generate_padded, model, few, name, 1), few)],
        }
        if name == "greedy":
            runs["generate_batch"] = [
                (partial(generate_continuously, model, batch, name, len(batch)), batch) for batch in batches
            ]
        for runner, ways in runs.items():
            found[f"{name}_{runner}_tokens_per_second"] = max(speed(run, counted) for run, counted in ways)
            print(f"{name:9} {runner:15} {found[f'{name}_{runner}_tokens_per_second']:8.1f} tokens/s", flush=True)
        ours = found[f"{name}_ours_tokens_per_second"]
        for runner in list(runs)[1:]:
            found[f"{name}_{runner}"] = ours / found[f"{name}_{runner}_tokens_per_second"]
    return found


def measure_step(model: PreTrainedModel, rows: int, repeats: int = 9) -> dict[str, float]:
    """The CPU seconds of one greedy step of all rows after 64 and after 448 tokens (medians), and their ratio."""
    found: dict[str, float] = {}
    for tokens in (64, 448):
        scheduler = Scheduler(SlotRows(model, rows), STOPPING, rows)
        for number in range(rows):
            prompt = tuple(range(number, number + tokens - repeats))
            scheduler.add(ReplyRequest(prompt, sampling_of("greedy", 2 * repeats), SEED, 0))
        scheduler.step()
        seconds = []
        for _ in range(repeats):
            began = time.process_time()
            scheduler.step()
            seconds.append(time.process_time() - began)
        found[f"step_{tokens}_seconds"] = statistics.median(seconds)
    return {**found, "step_ratio": found["step_448_seconds"] / found["step_64_seconds"]}


class CountedRows:
    """Rows without a model: every logit is 0. steps: the number of steps so far."""

    joins = True
    device = torch.device("cpu")

    def __init__(self) -> None:
        self.steps, self._count = 0, 0

    def history(self, prompt: Sequence[int]) -> Sequence[int]:
        return prompt

    def replace(self, ended: Sequence[int], prompts: Sequence[tuple[int, ...]]) -> list[int]:
        before, self._count = self._count, self._count - len(ended) + len(prompts)
        gone = set(ended)
        return [row for row in range(before + len(prompts)) if row not in gone]

    def clear(self) -> None:
        self._count = 0

    def step(self, ids: Sequence[int]) -> torch.Tensor:
        self.steps += 1
        return torch.zeros(len(ids), 2)


def count_steps(rows: int, replies: int = REPLIES) -> float:
    """The decode steps for the replies of the report, divided by the sum of their lengths over the rows."""
    lengths, counted = spread_lengths(replies, REPLY, 2), CountedRows()
    scheduler = Scheduler(counted, StoppingCriteria((), 2, 2048), rows)
    for length in lengths:
        scheduler.add(ReplyRequest((1,), sampling_of("greedy", length), SEED, 0))
    for _ in scheduler.run():
        pass
    return counted.steps / (sum(lengths) / rows)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write all results to this file")
    parser.add_argument("--rows", type=int, default=64, help="our rows of a batch (default %(default)s)")
    parser.add_argument("--replies", type=int, default=512, help="replies of our queue (default %(default)s)")
    parser.add_argument("--alone", type=int, default=4, help="replies one at a time (default %(default)s)")
    parser.add_argument("--scale", type=float, default=0.25, help="factor of the reply lengths (default %(default)s)")
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    logging.getLogger("ContinuousBatchingLogger").setLevel("ERROR")
    model = peaked_model()
    found = {**measure_step(model, given.rows), "steps_ratio": count_steps(given.rows)}
    found.update(measure_speed(model, given.rows, given.replies, given.alone, given.scale))
    for name, value in found.items():
        if not name.endswith("_per_second"):
            target = f"   at least {TARGETS[name]:g}" if name in TARGETS else ""
            print(f"{name:32} {value:8.3f}{target}")
    if given.json:
        settings = {key: value for key, value in vars(given).items() if key != "json"}
        versions = {name: version(name) for name in ("torch", "transformers")}
        given.json.write_text(json.dumps({**found, "settings": settings, "versions": versions}, indent=2) + "\n")


if __name__ == "__main__":
    main()
