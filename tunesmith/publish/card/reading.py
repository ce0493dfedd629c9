"""Reads what a card says from the files of a finished run: recipe, manifest, records, results and export."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any

from tunesmith.compose.best import selection_rule
from tunesmith.compose.methods.registry import METHODS
from tunesmith.compose.reply_evaluation import PREDICTIONS, SHOWN_TOKENS
from tunesmith.errors import DataError, MissingInputError, UsageError
from tunesmith.files import read_object
from tunesmith.generate.export_directory import read_export
from tunesmith.model.directory import read_directory
from tunesmith.model.export import ExportInfo
from tunesmith.model.names import EXPORT
from tunesmith.publish.card.data_survey import survey_data
from tunesmith.publish.card.facts import (
    CardFacts,
    CardModel,
    DataFacts,
    ExampleReply,
    SourceFacts,
    TrainingFacts,
)
from tunesmith.publish.card.prompt_texts import read_prompts
from tunesmith.publish.card.results import ResultReader
from tunesmith.recipe.load import load
from tunesmith.recipe.schema import CardConfig, Recipe
from tunesmith.recipe.writing import yaml_lines
from tunesmith.train.run.directory import MANIFEST, METRICS, RECIPE
from tunesmith.train.run.history import RunHistory
from tunesmith.train.run.metrics import read_records
from tunesmith.train.run.status import RunStatus, find_status
from tunesmith.train.run.validation import STEP, VALIDATION

Progress = Callable[[int, int | None, str], None]
STATES = {"training": "is training", "failed": "has failed", "stopped": "was stopped"}
"""State of a run that is not finished -> what is said of it."""
POSITIONS = ("max_position_embeddings", "n_positions")
"""Keys of config.json for the largest number of tokens that a model reads."""


def find_run(path: Path) -> Path:
    """The directory of the run that ``path`` means: itself, or that of an export.

    Raises MissingInputError where there is no run, UsageError for one that is not finished.
    """
    directory = path.expanduser()
    run = directory.parent if directory.name == EXPORT and (directory.parent / RECIPE).is_file() else directory
    if not (run / RECIPE).is_file():
        what = "this is not the directory of a run, nor the export in one: it has no recipe.yaml"
        raise MissingInputError(what, where=path, advice="name the directory of a finished run")
    status = find_status(run)
    if status.state != "finished" or not (run / EXPORT / "config.json").is_file():
        raise UsageError(_unfinished(status), where=run, advice="a card is about finished runs: train it to its end")
    return run


def _unfinished(status: RunStatus) -> str:
    if status.state == "finished":
        return "the run has no export"
    progress = f" at step {status.step:,} of {status.steps:,}" if status.steps else ""
    return f"the run is not finished: it {STATES[status.state]}{progress}"


def read_facts(run: Path, progress: Progress) -> CardFacts:
    """Everything that the card of a finished run says.

    run: its directory, of ``find_run``.
    progress: callback of the survey of the data.
    Raises MissingInputError, DataError, RecipeError, StorageError.
    """
    recipe = load([str(run / RECIPE)]).recipe
    manifest = read_object(run / MANIFEST, advice="restore the file")
    _check_manifest(manifest, run / MANIFEST)
    info = read_export(run / EXPORT)
    if info is None:
        what = "the export does not say how it was made: it has no tunesmith.json"
        raise MissingInputError(what, where=run / EXPORT, advice=f"export it again: tunesmith export {run}")
    card = recipe.card or CardConfig()
    history = RunHistory.of(run, selection_rule(recipe.train.best))
    history.update()
    results = ResultReader(run).read()
    reply = results.example or _evaluated_reply(run, recipe, history, info)
    return CardFacts(
        name=recipe.name,
        recipe=recipe,
        recipe_text=recipe_text(recipe),
        card=card,
        model=_model(run / EXPORT, recipe, manifest, info),
        prompt=read_prompts(run / EXPORT, card.prompts, reply) if info.kind == "assistant" else None,
        data=_data(run, recipe, manifest, card, progress),
        training=_training(run, recipe, manifest, history, info),
        benchmarks=tuple(results.benchmarks),
        versions_of_benchmarks=results.versions,
        replies=tuple(results.replies),
        rewards=tuple(results.rewards),
        pages=tuple(results.pages),
        files=frozenset(
            path.relative_to(run / EXPORT).as_posix() for path in (run / EXPORT).rglob("*") if path.is_file()
        ),
        dropped=tuple(results.dropped),
    )


def _check_manifest(manifest: Mapping[str, Any], where: Path) -> None:
    """Raises DataError for a manifest that lacks a part that every run has."""
    try:
        report = manifest["data"]["report"]
        parts = [manifest["hub"], manifest["hardware"], manifest["versions"], manifest["data"]["sources"]]
        parts += [report["train"], report["validation"] or {}, *report["sources"].values()]
        complete = all(isinstance(part, dict) for part in parts) and int(report["duplicates"]) >= 0
    except (KeyError, TypeError, ValueError, AttributeError):
        complete = False
    if not complete:
        raise DataError("this is no manifest of a run", where=where, advice="restore the file")


def recipe_text(recipe: Recipe) -> str:
    """The recipe as YAML without its card, and with the last parts of local paths only."""
    values = recipe.model_dump(mode="json", exclude={"card"})
    return "\n".join(line.text for line in yaml_lines(_without_local_paths(values)))


def _without_local_paths(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_local_paths(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_local_paths(each) for each in value]
    return shown_path(value) if isinstance(value, str) and value.startswith(("/", "~", "..")) else value


def shown_path(path: str) -> str:
    """A path that a reader elsewhere may see: the name of a run or of a file; relative paths and hub names stay."""
    if not path.startswith(("/", "~", "..")):
        return path
    parts = PurePath(path).parts
    return parts[-2] if len(parts) > 1 and parts[-1] == EXPORT else parts[-1]


def _model(export: Path, recipe: Recipe, manifest: Mapping[str, Any], info: ExportInfo) -> CardModel:
    found = read_directory(export)
    entries = found.config.entries
    path = recipe.model.path
    commits = manifest["hub"]
    return CardModel(
        kind=info.kind,
        architecture=found.architecture,
        is_encoder_decoder=bool(entries.get("is_encoder_decoder")),
        parameters=found.count_parameters(),
        dtype=str(entries.get("dtype") or entries.get("torch_dtype")),
        context=next((int(entries[key]) for key in POSITIONS if isinstance(entries.get(key), int)), None),
        base=None if path is None else shown_path(path),
        base_on_hub=path in commits,
        base_commit=str(commits.get(path, "")),
        adapter=recipe.model.adapter is not None,
    )


def _data(run: Path, recipe: Recipe, manifest: Mapping[str, Any], card: CardConfig, progress: Progress) -> DataFacts:
    data = manifest["data"]
    report = data["report"]
    records = sum(int(counts["records"]) for counts in report["sources"].values())
    survey = survey_data(run, recipe, data["sources"], records, progress)
    sources = [
        SourceFacts(
            name=source.name,
            place=shown_path(source.path),
            on_hub=survey is not None and source.name in survey.hub,
            split=source.split or "",
            license=card.licenses.get(source.path, ""),
            counts=report["sources"][source.name],
        )
        for source in recipe.data.sources
    ]
    separate = manifest.get("validation")
    return DataFacts(
        sources=tuple(sources),
        train=report["train"],
        validation=report["validation"] or {},
        duplicates=int(report["duplicates"]) if separate is None else 0,
        survey=survey,
    )


def _training(
    run: Path, recipe: Recipe, manifest: Mapping[str, Any], history: RunHistory, info: ExportInfo
) -> TrainingFacts:
    method = METHODS[recipe.objective.kind]
    totals = {"tokens": 0, "targets": 0, "examples": 0}
    for record in read_records(run / METRICS):
        if VALIDATION not in record and 0 < record[STEP] <= info.steps:
            for name in totals:
                totals[name] += int(record.get(name, 0))
    evaluated = {each.step: each.metrics for each in history.evaluations}
    starts = _starts(manifest)
    return TrainingFacts(
        method=recipe.objective.kind,
        steps=info.steps,
        planned=find_status(run).steps,
        tokens=totals["tokens"],
        targets=totals["targets"],
        examples=totals["examples"],
        seconds=history.seconds,
        hardware=manifest["hardware"],
        versions=manifest["versions"],
        started=starts.get("started", ""),
        finished=starts.get("finished", ""),
        commit=starts.get("commit", ""),
        command=starts.get("command", ""),
        metrics=evaluated.get(info.steps, {}),
        labels={each.name: (each.label, each.form) for each in method.shown},
    )


def _starts(manifest: Mapping[str, Any]) -> dict[str, str]:
    """What the manifest says of the first start and of the first one that reached the end; later ones train nothing."""
    starts = [each for each in manifest.get("starts") or [] if isinstance(each, dict)]
    if not starts:
        return {}
    first, last = starts[0], next((each for each in starts if each.get("state") == "finished"), starts[-1])
    code = first.get("code") or {}
    changed = " with further changes" if code.get("changes") else ""
    words = [f"{name}{equals}{shown_path(value)}" for name, equals, value in map(_parts, first.get("command") or [])]
    found = {
        "started": first.get("time"),
        "finished": last.get("ended"),
        "commit": f"{code['commit']}{changed}" if code.get("commit") else None,
        "command": shlex.join(words),
    }
    return {name: value for name, value in found.items() if isinstance(value, str)}


def _parts(word: str) -> tuple[str, str, str]:
    """A word of a command as (what is before its value, ``=``, value)."""
    name, equals, value = str(word).partition("=")
    return (name, equals, value) if equals else ("", "", name)


def _evaluated_reply(run: Path, recipe: Recipe, history: RunHistory, info: ExportInfo) -> ExampleReply | None:
    """A reply of an evaluation of the exported weights; None without one."""
    path = run / PREDICTIONS / f"step-{info.steps:06d}.jsonl"
    if path.is_file():
        record = next(read_records(path), {})
        if str(record.get("reply", "")).strip():
            how = f"greedy decoding, max_new_tokens {recipe.evaluate.max_new_tokens}"
            return ExampleReply(record["prompt"], record["reply"], how, f"{PREDICTIONS}/{path.name}")
    for prompt, reply in _shown_pairs(history, info.steps):
        if reply.strip():
            return ExampleReply(prompt, reply, f"greedy decoding, at most {SHOWN_TOKENS} tokens", "shown.jsonl")
    return None


def _shown_pairs(history: RunHistory, step: int) -> Iterator[tuple[str, str]]:
    texts = history.texts.get(step, [])
    for one, other in itertools.pairwise(texts):
        if one.label == "prompt" and other.label == "reply":
            yield one.text, other.text
