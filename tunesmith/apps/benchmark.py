"""`tunesmith benchmark`: models on the tasks of lm-evaluation-harness, as a table with intervals and differences."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Literal, TextIO, TypeAlias

import datasets
import transformers

from tunesmith.apps.shared_command import SharedCommand, shared_command
from tunesmith.benchmark.differences import compare_scores
from tunesmith.benchmark.evaluation import evaluate_tasks, item_lines
from tunesmith.benchmark.language_model import TreeLanguageModel
from tunesmith.benchmark.models import BenchmarkModel, DtypeName, open_benchmark_model
from tunesmith.benchmark.published import PUBLISHED
from tunesmith.benchmark.results import ModelScores
from tunesmith.benchmark.tables import BenchmarkResults, as_json, csv_table, markdown, terminal_lines
from tunesmith.benchmark.task_files import expand_suites
from tunesmith.benchmark.tasks import PreparedTasks, prepare_tasks
from tunesmith.compose.manifest import PACKAGE, code_digest, package_versions
from tunesmith.compose.progress import show_progress
from tunesmith.errors import UsageError
from tunesmith.files import write_file, write_json
from tunesmith.generate.model_formats import check_writes_replies, choose_formats
from tunesmith.launch import check_alone, launched_process
from tunesmith.report.compared import unique_labels
from tunesmith.text.tokens.render import Renderer
from tunesmith.text.visible import visible
from tunesmith.world import Communicator

EngineName: TypeAlias = Literal["tree", "hf"]
ChatChoice: TypeAlias = Literal["no", "yes", "both"]
JOURNALS = "journal"
STOCK_BATCH = 16


@dataclass(frozen=True, slots=True)
class BenchmarkOptions:
    """What is asked for.

    tasks: tasks and suites.
    data: a directory of files, or ``hub``.
    output: the directory that is written.
    shots: examples in the prompt; None for what each task has.
    limit: only the first items of every task.
    chat: whether prompts are written in the prompt format of the model, or in both ways.
    format: the prompt format of the models that do not declare one.
    engine: ``tree``, or ``hf`` for the model of lm-evaluation-harness.
    dtype: number format.
    with_published: show the rows of the card of dolly-v2-7b.
    """

    tasks: tuple[str, ...]
    data: str
    output: Path
    shots: int | None = None
    limit: int | None = None
    chat: ChatChoice = "no"
    format: str | None = None
    engine: EngineName = "tree"
    dtype: DtypeName = "auto"
    with_published: bool = False


def run(
    models: Sequence[str], options: BenchmarkOptions, target: TextIO | None = None, errors: TextIO | None = None
) -> None:
    """Evaluate the models, print the table and write the files.

    Several processes share the requests of every task; the first one prints and writes.

    target: where is printed (standard output).
    errors: where notices are printed (standard error).
    Raises MissingInputError, DataError, UsageError, RecipeError, StorageError.
    """
    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    datasets.disable_progress_bars()
    datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = False  # it sends a request for every file, local ones as well
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    if options.engine == "hf" and options.chat != "no":
        what = "--engine hf writes chats in its own way, in which text and control tokens mix"
        raise UsageError(what, advice="leave --chat or --engine hf out")
    if options.engine == "hf":
        check_alone("benchmark --engine hf", launched_process(os.environ))
    with shared_command(target, errors) as command:
        _run_together(models, options, command)


def _run_together(models: Sequence[str], options: BenchmarkOptions, command: SharedCommand) -> None:
    """``run`` in processes that are joined."""
    formats: Sequence[str | None] = [None] * len(models)
    with ExitStack() as stack:
        with command.preparation():
            for path in models:
                check_writes_replies(path)
            if options.chat != "no":
                formats = choose_formats(models, options.format, command.note)
            tasks = prepare_tasks(expand_suites(options.tasks), options.data, options.shots)
            # The first process downloads what is on the hub.
            prepared = command.world.in_turn(lambda: stack.enter_context(tasks))
        seconds: dict[str, float] = {}
        scores = [
            each
            for path, format in zip(models, formats, strict=True)
            for each in _evaluate(path, prepared, replace(options, format=format), seconds, command)
        ]
    if not command.world.is_first:
        return
    labels = unique_labels([(each.path, each.prompts) for each in scores])
    named = [(label, each) for label, each in zip(labels, scores, strict=True)]
    results = _results([_with_label(each, label) for label, each in named], options)
    for line in terminal_lines(results):
        print(visible(line), file=command.screen)
    _write(results, options.output, dict(zip(labels, seconds.values(), strict=True)))
    total = sum(seconds.values())
    print(visible(f"wrote {options.output}/benchmark.json, .md and .csv ({total:,.0f} s)"), file=command.screen)


def _evaluate(
    path: str, prepared: PreparedTasks, options: BenchmarkOptions, seconds: dict[str, float], command: SharedCommand
) -> Iterator[ModelScores]:
    """The scores of one model, for each way to write its prompts. seconds: receives how long each took."""
    with command.preparation():
        model = open_benchmark_model(path, options.dtype)
    renderers = [
        model.chat_renderer(options.format) if chat else None
        for chat in {"no": (False,), "yes": (True,), "both": (False, True)}[options.chat]
    ]
    for renderer in renderers:
        start = time.monotonic()
        found = _evaluate_prompts(model, prepared, options, renderer, command.world)
        seconds[f"{len(seconds)}"] = time.monotonic() - start
        yield found


def _evaluate_prompts(
    model: BenchmarkModel,
    prepared: PreparedTasks,
    options: BenchmarkOptions,
    renderer: Renderer | None,
    world: Communicator,
) -> ModelScores:
    prompts = f"chat, format {renderer.format.name}" if renderer is not None else "plain"
    notes = list[str]()
    multi_turn = renderer is None or renderer.format.multi_turn
    if renderer is not None and not multi_turn and any(_shots(prepared)):
        notes.append(f"The format {renderer.format.name} has one turn, so the examples are in the same message.")
    if options.engine == "hf":
        stock = model.stock(STOCK_BATCH)
        tasks = evaluate_tasks(stock, prepared, limit=options.limit, work=stock.work)
    else:
        identity = {
            "model": model.fingerprint,
            "prompts": prompts,
            "dtype": model.dtype,
            "code": [code_digest(), code_digest(PACKAGE / "benchmark")],
            "versions": {**package_versions(), "lm_eval": version("lm_eval")},
        }
        with show_progress(f"benchmark {model.name}", shown=world.is_first) as progress:
            journals = options.output / JOURNALS
            language_model = TreeLanguageModel(model.parts(renderer), identity, journals, progress, world)
            tasks = evaluate_tasks(
                language_model,
                prepared,
                limit=options.limit,
                chat=renderer is not None,
                multi_turn=multi_turn,
                work=language_model.work,
            )
    values = (prompts, options.engine, model.dtype, model.fingerprint)
    return ModelScores(model.name, model.name, *values, tasks, tuple(notes))


def _shots(prepared: PreparedTasks) -> list[int]:
    return [int(task.get_config("num_fewshot") or 0) for task in prepared.tasks.values()]


def _with_label(scores: ModelScores, label: str) -> ModelScores:
    return ModelScores(
        label, scores.path, scores.prompts, scores.engine, scores.dtype, scores.fingerprint, scores.tasks, scores.notes
    )


def _results(models: Sequence[ModelScores], options: BenchmarkOptions) -> BenchmarkResults:
    """Every model is compared with the first."""
    first, *others = models
    differences = {(first.label, other.label): compare_scores(first, other) for other in others}
    versions = {"lm_eval": version("lm_eval"), **{k: v for k, v in package_versions().items() if v is not None}}
    published = PUBLISHED if options.with_published else {}
    return BenchmarkResults(tuple(models), differences, published, versions, options.limit)


def _write(results: BenchmarkResults, directory: Path, seconds: dict[str, float]) -> None:
    """Write the tables, the items of every model, and the times in a separate file. Raises StorageError."""
    write_json(directory / "benchmark.json", as_json(results))
    write_file(directory / "benchmark.md", markdown(results))
    write_file(directory / "benchmark.csv", csv_table(results))
    for number, model in enumerate(results.models):
        lines = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in item_lines(model.tasks))
        write_file(directory / f"items-{number + 1}.jsonl", lines)
    write_json(directory / "timing.json", {"seconds": {name: round(value, 3) for name, value in seconds.items()}})
