"""Benchmark results, sampling reports and scores that a run has, of the exported weights and of no others."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from tunesmith.apps.report_summary import summarize_report
from tunesmith.apps.sampling_reports import SamplingReport, read_report, report_key
from tunesmith.errors import DataError, TunesmithError
from tunesmith.files import read_json
from tunesmith.generate.model_identity import model_fingerprint, plain_fingerprint
from tunesmith.model.directory import CONFIG
from tunesmith.model.names import EXPORT
from tunesmith.publish.card.facts import BenchmarkScore, ExampleReply, ReportSummary, RewardScores
from tunesmith.text.tree import Message

LARGEST = 1 << 28  # bytes of a file that is looked at
COMPARISON = re.compile(rb'<details class="numbers" id="numbers">')
"""What the page of `tunesmith compare` has and no other page of a run."""
COMPARED = re.compile(rb'<script type="application/json" id="data">(.*?)</script>', re.DOTALL)
"""The data of that page."""
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

    run: its directory.
    export: the model that they are of.

    They may be anywhere in both, up to two directories deep.
    """

    def __init__(self, run: Path, export: Path) -> None:
        self._run, self._export = run, export
        self._found = FoundResults()
        self._keys = dict[str, str]()  # of the reports that count -> their files

    @cached_property
    def _fingerprints(self) -> frozenset[str]:
        """The digests by which results name the model: its own, and that of the export in the run if it is the same."""
        found, other = {model_fingerprint(self._export)}, self._run / EXPORT
        is_other = self._export.resolve() != other.resolve() and (other / CONFIG).is_file()
        if is_other and plain_fingerprint(self._export) == plain_fingerprint(other):
            found.add(model_fingerprint(other))
        return frozenset(found)

    def read(self) -> FoundResults:
        """Everything that was found; a file that is no result is passed over. Raises DataError for a broken one."""
        contents = [(path, content) for path in self._files(".json") for content in _objects(path)]
        for path, content in contents:
            if isinstance(content.get("models"), list) and "differences" in content:
                self._add_benchmark(path, content)
        for path, content in contents:
            if isinstance(content.get("prompts"), list) and "model_name" in content:
                self._add_report(path, content)
        for path, content in contents:
            if "reward_model" in content and isinstance(content.get("results"), dict):
                self._add_rewards(path, content)
        for path in self._files(".html"):
            page = path.read_bytes()
            if COMPARISON.search(page):
                self._add_page(path, page)
        return self._found

    def _files(self, suffix: str) -> Iterator[Path]:
        is_inside = self._export.resolve().is_relative_to(self._run.resolve())
        for root in [self._run] if is_inside else [self._run, self._export]:
            paths = [path for depth in ("*", "*/*", "*/*/*") for path in root.glob(f"{depth}{suffix}")]
            for path in sorted(paths):
                parts = path.relative_to(root).parts
                hidden = any(part.startswith(".") for part in parts)
                if not hidden and parts[0] not in SKIPPED and path.is_file() and path.stat().st_size <= LARGEST:
                    yield path

    def _name(self, path: Path) -> str:
        """How a file is named in the card: relative to the export if it is there, otherwise to the run."""
        root = self._export if path.is_relative_to(self._export) else self._run
        return path.relative_to(root).as_posix()

    def _add_benchmark(self, path: Path, content: Mapping[str, Any]) -> None:
        name = self._name(path)
        models = [each for each in content["models"] if isinstance(each, dict)]
        own = [each for each in models if str(each.get("fingerprint")) in self._fingerprints]
        if not own:
            self._drop(path)
            return
        try:
            self._found.versions |= {str(key): str(value) for key, value in content["versions"].items()}
            limited = content["limit"] is not None
            self._found.benchmarks += [
                score for model in models for score in _scores(model, name, is_own=model in own, limited=limited)
            ]
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            what = "this is not what `tunesmith benchmark` of this version writes"
            raise DataError(what, where=path, advice="run it again, or move the file away") from error

    def _add_report(self, path: Path, content: Mapping[str, Any]) -> None:
        args, name = content.get("args"), self._name(path)
        if not isinstance(args, dict) or str(args.get("fingerprint")) not in self._fingerprints:
            self._drop(path)
            return
        report = read_report(path)
        assert report is not None, "it has prompts and the name of a model"
        summaries = tuple(summarize_report(report))
        self._keys[report_key(report)] = name
        self._found.replies.append(ReportSummary(name, report.date, summaries, report.parameters))
        if self._found.example is None:
            self._found.example = _example(name, report)

    def _add_rewards(self, path: Path, content: Mapping[str, Any]) -> None:
        scored = self._keys.get(str(content.get("report_key")))
        if scored is None:
            self._drop(path, "it has the scores of no sampling report of this model (score the report again)")
            return
        try:
            means = {str(key): _finite(value) for key, value in content["results"].items()}
        except (TypeError, ValueError, OverflowError) as error:
            what = "this is not what `tunesmith score` of this version writes"
            raise DataError(what, where=path, advice="score again, or move the file away") from error
        self._found.rewards.append(RewardScores(self._name(path), scored, str(content["reward_model"]), means))

    def _add_page(self, path: Path, page: bytes) -> None:
        if self._keys.keys() & _compared_reports(page):
            self._found.pages.append(self._name(path))
        else:
            self._drop(path, "it compares no sampling report of this model that is here")

    def _drop(self, path: Path, reason: str = "it is of other weights than the export") -> None:
        self._found.dropped.append(f"{self._name(path)}: {reason}, so the card does not use it")


def _objects(path: Path) -> list[dict[str, Any]]:
    """The objects of a file: one, or a list of them, as of the scores of several reports; empty for any other file."""
    try:
        found = read_json(path, largest=LARGEST)
    except TunesmithError:
        return []
    return [each for each in (found if isinstance(found, list) else [found]) if isinstance(each, dict)]


def _compared_reports(page: bytes) -> set[str]:
    """The keys of the reports that a page compares; empty for a page whose data cannot be read."""
    match = COMPARED.search(page)
    try:
        content = json.loads(match[1]) if match is not None else {}
        return {str(model["key"]) for model in content["models"]}
    except (ValueError, KeyError, TypeError, RecursionError):
        return set()


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
