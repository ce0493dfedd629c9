"""Steps with long threads: windows by formula, the same whoever asks and in whatever layout."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch

from tests.model.trees import random_tree, small_model
from tunesmith.batch.example import Weighting
from tunesmith.batch.packed import PackedBatch, collate_packed
from tunesmith.data.dataset.plan import Plan
from tunesmith.data.dataset.store import Store, open_store, open_writer, pack, read_index
from tunesmith.evaluate.loss import validation_loss
from tunesmith.model.policy import Policy
from tunesmith.objectives.sft import SupervisedFineTuning
from tunesmith.text.tokens.crop import CropSettings, crop_threads, thread_lengths
from tunesmith.train.steps import DatasetSteps

WINDOWS = CropSettings("window", limit=16, opening=2, probability=0.8)
TREES = [random_tree(seed, messages=3 + seed % 6) for seed in range(20)]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    directory = tmp_path_factory.mktemp("store")
    keys = [number.to_bytes(16, "big") for number in range(len(TREES))]
    with open_writer(directory) as writer:
        writer.append(pack(TREES, [0] * len(TREES), keys))
        writer.finish("key", ["data"], {})
    index = read_index(directory, "key")
    assert index is not None
    return open_store(directory, index)


def steps(store: Store, weighting: Weighting = "threads", **given: object) -> DatasetSteps[PackedBatch]:
    plan = Plan(store.threads, 8, epochs=3, steps=None, seed=1)
    settings: Any = {"crop": WINDOWS, **given}
    return DatasetSteps(plan, store, weighting, 60, 7, collate_packed, **settings)


def content(batch: PackedBatch) -> tuple[list[int], list[int], list[float], tuple[int, ...]]:
    return batch.ids.tolist(), batch.target.tolist(), batch.weight.tolist(), batch.seeds


def trained(batches: tuple[PackedBatch, ...]) -> Counter[tuple[int, int, int]]:
    """How much weight every target has: (id before it, id, position) in the thread."""
    found: Counter[tuple[int, int, int]] = Counter()
    for batch in batches:
        rows = zip(batch.source.tolist(), batch.target.tolist(), batch.weight.tolist(), strict=True)
        for source, target, weight in rows:
            found[int(batch.ids[source]), target, int(batch.positions[source])] += int(weight)
    return found


@pytest.mark.parametrize("weighting", ["threads", "messages"])
def test_a_step_is_the_same_whenever_it_is_asked_for(weighting: Weighting, store: Store) -> None:
    one, other = steps(store, weighting), steps(store, weighting)
    forwards = [one[number] for number in range(len(one))]
    for number in reversed(range(len(one))):
        again = other[number]
        assert again.examples == forwards[number].examples
        assert [content(b) for b in again.batches] == [content(b) for b in forwards[number].batches]


def test_no_thread_is_longer_than_the_limit_and_every_epoch_has_its_own_windows(store: Store) -> None:
    assert sum(thread_lengths(tree).max() > WINDOWS.limit for tree in TREES) > 10
    found: dict[int, list[list[int]]] = {}
    made = steps(store)
    for step in (made[number] for number in range(len(made))):
        assert all(int(batch.positions.max()) < WINDOWS.limit for batch in step.batches)
        found.setdefault(step.epoch, []).extend(batch.ids.tolist() for batch in step.batches)
    epochs = [Counter(token for ids in each for token in ids) for each in found.values()]
    assert epochs[0] != epochs[1] != epochs[2]


@pytest.mark.parametrize("weighting", ["threads", "messages"])
def test_the_units_of_a_step_are_the_weights_of_its_targets(weighting: Weighting, store: Store) -> None:
    whole, objective = steps(store, weighting), SupervisedFineTuning()
    for number in range(len(whole)):
        units = sum(map(objective.units, whole[number].batches))
        assert units == sum(trained(whole[number].batches).values()) > 0


def test_processes_share_a_step_without_changing_it(store: Store) -> None:
    whole = steps(store)
    shares = [steps(store, rank=rank, processes=3) for rank in range(3)]
    for number in range(len(whole)):
        together = sum((trained(share[number].batches) for share in shares), Counter[tuple[int, int, int]]())
        assert together == trained(whole[number].batches)


def test_a_target_counts_once_where_messages_are_weighed(store: Store) -> None:
    for step in (steps(store, "messages")[number] for number in range(5)):
        assert all(set(batch.weight.tolist()) == {1.0} for batch in step.batches)
        most = sum(int(store.targets[example]) for example in step.examples)
        assert sum(batch.targets for batch in step.batches) <= most


@pytest.mark.parametrize("policy", ["left", "window"])
def test_evaluation_takes_the_same_part_in_every_layout_and_every_time(policy: str, store: Store) -> None:
    rule = CropSettings(policy, 16, 2)  # type: ignore[arg-type]
    model = Policy(small_model("llama"), compute=torch.float32)
    scores = [
        validation_loss(each, store, ["data"], 70, collate_packed, crop=rule)["data"]
        for each in (model, model, model.with_layout("threads"))
    ]
    assert scores[0] == scores[1]
    assert scores[2].loss == pytest.approx(scores[0].loss, rel=1e-5)
    expected = sum(len(part.targets()) for tree in TREES for part in crop_threads(tree, rule, once=True))
    assert scores[2].targets == scores[0].targets == expected
