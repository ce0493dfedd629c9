"""Values that are valid alone and conflict with each other: one line for each conflict, with what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.recipe.good_recipe import PPO, T5, V_SIZE, good, problems
from tunesmith.recipe.load import load
from tunesmith.recipe.problems import InvalidRecipeError
from tunesmith.recipe.storage_conflicts import find_unused_storage
from tunesmith.recipe.validation import validate

BOTH_AMOUNTS = "data.sources.0.weight=null or data.sources.0.fraction=null"


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["model.path=null"], ": 1 value is missing; append model.path=DIRECTORY_OR_HUB_NAME"),
        (
            ["model.init={architecture: llama}", "model.tokenizer=t"],
            "model.init: init (random weights) cannot be combined with path ('some/model')",
        ),
        (
            ["model.path=null", "model.init={architecture: llama}"],
            ": 1 value is missing; append model.tokenizer=DIRECTORY_OR_HUB_NAME",
        ),
        (
            ["model.path=null", "model.init={hidden_size: 8}", "model.tokenizer=t"],
            "model.init.architecture: the required key is missing",
        ),
        (
            ["model.path=null", "model.init={architecture: llama}", "model.tokenizer=t", "model.revision=main"],
            "model.revision: a revision belongs to model.path",
        ),
        (["model.dtype=float16"], "model.dtype: float16 loses small gradients"),
        (["train.epochs=null"], ": 1 value is missing; append train.epochs=3"),
        (
            ["train.steps=5"],
            "train.steps: the run has two lengths, steps (5) and epochs (2); append train.epochs=null",
        ),
        (
            ["train.schedule={kind: linear, warmup_steps: 1, warmup_ratio: 0.1}"],
            "train.schedule.warmup_ratio: the warm-up has two lengths",
        ),
        (
            ["train.schedule={kind: cosine, warmup_steps: 1, warmup_ratio: 0.1}"],
            "train.schedule.warmup_ratio: the warm-up has two lengths",
        ),
        (
            ["train.schedule={kind: cosine, end: 1.0}"],
            "train.schedule.end: 1 is greater than train.learning_rate (1e-05)",
        ),
        (
            ["train.weights=split"],
            "train.weights: 'split' needs a forward pass in bfloat16, and model.dtype is float32",
        ),
        (
            ["train.weights=bfloat16-stochastic", "train.gradients=bfloat16"],
            "train.weights: 'bfloat16-stochastic' needs a forward pass in bfloat16",
        ),
        (
            ["train.gradients=bfloat16"],
            "train.gradients: 'bfloat16' needs a forward pass in bfloat16, and model.dtype is float32",
        ),
        (
            ["train.gradients=bfloat16", "train.weights=float32", "model.dtype=bfloat16"],
            "train.gradients: gradients in bfloat16 are those of weights in bfloat16, and train.weights is float32",
        ),
        (
            ["train.moments=8bit", "train.optimizer={kind: adafactor, beta1: 0.9}"],
            "train.moments: '8bit' is for adamw and muon, and the running mean of adafactor's beta1 is float32",
        ),
        (
            ["train.offload=moments", "train.optimizer={kind: adafactor}"],
            "train.offload: 'moments' are offloaded for adamw and muon, and adafactor stores little",
        ),
        (
            ["train.weights=split", "model.adapter={rank: 4}", "model.dtype=bfloat16"],
            "train.weights: 'split' is for full fine-tuning, and with model.adapter the trained weights are few",
        ),
        (["train.weights=bfloat16"], "train.weights: expected 'auto', 'float32', 'split' or 'bfloat16-stochastic'"),
        (["data.validation=0"], "train.evaluate_every: there are no validation data"),
        (
            ["data.validation=0", "train.evaluate_every=null", "evaluate.replies=5"],
            "evaluate.replies: there are no validation data",
        ),
        (
            ["data.validation=0", "train.evaluate_every=null", "run.export=best"],
            "run.export: there are no validation data",
        ),
        (
            ["evaluate.replies=5", "text.targets=all"],
            "evaluate.replies: text.targets all also trains on turns that are not replies",
        ),
        (
            ["train.best={metrics: [{name: validation/bleu, mode: max}]}"],
            "train.best.metrics.0.name: this metric needs generated replies; set evaluate.replies",
        ),
        (
            ["train.optimizer={kind: adafactor, step_offset: 5, initial_step: 4}"],
            "train.optimizer.step_offset: 5 is greater than initial_step (4)",
        ),
        (
            ["data.sources+=[{path: x/dolly.json, reader: dolly}]"],
            "data.sources.1.name: 'dolly' is already the name of data.sources.0",
        ),
        (
            ["data.validation_sources=[{path: v.jsonl, reader: dolly}]"],
            "data.validation: data.validation cannot be combined",
        ),
        (["data.validation_sources=[{path: v.jsonl, reader: dolly, size: 3}]", "data.validation=0"], V_SIZE),
        (
            ["data.sources.0.fraction=0.5", "data.sources.0.weight=2"],
            "data.sources.0.weight: weight cannot be combined with fraction (0.5)",
        ),
        (["data.sources.0.validation=0"], "train.evaluate_every: there are no validation data"),
        (
            ["data.sources.0.filters={min_characters: 9, max_characters: 8}"],
            "data.sources.0.filters.min_characters: 9 is greater than max_characters (8)",
        ),
        (
            ["data.sources.0.filters={labels: {quality: {min: 0.5, max: 0.1}}}"],
            "data.sources.0.filters.labels.quality.min: 0.5 is greater than max (0.1)",
        ),
        (
            ["data.sources.0.filters={labels: {quality: {}}}"],
            "data.sources.0.filters.labels.quality.min: the range has no limit",
        ),
        (["sampling.min_new_tokens=300"], "sampling.min_new_tokens: 300 is greater than max_new_tokens (256)"),
        (["objective={kind: dpo}", "text.targets=last"], "text.targets: 'last' cannot be used with objective dpo"),
        (["text.targets=ranked"], "text.targets: 'ranked' cannot be used with objective sft"),
        (
            ["objective={kind: dpo}", "text.truncation=left"],
            "text.truncation: 'left' would separate the replies that objective dpo compares; use drop or right",
        ),
        (
            ["objective={kind: reward}", "text.truncation=window"],
            "text.truncation: 'window' would separate the replies that objective reward compares; use drop or right",
        ),
        (
            ["objective={kind: reward}", "evaluate.replies=5"],
            "evaluate.replies: a reward model scores replies and generates none; set this to 0",
        ),
        (
            ["objective={kind: dpo, loss: ipo, target_margin: 1.0}"],
            "objective.target_margin: loss ipo has a fixed target margin",
        ),
        ([f"objective={PPO}", "text.targets=assistant"], "text.targets: 'assistant' cannot be used with objective ppo"),
        (
            [f"objective={PPO}", "text.truncation=right"],
            "text.truncation: 'right' would truncate the prompts of objective ppo; use drop or error",
        ),
        (
            [f"objective={PPO}", "text.max_length=64"],
            "objective.max_new_tokens: a reply of 64 tokens leaves no space for a prompt in text.max_length (64)",
        ),
        (
            [f"objective={PPO}", "train.batch_unit=tokens"],
            "train.batch_unit: 'tokens' cannot be used with objective ppo, whose batches consist of prompts; use "
            "examples",
        ),
        (
            [f"objective={PPO}", "train.batch_size=17"],
            "train.batch_size: 17 prompts are more than one iteration has (16); lower it",
        ),
        (
            [*T5, f"objective={PPO}"],
            "objective.kind: 'ppo' is for causal models, and t5 is not one; use sft or dpo",
        ),
        (
            [*T5, "objective={kind: reward}"],
            "objective.kind: 'reward' is for causal models, and t5 is not one; use sft or dpo",
        ),
    ],
)
def test_a_conflict_is_one_line_with_what_to_do(words: list[str], problem: str) -> None:
    found = problems(good(*words))
    assert len(found) == 1, found
    assert found[0].startswith(problem)


@pytest.mark.parametrize(
    ("words", "appended"),
    [
        (["train.steps=5"], "train.epochs=null"),
        (["train.epochs=3", "train.steps=5"], "train.steps=null or train.epochs=null"),
        (["model.init={architecture: llama}", "model.tokenizer=t"], "model.path=null"),
        (["data.sources.0.fraction=0.5", "data.sources.0.weight=2"], BOTH_AMOUNTS),
        (["data.validation=0"], "train.evaluate_every=null"),
        (["data.sources.0.validation=0"], "train.evaluate_every=null"),
        (["objective={kind: dpo}", "text.targets=last"], "text.targets=null"),
        (["train.weights=split"], "model.dtype=bfloat16"),
        (["train.gradients=bfloat16"], "model.dtype=bfloat16"),
        (
            ["model.dtype=bfloat16", "train.weights=float32", "train.gradients=bfloat16"],
            "train.weights=split or train.gradients=float32",
        ),
        (
            ["train.moments=8bit", "train.optimizer={kind: adafactor, beta1: 0.9}"],
            "train.moments=float32 or train.optimizer.beta1=null",
        ),
        (["train.offload=moments", "train.optimizer={kind: adafactor}"], "train.offload=none"),
    ],
)
def test_the_word_to_append_is_that_of_the_key_which_the_command_line_does_not_have(
    words: list[str], appended: str
) -> None:
    assert [line.partition("; append ")[2] for line in problems(good(*words))] == [appended]
    for remedy in appended.split(" or "):
        validate(good(*words, remedy))


def test_the_word_to_append_is_that_of_the_key_which_the_file_of_the_user_does_not_have(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("extends: sft\nname: mine\nmodel: {path: m}\ntrain: {steps: 9}\n")
    with pytest.raises(InvalidRecipeError, match=r"steps \(9\) and epochs \(3\); append train\.epochs=null$"):
        load([str(path)], ["data.sources.0.path=x.jsonl"])
    assert load([str(path)], ["data.sources.0.path=x.jsonl", "train.epochs=null"]).recipe.train.steps == 9


def test_storage_that_has_no_effect_is_said() -> None:
    """The layers for one GPU set these keys for any recipe."""
    adapted, factored = load(["dolly-v2-3b", "lora", "one-h100"]).recipe, load(["flan-t5-dolly-xxl", "one-h100"]).recipe
    assert [*find_unused_storage(adapted.train, adapted=True)] == [
        "train.gradients=bfloat16 has no effect: with model.adapter the gradients are few, and float32"
    ]
    assert [*find_unused_storage(factored.train, adapted=False)] == [
        "train.moments=8bit has no effect, and adafactor stores little: a row and a column of every large matrix, in "
        "float32"
    ]
    assert not [*find_unused_storage(load(["dolly-v2-3b", "one-h100"]).recipe.train, adapted=False)]
