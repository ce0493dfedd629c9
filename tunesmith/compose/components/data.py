"""The data of a recipe: where they are read from, and how they are rendered, stored and checked."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tunesmith.compose.components.data_checks import check_reply_scores, check_sources
from tunesmith.compose.components.tokenizer import format_options, tokenizer_name, tokenizer_revision
from tunesmith.data.dataset.building import Progress
from tunesmith.data.dataset.duplicates import DuplicateSettings
from tunesmith.data.dataset.faults import BadRows
from tunesmith.data.dataset.prepare import Prepared, prepare
from tunesmith.data.dataset.rendering import RenderSettings
from tunesmith.data.readers.filters import LabelBounds, MessageFilters
from tunesmith.data.readers.source_config import Holdout, SourceConfig
from tunesmith.draws import stream_seed
from tunesmith.files import user_directory
from tunesmith.recipe import schema
from tunesmith.recipe.schema import DataSourceConfig, Recipe
from tunesmith.text.formats.registry import ENCODER_DECODER
from tunesmith.text.tokens.prompts import Prompts


def cache_directory(recipe: Recipe) -> Path:
    """Where tokenised data is kept: ``data.cache``, or the user's cache directory."""
    return Path(recipe.data.cache) if recipe.data.cache is not None else user_directory("cache", os.environ)


def prepare_data(recipe: Recipe, progress: Progress) -> tuple[Prepared, Prepared | None]:
    """(training data, separate evaluation data or None).

    Raises RecipeError for a reader that does not fit the objective, DataError for scores that are missing, and
    everything that ``data.dataset.prepare.prepare`` raises.
    """
    data, seed = recipe.data, stream_seed(recipe.seed, "validation")
    check_sources(recipe)

    def prepared(
        sources: tuple[DataSourceConfig, ...], validation: int | float, known: Sequence[SourceConfig] = ()
    ) -> Prepared:
        return prepare(
            source_configs(recipe, sources, data.validation_limit),
            render_settings(recipe),
            validation=validation,
            seed=seed,
            cache=cache_directory(recipe),
            duplicates=DuplicateSettings(data.duplicates, data.near_threshold),
            known=known,
            bad_rows=BadRows(data.on_bad == "skip", data.max_bad),
            workers=data.workers,
            progress=progress,
        )

    separate = source_configs(recipe, data.validation_sources, data.validation_limit)
    evaluated = None
    if separate:
        limits = [config.holdout.limit for config in separate]
        evaluated = prepared(data.validation_sources, 0).limit(limits, seed)
    found = prepared(data.sources, 0 if separate else data.validation, separate)
    check_reply_scores(recipe, found, evaluated)
    return found, evaluated


def render_settings(recipe: Recipe) -> RenderSettings:
    """How conversations become token trees."""
    text = recipe.text
    return RenderSettings(
        tokenizer=tokenizer_name(recipe),
        format=text.format,
        max_length=text.max_length,
        truncation=text.truncation,
        options=tuple(sorted(format_options(recipe).items())),
        revision=tokenizer_revision(recipe),
        targets=recipe.targets,
        max_target_length=target_limit(recipe),
        reserved=recipe.objective.reserved_tokens,
    )


def target_limit(recipe: Recipe) -> int | None:
    """Largest number of tokens of a reply where replies have a separate limit: in formats for encoder-decoders."""
    text = recipe.text
    return text.max_target_length or text.max_length if text.format in ENCODER_DECODER else None


def source_configs(recipe: Recipe, sources: Sequence[DataSourceConfig], limit: int | None = None) -> list[SourceConfig]:
    """How the sources are read. limit: trees of each that are evaluated, for sources without a limit in the recipe."""
    prompts = recipe.objective.prompt_selection
    return [replace(_source_config(source, limit, prompts), key=_source_key(recipe, source)) for source in sources]


def _source_key(recipe: Recipe, source: DataSourceConfig) -> str:
    """The key of a source in the recipe, such as ``data.sources.0``."""
    lists = {"sources": recipe.data.sources, "validation_sources": recipe.data.validation_sources}
    keys = {id(item): f"data.{name}.{index}" for name, items in lists.items() for index, item in enumerate(items)}
    return keys.get(id(source), "")


def _source_config(source: DataSourceConfig, limit: int | None, prompts: Prompts | None) -> SourceConfig:
    return SourceConfig(
        name=source.name,
        path=source.path,
        reader=source.reader,
        split=source.split,
        config=source.config,
        fields=dict(source.fields),
        options=dict(source.options),
        ignore=source.ignore,
        group=source.group,
        filters=row_filters(source.filters),
        holdout=Holdout(source.validation, source.validation_limit or limit),
        prompts=prompts,
    )


def row_filters(keys: schema.FiltersConfig) -> MessageFilters:
    """The filters of a source."""
    return MessageFilters(
        min_characters=keys.min_characters,
        max_characters=keys.max_characters,
        max_turns=keys.max_turns,
        languages=keys.languages,
        labels=tuple(LabelBounds(name, label.min, label.max) for name, label in keys.labels.items()),
    )
