"""The pass over validation data: means per source and over all, equal to what single examples give."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from tests.model.test_scalar_policy import ranked_tree, small_reward_model
from tests.model.trees import random_tree, small_model
from tunesmith.batch.example import Example
from tunesmith.batch.packed import assemble_packed, collate_packed
from tunesmith.data.dataset.store import Store, open_store, open_writer, pack, read_index
from tunesmith.evaluate.loss import validation_loss
from tunesmith.evaluate.objective import objective_metrics
from tunesmith.evaluate.reward import validation_ranking
from tunesmith.evaluate.validation import no_columns
from tunesmith.model.policy import Policy
from tunesmith.model.scalar_policy import ScalarPolicy
from tunesmith.objectives.ranking import RewardRanking
from tunesmith.objectives.sft import SupervisedFineTuning
from tunesmith.text.tokens.token_tree import TokenTree

SOURCES = ("first", "empty", "second")


def stored(directory: Path, trees: Sequence[TokenTree]) -> Store:
    """The trees in a store: two of three belong to the source ``first``, the others to ``second``."""
    numbers = [2 if index % 3 == 2 else 0 for index in range(len(trees))]
    with open_writer(directory) as writer:
        writer.append(pack(trees, numbers, [number.to_bytes(16, "big") for number in range(len(trees))]))
        writer.finish("key", list(SOURCES), {})
    index = read_index(directory, "key")
    assert index is not None
    return open_store(directory, index)


@pytest.fixture
def language_model() -> Policy:
    return Policy(small_model("llama"), compute=torch.float32)


@pytest.fixture
def demonstrations(tmp_path: Path) -> Store:
    return stored(tmp_path, [random_tree(seed, messages=3 + seed % 5) for seed in range(14)])


def test_the_loss_of_a_source_is_the_mean_over_its_targets(language_model: Policy, demonstrations: Store) -> None:
    language_model.train()
    found = validation_loss(language_model, demonstrations, SOURCES, 70, collate_packed)
    assert not language_model.model.training
    assert list(found) == ["first", "second", "all"], "a source without examples has no loss"
    losses: dict[str, list[float]] = {"first": [], "second": [], "all": []}
    for number in range(len(demonstrations)):
        batch = assemble_packed([Example(number, demonstrations.tree(number))], "messages")
        with torch.no_grad():
            values = (-language_model.log_probabilities(batch).log_probability.double()).tolist()
        losses[SOURCES[int(demonstrations.source[number])]] += values
        losses["all"] += values
    for source, values in losses.items():
        assert found[source].targets == len(values)
        assert found[source].loss == pytest.approx(sum(values) / len(values), rel=1e-5)


def test_the_validation_loss_is_what_the_objective_of_fine_tuning_measures(
    language_model: Policy, demonstrations: Store
) -> None:
    objective = SupervisedFineTuning()
    measured = objective_metrics(language_model, objective, demonstrations, SOURCES, 70, collate_packed, no_columns)
    expected = {
        source: {"loss": loss.loss, "accuracy": loss.accuracy, "units": loss.targets}
        for source, loss in validation_loss(language_model, demonstrations, SOURCES, 70, collate_packed).items()
    }
    assert measured.keys() == expected.keys()
    for source, values in expected.items():
        assert measured[source] == pytest.approx(values, rel=1e-9)


def test_the_ranking_has_the_metrics_of_the_objective_and_those_of_all_replies(tmp_path: Path) -> None:
    store = stored(tmp_path, [ranked_tree(seed, replies=2 + seed % 3) for seed in range(9)])
    policy, objective = ScalarPolicy(small_reward_model("llama"), compute=torch.float32), RewardRanking(l2=0.1)
    found = validation_ranking(policy, objective, store, SOURCES, 60)
    expected = objective_metrics(policy, objective, store, SOURCES, 60, collate_packed, no_columns)
    assert list(found) == ["first", "second", "all"]
    for source, values in expected.items():
        assert found[source]["groups"] == values["units"]
        shared = [name for name in values if name != "units"]
        assert {name: found[source][name] for name in shared} == pytest.approx({name: values[name] for name in shared})
    assert found["all"]["pairs"] == found["first"]["pairs"] + found["second"]["pairs"]
