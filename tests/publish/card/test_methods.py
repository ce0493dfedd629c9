"""The prose of the cards of all built-in recipes agrees with their method: reward models write no replies."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.worlds import preference_recipe, small_recipe
from tunesmith.compose import train_recipe
from tunesmith.publish.card.facts import CardFacts
from tunesmith.publish.card.metadata import header
from tunesmith.publish.card.reading import read_facts
from tunesmith.publish.card.writing import card_sections
from tunesmith.recipe.load import list_catalog, load, load_incomplete
from tunesmith.recipe.schema import CardConfig

RECIPES = [entry.name for entry in list_catalog() if entry.kind == "recipe"]
OF_ASSISTANTS = re.compile(
    r"(?<!Open)(?<!Open-)assistant|messages of a user, as|repl(?:y|ies) (?:may be wrong|are not filtered)|safe replies"
    r"|can write|replies in others|convincing|end(?:s|ed) (?:a|the) reply|chat DIRECTORY|conversational",
    re.IGNORECASE,
)
OF_REWARD_MODELS = re.compile(r"higher score|writes no replies|score DIRECTORY|reward model, made of", re.IGNORECASE)
METHODS = {"sft": "fine-tuning", "dpo": "(DPO)", "reward": "a ranking loss on preferences", "ppo": "(PPO)"}
BRIEF = ["train.steps=1", "train.save_every=null", "train.evaluate_every=1", "data.validation=4"]


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], CardFacts]:
    """simulated("dolly-v2-3b") -> the facts of a tiny run, as if it had been one of this recipe."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("methods")
    runs = {
        "assistant": train_recipe(small_recipe(root / "sft", BRIEF)).directory,
        "reward": train_recipe(preference_recipe(root / "rm", [*BRIEF, "objective={kind: reward}"])).directory,
    }
    known = {kind: read_facts(run, lambda done, total, label: None) for kind, run in runs.items()}

    def simulate(name: str) -> CardFacts:
        recipe = load_incomplete([name]).recipe
        kind = recipe.objective.kind
        facts = known["reward" if kind == "reward" else "assistant"]
        training = replace(facts.training, method=kind)
        return replace(facts, recipe=recipe, recipe_text="", card=recipe.card or CardConfig(), training=training)

    return simulate


def prose(facts: CardFacts) -> str:
    """The front matter and all sections, without blocks of code other than commands."""
    text = "\n".join([header(facts), *(section.markdown() for section in card_sections(facts))])
    return re.sub(r"```(\w*)\n(.*?)```", lambda match: match[2] if match[1] == "sh" else "", text, flags=re.DOTALL)


def test_there_are_recipes_of_all_methods() -> None:
    assert {load_incomplete([name]).recipe.objective.kind for name in RECIPES} == set(METHODS)
    assert len(RECIPES) > 50


@pytest.mark.parametrize("name", RECIPES)
def test_no_prose_disagrees_with_the_method(name: str, simulated: Callable[[str], CardFacts]) -> None:
    facts = simulated(name)
    text, kind = prose(facts), facts.recipe.objective.kind
    assert METHODS[kind] in text
    wrong = OF_ASSISTANTS if kind == "reward" else OF_REWARD_MODELS
    assert [match.group() for match in wrong.finditer(text)] == []


@pytest.mark.parametrize("name", [name for name in RECIPES if name.endswith("-rm") or "-rm-" in name])
def test_reward_recipes_have_texts_about_scores(name: str) -> None:
    card = load([name]).recipe.card
    if load([name]).recipe.objective.kind == "reward":
        assert card is not None
        assert "Scores for PPO" in (card.intended_use or "")
        assert "higher score" in (card.limitations or "")
        assert card.license == "apache-2.0"


def test_the_pattern_finds_the_texts_of_the_other_kind(simulated: Callable[[str], CardFacts]) -> None:
    reward, assistant = simulated("tulu-2.5-13b-uf-rm"), simulated("tulu-2.5-dpo-13b-uf-mean")
    assert OF_ASSISTANTS.search(prose(replace(reward, card=assistant.card)))
    assert OF_REWARD_MODELS.search(prose(replace(assistant, card=reward.card)))


def test_a_recipe_of_a_user_that_changes_the_method_inherits_no_texts(tmp_path: Path) -> None:
    name = "tulu-2.5-dpo-13b-uf-overall"
    card = load([name], ["objective={kind: reward}"]).recipe.card
    assert card is not None
    assert (card.intended_use, card.limitations, card.license) == (None, None, "apache-2.0")
    path = tmp_path / "mine.yaml"
    path.write_text(f"extends: {name}\nobjective: {{kind: reward}}\ncard: {{summary: Mine.}}\n")
    card = load([str(path)]).recipe.card
    assert card is not None
    assert (card.intended_use, card.summary) == (None, "Mine.")
    for words in (["objective.beta=0.2"], ["objective={kind: sft}"]):
        card = load([name], words).recipe.card
        assert card is not None
        assert card.intended_use is not None
    card = load(["tulu-2.5-13b-uf-rm"], ["objective.l2=0.1"]).recipe.card
    assert card is not None
    assert card.intended_use is not None
