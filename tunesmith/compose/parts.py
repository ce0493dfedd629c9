"""From the sections of a recipe to the parts of a run: the translation, and nothing else."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, assert_never

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

from tunesmith.batch.example import Weighting
from tunesmith.batch.packed import collate_packed
from tunesmith.batch.protocols import Collator
from tunesmith.compose.purposes import check_sources
from tunesmith.compose.scores import with_scores
from tunesmith.data.dataset.duplicates import DuplicateSettings
from tunesmith.data.dataset.faults import BadRows
from tunesmith.data.dataset.plan import Draw, Plan, share_of
from tunesmith.data.dataset.prepare import Prepared, Progress, prepare
from tunesmith.data.dataset.prompt_list import PromptList
from tunesmith.data.dataset.rendering import RenderSettings
from tunesmith.data.dataset.store import Store
from tunesmith.data.readers.filters import Filters, LabelRange
from tunesmith.data.readers.source_config import Holdout, SourceConfig
from tunesmith.draws import stream_seed
from tunesmith.errors import RecipeError
from tunesmith.model.dropout import decoder_layers
from tunesmith.recipe import schema
from tunesmith.recipe.data import AMOUNTS
from tunesmith.recipe.schema import Constant, Cosine, Factors, Linear, Logarithmic, Recipe, Source, Train
from tunesmith.text.formats.chat_template import template_options
from tunesmith.text.formats.format import Format
from tunesmith.text.formats.registry import ENCODER_DECODER, build_format
from tunesmith.text.tokenizer.tokenizer import Tokenizer
from tunesmith.text.tokens.crop import CropSettings
from tunesmith.text.tokens.prompts import Prompts
from tunesmith.text.tokens.render import Renderer
from tunesmith.train.loop import Trainable
from tunesmith.train.optim.adafactor import Adafactor
from tunesmith.train.optim.muon import Muon
from tunesmith.train.optim.optimizers import AdamW, Optimizer
from tunesmith.train.optim.schedules import (
    Schedule,
    constant,
    cosine,
    linear,
    logarithmic,
    product_of_factors,
    warmup_steps,
)
from tunesmith.train.steps import Columns, DatasetSteps, no_columns

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def cache_directory(recipe: Recipe) -> Path:
    """Where tokenised data is kept: ``data.cache``, or the user's cache directory."""
    if recipe.data.cache is not None:
        return Path(recipe.data.cache)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "tunesmith"


def tokenizer_name(recipe: Recipe) -> str:
    """Directory or hub name of the tokenizer; the recipe guarantees that there is one."""
    name = recipe.model.tokenizer or recipe.model.path
    assert name is not None
    return name


def tokenizer_revision(recipe: Recipe) -> str | None:
    return recipe.model.revision if recipe.model.tokenizer is None else None


def format_options(recipe: Recipe) -> dict[str, Any]:
    """The options of the prompt format. Raises MissingInputError, DataError, RecipeError.

    The format ``tokenizer`` finds its chat template here, once; from now on it travels with the other options, through
    the key of the cache and into the export.
    """
    if recipe.text.format != "tokenizer":
        return dict(recipe.text.options)
    return template_options(tokenizer_name(recipe), tokenizer_revision(recipe), recipe.text.options)


def prompt_format(recipe: Recipe) -> Format:
    return build_format(recipe.text.format, format_options(recipe))


def render_settings(recipe: Recipe) -> RenderSettings:
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
        reserved=recipe.objective.max_new_tokens if isinstance(recipe.objective, schema.Ppo) else 0,
    )


def target_limit(recipe: Recipe) -> int | None:
    """Most tokens of a reply, where replies have a limit of their own: in formats for encoder-decoders."""
    text = recipe.text
    return text.max_target_length or text.max_length if text.format in ENCODER_DECODER else None


