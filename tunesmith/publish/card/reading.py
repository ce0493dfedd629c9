"""Reads what a card says from the files of a finished run: recipe, manifest, records, results and export."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from tunesmith.compose.best import selection_rule
from tunesmith.compose.export_records import LocalPaths
from tunesmith.compose.methods.registry import METHODS
from tunesmith.compose.reply_evaluation import PREDICTIONS, SHOWN_TOKENS
from tunesmith.errors import DataError, MissingInputError, UsageError
from tunesmith.files import read_object
from tunesmith.generate.export_directory import read_export
from tunesmith.model.directory import is_adapter, read_directory
from tunesmith.model.export import PIPELINE, ExportInfo
from tunesmith.model.names import ADAPTER, EXPORT
from tunesmith.publish.card.data_survey import SourceDigests, survey_data
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
from tunesmith.publish.card.starts import find_changes, find_end, read_starts
from tunesmith.recipe.load import load
from tunesmith.recipe.schema import CardConfig, DataSourceConfig, Recipe
from tunesmith.recipe.writing import yaml_lines
from tunesmith.train.run.directory import MANIFEST, METRICS, RECIPE, TIMING
from tunesmith.train.run.history import RecordTail, RunHistory, step_speed
from tunesmith.train.run.journal import RunJournal, parse_journal
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


def read_facts(run: Path, progress: Progress, export: Path | None = None) -> CardFacts:
    """Everything that the card of a finished run says.

    run: its directory, of ``find_run``.
    progress: callback of the survey of the data.
    export: the model that the card is about; None for that in the run.
    Raises MissingInputError, DataError, RecipeError, StorageError.
    """
    model = run / EXPORT if export is None else export
    recipe = load([str(run / RECIPE)]).recipe
    manifest = read_object(run / MANIFEST, advice="restore the file")
    _check_manifest(manifest, run / MANIFEST)
    info = read_export(model)
    if info is None:
        what = "the export does not say how it was made: it has no tunesmith.json"
        raise MissingInputError(what, where=model, advice=f"export it again: tunesmith export {run}")
    journal = parse_journal(manifest, run / MANIFEST)
    paths = LocalPaths.of(recipe)
    shown = Recipe.model_validate(paths.remove(recipe.model_dump(mode="json")))
    card = recipe.card or CardConfig()
    history = RunHistory.of(run, selection_rule(recipe.train.best))
    history.update()
    results = ResultReader(run, model).read()
    reply = results.example or _evaluated_reply(run, recipe, history, info)
    return CardFacts(
        name=recipe.name,
        recipe=shown,
        recipe_text=recipe_text(shown),
        card=card,
        model=_model(model, recipe, manifest, info, paths),
        prompt=read_prompts(model, card.prompts, reply) if info.kind == "assistant" else None,
        data=_data(run, recipe, manifest, paths, progress),
        training=_training(run, recipe, manifest, journal, history, info, model),
        benchmarks=tuple(results.benchmarks),
        versions_of_benchmarks=results.versions,
        replies=tuple(results.replies),
        rewards=tuple(results.rewards),
        pages=tuple(results.pages),
        files=frozenset(path.relative_to(model).as_posix() for path in model.rglob("*") if path.is_file()),
        dropped=tuple(results.dropped),
    )


def _check_manifest(manifest: Mapping[str, Any], where: Path) -> None:
    """Raises DataError for a manifest that lacks a part that every run has."""
    try:
        report = manifest["data"]["report"]
        parts = [manifest["hub"], manifest["hardware"], manifest["versions"], manifest["data"]["sources"]]
        parts.append((manifest.get("validation") or manifest["data"])["sources"])
        parts += [report["train"], report["validation"] or {}, *report["sources"].values()]
        complete = all(isinstance(part, dict) for part in parts) and int(report["duplicates"]) >= 0
    except (KeyError, TypeError, ValueError, AttributeError):
        complete = False
    if not complete:
        raise DataError("this is no manifest of a run", where=where, advice="restore the file")


def recipe_text(recipe: Recipe) -> str:
    """The recipe as YAML without its card."""
    return "\n".join(line.text for line in yaml_lines(recipe.model_dump(mode="json", exclude={"card"})))


def _model(export: Path, recipe: Recipe, manifest: Mapping[str, Any], info: ExportInfo, paths: LocalPaths) -> CardModel:
    found = read_directory(export)
    entries = found.config.entries
    rows = None if found.adapter is None else found.adapter.rows
    path, licenses = recipe.model.path, recipe.card.licenses if recipe.card is not None else {}
    commits = manifest["hub"]
    return CardModel(
        kind=info.kind,
        architecture=found.architecture,
        is_encoder_decoder=bool(entries.get("is_encoder_decoder")),
        parameters=found.count_parameters(),
        dtype=str(entries.get("dtype") or entries.get("torch_dtype")),
        context=next((int(entries[key]) for key in POSITIONS if isinstance(entries.get(key), int)), None),
        base=None if path is None else paths.name(path),
        base_on_hub=path in commits,
        base_commit=str(commits.get(path, "")),
        adapter=recipe.model.adapter is not None,
        is_adapter=found.adapter is not None,
        adapted_rows=rows if rows != entries.get("vocab_size") else None,
        has_adapter=is_adapter(export / ADAPTER),
        has_pipeline=(export / PIPELINE).is_file(),
        base_license=licenses.get(path or "", ""),
    )


def _data(run: Path, recipe: Recipe, manifest: Mapping[str, Any], paths: LocalPaths, progress: Progress) -> DataFacts:
    data, separate = manifest["data"], manifest.get("validation")
    report = data["report"]
    records = sum(int(counts["records"]) for counts in report["sources"].values())
    digests = SourceDigests(data["sources"], {} if separate is None else separate["sources"])
    survey = survey_data(run, recipe, digests, records, progress)
    licenses = recipe.card.licenses if recipe.card is not None else {}

    def facts_of(source: DataSourceConfig, hub: Collection[str], counts: Mapping[str, Any]) -> SourceFacts:
        place, license = paths.name(source.path), licenses.get(source.path, "")
        limit = source.validation_limit or recipe.data.validation_limit
        return SourceFacts(source.name, place, source.name in hub, source.split or "", license, counts, limit)

    hub, validation_hub = ([], []) if survey is None else (survey.hub, survey.validation_hub)
    counted = {} if survey is None else survey.validation_records
    return DataFacts(
        sources=tuple(facts_of(each, hub, report["sources"][each.name]) for each in recipe.data.sources),
        train=report["train"],
        validation=report["validation"] or {},
        duplicates=int(report["duplicates"]) if separate is None else 0,
        survey=survey,
        separate=tuple(
            facts_of(each, validation_hub, {"records": counted[each.name]} if each.name in counted else {})
            for each in recipe.data.validation_sources
        ),
    )


def _training(
    run: Path,
    recipe: Recipe,
    manifest: Mapping[str, Any],
    journal: RunJournal,
    history: RunHistory,
    info: ExportInfo,
    export: Path,
) -> TrainingFacts:
    method = METHODS[recipe.objective.kind]
    totals = {"tokens": 0, "targets": 0, "examples": 0}
    for record in read_records(run / METRICS):
        if VALIDATION not in record and 0 < record[STEP] <= info.steps:
            for name in totals:
                totals[name] += int(record.get(name, 0))
    evaluated = {each.step: each.metrics for each in history.evaluations}
    return TrainingFacts(
        method=recipe.objective.kind,
        steps=info.steps,
        planned=find_status(run).steps,
        tokens=totals["tokens"],
        targets=totals["targets"],
        examples=totals["examples"],
        seconds=_seconds(run, info.steps),
        hardware=manifest["hardware"],
        versions=manifest["versions"],
        starts=read_starts(journal.starts, recipe, manifest["versions"], info.steps),
        changes=find_changes(journal.starts, info.steps),
        export_options=_export_options(recipe, history, info, export),
        started=journal.starts[0].time if journal.starts else "",
        finished=find_end(journal.starts, info.steps),
        metrics=evaluated.get(info.steps, {}),
        labels={each.name: (each.label, each.form) for each in method.shown},
    )


def _seconds(run: Path, steps: int) -> float:
    """What the steps up to ``steps`` took, also those that were done again after a stop."""
    records = (record for record in RecordTail(run / TIMING).read() if 0 < record[STEP] <= steps)
    return sum(float(record["tokens"] / speed) for record in records if (speed := step_speed(record)) is not None)


def _export_options(recipe: Recipe, history: RunHistory, info: ExportInfo, export: Path) -> tuple[str, ...]:
    """What `tunesmith export` needs to write an export again; empty if it is that at the end of a run."""
    end = history.selection.best if recipe.run.export == "best" else history.last.get(STEP, 0)
    step = () if info.steps == end else ("--step", str(info.steps))
    return (*step, "--with-pipeline") if (export / PIPELINE).is_file() else step


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
