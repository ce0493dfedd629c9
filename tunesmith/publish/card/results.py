"""Benchmark results, sampling reports and scores that a run has, of the exported weights and of no others."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from tunesmith.apps.report_summary import summarize_report
from tunesmith.apps.sampling_reports import SamplingReport, read_report
from tunesmith.errors import DataError, TunesmithError
from tunesmith.files import read_object
from tunesmith.generate.model_identity import model_fingerprint
from tunesmith.model.names import EXPORT
from tunesmith.publish.card.facts import BenchmarkScore, ExampleReply, ReportSummary, RewardScores
from tunesmith.text.tree import Message

LARGEST = 1 << 28  # bytes of a file that is looked at
COMPARISON = re.compile(rb'<details class="numbers" id="numbers">')
"""What the page of `tunesmith compare` has and no other page of a run."""
SKIPPED = ("checkpoints", "predictions", "rollouts")


@dataclass(slots=True)
class FoundResults:
    """The results in a run.

    benchmarks, replies, rewards, pages: see ``CardFacts``.
    versions: of the packages of the benchmarks.
    example: a reply of the first report; None without one.
    dropped: results that are not of this model, with the reason.
    """

    benchmarks: list[BenchmarkScore] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    replies: list[ReportSummary] = field(default_factory=list)
    rewards: list[RewardScores] = field(default_factory=list)
    pages: list[str] = field(default_factory=list)
    example: ExampleReply | None = None
    dropped: list[str] = field(default_factory=list)


class ResultReader:
    """Reads the results of one run.

    run: its directory. They may be anywhere in it, up to two directories deep, also in its export.
    """

    def __init__(self, run: Path) -> None:
        self._run = run
        self._found = FoundResults()

    @cached_property
    def _fingerprint(self) -> str:
        return model_fingerprint(self._run / EXPORT)

    def read(self) -> FoundResults:
        """Everything that was found; a file that is no result is passed over. Raises DataError for a broken one."""
        contents = {self._name(path): content for path in self._files(".json") if (content := _object(path))}
        for name, content in contents.items():
            if isinstance(content.get("models"), list) and "differences" in content:
                self._add_benchmark(name, content)
        for name, content in contents.items():
            if isinstance(content.get("prompts"), list) and "model_name" in content:
                self._add_report(name, content)
        for name, content in contents.items():
            if "reward_model" in content and isinstance(content.get("results"), dict):
                self._add_rewards(name, content)
        for path in self._files(".html"):
            if COMPARISON.search(path.read_bytes()):
                self._found.pages.append(self._name(path))
        return self._found

    def _files(self, suffix: str) -> Iterator[Path]:
        paths = [path for depth in ("*", "*/*", "*/*/*") for path in self._run.glob(f"{depth}{suffix}")]
        for path in sorted(paths):
            parts = path.relative_to(self._run).parts
            hidden = any(part.startswith(".") for part in parts)
            if not hidden and parts[0] not in SKIPPED and path.is_file() and path.stat().st_size <= LARGEST:
                yield path

    def _name(self, path: Path) -> str:
        """How a file is named in the card: relative to the export if it is there, otherwise to the run."""
        parts = path.relative_to(self._run).parts
        return "/".join(parts[1:] if parts[0] == EXPORT else parts)

    def _add_benchmark(self, name: str, content: Mapping[str, Any]) -> None:
        models = [each for each in content["models"] if isinstance(each, dict)]
        own = [each for each in models if each.get("fingerprint") == self._fingerprint]
        if not own:
            self._drop(name)
            return
        try:
            self._found.versions |= {str(key): str(value) for key, value in content["versions"].items()}
            limited = content["limit"] is not None
            self._found.benchmarks += [
                score for model in models for score in _scores(model, name, is_own=model in own, limited=limited)
            ]
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            what = "this is not what `tunesmith benchmark` of this version writes"
            raise DataError(what, where=self._find(name), advice="run it again, or move the file away") from error

    def _add_report(self, name: str, content: Mapping[str, Any]) -> None:
        args = content.get("args")
        if not isinstance(args, dict) or args.get("fingerprint") != self._fingerprint:
            self._drop(name)
            return
        report = read_report(self._find(name))
        assert report is not None, "it has prompts and the name of a model"
        summaries = tuple(summarize_report(report))
        self._found.replies.append(ReportSummary(name, report.date, summaries, report.parameters))
        if self._found.example is None:
            self._found.example = _example(name, report)

    def _add_rewards(self, name: str, content: Mapping[str, Any]) -> None:
        scored = str(content.get("report"))
        if all(scored != Path(each.source).name for each in self._found.replies):
            self._drop(name)
            return
        try:
            means = {str(key): _finite(value) for key, value in content["results"].items()}
        except (TypeError, ValueError, OverflowError) as error:
            what = "this is not what `tunesmith score` of this version writes"
            raise DataError(what, where=self._find(name), advice="score again, or move the file away") from error
        self._found.rewards.append(RewardScores(name, scored, str(content["reward_model"]), means))

    def _find(self, name: str) -> Path:
        return next(path for path in (self._run / EXPORT / name, self._run / name) if path.is_file())

    def _drop(self, name: str) -> None:
        self._found.dropped.append(f"{name}: it is of other weights than the export, so the card does not use it")


def _object(path: Path) -> dict[str, Any]:
    """The object of a file; empty for a file that has none."""
    try:
        return read_object(path, largest=LARGEST)
    except TunesmithError:
        return {}


def _scores(model: Mapping[str, Any], source: str, *, is_own: bool, limited: bool) -> Iterator[BenchmarkScore]:
    for task, values in model["tasks"].items():
        yield BenchmarkScore(
            model=str(model["model"]),
            is_own=is_own,
            prompts=str(model["prompts"]),
            task=str(task),
            metric=str(values["metric"]),
            split=str(values["split"]),
            shots=int(values["shots"]),
            items=int(values["items"]),
            score=_finite(values["score"]),
            low=None if values["low"] is None else _finite(values["low"]),
            high=None if values["high"] is None else _finite(values["high"]),
            limited=limited,
            source=source,
        )


def _finite(value: Any) -> float:
    """A measured number. Raises ValueError for NaN and infinity, OverflowError, TypeError."""
    number = float(value)
    if not math.isfinite(number):
        raise ValueError("this is no measured number")
    return number


def _example(name: str, report: SamplingReport) -> ExampleReply | None:
    """The first reply to the first prompt that is a question."""
    for replies in report.prompts:
        if replies.conversation != (Message("user", replies.prompt),):
            continue
        for configuration, texts in replies.outputs.items():
            if texts and texts[0].strip():
                parameters = describe_parameters(report.parameters.get(configuration, {}))
                return ExampleReply(replies.prompt, texts[0], f"configuration {configuration}: {parameters}", name)
    return None


def describe_parameters(parameters: Mapping[str, Any]) -> str:
    """``do_sample true, top_p 0.9``."""
    words: Sequence[str] = [f"{name} {_word(value)}" for name, value in parameters.items() if value is not None]
    return ", ".join(words) or "the defaults"


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
