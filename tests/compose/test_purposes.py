"""A reader that gives something else than its objective wants is refused, with the key that changes it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.worlds import small_recipe, write_world
from tunesmith.compose.check.recipe import collect_checks
from tunesmith.compose.components.data_checks import check_sources
from tunesmith.data.readers.registry import READERS, purpose
from tunesmith.errors import RecipeError
from tunesmith.recipe.load import LoadedRecipe, load

PPO = "{kind: ppo, prompts_per_iteration: 64, max_new_tokens: 64, rewards: [{kind: model, path: r}]}"
OBJECTIVES = {"sft": "{kind: sft}", "dpo": "{kind: dpo}", "reward": "{kind: reward}", "ppo": PPO}


def recipe(objective: str, reader: str, options: dict[str, Any], key: str = "sources") -> LoadedRecipe:
    source = json.dumps({"path": "x.jsonl", "reader": reader, "options": options})
    words = [f"objective={OBJECTIVES[objective]}", "data.validation=0", "train.evaluate_every=null"]
    if key == "validation_sources":
        fit = {"sft": "dolly", "dpo": "hh", "reward": "hh", "ppo": "dolly"}[objective]
        words.append(f"data.sources=[{{path: y.jsonl, reader: {fit}}}]")
    return load(["dolly-v2-3b"], [*words, f"data.{key}=[{source}]"])


IMITATED = (
    "objective sft would imitate rejected replies too; to train on chosen and rejected replies use the recipe dpo; "
    "to imitate the chosen ones"
)
REFUSED: dict[str, tuple[str, str, dict[str, Any], str]] = {
    "both replies imitated": (
        "sft",
        "preference",
        {},
        f"data.sources.0.options.replies: {IMITATED} append data.sources.0.options.replies=best",
    ),
    "a drawn pair imitated": (
        "sft",
        "nectar",
        {"replies": "pair"},
        f"data.sources.0.options.replies: {IMITATED} append data.sources.0.options.replies=best",
    ),
    "rankings imitated": (
        "sft",
        "oasst",
        {"keep": "rankings"},
        f"data.sources.0.options.keep: {IMITATED} append data.sources.0.options.keep=threads",
    ),
    "questions imitated": (
        "sft",
        "oasst-messages",
        {"keep": "prompts"},
        "data.sources.0.options.keep: objective sft imitates replies, and reader oasst-messages gives prompts; "
        "append data.sources.0.options.keep=threads",
    ),
    "prompts imitated": (
        "sft",
        "prompts",
        {},
        "data.sources.0.reader: objective sft imitates replies, and reader prompts gives prompts; "
        "name one that gives demonstrations: dolly,",
    ),
    "demonstrations compared": (
        "dpo",
        "dolly",
        {},
        "data.sources.0.reader: objective dpo compares replies to one prompt, and reader dolly gives demonstrations; "
        "name one that gives rankings: preference, preference-text, preference-sharegpt, hh,",
    ),
    "the best alone compared": (
        "reward",
        "ultrafeedback",
        {"replies": "best"},
        "data.sources.0.options.replies: objective reward compares replies to one prompt, "
        "and reader ultrafeedback gives demonstrations; append data.sources.0.options.replies=all",
    ),
    "threads compared": (
        "reward",
        "oasst",
        {},
        "data.sources.0.options.keep: objective reward compares replies to one prompt, "
        "and reader oasst gives demonstrations; append data.sources.0.options.keep=rankings",
    ),
    "prompts compared": ("dpo", "prompts", {}, "data.sources.0.reader: objective dpo compares replies to one prompt"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_unfit_reader_is_refused_with_key_and_advice(name: str) -> None:
    objective, reader, options, says = REFUSED[name]
    with pytest.raises(RecipeError) as caught:
        check_sources(recipe(objective, reader, options).recipe)
    assert str(caught.value).startswith(says)
    with pytest.raises(RecipeError) as caught:
        check_sources(recipe(objective, reader, options, "validation_sources").recipe)
    assert str(caught.value).startswith(says.replace("data.sources", "data.validation_sources"))


@pytest.mark.parametrize(
    ("objective", "reader", "options"),
    [
        ("sft", "preference", {"replies": "best"}),
        ("sft", "oasst", {}),
        ("sft", "text", {}),
        ("dpo", "preference", {}),
        ("dpo", "nectar", {"replies": "pair"}),
        ("reward", "oasst", {"keep": "rankings"}),
        ("reward", "helpsteer", {}),
        *(("ppo", reader, {}) for reader in READERS),
    ],
)
def test_a_fit_reader_is_not(objective: str, reader: str, options: dict[str, Any]) -> None:
    check_sources(recipe(objective, reader, options).recipe)


def test_every_reader_has_a_purpose() -> None:
    found = {name: purpose(name, {}) for name in READERS}
    assert {name for name, what in found.items() if what == "prompts"} == {"prompts"}
    assert {name for name, what in found.items() if what == "rankings"} == {
        name for name, reader in READERS.items() if "replies" in reader.options
    }


@pytest.mark.parametrize("objective", ["dpo", "reward"])
def test_the_check_says_so_before_anything_is_read(tmp_path: Path, objective: str) -> None:
    write_world(tmp_path)
    loaded = small_recipe(tmp_path, [f"objective={{kind: {objective}}}"])
    failed = collect_checks(loaded, lambda done, total, label: None).report.having("fail")
    assert len(failed) == 1
    assert "data.sources.0.reader" in failed[0].summary
    assert f"objective {objective} compares replies to one prompt" in failed[0].summary
