"""The lines of the demo about runs: the pair accuracy of a reward model, and the rewards before and after PPO."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tunesmith.playground.stages import Stage
from tunesmith.report.intervals import Rate
from tunesmith.train.run.metrics import read_records

Validation = Mapping[str, Mapping[str, float]]  # source, or "all" -> metric -> value
ALL = "all"
KL = "reference_kl/reply"


def read_validations(run: Path) -> list[Validation]:
    """The metrics of all evaluations of a run on its validation data, in the order of its steps."""
    return [record["validation"] for record in read_records(run / "metrics.jsonl") if "validation" in record]


def report_runs(directory: Path, stages: Sequence[Stage], metrics: Mapping[str, Sequence[Validation]]) -> Iterator[str]:
    """One line for every reward model and every run of PPO.

    directory: the directory that has the runs.
    stages: the models of the demo.
    metrics: stage -> the evaluations of its run.
    """
    for stage in stages:
        found = metrics[stage.name]
        if not stage.replies:
            yield f"{stage.name}: accuracy on held-out pairs: {_pair_accuracies(found[-1])} (95 % Wilson intervals)"
        elif stage.checks:
            yield f"{stage.name}: {_reward_change(found, directory / stage.name)}"


def _pair_accuracies(metrics: Validation) -> str:
    """For every source, the share of pairs whose chosen reply has the higher score."""
    parts = []
    for source, values in metrics.items():
        pairs = round(values["pairs"])
        rate = Rate(round(values["accuracy/pairs"] * pairs), pairs)
        low, high = rate.interval()
        parts.append(f"{source} {rate.share:.1%} ({100 * low:.0f} to {100 * high:.0f}, n={pairs})")
    return ", ".join(parts)


def _reward_change(found: Sequence[Validation], run: Path) -> str:
    """The mean reward of held-out replies before and after training, and the KL to the model before training."""
    before, after = (validation[ALL]["rewards/mean"] for validation in (found[0], found[-1]))
    distances = [record[KL] for record in read_records(run / "metrics.jsonl") if KL in record]
    return (
        f"mean reward of held-out replies: {before:.3f} before and {after:.3f} after training ({after - before:+.3f}); "
        f"mean KL per reply to the model before training: {distances[-1]:.2f} at the end, at most {max(distances):.2f}"
    )
