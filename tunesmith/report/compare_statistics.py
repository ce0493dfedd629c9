"""The numbers of a comparison: means of every model and sampling configuration, and paired differences."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np

from tunesmith.report.compared import ComparedReply, Comparison
from tunesmith.report.paired import PairedDifference, paired_differences


class Measure(NamedTuple):
    """A number that every reply has, or that is not known.

    name: as it is printed.
    more, less: what is said about the second model where a difference is shown.
    value: of a reply.
    """

    name: str
    more: str
    less: str
    value: Callable[[ComparedReply], float | None]


MEASURES: tuple[Measure, ...] = (
    Measure("reward", "is higher", "is lower", lambda reply: reply.reward),
    Measure("length", "is longer", "is shorter", lambda reply: float(len(reply.text))),
    Measure("ended", "ends more often", "ends less often", lambda reply: None if reply.ended is None else reply.ended),
)
"""What is compared: the score of a reward model; the length in characters; the share of replies that ended by
themselves."""


class ReplyColumn(NamedTuple):
    """The replies of one model with one sampling configuration; ALL is all of its configurations."""

    model: int
    configuration: str


ALL = ""


@dataclass(frozen=True, slots=True)
class ColumnSummary:
    """Counts and means of the replies of a column.

    prompts, replies: their numbers.
    ended, loops, control, empty: shares of the replies; ``ended`` is None where it is not known.
    length: mean characters.
    reward: mean score; None without scores.
    """

    column: ReplyColumn
    prompts: int
    replies: int
    ended: float | None
    length: float
    loops: float
    control: float
    empty: float
    reward: float | None


@dataclass(frozen=True, slots=True)
class ColumnDifference:
    """What distinguishes two columns on the prompts that both have.

    measures: name of a measure -> the difference, second less first; only for measures that both have.
    """

    first: ReplyColumn
    second: ReplyColumn
    measures: Mapping[str, PairedDifference]


def summarize(comparison: Comparison) -> list[ColumnSummary]:
    """Every configuration of every model, by configuration."""
    replies = _by_column(comparison)
    return [_summary(column, replies[column]) for column in _columns(comparison)]


def compare_columns(comparison: Comparison) -> list[ColumnDifference]:
    """The differences of every two models; of each configuration from the first, if there is only one model.

    Two models are compared for every configuration that both have, or over all their replies if they have none in
    common. The intervals of one pair of models belong together: the chance that two equal models are declared
    different anywhere in their table is at most 5 %. So do those of the configurations of one model.
    """
    replies = _by_column(comparison)
    return [
        difference
        for family in _families(comparison)
        for difference in _compare_family([(first, second, _pairs(replies, first, second)) for first, second in family])
    ]


def _columns(comparison: Comparison) -> list[ReplyColumn]:
    having = [set(comparison.configurations_of(model)) for model in range(len(comparison.models))]
    return [
        ReplyColumn(model, name)
        for name in comparison.configurations
        for model, own in enumerate(having)
        if name in own
    ]


def _families(comparison: Comparison) -> Iterator[list[tuple[ReplyColumn, ReplyColumn]]]:
    """The pairs of columns that are compared; each family is what is compared for two models."""
    if len(comparison.models) == 1:
        first, *others = (ReplyColumn(0, name) for name in comparison.configurations_of(0))
        yield [(first, other) for other in others]
    for first_model, second_model in combinations(range(len(comparison.models)), 2):
        other = comparison.configurations_of(second_model)
        common = [name for name in comparison.configurations_of(first_model) if name in other] or [ALL]
        yield [(ReplyColumn(first_model, name), ReplyColumn(second_model, name)) for name in common]


Replies = Mapping[ReplyColumn, Mapping[int, Sequence[ComparedReply]]]
"""ReplyColumn -> number of a prompt -> replies."""


def _by_column(comparison: Comparison) -> Replies:
    found: dict[ReplyColumn, dict[int, list[ComparedReply]]] = defaultdict(lambda: defaultdict(list))
    for number, prompt in enumerate(comparison.prompts):
        for reply in prompt.replies:
            found[ReplyColumn(reply.model, reply.configuration)][number].append(reply)
            found[ReplyColumn(reply.model, ALL)][number].append(reply)
    return found


def _summary(column: ReplyColumn, prompts: Mapping[int, Sequence[ComparedReply]]) -> ColumnSummary:
    replies = [reply for group in prompts.values() for reply in group]
    return ColumnSummary(
        column=column,
        prompts=len(prompts),
        replies=len(replies),
        ended=_mean([reply.ended for reply in replies if reply.ended is not None]),
        length=_mean([len(reply.text) for reply in replies]) or 0.0,
        loops=_mean([reply.loop for reply in replies]) or 0.0,
        control=_mean([reply.control for reply in replies]) or 0.0,
        empty=_mean([not reply.text.strip() for reply in replies]) or 0.0,
        reward=_mean([reply.reward for reply in replies if reply.reward is not None]),
    )


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _pairs(replies: Replies, first: ReplyColumn, second: ReplyColumn) -> dict[str, list[float]]:
    """Name of a measure -> second less first, for every prompt for which both have it."""
    found: dict[str, list[float]] = {}
    for measure in MEASURES:
        means = [
            {number: _measured(group, measure) for number, group in replies[each].items()} for each in (first, second)
        ]
        pairs = [(mean, means[1].get(number)) for number, mean in means[0].items()]
        values = [late - early for early, late in pairs if early is not None and late is not None]
        if values:
            found[measure.name] = values
    return found


def _measured(replies: Sequence[ComparedReply], measure: Measure) -> float | None:
    """The mean of the measure over the replies that have it."""
    return _mean([value for value in map(measure.value, replies) if value is not None])


def _compare_family(
    family: Sequence[tuple[ReplyColumn, ReplyColumn, Mapping[str, list[float]]]],
) -> Iterator[ColumnDifference]:
    comparisons = max(1, sum(len(values) for *_, values in family))
    for first, second, values in family:
        measures = {
            name: paired_differences(np.array(numbers)[:, None], comparisons)[0] for name, numbers in values.items()
        }
        yield ColumnDifference(first, second, measures)
