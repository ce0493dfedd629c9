"""What the user reads at the beginning of a run: what is lost to the length limit, what is proven, and the plan."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from tunesmith.data.dataset.rendering import REASONS
from tunesmith.data.dataset.report import DataReport, SourceCounts
from tunesmith.recipe.schema import Recipe
from tunesmith.text.targets import Targets

TOO_LONG = REASONS["too_long"]

TRAINED: Mapping[Targets, str] = {
    "assistant": "only replies are trained",
    "last": "only the last reply of each record is trained",
    "all": "all tokens are trained",
    "marked": "only marked messages are trained",
    "ranked": "only replies that are compared are trained",
}
"""Value of ``text.targets`` -> what the proof of the masks shows."""


def length_warnings(recipe: Recipe, report: DataReport) -> Iterator[str]:
    """A sentence for every source that loses tokens to the length limit.

    ``184 of 3,000 records (27.6 % of tokens) are longer than 512 tokens and are dropped``
    """
    branches = report.train.threads != report.train.records
    for name, counts in report.sources.items():
        if counts.cut:
            source = f"{name}: " if len(report.sources) > 1 else ""
            yield source + _length_warning(recipe, counts, branches=branches)


def _length_warning(recipe: Recipe, counts: SourceCounts, *, branches: bool) -> str:
    """branches: whether a part of a record may be dropped, too."""
    text, share = recipe.text, f"{counts.cut / counts.tokens:.1%}".replace("%", " %")
    limits = f"{text.max_length:,}" + (f" or {text.max_target_length:,}" if text.max_target_length is not None else "")
    dropped = counts.rejected[TOO_LONG]
    if not dropped or text.truncation != "drop" or branches:
        records = f", and {_records(dropped, counts)} with them" if dropped else ""
        return f"{share} of tokens are beyond the limit of {limits} tokens and are dropped{records} (text.max_length)"
    verb = "is" if dropped == 1 else "are"
    longer = f"{verb} longer than {limits} tokens and {verb} dropped (text.max_length)"
    return f"{_records(dropped, counts)} ({share} of tokens) {longer}"


def _records(count: int, counts: SourceCounts) -> str:
    return f"{count:,} of {counts.records:,} records"


def describe_proof(recipe: Recipe, records: Sequence[int], limit: int) -> str:
    """``masks proven on the first 256 records: only replies are trained``.

    records: that every source has.
    limit: records of every source that are verified.
    """
    where = "all records"
    if max(records) > limit:
        where = f"the first {limit} records" + (" of every source" if len(records) > 1 else "")
    trained = "only replies that the model writes are trained" if writes_replies(recipe) else TRAINED[recipe.targets]
    return f"masks proven on {where}: {trained}"


def describe_plan(recipe: Recipe, total: int, examples: int) -> str:
    """``30 steps of 64 examples, 1 epoch``.

    total: optimizer steps of the whole run.
    examples: of an epoch.
    """
    keys = recipe.train
    size, unit = keys.batch_size, "prompts" if writes_replies(recipe) else keys.batch_unit
    if unit == "examples":
        size = min(size, examples)  # a step has an epoch at the most
    epochs = f", {_count(keys.epochs, 'epochs')}" if keys.epochs is not None else ""
    return f"{_count(total, 'steps')} of {_count(size, unit)}{epochs}"


def writes_replies(recipe: Recipe) -> bool:
    """Whether the data are prompts, to which the model itself writes the replies that are trained."""
    return recipe.objective.prompt_selection is not None


def _count(number: float, plural: str) -> str:
    """``1 epoch``, ``2.5 epochs``, ``1,000 steps``."""
    return f"{number:,.6g} {plural.removesuffix('s') if number == 1 else plural}"
