"""Every fault of a recipe at once, each one line: file:line key: what, and what was probably meant."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tunesmith.data.readers.registry import READERS
from tunesmith.recipe.data import name_of
from tunesmith.recipe.faults import Fault, Origin, RecipeFaults
from tunesmith.recipe.keys import all_keys
from tunesmith.recipe.layers import merge
from tunesmith.recipe.overrides import override
from tunesmith.recipe.reading import Marked, read_text
from tunesmith.recipe.schema import Recipe
from tunesmith.recipe.validation import EXPECTED, validate

GOOD = """\
name: good
model:
  path: some/model
text:
  format: dolly
  max_length: 512
data:
  sources:
    - path: data/dolly.jsonl
      reader: dolly
  validation: 0.1
train:
  epochs: 2
  batch_size: 8
  learning_rate: 1e-5
  optimizer:
    kind: adamw
    betas: [0.9, 0.95]
  evaluate_every: 10
"""


PPO = "{kind: ppo, prompts_per_iteration: 16, max_new_tokens: 64, rewards: [{kind: model, path: r}]}"
T5 = ["model.path=null", "model.init={architecture: t5}", "model.tokenizer=t", "text.format=t5-dolly"]
REFERENCE = "objective.reference: expected 'start' or 'none' or text that is not empty, got ''"
V_SIZE = "data.validation_sources.0.size: belongs to data.sources only"
MAX_TURN = "data.sources.0.filters.max_turn: unknown key; did you mean 'data.sources.0.filters.max_turns'?"


def good(*words: str) -> Marked:
    marked = merge(None, read_text(GOOD, "good.yaml"))
    for word in words:
        marked = override(marked, word)
    return marked


def faults(marked: Marked) -> list[str]:
    with pytest.raises(RecipeFaults) as caught:
        validate(marked)
    return [f"{fault.key}: {fault.what}" for fault in caught.value.faults]


def test_a_good_recipe_is_typed_and_frozen() -> None:
    recipe = validate(good())
    assert recipe.train.learning_rate == 1e-5
    assert recipe.train.optimizer.betas == (0.9, 0.95)
    assert recipe.data.sources[0].name == "dolly"
    assert str(recipe.directory) == "runs/good"
    with pytest.raises(ValidationError, match="frozen"):
        recipe.seed = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("word", "fault"),
    [
        ("train.learning_rte=1", "train.learning_rte: unknown key; did you mean 'train.learning_rate'?"),
        ("train.lerning_rate=1", "train.lerning_rate: unknown key; did you mean 'train.learning_rate'?"),
        ("learning_rate=1", "learning_rate: unknown key; did you mean 'train.learning_rate'?"),
        ("model.max_length=1", "model.max_length: unknown key; did you mean 'text.max_length'?"),
        ("data.sources.0.pth=x", "data.sources.0.pth: unknown key; did you mean 'data.sources.0.path'?"),
        ("data.reader=dolly", "data.reader: unknown key; did you mean 'data.sources.0.reader'?"),
        ("extend=x", "extend: unknown key; did you mean 'extends'?"),
        ("train.optimizer.betta=[0, 0]", "train.optimizer.betta: unknown key; did you mean 'train.optimizer.betas'?"),
        ("train.optimizer.momentum=0.9", "train.optimizer.momentum: unknown key; it belongs to kind 'muon'"),
        ("xyzzy=1", "xyzzy: unknown key"),
        ("train.optimizer.kind=adam", "train.optimizer.kind: expected one of 'adamw', 'muon', 'adafactor', got 'adam'"),
        ("train.optimizer=adamw", "train.optimizer: expected a mapping of key: value lines, got 'adamw'"),
        ("train.optimizer=null", "train.optimizer: expected a mapping of key: value lines, got null"),
        ("train.schedule.end=1.0", "train.schedule.kind: missing; it says which other keys there are"),
        ("train=3", "train: expected a mapping of key: value lines, got 3"),
        (
            "text.format=doly",
            "text.format: expected 'dolly', 'oasst', 'tulu', 'alpaca', 'vicuna', 'chatml', 'llama-2', 'zephyr', 'plain', 't5-dolly' or 'tokenizer', got 'doly'",
        ),
        (
            "text.format=null",
            "text.format: expected 'dolly', 'oasst', 'tulu', 'alpaca', 'vicuna', 'chatml', 'llama-2', 'zephyr', 'plain', 't5-dolly' or 'tokenizer', got null",
        ),
        ("train.batch_size=true", "train.batch_size: expected a whole number, got true"),
        ("train.batch_size=1.5", "train.batch_size: expected a whole number, got 1.5"),
        ("train.batch_size=0", "train.batch_size: expected more than 0, got 0"),
        ("train.batch_size='8'", "train.batch_size: expected a whole number, got '8'"),
        ("train.learning_rate='1e-5'", "train.learning_rate: expected a number, got '1e-5'"),
        ("train.learning_rate=1e999", "train.learning_rate: expected a number, got '1e999'"),
        ("model.path=12", "model.path: expected text, got 12; put it in quotes"),
        ("model.path=''", "model.path: expected text that is not empty, got ''"),
        ("model.revision=1e5", "model.revision: expected text, got 100000.0; put it in quotes"),
        ("model.gradient_checkpointing=yes", "model.gradient_checkpointing: expected true or false, got 'yes'"),
        ("model.resize=most", "model.resize: expected 'none' or 'exact' or a whole number, got 'most'"),
        ("model.resize=0", "model.resize: expected 'none' or 'exact' or more than 0, got 0"),
        ("model.resize=true", "model.resize: expected 'none' or 'exact' or a whole number, got true"),
        ("model.residual_dropout=1.0", "model.residual_dropout: expected less than 1, got 1.0"),
        ("model.init=[]", "model.init: expected a mapping of key: value lines, got a list of 0"),
        ("data.validation=-1", "data.validation: expected at least 0, got -1"),
        ("data.sources=[]", "data.sources: expected a list of at least 1, got a list of 0"),
        ("data.sources={}", "data.sources: expected a list, got a mapping"),
        (
            "data.sources.0.reader=x",
            "data.sources.0.reader: expected "
            + ", ".join(map(repr, [*READERS][:-1]))
            + f" or {[*READERS][-1]!r}, got 'x'",
        ),
        ("data.sources.0.path=7", "data.sources.0.path: expected text, got 7; put it in quotes"),
        ("data.sources.0.fraction=1.5", "data.sources.0.fraction: expected at most 1, got 1.5"),
        ("data.sources.0.fraction=0", "data.sources.0.fraction: expected more than 0, got 0"),
        ("data.sources.0.size=0.5", "data.sources.0.size: expected a whole number, got 0.5"),
        (
            "data.sources.0.filters={languages: []}",
            "data.sources.0.filters.languages: expected a list of at least 1, got a list of 0",
        ),
        (
            "data.sources.0.filters={labels: {quality: 0.5}}",
            "data.sources.0.filters.labels.quality: expected a mapping of key: value lines, got 0.5",
        ),
        ("data.sources.0.filters={max_turn: 2}", MAX_TURN),
        ("data.duplicates=drop", "data.duplicates: expected 'keep', 'exact' or 'near', got 'drop'"),
        ("data.max_bad=1.0", "data.max_bad: expected a whole number or less than 1, got 1.0"),
        ("train.optimizer.betas=[0.9]", "train.optimizer.betas: expected at least 2 values, got a list of 1"),
        ("train.optimizer.betas=[0.9, 1, 2]", "train.optimizer.betas: expected a list of at most 2, got a list of 3"),
        ("train.optimizer.betas=[0.9, 1.5]", "train.optimizer.betas.1: expected less than 1, got 1.5"),
        ("run.trackers=[mlflow]", "run.trackers.0: expected 'tensorboard' or 'wandb', got 'mlflow'"),
        ("sampling.top_p=0", "sampling.top_p: expected more than 0, got 0"),
        ("seed=-1", "seed: expected at least 0, got -1"),
        ("objective.kind=dop", "objective.kind: expected one of 'sft', 'dpo', 'reward', 'ppo', got 'dop'"),
        ("objective={kind: dpo, beta: 0}", "objective.beta: expected more than 0, got 0"),
        (
            "objective={kind: dpo, label_smoothing: 0.5}",
            "objective.label_smoothing: expected less than 0.5, got 0.5",
        ),
        ("objective={kind: dpo, l2: 0.1}", "objective.l2: unknown key; it belongs to kind 'reward'"),
        ("objective={kind: reward, beta: 0.1}", "objective.beta: unknown key; it belongs to kind 'dpo'"),
        ("objective={kind: dpo, reference: ''}", REFERENCE),
        ("objective.normalize=mean", "objective.normalize: expected 'targets' or 'sum' or a number, got 'mean'"),
        ("objective.normalize=0", "objective.normalize: expected 'targets' or 'sum' or more than 0, got 0"),
        ("objective.label_smoothing=1.0", "objective.label_smoothing: expected less than 1, got 1.0"),
        (
            "train.schedule={kind: factors, factors: []}",
            "train.schedule.factors: expected a list of at least 1, got a list of 0",
        ),
        ("train.best={metrics: []}", "train.best.metrics: expected a list of at least 1, got a list of 0"),
        (
            "train.best={metrics: [{name: validation/loss}]}",
            "train.best.metrics.0.mode: missing; which end is the good one",
        ),
        ("run.export=newest", "run.export: expected 'last' or 'best', got 'newest'"),
        ("text.max_length=null", "text.max_length: expected a whole number, got null"),
        (
            "text.options={a: [1]}",
            "text.options.a: expected true or false, a whole number, a number or text, got a list of 1",
        ),
        (
            "text.options={'a b': 1}",
            "text.options.a b: a key is letters, digits, '.', '_' and '-', beginning with a letter or digit",
        ),
        (
            "name=../../etc",
            "name: expected letters, digits, '.', '_' and '-', beginning with a letter or digit, got '../../etc'",
        ),
    ],
)
def test_a_wrong_value_or_key_is_one_line_that_says_what_was_expected(word: str, fault: str) -> None:
    assert faults(good(word)) == [fault]


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["model.path=null"], "model.path: no model: give path"),
        (["model.init={architecture: llama}", "model.tokenizer=t"], "model.init: excludes path ('some/model')"),
        (["model.path=null", "model.init={architecture: llama}"], "model.tokenizer: missing"),
        (["model.path=null", "model.init={hidden_size: 8}", "model.tokenizer=t"], "model.init.architecture: missing"),
        (
            ["model.path=null", "model.init={architecture: llama}", "model.tokenizer=t", "model.revision=main"],
            "model.revision: belongs to path",
        ),
        (["model.dtype=float16"], "model.dtype: float16 loses small gradients"),
        (["train.epochs=null"], "train.epochs: no length: give epochs or steps"),
        (["train.steps=5"], "train.steps: excludes epochs (2); set one of the two to null"),
        (
            ["train.schedule={kind: linear, warmup_steps: 1, warmup_ratio: 0.1}"],
            "train.schedule.warmup_ratio: excludes",
        ),
        (
            ["train.schedule={kind: cosine, warmup_steps: 1, warmup_ratio: 0.1}"],
            "train.schedule.warmup_ratio: excludes",
        ),
        (["train.schedule={kind: cosine, end: 1.0}"], "train.schedule.end: 1 is above learning_rate (1e-05)"),
        (["data.validation=0"], "train.evaluate_every: there is nothing to evaluate on"),
        (
            ["data.validation=0", "train.evaluate_every=null", "evaluate.replies=5"],
            "evaluate.replies: there is nothing to evaluate on",
        ),
        (
            ["data.validation=0", "train.evaluate_every=null", "run.export=best"],
            "run.export: there is nothing to evaluate on",
        ),
        (
            ["evaluate.replies=5", "text.targets=all"],
            "evaluate.replies: text.targets all trains turns that are no replies",
        ),
        (
            ["train.best={metrics: [{name: validation/bleu, mode: max}]}"],
            "train.best.metrics.0.name: no replies are written; set evaluate.replies (200)",
        ),
        (
            ["train.optimizer={kind: adafactor, step_offset: 5, initial_step: 4}"],
            "train.optimizer.step_offset: 5 is above initial_step (4)",
        ),
        (
            ["data.sources+=[{path: x/dolly.json, reader: dolly}]"],
            "data.sources.1.name: 'dolly' is the name of data.sources.0",
        ),
        (["data.validation_sources=[{path: v.jsonl, reader: dolly}]"], "data.validation: excludes validation_sources"),
        (["data.validation_sources=[{path: v.jsonl, reader: dolly, size: 3}]", "data.validation=0"], V_SIZE),
        (["data.sources.0.fraction=0.5", "data.sources.0.weight=2"], "data.sources.0.weight: excludes fraction (0.5)"),
        (["data.sources.0.validation=0"], "train.evaluate_every: there is nothing to evaluate on"),
        (
            ["data.sources.0.filters={min_characters: 9, max_characters: 8}"],
            "data.sources.0.filters.min_characters: 9 is above max_characters (8)",
        ),
        (
            ["data.sources.0.filters={labels: {quality: {min: 0.5, max: 0.1}}}"],
            "data.sources.0.filters.labels.quality.min: 0.5 is above max (0.1)",
        ),
        (
            ["data.sources.0.filters={labels: {quality: {}}}"],
            "data.sources.0.filters.labels.quality.min: a range without an end",
        ),
        (["sampling.min_new_tokens=300"], "sampling.min_new_tokens: 300 is above max_new_tokens (256)"),
        (["objective={kind: dpo}", "text.targets=last"], "text.targets: 'last' is nothing for objective dpo"),
        (["text.targets=ranked"], "text.targets: 'ranked' is nothing for objective sft"),
        (
            ["objective={kind: dpo}", "text.truncation=left"],
            "text.truncation: 'left' would part the replies that objective dpo compares; use drop or right",
        ),
        (
            ["objective={kind: reward}", "text.truncation=window"],
            "text.truncation: 'window' would part the replies that objective reward compares; use drop or right",
        ),
        (
            ["objective={kind: reward}", "evaluate.replies=5"],
            "evaluate.replies: a reward model scores replies and writes none; set this to 0",
        ),
        (
            ["objective={kind: dpo, loss: ipo, target_margin: 1.0}"],
            "objective.target_margin: loss ipo has a target of its own",
        ),
        ([f"objective={PPO}", "text.targets=assistant"], "text.targets: 'assistant' is nothing for objective ppo"),
        (
            [f"objective={PPO}", "text.truncation=right"],
            "text.truncation: 'right' would cut the prompts of objective ppo; use drop or error",
        ),
        (
            [f"objective={PPO}", "text.max_length=64"],
            "objective.max_new_tokens: 64 leaves no room for a prompt within text.max_length (64)",
        ),
        (
            [f"objective={PPO}", "train.batch_unit=tokens"],
            "train.batch_unit: 'tokens' is nothing for objective ppo, whose steps are of prompts; use examples",
        ),
        (
            [f"objective={PPO}", "train.batch_size=17"],
            "train.batch_size: 17 prompts are more than an iteration has (16); lower it",
        ),
        (
            [*T5, f"objective={PPO}"],
            "objective.kind: 'ppo' is for causal models, t5 is an encoder-decoder; use sft or dpo",
        ),
        (
            [*T5, "objective={kind: reward}"],
            "objective.kind: 'reward' is for causal models, t5 is an encoder-decoder; use sft or dpo",
        ),
    ],
)
def test_an_impossible_combination_is_one_line_that_says_what_to_do(words: list[str], fault: str) -> None:
    found = faults(good(*words))
    assert len(found) == 1, found
    assert found[0].startswith(fault)


def test_all_that_does_not_go_with_an_objective_comes_at_once_also_beside_other_faults() -> None:
    words = [f"objective={PPO}", "text.truncation=window", "train.batch_unit=threads", "train.batch_size=99"]
    keys = [line.partition(":")[0] for line in faults(good(*words))]
    assert sorted(keys) == ["text.truncation", "train.batch_size", "train.batch_unit"]
    beside = [line.partition(":")[0] for line in faults(good(*words, "seed=-1", "train.clip=high"))]
    assert sorted(beside) == ["seed", "text.truncation", "train.clip"]


@pytest.mark.parametrize("kind", ["dpo", "reward"])
def test_preferences_train_on_ranked_replies_unless_said(kind: str) -> None:
    recipe = validate(good(f"objective={{kind: {kind}}}"))
    assert (recipe.text.targets, recipe.targets) == (None, "ranked")
    assert validate(good(f"objective={{kind: {kind}}}", "text.targets=ranked")).targets == "ranked"
    assert validate(good()).targets == "assistant"
    assert validate(good(f"objective={PPO}")).targets == "marked"


def test_a_source_may_have_validation_of_its_own() -> None:
    assert validate(good("data.validation=0", "data.sources.0.validation=5")).data.evaluates
    assert not validate(good("data.sources.0.validation=0", "train.evaluate_every=null")).data.evaluates


def test_all_faults_come_at_once_in_the_order_of_the_file_with_their_lines() -> None:
    text = GOOD.replace("max_length: 512", "max_lenght: 512").replace("batch_size: 8", "batch_size: eight")
    text = text.replace("path: some/model", "dtype: float16").replace("validation: 0.1", "validation: 0")
    with pytest.raises(RecipeFaults) as caught:
        validate(read_text(text + "colour: red\n", "bad.yaml"))
    assert str(caught.value).splitlines() == [
        "bad.yaml:2 model.path: no model: give path (a directory or a hub name) or init (random weights)",
        "bad.yaml:3 model.dtype: float16 loses small gradients without loss scaling, which is not here; use bfloat16",
        "bad.yaml:4 text.max_length: missing; longest thread in tokens; of an encoder-decoder: longest input",
        "bad.yaml:6 text.max_lenght: unknown key; did you mean 'text.max_length'?",
        "bad.yaml:14 train.batch_size: expected a whole number, got 'eight'",
        "bad.yaml:20 colour: unknown key",
    ]


def test_combinations_across_sections_are_seen_beside_faults_of_other_sections() -> None:
    found = faults(good("data.validation=0", "model.resize=x"))
    assert [line.partition(":")[0] for line in found] == ["model.resize", "train.evaluate_every"]


def test_a_missing_key_says_what_it_is_for() -> None:
    marked = read_text("name: x\n", "x.yaml")
    with pytest.raises(RecipeFaults) as caught:
        validate(marked)
    assert [(fault.origin, fault.key) for fault in caught.value.faults] == [
        (Origin("x.yaml", 1), key) for key in ("data", "model", "text", "train")
    ]


def test_every_key_has_a_description() -> None:
    assert [key.path for key in all_keys() if not key.description] == []
    assert len(all_keys()) > 60


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("data/dolly.jsonl", "dolly"),
        ("OpenAssistant/oasst1", "oasst1"),
        ("a/2023-03-25_oasst.trees.jsonl.gz", "2023-03-25_oasst"),
        ("my data.json", "my-data"),
        ("v2.5/x-v2.5.parquet", "x-v2.5"),
        ("..", "data"),
        (".jsonl", "data"),
        ("données.jsonl", "donn-es"),
    ],
)
def test_a_source_is_named_after_its_path(path: str, name: str) -> None:
    assert name_of(path) == name


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, child in children for found in paths(child, (*path, key)))]


def marked(value: Any) -> Marked:
    if isinstance(value, dict):
        return Marked({key: marked(child) for key, child in value.items()}, Origin("x", 1))
    if isinstance(value, list):
        return Marked([marked(child) for child in value], Origin("x", 1))
    return Marked(value, Origin("x", 1))


def found_in(recipe: Marked) -> tuple[Fault, ...]:
    try:
        validate(recipe)
    except RecipeFaults as error:
        return error.faults
    return ()


def holds(value: Any, part: Any) -> bool:
    if isinstance(value, list):
        return isinstance(part, int) and part < len(value)
    return isinstance(value, dict) and part in value


def replace(value: Any, path: tuple[Any, ...], junk: Any) -> None:
    """Put junk at a path, if an earlier change has left that path there."""
    for part in path[:-1]:
        if not holds(value, part):
            return
        value = value[part]
    if holds(value, path[-1]):
        value[path[-1]] = junk


COMPLETE: dict[str, Any] = validate(good("train.schedule={kind: linear, warmup_ratio: 0.1}")).model_dump(mode="json")
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)


@settings(max_examples=500, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(paths(COMPLETE)[1:]), JUNK), min_size=1, max_size=3), st.text(max_size=8))
def test_any_value_anywhere_is_accepted_or_explained_in_plain_words(changes: list[tuple[Any, Any]], key: str) -> None:
    broken = copy.deepcopy(COMPLETE) | ({key: 1} if key else {})
    for path, junk in changes:
        replace(broken, path, junk)
    assert all(fault.what and "Input should" not in fault.what for fault in found_in(marked(broken)))


def test_the_table_of_expectations_covers_what_the_schema_can_say() -> None:
    assert all(phrase and not phrase.endswith(".") for phrase in EXPECTED.values())
    assert Recipe.model_config["extra"] == "forbid"
