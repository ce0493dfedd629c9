"""What the demo tells of a run besides replies: how a reward model orders pairs, and what practice with rewards gained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tunesmith.playground.stages import Stage
from tunesmith.report.intervals import Rate
from tunesmith.train.run.directory import METRICS
from tunesmith.train.run.metrics import read_records
from tunesmith.train.run.validation import ALL, VALIDATION

Validation = Mapping[str, Mapping[str, float]]  # source, or "all" -> measure -> value
KL = "reference_kl/reply"


def validations(run: Path) -> list[Validation]:
    """What a run measured on its validation data, in the order of its steps."""
    return [record[VALIDATION] for record in read_records(run / METRICS) if VALIDATION in record]


def told_of_runs(
    directory: Path, stages: Sequence[Stage], measured: Mapping[str, Sequence[Validation]]
) -> Iterator[str]:
    """A line for every run that has something to tell. directory: of all runs."""
    for stage in stages:
        found = measured[stage.name]
        if not stage.replies:
            yield f"{stage.name}: held-out pairs in the right order: {_pairs_in_order(found[-1])} (Wilson's 95 % intervals)"
        elif stage.checks:
            yield f"{stage.name}: {_rewards(found, directory / stage.name)}"


def _pairs_in_order(measured: Validation) -> str:
    """The share of pairs whose better reply has the higher score, for every source."""
    told = []
    for source, values in measured.items():
        pairs = round(values["pairs"])
        rate = Rate(round(values["accuracy/pairs"] * pairs), pairs)
        low, high = rate.interval()
        told.append(f"{source} {rate.share:.1%} ({100 * low:.0f} to {100 * high:.0f}, n={pairs})")
    return ", ".join(told)


def _rewards(found: Sequence[Validation], run: Path) -> str:
    """The rewards of held-out replies before and after, and how far the model went from where it began."""
    before, after = (validation[ALL]["rewards/mean"] for validation in (found[0], found[-1]))
    distances = [record[KL] for record in read_records(run / METRICS) if KL in record]
    return (
        f"mean reward of held-out replies {before:.3f} before, {after:.3f} after ({after - before:+.3f}); "
        f"KL of a reply to the model before {distances[-1]:.2f} at the end, {max(distances):.2f} at most"
    )
