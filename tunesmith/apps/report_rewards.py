"""The scores that `tunesmith score` wrote for sampling reports, found again for the replies of these reports."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith.apps.sampling_reports import SamplingReport, report_key
from tunesmith.errors import DataError, UsageError
from tunesmith.files import read_json

ADVICE = "write it with `tunesmith score MODEL REPORT -o scores.json`"


@dataclass(frozen=True, slots=True)
class ReportRewards:
    """The scores of the replies of one report.

    report: the name of its file.
    report_key: digest of the report; empty in files of earlier versions.
    reward_model: that gave the scores.
    scores: for every prompt of the report, sampling configuration -> scores in the order of the replies; None for a
        reply that was skipped.
    """

    report: str
    report_key: str
    reward_model: str
    scores: tuple[Mapping[str, tuple[float | None, ...]], ...]

    def belongs_to(self, report: SamplingReport) -> bool:
        """Whether there is a score for every reply of the report, and no other one; where it is known, of this text."""
        if self.report != report.name or (self.report_key and self.report_key != report_key(report)):
            return False
        return [_counts(each) for each in self.scores] == [_counts(replies.outputs) for replies in report.prompts]


def read_rewards(path: Path) -> list[ReportRewards]:
    """The scores in a file that `tunesmith score` wrote. Raises MissingInputError, DataError."""
    value = read_json(path, advice=ADVICE)
    return [_rewards(item, path) for item in (value if isinstance(value, list) else [value])]


def assign_rewards(found: Sequence[ReportRewards], reports: Sequence[SamplingReport]) -> list[ReportRewards | None]:
    """The scores of every report, None for a report without.

    Raises UsageError for scores that belong to no report, or to several, and for scores of different reward models.
    """
    assigned: list[ReportRewards | None] = [None] * len(reports)
    for rewards in found:
        fitting = [index for index, report in enumerate(reports) if rewards.belongs_to(report)]
        if len(fitting) != 1:
            several = f"fit {len(fitting)} of the reports" if fitting else "do not fit any of the reports"
            advice = "rename one of the reports and score it again" if fitting else "score the reports again"
            raise UsageError(f"the scores of {rewards.report} {several}", advice=advice)
        if assigned[fitting[0]] is not None:
            raise UsageError(f"there are two files of scores of {rewards.report}", advice="give one of them")
        assigned[fitting[0]] = rewards
    models = sorted({rewards.reward_model for rewards in found})
    if len(models) > 1:
        advice = "score all reports with the same reward model"
        raise UsageError(f"the scores are of different reward models: {', '.join(models)}", advice=advice)
    return assigned


def _counts(replies: Mapping[str, Sequence[Any]]) -> dict[str, int]:
    return {name: len(values) for name, values in replies.items()}


def _rewards(item: Any, path: Path) -> ReportRewards:
    if not isinstance(item, dict) or not isinstance(item.get("scores"), list):
        raise DataError("this is not a file of scores of sampling reports", where=path, advice=ADVICE)
    scores = []
    for number, prompt in enumerate(item["scores"]):
        place = f"scores[{number}]"
        if not isinstance(prompt, dict) or not all(isinstance(values, list) for values in prompt.values()):
            raise DataError(f"{place} is not an object of lists", where=path, advice=ADVICE)
        scores.append({name: tuple(_score(value, place, path) for value in values) for name, values in prompt.items()})
    report, key, model = (str(item.get(name, "")) for name in ("report", "report_key", "reward_model"))
    return ReportRewards(report, key, model, tuple(scores))


def _score(value: Any, place: str, path: Path) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise DataError(f"{place} has a score that is no number", where=path, advice=ADVICE)
    return float(value)