def crop(recipe: Recipe, renderer: Renderer) -> CropSettings | None:
    """What becomes of long threads when they are laid out; None where the store has none."""
    text = recipe.text
    if text.truncation == "left" or text.truncation == "window":
        return CropSettings(text.truncation, text.max_length, renderer.opening, text.window_probability)
    return None


def source_specs(recipe: Recipe, sources: Sequence[Source], limit: int | None = None) -> list[SourceConfig]:
    """limit: most trees of each that are evaluated, unless the source says so itself."""
    prompts = recipe.objective.prompts if isinstance(recipe.objective, schema.Ppo) else None
    return [_source_spec(source, limit, prompts) for source in sources]


def _source_spec(source: Source, limit: int | None, prompts: Prompts | None) -> SourceConfig:
    return SourceConfig(
        name=source.name,
        path=source.path,
        reader=source.reader,
        split=source.split,
        fields=dict(source.fields),
        options=dict(source.options),
        filters=filters(source.filters),
        holdout=Holdout(source.validation, source.validation_limit or limit),
        prompts=prompts,
    )


def filters(keys: schema.Filters) -> Filters:
    return Filters(
        min_characters=keys.min_characters,
        max_characters=keys.max_characters,
        max_turns=keys.max_turns,
        languages=keys.languages,
        labels=tuple(LabelRange(name, label.min, label.max) for name, label in keys.labels.items()),
    )


def prepare_data(recipe: Recipe, progress: Progress) -> tuple[Prepared, Prepared | None]:
    """(training data, evaluation data of its own or None); raises what ``data.prepare`` raises."""
    data, seed = recipe.data, stream_seed(recipe.seed, "validation")
    check_sources(recipe)

    def prepared(sources: tuple[Source, ...], validation: int | float, seen: Sequence[SourceConfig] = ()) -> Prepared:
        return prepare(
            source_specs(recipe, sources, data.validation_limit),
            render_settings(recipe),
            validation=validation,
            seed=seed,
            cache=cache_directory(recipe),
            duplicates=DuplicateSettings(data.duplicates, data.near_threshold),
            seen=seen,
            bad_rows=BadRows(data.on_bad == "skip", data.max_bad),
            workers=data.workers,
            progress=progress,
        )

    own = source_specs(recipe, data.validation_sources, data.validation_limit)
    if not own:
        return with_scores(recipe, prepared(data.sources, data.validation), None)
    evaluated = prepared(data.validation_sources, 0).limited([spec.holdout.most for spec in own], seed)
    return with_scores(recipe, prepared(data.sources, 0, own), evaluated)


def load_tokenizer(recipe: Recipe, format: Format) -> Tokenizer:
    return Tokenizer.load(tokenizer_name(recipe), format.controls, tokenizer_revision(recipe))


def check_same_tokenizer(path: str, tokenizer: Tokenizer, recipe: Recipe, key: str) -> None:
    """Raises RecipeError if a local model directory brings a tokenizer that reads the format otherwise. key: of the recipe."""
    if not (Path(path) / "tokenizer.json").is_file():
        return
    other = Tokenizer.load(path, prompt_format(recipe).controls)
    if other.fingerprint != tokenizer.fingerprint:
        what = f"{path} has another tokenizer than {tokenizer_name(recipe)}"
        raise RecipeError(
            what, where=key, advice="both must read the same tokens; name a model trained from the same one"
        )


def build_plan(recipe: Recipe, store: Store) -> Plan:
    keys = recipe.train
    costs = {"examples": store.tokens * 0 + 1, "threads": store.threads, "tokens": store.tokens}[keys.batch_unit]
    seed = stream_seed(recipe.seed, "order")
    return Plan(costs, keys.batch_size, epochs=keys.epochs, steps=keys.steps, seed=seed, draws=draws(recipe, store))


