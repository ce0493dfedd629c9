"""The built-in recipes: they load, their files describe them, and their values are those of the published models."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any, get_args

import pytest

from tests.recipe.published_preferences import MIXTURE, PREFERENCES, SPLITS
from tunesmith.cli.recipes import HEADINGS
from tunesmith.compose.components.data_checks import check_sources
from tunesmith.data.readers.registry import READERS, open_reader
from tunesmith.errors import RecipeError
from tunesmith.generate.sampling import SamplingParameters
from tunesmith.recipe.data import AUTO
from tunesmith.recipe.layers import catalog_files
from tunesmith.recipe.load import list_catalog, load
from tunesmith.recipe.schema import (
    DataSourceConfig,
    ModelRewardConfig,
    PpoConfig,
    Recipe,
    RewardConfig,
    SamplingConfig,
    TextConfig,
)
from tunesmith.text.formats.registry import FORMATS, build_format

RECIPES = [entry.name for entry in list_catalog() if entry.kind == "recipe"]
LAYERS = [entry.name for entry in list_catalog() if entry.kind == "layer"]
HARDWARE = ("eight-80gb", "one-h100", "one-h200")
"""Layers that say how a recipe runs on a machine, and not what it trains."""
TINY = [name for name in LAYERS if name.startswith("tiny")]

MINE = ["data.sources.0.path=mine.jsonl"]
GENERIC: dict[str, list[str]] = {
    "sft": MINE,
    "dpo": MINE,
    "reward": MINE,
    "ppo": [*MINE, "objective.rewards.0.path=runs/my-reward"],
}
"""The recipes for any model and data, each with what its user gives besides a model."""

SMALL: dict[str, tuple[str, str, float]] = {
    "smollm2-135m": ("HuggingFaceTB/SmolLM2-135M", "chatml", 1e-4),
    "smollm2-360m": ("HuggingFaceTB/SmolLM2-360M", "chatml", 5e-5),
    "qwen3-0.6b": ("Qwen/Qwen3-0.6B-Base", "chatml", 3e-5),
    "llama-3.2-1b": ("meta-llama/Llama-3.2-1B", "tokenizer", 2e-5),
    "gemma-3-1b": ("google/gemma-3-1b-pt", "tokenizer", 2e-5),
}
"""The recipes for one small model and any data: its base model, format and rate."""

DOLLY: dict[str, Any] = {
    "seed": 42,
    "model.resize": "exact",
    "model.dtype": "bfloat16",
    "model.gradient_checkpointing": True,
    "model.residual_dropout": 0.0,
    "text.format": "dolly",
    "text.max_length": 2047,
    "text.truncation": "drop",
    "data.validation": 200,
    "train.epochs": 2.0,
    "train.batch_size": 48,
    "train.batch_unit": "examples",
    "train.learning_rate": 5e-6,
    "train.optimizer.kind": "adamw",
    "train.optimizer.betas": (0.9, 0.999),
    "train.optimizer.epsilon": 1e-8,
    "train.optimizer.weight_decay": 0.0,
    "train.schedule.kind": "logarithmic",
    "train.schedule.warmup_steps": 50,
    "train.schedule.decay": "none",
    "train.schedule.lag": False,
    "train.clip": 1.0,
    "train.evaluate_every": 50,
    "train.save_every": 200,
    "train.log_every": 10,
    "train.keep": 20,
    "sampling.do_sample": True,
    "sampling.top_p": 0.92,
    "sampling.top_k": 0,
    "sampling.max_new_tokens": 256,
}
OASST: dict[str, Any] = {
    "seed": 0xA1221F97,
    "model.resize": 16,
    "model.gradient_checkpointing": True,
    "text.format": "oasst",
    "text.options": {"predict_next_role": True, "train_system": False, "system_tags": False, "prefix": ""},
    "text.max_length": 2048,
    "text.truncation": "window",
    "text.window_probability": 0.8,
    "data.validation": 0.05,
    "objective.weighting": "threads",
    "train.batch_size": 64,
    "train.batch_unit": "threads",
    "train.learning_rate": 6e-6,
    "train.optimizer.kind": "adamw",
    "train.optimizer.betas": (0.9, 0.95),
    "train.optimizer.epsilon": 1e-12,
    "train.optimizer.weight_decay": 0.0,
    "train.schedule.kind": "logarithmic",
    "train.schedule.warmup_steps": 100,
    "train.schedule.decay": "linear",
    "train.schedule.lag": False,
    "train.clip": 2.0,
    "train.evaluate_every": 100,
    "train.save_every": 1000,
    "train.log_every": 10,
    "train.keep": 4,
    "sampling.repetition_penalty": 1.2,
    "sampling.max_new_tokens": 400,
    "sampling.min_new_tokens": 4,
}
FLAN_T5: dict[str, Any] = {
    "model.path": "google/flan-t5-xxl",
    "model.resize": "none",
    "model.residual_dropout": 0.1,
    "model.dtype": "bfloat16",
    "text.format": "t5-dolly",
    "text.max_length": 512,
    "text.max_target_length": 256,
    "text.truncation": "right",
    "objective.z_loss": 1e-4,
    "objective.label_smoothing": 0.0,
    "objective.normalize": "targets",
    "train.epochs": None,
    "train.steps": 5000,
    "train.batch_size": 320,
    "train.batch_unit": "examples",
    "train.learning_rate": 7e-4,
    "train.optimizer.kind": "adafactor",
    "train.optimizer.factored": True,
    "train.optimizer.min_dim_size_to_factor": 128,
    "train.optimizer.multiply_by_parameter_scale": True,
    "train.optimizer.clipping_threshold": 1.0,
    "train.optimizer.decay_rate": 0.8,
    "train.optimizer.initial_step": 0,
    "train.optimizer.step_offset": 0,
    "train.optimizer.beta1": None,
    "train.optimizer.weight_decay": 0.0,
    "train.optimizer.epsilon1": 1e-30,
    "train.optimizer.epsilon2": 1e-3,
    "train.schedule.kind": "factors",
    "train.schedule.factors": ("constant",),
    "train.clip": None,
    "train.save_every": 100,
    "evaluate.max_new_tokens": 256,
    "sampling.do_sample": True,
    "sampling.max_new_tokens": 256,
    "run.export": "best",
}
PUBLISHED: dict[str, dict[str, Any]] = {
    **PREFERENCES,
    "flan-t5-dolly-xxl": FLAN_T5,
    "dolly-v2-3b": {**DOLLY, "model.path": "EleutherAI/pythia-2.8b"},
    "dolly-v2-7b": {**DOLLY, "model.path": "EleutherAI/pythia-6.9b"},
    "dolly-v2-12b": {**DOLLY, "model.path": "EleutherAI/pythia-12b"},
    "oasst-sft-1-pythia-12b": {
        **OASST,
        "model.path": "EleutherAI/pythia-12b-deduped",
        "model.residual_dropout": 0.0,
        "train.epochs": None,
        "train.steps": 7000,
        "sampling.typical_p": 0.2,
    },
    "oasst-sft-4-pythia-12b": {
        **OASST,
        "model.path": "andreaskoepf/pythia-12b-pre-2000",
        "model.residual_dropout": 0.2,
        "model.residual_dropout_shape": "uniform",
        "train.epochs": 8.0,
        "train.stop_after": 4000,
    },
}


def complete(name: str, *layers: str) -> Recipe:
    """The recipe with what its user has to give, if there is anything."""
    given = MINE if name in SMALL else GENERIC.get(name, [])
    model = ["model.tokenizer=t" if set(layers) & set(TINY) else "model.path=m"] if name in GENERIC else []
    return load([name, *layers], [*given, *model]).recipe


def value(recipe: Any, key: str) -> Any:
    for part in key.split("."):
        recipe = getattr(recipe, part)
    return recipe


def test_every_recipe_has_its_published_values_here() -> None:
    assert sorted({**PUBLISHED, **GENERIC, **SMALL}) == RECIPES


@pytest.mark.parametrize("name", SMALL)
def test_a_recipe_of_a_small_model_is_sft_with_its_model_and_format(name: str) -> None:
    recipe = complete(name)
    assert (recipe.model.path, recipe.text.format, recipe.train.learning_rate) == SMALL[name]
    assert (recipe.train.schedule, recipe.data, recipe.run.export) == (
        complete("sft").train.schedule,
        complete("sft").data,
        "best",
    )
    assert str(recipe.directory) == f"runs/{name}-mine"


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_recipe_has_the_values_of_the_published_model(name: str) -> None:
    recipe = load([name]).recipe
    assert recipe.name == name
    assert {key: value(recipe, key) for key in PUBLISHED[name]} == PUBLISHED[name]


def kind(name: str) -> str:
    """The kind of layer that a recipe needs: for encoder-decoders, for PPO, or for any other run of a causal model."""
    return "t5" if "t5" in name.split("-") else "ppo" if {"ppo", "rlhf"} & {*name.split("-")[:3]} else ""


def fits(name: str, layer: str) -> bool:
    """The end of the name of a tiny layer is the kind of recipe that it is for; see ``ALSO_FIT`` for others."""
    if layer not in TINY:
        return True
    return layer.removeprefix("tiny").removeprefix("-") == kind(name) or (name, layer) in ALSO_FIT


ALSO_FIT = {
    ("ppo", "tiny"),  # its replies are short enough
    ("sft", "tiny-t5"),  # these choose the prompt format of the model themselves
    ("dpo", "tiny-t5"),
}


REFUSED = {
    "tiny": r"text\.format: .* is for encoder-decoders|objective\.max_new_tokens: .* leaves no space for a prompt",
    "tiny-t5": r"(text\.format|objective\.kind): .* is for causal models",
    "tiny-ppo": r"objective\.prompts_per_iteration: unknown key; it belongs to kind 'ppo'",
}


@pytest.mark.parametrize(("name", "layer"), [(name, layer) for name in RECIPES for layer in LAYERS])
def test_a_recipe_loads_under_every_layer_for_its_kind_of_model(name: str, layer: str) -> None:
    if not fits(name, layer):
        with pytest.raises(RecipeError, match=REFUSED[layer]):
            complete(name, layer)
        return
    plain, layered = complete(name), complete(name, layer)
    assert layered.name == plain.name
    assert layered.data == plain.data
    assert layered.objective.kind == plain.objective.kind
    assert layered.objective == plain.objective or layer == "tiny-ppo"
    assert (layered.directory == plain.directory) == (layer in HARDWARE)


@pytest.mark.parametrize("name", RECIPES)
def test_adapters_and_the_layers_of_machines_are_laid_over_a_recipe_in_either_order(name: str) -> None:
    for adapter, machine in itertools.product(("lora", "qlora"), HARDWARE):
        first, second = complete(name, adapter, machine), complete(name, machine, adapter)
        assert first.model.adapter == second.model.adapter == complete(name, adapter).model.adapter
        assert first.train == second.train
        assert first.directory == second.directory


@pytest.mark.parametrize(("name", "layer"), [(name, layer) for name in RECIPES for layer in TINY if fits(name, layer)])
def test_tiny_needs_no_weights_and_no_accelerator(name: str, layer: str) -> None:
    model = complete(name, layer).model
    assert model.path is None
    assert model.init is not None
    assert model.init["architecture"] == ("t5" if layer == "tiny-t5" else "gpt_neox")
    assert "vocab_size" not in model.init
    assert (model.dtype, model.gradient_checkpointing) == ("float32", False)


@pytest.mark.parametrize("name", catalog_files())
def test_a_file_begins_with_what_to_expect_and_the_command(name: str) -> None:
    lines = catalog_files()[name].read_text(encoding="utf-8").splitlines()
    header = "\n".join(lines[: next(index for index, line in enumerate(lines) if not line.startswith("#"))])
    assert header.startswith(f"# {name}: ")
    assert "#   tunesmith train " in header
    if name in RECIPES:
        assert "# Expected: " in header
        assert "# Hardware: " in header


@pytest.mark.parametrize("name", RECIPES)
def test_readers_and_formats_have_the_options_of_the_recipe(name: str) -> None:
    recipe = complete(name)
    if recipe.text.format not in (AUTO, "tokenizer"):  # known when the tokenizer is
        build_format(recipe.text.format, recipe.text.options)
    for source in recipe.data.sources:
        if source.reader != AUTO:  # known when the data are
            open_reader(source.reader, source.fields, source.options)
    check_sources(recipe)


def test_the_schema_names_exactly_the_existing_readers_and_formats() -> None:
    assert set(get_args(DataSourceConfig.model_fields["reader"].annotation)) == {AUTO, *READERS}
    assert set(get_args(TextConfig.model_fields["format"].annotation)) == {AUTO, *FORMATS}


def test_the_balance_of_bleu_and_loss_chooses_the_checkpoint_of_flan_t5() -> None:
    best = load(["flan-t5-dolly-xxl"]).recipe.train.best
    assert [(metric.name, metric.mode, metric.weight) for metric in best.metrics] == [
        ("validation/loss", "min", 1.0),
        ("validation/bleu", "max", 1.0),
    ]
    assert best.keep > 1


def test_the_languages_are_those_of_the_cards() -> None:
    first, fourth = (load([f"oasst-sft-{number}-pythia-12b"]).recipe for number in (1, 4))
    assert first.data.sources[0].options["lang"] == ("en",)
    languages = fourth.data.sources[0].options["lang"]
    assert " ".join(languages) == "bg ca cs da de en es fr hr hu it nl pl pt ro ru sl sr sv uk"


def test_the_tokenizer_of_a_model_that_was_trained_before_is_its_own() -> None:
    model = load(["oasst-sft-4-pythia-12b"]).recipe.model
    assert model.tokenizer == model.path


def test_the_recipe_knows_the_sampling_that_generation_knows() -> None:
    recipe = {name: field.default for name, field in SamplingConfig.model_fields.items()}
    known = {field.name: field.default for field in dataclasses.fields(SamplingParameters)}
    searches = {"num_beams", "penalty_alpha"}  # a search gives one reply to a prompt, and PPO needs draws
    assert recipe == {name: value for name, value in known.items() if name not in searches}


@pytest.mark.parametrize("name", SPLITS)
def test_a_recipe_of_the_suite_reads_its_published_split(name: str) -> None:
    (source,) = load([f"tulu-2.5-dpo-13b-{name}"]).recipe.data.sources
    assert (source.path, source.split) == ("allenai/tulu-2.5-preference-data", SPLITS[name])
    assert (source.reader, source.options) == ("preference", {"clean": True, "empty": "drop", "on_equal": "drop"})


def test_helpsteer_is_built_from_its_ratings_and_not_from_the_inverted_pairs() -> None:
    alone = load(["tulu-2.5-dpo-13b-helpsteer"]).recipe.data.sources
    mixture = load(["tulu-2.5-dpo-13b-preference-big-mixture"]).recipe.data.sources
    assert (
        mixture
        == load(["tulu-2.5-13b-mix-rm"]).recipe.data.sources
        == load(["tulu-2.5-70b-mix-rm"]).recipe.data.sources
    )
    for source in (alone[0], mixture[-1]):
        assert (source.path, source.reader) == ("nvidia/HelpSteer", "helpsteer")
        assert (source.options["score"], source.options["replies"]) == ("mean", "pair")
    assert [source.split for source in mixture[:-1]] == [SPLITS[name] for name in MIXTURE]


@pytest.mark.parametrize("name", [name for name in RECIPES if "-ppo-" in name or "rlhf-pythia" in name])
def test_ppo_begins_with_models_that_other_recipes_train(name: str) -> None:
    """Its reward model, its value function and, if it is a run, its first weights are in the directories of recipes."""
    recipe = load([name]).recipe
    assert isinstance(recipe.objective, PpoConfig)
    (reward,) = recipe.objective.rewards
    assert isinstance(reward, ModelRewardConfig)
    header = catalog_files()[name].read_text(encoding="utf-8")
    for path in (reward.path, recipe.objective.value, str(recipe.model.path)):
        if path.startswith("runs/"):
            trained_by = path.split("/")[1]
            assert str(load([trained_by]).recipe.directory) == f"runs/{trained_by}"
            assert f"tunesmith train {trained_by}\n" in header or f"`tunesmith train {trained_by}`" in header
    assert isinstance(load([reward.path.removeprefix("runs/")]).recipe.objective, RewardConfig)


def test_the_list_has_the_objective_of_every_recipe() -> None:
    for entry in list_catalog():
        assert entry.objective == (complete(entry.name).objective.kind if entry.kind == "recipe" else "")
        assert entry.objective in HEADINGS
