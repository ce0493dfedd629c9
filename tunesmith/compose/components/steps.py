"""The steps of a run: which examples each has, and how they become micro-batches."""

from __future__ import annotations

import numpy as np

from tunesmith.batch.protocols import BatchT, Collator
from tunesmith.data.dataset.plan import Draw, Plan, share_of
from tunesmith.data.dataset.prompt_list import PromptList
from tunesmith.data.dataset.store import Store
from tunesmith.draws import stream_seed
from tunesmith.recipe.data import AMOUNTS
from tunesmith.recipe.schema import DataSourceConfig, Recipe
from tunesmith.text.tokens.crop import CropSettings
from tunesmith.text.tokens.render import Renderer
from tunesmith.train.steps import Columns, DatasetSteps, no_columns
from tunesmith.world import ALONE, Communicator


def build_steps(
    recipe: Recipe,
    store: Store,
    renderer: Renderer,
    collate: Collator[BatchT],
    columns: Columns = no_columns,
    world: Communicator = ALONE,
) -> DatasetSteps[BatchT]:
    """The steps of the whole run over the examples of a store.

    collate: makes the micro-batches.
    columns: values of every example that were computed before the first step, such as reference log-probabilities.
    world: the processes that share every step.
    """
    return DatasetSteps(
        build_plan(recipe, store),
        store,
        recipe.objective.turn_weighting,
        recipe.train.micro_batch_tokens,
        stream_seed(recipe.seed, "noise"),
        crop=crop_settings(recipe, renderer),
        collate=collate,
        columns=columns,
        rank=world.rank,
        processes=world.size,
    )


def build_plan(recipe: Recipe, store: Store) -> Plan:
    """Which examples every step consumes."""
    keys = recipe.train
    costs = {"examples": store.tokens * 0 + 1, "threads": store.threads, "tokens": store.tokens}[keys.batch_unit]
    seed = stream_seed(recipe.seed, "order")
    draws = build_draws(recipe, store)
    return Plan(costs, keys.batch_size, epochs=keys.epochs, steps=keys.steps, seed=seed, draws=draws)


def build_draws(recipe: Recipe, store: Store | PromptList) -> tuple[Draw, ...]:
    """How many examples an epoch draws from every source; empty if every source gives all it has, once."""
    if not any(is_mixed(source) for source in recipe.data.sources):
        return ()
    found = []
    for index, source in enumerate(recipe.data.sources):
        examples = np.flatnonzero(store.source == index)
        if len(examples):  # filters and validation may have left nothing of a source
            amount = source.fraction or source.weight or 1.0
            found.append(Draw(source.name, examples, source.size or share_of(len(examples), amount)))
    return tuple(found)


def count_epoch(recipe: Recipe, store: Store | PromptList) -> int:
    """The examples of one epoch."""
    return sum(draw.count for draw in build_draws(recipe, store)) or len(store)


def is_mixed(source: DataSourceConfig) -> bool:
    """Whether an epoch has anything else of a source than all of it, once."""
    return any(getattr(source, key) is not None for key in AMOUNTS)


def crop_settings(recipe: Recipe, renderer: Renderer) -> CropSettings | None:
    """How long threads are cropped in every step; None if they were truncated before they were stored."""
    text = recipe.text
    if text.truncation == "left" or text.truncation == "window":
        return CropSettings(text.truncation, text.max_length, renderer.opening, text.window_probability)
    return None
