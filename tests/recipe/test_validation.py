"""All problems of a recipe at once, each on one line: file:line key: what is wrong, and what was probably meant."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.recipe.good_recipe import GOOD, MAX_TURN, PPO, REFERENCE, good, problems
from tunesmith.data.readers.registry import READERS
from tunesmith.recipe.data import AUTO, source_name
from tunesmith.recipe.keys import all_keys
from tunesmith.recipe.load import load
from tunesmith.recipe.other_names import EXPLANATIONS, OTHER_NAMES
from tunesmith.recipe.problems import InvalidRecipeError, Origin, RecipeProblem
from tunesmith.recipe.reading import LocatedValue, read_text
from tunesmith.recipe.schema import Recipe
from tunesmith.recipe.training import SCHEDULE_KIND
from tunesmith.recipe.validation import EXPECTED, validate


def test_a_good_recipe_is_typed_and_frozen() -> None:
    recipe = validate(good())
    assert recipe.train.learning_rate == 1e-5
    assert recipe.train.optimizer.betas == (0.9, 0.95)
    assert recipe.data.sources[0].name == "dolly"
    assert str(recipe.directory) == "runs/good"
    with pytest.raises(ValidationError, match="frozen"):
        recipe.seed = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("word", "problem"),
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
        ("train.lr=1", "train.lr: unknown key; did you mean 'train.learning_rate'?"),
        ("num_train_epochs=3", "num_train_epochs: unknown key; did you mean 'train.epochs'?"),
        ("train.max_grad_norm=3", "train.max_grad_norm: unknown key; did you mean 'train.clip'?"),
        ("bf16=true", "bf16: unknown key; write model.dtype=bfloat16"),
        (
            "lora_dropout=0.1",
            "lora_dropout: unknown key; adapters are in the section model.adapter (kind, rank, alpha, targets); append "
            "the layer lora or qlora",
        ),
        (
            "train.gradient_accumulation_steps=4",
            "train.gradient_accumulation_steps: unknown key; the batch size (train.batch_size) is that of a whole "
            "optimizer step over all devices; train.micro_batch_tokens limits what is computed at once",
        ),
        (
            "model=gpt2",
            "model: expected a mapping of key: value lines, got 'gpt2'; did you mean model.path=gpt2?",
        ),
        (
            "data=mine.jsonl",
            "data: expected a mapping of key: value lines, got 'mine.jsonl'; did you mean "
            "data.sources.0.path=mine.jsonl?",
        ),
        (
            "train.schedule=cosine",
            "train.schedule: expected a mapping of key: value lines, got 'cosine'; did you mean "
            "train.schedule.kind=cosine?",
        ),
        ("xyzzy=1", "xyzzy: unknown key; `tunesmith schema` prints all keys"),
        ("train.optimizer.kind=adam", "train.optimizer.kind: expected one of 'adamw', 'muon', 'adafactor', got 'adam'"),
        (
            "train.optimizer=adamw",
            "train.optimizer: expected a mapping of key: value lines, got 'adamw'; did you mean "
            "train.optimizer.kind=adamw?",
        ),
        ("train.optimizer=null", "train.optimizer: expected a mapping of key: value lines, got null"),
        ("train.schedule.end=1.0", f"train.schedule.kind: the required key is missing: {SCHEDULE_KIND}"),
        ("train=3", "train: expected a mapping of key: value lines, got 3"),
        (
            "text.format=doly",
            "text.format: expected 'auto', 'dolly', 'oasst', 'tulu', 'alpaca', 'vicuna', 'chatml', 'llama-2', "
            "'zephyr', 'plain', 't5-dolly' or 'tokenizer', got 'doly'",
        ),
        (
            "text.format=null",
            "text.format: expected 'auto', 'dolly', 'oasst', 'tulu', 'alpaca', 'vicuna', 'chatml', 'llama-2', "
            "'zephyr', 'plain', 't5-dolly' or 'tokenizer', got null",
        ),
        ("train.batch_size=true", "train.batch_size: expected a whole number, got true"),
        ("train.batch_size=1.5", "train.batch_size: expected a whole number, got 1.5"),
        ("train.batch_size=0", "train.batch_size: expected a number greater than 0, got 0"),
        ("train.batch_size='8'", "train.batch_size: expected a whole number, got '8'"),
        ("train.learning_rate='1e-5'", "train.learning_rate: expected a number, got '1e-5'"),
        ("train.learning_rate=1e999", "train.learning_rate: expected a number, got '1e999'"),
        ("model.path=12", "model.path: expected text, got 12; put it in quotes"),
        ("model.path=''", "model.path: expected text that is not empty, got ''"),
        ("model.revision=1e5", "model.revision: expected text, got 100000.0; put it in quotes"),
        (
            "model.gradient_checkpointing=yes",
            "model.gradient_checkpointing: expected true or false or a number, got 'yes'",
        ),
        ("model.resize=most", "model.resize: expected 'none', 'grow' or 'exact' or a whole number, got 'most'"),
        ("model.resize=0", "model.resize: expected 'none', 'grow' or 'exact' or a number greater than 0, got 0"),
        ("model.resize=true", "model.resize: expected 'none', 'grow' or 'exact' or a whole number, got true"),
        ("model.residual_dropout=1.0", "model.residual_dropout: expected a number less than 1, got 1.0"),
        ("model.init=[]", "model.init: expected a mapping of key: value lines, got a list with 0 items"),
        ("data.validation=-1", "data.validation: expected a number of at least 0, got -1"),
        ("data.sources=[]", "data.sources: expected a list with 1 or more items, got a list with 0 items"),
        ("data.sources={}", "data.sources: expected a list, got a mapping"),
        (
            "data.sources.0.reader=x",
            "data.sources.0.reader: expected "
            + ", ".join(map(repr, [AUTO, *READERS][:-1]))
            + f" or {[*READERS][-1]!r}, got 'x'",
        ),
        (
            "data.sources.0={path: a.jsonl, reader: auto, fields: {instruction: q}}",
            "data.sources.0.fields: reader auto finds the fields itself; name the reader that has these fields, "
            "or append data.sources.0.fields=null",
        ),
        ("data.sources.0.path=7", "data.sources.0.path: expected text, got 7; put it in quotes"),
        ("data.sources.0.fraction=1.5", "data.sources.0.fraction: expected a number of at most 1, got 1.5"),
        ("data.sources.0.fraction=0", "data.sources.0.fraction: expected a number greater than 0, got 0"),
        ("data.sources.0.size=0.5", "data.sources.0.size: expected a whole number, got 0.5"),
        (
            "data.sources.0.filters={languages: []}",
            "data.sources.0.filters.languages: expected a list with 1 or more items, got a list with 0 items",
        ),
        (
            "data.sources.0.filters={labels: {quality: 0.5}}",
            "data.sources.0.filters.labels.quality: expected a mapping of key: value lines, got 0.5",
        ),
        ("data.sources.0.filters={max_turn: 2}", MAX_TURN),
        ("data.duplicates=drop", "data.duplicates: expected 'keep', 'exact' or 'near', got 'drop'"),
        ("data.max_bad=1.0", "data.max_bad: expected a whole number or a number less than 1, got 1.0"),
        ("train.optimizer.betas=[0.9]", "train.optimizer.betas: expected a list with 2 items, got a list with 1 item"),
        (
            "train.optimizer.betas=[0.9, 1, 2]",
            "train.optimizer.betas: expected a list with at most 2 items, got a list with 3 items",
        ),
        ("train.optimizer.betas=[0.9, 1.5]", "train.optimizer.betas.1: expected a number less than 1, got 1.5"),
        ("run.trackers=[mlflow]", "run.trackers.0: expected 'tensorboard' or 'wandb', got 'mlflow'"),
        ("sampling.top_p=0", "sampling.top_p: expected a number greater than 0, got 0"),
        ("seed=-1", "seed: expected a number of at least 0, got -1"),
        ("objective.kind=dop", "objective.kind: expected one of 'sft', 'dpo', 'reward', 'ppo', got 'dop'"),
        ("objective={kind: dpo, beta: 0}", "objective.beta: expected a number greater than 0, got 0"),
        (
            "objective={kind: dpo, label_smoothing: 0.5}",
            "objective.label_smoothing: expected a number less than 0.5, got 0.5",
        ),
        ("objective={kind: dpo, l2: 0.1}", "objective.l2: unknown key; it belongs to kind 'reward'"),
        ("objective={kind: reward, beta: 0.1}", "objective.beta: unknown key; it belongs to kind 'dpo'"),
        ("objective={kind: dpo, reference: ''}", REFERENCE),
        ("objective.normalize=mean", "objective.normalize: expected 'targets' or 'sum' or a number, got 'mean'"),
        ("objective.normalize=0", "objective.normalize: expected 'targets' or 'sum' or a number greater than 0, got 0"),
        ("objective.label_smoothing=1.0", "objective.label_smoothing: expected a number less than 1, got 1.0"),
        (
            "train.schedule={kind: factors, factors: []}",
            "train.schedule.factors: expected a list with 1 or more items, got a list with 0 items",
        ),
        (
            "train.best={metrics: []}",
            "train.best.metrics: expected a list with 1 or more items, got a list with 0 items",
        ),
        (
            "train.best={metrics: [{name: validation/loss}]}",
            ": 1 value is missing; append train.best.metrics.0.mode=min|max (or write it in the file)",
        ),
        ("run.export=newest", "run.export: expected 'last' or 'best', got 'newest'"),
        ("text.max_length=null", "text.max_length: expected a whole number, got null"),
        (
            "text.options={a: [1]}",
            "text.options.a: expected true or false, a whole number, a number, text or a mapping of "
            "key: value lines, got a list with 1 item",
        ),
        (
            "text.options={'a b': 1}",
            "text.options.a b: a key must be text of letters, digits, '.', '_' and '-' that begins with a letter or "
            "digit",
        ),
        (
            "name=../../etc",
            "name: expected text of letters, digits, '.', '_' and '-' that begins with a letter or digit, got "
            "'../../etc'",
        ),
    ],
)
def test_a_wrong_value_or_key_is_one_line_with_what_was_expected(word: str, problem: str) -> None:
    assert problems(good(word)) == [problem]


def test_all_conflicts_with_an_objective_are_reported_at_once_and_together_with_other_problems() -> None:
    words = [f"objective={PPO}", "text.truncation=window", "train.batch_unit=threads", "train.batch_size=99"]
    keys = [line.partition(":")[0] for line in problems(good(*words))]
    assert sorted(keys) == ["text.truncation", "train.batch_size", "train.batch_unit"]
    others = [line.partition(":")[0] for line in problems(good(*words, "seed=-1", "train.clip=high"))]
    assert sorted(others) == ["seed", "text.truncation", "train.clip"]


@pytest.mark.parametrize("kind", ["dpo", "reward"])
def test_preferences_train_on_ranked_replies_by_default(kind: str) -> None:
    recipe = validate(good(f"objective={{kind: {kind}}}"))
    assert (recipe.text.targets, recipe.targets) == (None, "ranked")
    assert validate(good(f"objective={{kind: {kind}}}", "text.targets=ranked")).targets == "ranked"
    assert validate(good()).targets == "assistant"
    assert validate(good(f"objective={PPO}")).targets == "marked"


def test_a_source_may_have_a_separate_holdout() -> None:
    assert validate(good("data.validation=0", "data.sources.0.validation=5")).data.evaluates
    assert not validate(good("data.sources.0.validation=0", "train.evaluate_every=null")).data.evaluates


def test_all_problems_are_reported_at_once_in_the_order_of_the_file_with_their_lines() -> None:
    text = GOOD.replace("max_length: 512", "max_lenght: 512").replace("batch_size: 8", "batch_size: eight")
    text = text.replace("path: some/model", "dtype: float16").replace("validation: 0.1", "validation: 0")
    with pytest.raises(InvalidRecipeError) as caught:
        validate(read_text(text + "colour: red\n", "bad.yaml"))
    assert str(caught.value).splitlines() == [
        "bad.yaml: 2 values are missing; append model.path=DIRECTORY_OR_HUB_NAME text.max_length=1024 (or write them "
        "in the file)",
        "bad.yaml:3 model.dtype: float16 loses small gradients without loss scaling, which is not supported; use "
        "bfloat16",
        "bad.yaml:6 text.max_lenght: unknown key; did you mean 'text.max_length'?",
        "bad.yaml:14 train.batch_size: expected a whole number, got 'eight'",
        "bad.yaml:20 colour: unknown key; `tunesmith schema` prints all keys",
    ]


def test_conflicts_between_sections_are_found_when_another_section_is_invalid() -> None:
    found = problems(good("data.validation=0", "model.resize=x"))
    assert [line.partition(":")[0] for line in found] == ["model.resize", "train.evaluate_every"]


def test_every_key_has_a_description_that_is_a_sentence() -> None:
    assert [key.path for key in all_keys() if not re.fullmatch(r"[A-Z][^\n]{8,}\.", key.description)] == []
    assert len(all_keys()) > 60


def test_names_of_other_libraries_lead_to_keys_that_exist() -> None:
    existing = {".".join(key.path).replace("*", "0") for key in all_keys()}
    assert {*OTHER_NAMES.values()} <= existing
    assert all(name == name.lower() for name in (*OTHER_NAMES, *EXPLANATIONS))
    assert not {*OTHER_NAMES} & {*EXPLANATIONS}


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
    assert source_name(path) == name


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, child in children for found in paths(child, (*path, key)))]


def located(value: Any) -> LocatedValue:
    if isinstance(value, dict):
        return LocatedValue({key: located(child) for key, child in value.items()}, Origin("x", 1))
    if isinstance(value, list):
        return LocatedValue([located(child) for child in value], Origin("x", 1))
    return LocatedValue(value, Origin("x", 1))


def found_in(recipe: LocatedValue) -> tuple[RecipeProblem, ...]:
    try:
        validate(recipe)
    except InvalidRecipeError as error:
        return error.problems
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
    assert all(found.message and "Input should" not in found.message for found in found_in(located(broken)))


def test_the_table_of_expectations_covers_what_the_schema_can_say() -> None:
    assert all(phrase and not phrase.endswith(".") for phrase in EXPECTED.values())
    assert Recipe.model_config["extra"] == "forbid"


UNIONS = {
    "a key with the name of its kind": (
        "train.schedule={kind: factors, factors: [constant], base: abc}",
        {"train.schedule.base"},
    ),
    "two wrong keys next to the name of a kind": (
        "objective.rewards=[{kind: model, model: a, weight: abc}]",
        {"objective.rewards.0.model", "objective.rewards.0.weight", ""},
    ),
    "a mapping with the name of a type": (
        "data.sources.0.options={strip_citations: {bool: 1}}",
        {"data.sources.0.options.strip_citations"},
    ),
    "an item of a list that may be something else": (
        "data.sources.0.options={drop_phrases: [a, 2]}",
        {"data.sources.0.options.drop_phrases.1"},
    ),
}


@pytest.mark.parametrize(("change", "keys"), UNIONS.values(), ids=UNIONS)
def test_an_error_of_one_alternative_names_the_key_that_was_given(change: str, keys: set[str]) -> None:
    name = "oasst-rlhf-pythia-12b" if change.startswith("objective") else "dolly-v2-3b"
    with pytest.raises(InvalidRecipeError) as refused:
        load([name], [change])
    assert {problem.key for problem in refused.value.problems} == keys