def draws(recipe: Recipe, store: Store | PromptList) -> tuple[Draw, ...]:
    """What every source gives to an epoch; nothing if all give what they have, once."""
    if not any(mixed(source) for source in recipe.data.sources):
        return ()
    found = []
    for index, source in enumerate(recipe.data.sources):
        examples = np.flatnonzero(store.source == index)
        if len(examples):  # nothing may be left of a source after filters and validation
            amount = source.fraction or source.weight or 1.0
            found.append(Draw(source.name, examples, source.size or share_of(len(examples), amount)))
    return tuple(found)


def mixed(source: Source) -> bool:
    """Whether an epoch holds anything else of a source than all of it, once."""
    return any(getattr(source, key) is not None for key in AMOUNTS)


def weighting(recipe: Recipe) -> Weighting:
    """How often a shared turn counts."""
    return recipe.objective.weighting if isinstance(recipe.objective, schema.Sft) else "messages"


def build_steps(
    recipe: Recipe,
    store: Store,
    renderer: Renderer,
    collate: Collator = collate_packed,
    columns: Columns = no_columns,
) -> DatasetSteps:
    """The steps of the whole run. collate: makes its micro-batches. columns: what is known of every example."""
    return DatasetSteps(
        build_plan(recipe, store),
        store,
        weighting(recipe),
        recipe.train.micro_batch_tokens,
        stream_seed(recipe.seed, "noise"),
        crop=crop(recipe, renderer),
        collate=collate,
        columns=columns,
    )


def build_schedule(keys: Train, total: int) -> Schedule:
    rate, schedule = keys.learning_rate, keys.schedule
    match schedule:
        case Constant():
            return constant(rate, schedule.warmup_steps, total)
        case Linear():
            return linear(rate, _warmup(schedule, total), total, end=schedule.end)
        case Cosine():
            return cosine(rate, _warmup(schedule, total), total, minimum=schedule.end)
        case Logarithmic():
            lag = schedule.lag
            return logarithmic(rate, schedule.warmup_steps, total, decay=schedule.decay, lag=lag, first_at_peak=lag)
        case Factors():
            return product_of_factors(rate, total=total, **schedule.model_dump(exclude={"kind"}))
        case _:
            assert_never(schedule)


def _warmup(schedule: Linear | Cosine, total: int) -> int:
    if schedule.warmup_ratio is not None:
        return warmup_steps(schedule.warmup_ratio, total)
    return schedule.warmup_steps


def build_optimizer(keys: Train, policy: Trainable, model: PreTrainedModel) -> Optimizer:
    """The optimizer of all that the policy trains. model: whose matrices Muon takes."""
    parameters, optimizer = policy.parameters(), keys.optimizer
    match optimizer:
        case schema.AdamW():
            return AdamW(
                parameters, betas=optimizer.betas, epsilon=optimizer.epsilon, weight_decay=optimizer.weight_decay
            )
        case schema.Muon():
            return Muon(
                parameters,
                hidden_matrices(model),
                learning_rate=keys.learning_rate,
                adamw_learning_rate=optimizer.adamw_learning_rate or keys.learning_rate,
                momentum=optimizer.momentum,
                weight_decay=optimizer.weight_decay,
                betas=optimizer.betas,
                epsilon=optimizer.epsilon,
            )
        case schema.Adafactor():
            return Adafactor(parameters, **optimizer.model_dump(exclude={"kind"}))
        case _:
            assert_never(optimizer)


def hidden_matrices(model: nn.Module) -> list[str]:
    """Names of the two-dimensional weights inside the layers: no embedding, no head, no norm, no bias."""
    config: Any = model.config
    if config.is_encoder_decoder:
        stacks = [model.get_submodule(f"{stack}.block") for stack in ("encoder", "decoder")]
    else:
        stacks = [decoder_layers(model, "train.optimizer")]
    inside = {
        id(parameter)
        for stack in stacks
        for module in stack.modules()
        if not isinstance(module, nn.Embedding)  # T5 keeps the biases of its positions in one
        for parameter in module.parameters(recurse=False)
        if parameter.ndim == 2
    }
    return [name for name, parameter in model.named_parameters() if id(parameter) in inside]
