"""`tunesmith plan`: counts a recipe, prints what it needs, and says whether it fits."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tunesmith.compose.components.data import prepare_data
from tunesmith.compose.components.format_choice import with_chosen_format
from tunesmith.compose.components.recognition import name_readers
from tunesmith.compose.components.steps import build_plan
from tunesmith.compose.components.tokenizer import tokenizer_name
from tunesmith.compose.models.families import check_divided, check_replicas, shard_kind
from tunesmith.compose.progress import show_progress
from tunesmith.compose.sizing.advice import propose
from tunesmith.compose.sizing.duration import estimate_duration
from tunesmith.compose.sizing.hardware import GPUS, Gpu, find_gpu, present_gpu
from tunesmith.compose.sizing.lines import PlanResult
from tunesmith.compose.sizing.run import DataCounts, SizedRun, size_run
from tunesmith.compose.sizing.settings import Distribution
from tunesmith.compose.sizing.storage import disk_need, host_need
from tunesmith.data.dataset.store import Store
from tunesmith.recipe.load import LoadedRecipe, load, split_words
from tunesmith.recipe.schema import Recipe
from tunesmith.recipe.text import AUTO
from tunesmith.recipe.training import ShardKind

DEFAULT_GPU = "h100"


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """The options of the command.

    gpu: name of a GPU; None: that of this machine, or an H100.
    gpus: how many.
    shard: what they divide; None: nothing on one GPU, everything on several.
    tokens: that the whole run reads, and longest: of the longest record; None: of the data, where they are files.
    speed: tokens a second of one GPU that were measured.
    """

    gpu: str | None = None
    gpus: int = 1
    shard: ShardKind | None = None
    tokens: int | None = None
    longest: int | None = None
    speed: float | None = None


def plan_recipe(words: Sequence[str], options: PlanOptions) -> PlanResult:
    """What a recipe needs. words: recipe, layers and single values.

    Raises UsageError, RecipeError, MissingInputError, DataError.
    """
    names, values = split_words(words)
    recipe = without_auto(load(names, values))
    gpu = choose_gpu(options.gpu)
    kind = choose_shard(recipe, options)
    check_replicas(recipe, kind, options.gpus)
    spread = Distribution(options.gpus, kind, recipe.train.replicas)
    check_divided(recipe, spread.shard, recipe.train.weights)
    run = size_run(recipe, count_data(recipe, options))
    return result_of(run, words, gpu, spread, options.speed, propose(run, gpu, spread))


def without_auto(loaded: LoadedRecipe) -> Recipe:
    """The recipe with the readers and the prompt format that `auto` means, where data and model are at hand.

    Raises as ``name_readers`` and ``with_chosen_format``.
    """
    if _has_data(loaded.recipe):
        loaded = name_readers(loaded, lambda line: None)
    keys = loaded.recipe.model
    has_model = keys.init is not None or Path(str(keys.path)).is_dir()
    if has_model and Path(tokenizer_name(loaded.recipe)).is_dir():
        return with_chosen_format(loaded.recipe)[0]
    return loaded.recipe


def result_of(
    run: SizedRun,
    words: Sequence[str],
    gpu: Gpu,
    spread: Distribution,
    speed: float | None,
    proposals: Sequence[Any],
) -> PlanResult:
    """Everything that is printed. speed: tokens a second of one GPU, where they were measured."""
    return PlanResult(
        run=run,
        words=words,
        gpu=gpu,
        spread=spread,
        memory=run.memory(spread),
        disk=disk_need(run),
        host=host_need(run, spread),
        duration=estimate_duration(run, gpu, spread, speed),
        measured=speed is not None,
        proposals=proposals,
    )


def choose_shard(recipe: Recipe, options: PlanOptions) -> ShardKind:
    """What several GPUs divide: by the option, by the recipe, or else everything."""
    if options.gpus == 1:
        return "none"
    return options.shard or shard_kind(recipe, options.gpus)


def choose_gpu(name: str | None) -> Gpu:
    """The GPU of this name; without one that of this machine, or else an H100. Raises UsageError."""
    return find_gpu(name) if name is not None else present_gpu() or GPUS[DEFAULT_GPU]


def count_data(recipe: Recipe, options: PlanOptions) -> DataCounts:
    """Tokens and steps of the run: from the data where they and the tokenizer are files, otherwise from the options."""
    given = DataCounts(options.tokens, recipe.train.steps, options.longest)
    if options.tokens is not None or recipe.objective.prompt_selection is not None or not _is_local(recipe):
        return given
    with show_progress("preparing data") as progress:
        prepared, _ = prepare_data(recipe, progress)
    found = counts_of(recipe, prepared.train)
    return found if options.longest is None else DataCounts(found.tokens, found.steps, options.longest)


def counts_of(recipe: Recipe, store: Store) -> DataCounts:
    """The counts of prepared data."""
    steps = build_plan(recipe, store).total_steps
    keys, total = recipe.train, int(store.tokens.sum())
    if keys.epochs is not None:
        tokens = round(keys.epochs * total)
    else:
        costs = {"examples": len(store), "threads": int(store.threads.sum()), "tokens": total}[keys.batch_unit]
        tokens = round(steps * keys.batch_size * total / costs)
    return DataCounts(tokens, steps, int(store.tokens.max()))


def _is_local(recipe: Recipe) -> bool:
    """Whether data can be prepared without the hub."""
    return recipe.text.format != AUTO and Path(tokenizer_name(recipe)).is_dir() and _has_data(recipe)


def _has_data(recipe: Recipe) -> bool:
    sources = [*recipe.data.sources, *recipe.data.validation_sources]
    return all(Path(each.path).exists() for each in sources)


def as_json(result: PlanResult) -> str:
    """The same for programs, in bytes and seconds."""
    memory, run = result.memory, result.run
    content = {
        "recipe": run.recipe.name,
        "gpu": result.gpu.title,
        "gpus": result.spread.processes,
        "shard": result.spread.shard,
        "replicas": result.spread.replicas,
        "parameters": run.network.parameters,
        "memory": {
            "available": result.gpu.memory,
            "needed": memory.needed,
            "reserve": memory.reserve,
            "lines": [asdict(line) for line in memory.lines],
        },
        "fits": result.fits,
        "disk": {**asdict(result.disk), "total": result.disk.total},
        "host": result.host,
        "tokens": run.data.tokens,
        "duration": asdict(result.duration),
        "measured": result.measured,
        "proposals": [asdict(each) for each in result.proposals],
    }
    return json.dumps(content, indent=2)
