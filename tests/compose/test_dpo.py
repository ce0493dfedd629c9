"""Whole runs on preferences: resumed to the bit, with the right references, and gates that find planted faults."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.runs import digests
from tests.worlds import small_recipe, write_preferences
from tunesmith.compose import train_recipe
from tunesmith.compose.check.recipe import collect_checks
from tunesmith.compose.methods import dpo as dpo_module
from tunesmith.compose.models import reference_cache as reference_module
from tunesmith.compose.models.reference import find_reference
from tunesmith.errors import InternalError, MissingInputError, RecipeError, StoppedError, TunesmithError
from tunesmith.files import sha256
from tunesmith.model.policy import Policy
from tunesmith.train.run import checkpoint

MISMATCH = "cached reference log-probabilities do not belong to this model and data"
SHORT = ("train.steps=2", "train.evaluate_every=null", "data.validation=0")
FEW = 18  # records of a world for runs of two steps, more than those that are recomputed whenever a cache is used
RESUMED = ("train.steps=12", "train.evaluate_every=5", "train.save_every=4", "data.validation=6")
"""Settings of runs that are stopped and resumed, over 24 records: an epoch ends in step 5, another in step 9."""
World = Callable[[str], tuple[Path, dict[str, str]]]


@pytest.fixture(scope="module")
def never_stopped(tmp_path_factory: pytest.TempPathFactory) -> World:
    """architecture -> (its world, the digests of its uninterrupted run)."""
    made: dict[str, tuple[Path, dict[str, str]]] = {}

    def find(architecture: str) -> tuple[Path, dict[str, str]]:
        if architecture not in made:
            root = tmp_path_factory.mktemp(architecture)
            write_preferences(root, architecture=architecture, records=24)
            made[architecture] = root, digests(train(root, *RESUMED))
        return made[architecture]

    return find


def train(root: Path, *overrides: str, run: str = "run") -> Path:
    return train_recipe(small_recipe(root, [f"run.directory={root}/{run}", *overrides])).directory


def forget_references(root: Path) -> None:
    shutil.rmtree(root / "cache" / "references")


def stop_and_resume(root: Path, name: str, stops: Sequence[int], *overrides: str) -> dict[str, str]:
    """A run with a stop after each of ``stops``, its references forgotten at each; the digests of its end."""
    for stop in stops:
        with pytest.raises(StoppedError, match=f"stopped after step {stop} of 12"):
            train(root, *RESUMED, *overrides, f"train.stop_after={stop}", run=name)
        if (root / "cache" / "references").exists():
            forget_references(root)
    run = train(root, *RESUMED, *overrides, run=name)
    found = digests(run)
    shutil.rmtree(run)
    return found


@pytest.mark.parametrize("stop", [1, 6])
def test_a_run_stopped_at_any_step_ends_as_if_never_stopped(stop: int, never_stopped: World) -> None:
    root, expected = never_stopped("llama")
    assert stop_and_resume(root, f"run-{stop}", [stop]) == expected


STOPS = {"llama": [1, 4, 5, 8, 11], "gpt_neox": [2, 5, 11], "t5": [3, 10]}


@pytest.mark.parametrize(
    "architecture", ["llama", *(pytest.param(each, marks=pytest.mark.exhaustive) for each in ("gpt_neox", "t5"))]
)
def test_a_chain_of_stops_ends_as_if_never_stopped(architecture: str, never_stopped: World) -> None:
    """After the first step, with a planned checkpoint, at an evaluation, and before the last step."""
    root, expected = never_stopped(architecture)
    assert stop_and_resume(root, "chain", STOPS[architecture]) == expected


def test_references_of_the_weights_at_the_resume_are_seen(
    never_stopped: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the policy is compared with are the weights of the beginning, not those that a checkpoint holds."""
    root, expected = never_stopped("llama")
    right = dpo_module.reference_columns

    def late(context: Any, *more: Any) -> Any:
        found = checkpoint.newest(context.run.checkpoints, pytest.fail)
        if found is not None:
            context.model.load_state_dict(found.load("model"))
        return right(context, *more)

    monkeypatch.setattr(dpo_module, "reference_columns", late)
    assert stop_and_resume(root, "late", [6]) != expected


VARIANTS = {
    "another reference": ("objective.reference=REFERENCE",),
    "no reference": ("objective={kind: dpo, reference: none, length_normalized: true, beta: 2.0, target_margin: 1.0}",),
    "ipo": ("objective={kind: dpo, loss: ipo, beta: 0.2}", "train.optimizer={kind: muon}"),
    "wpo and sft": ("objective={kind: dpo, policy_weighted: true, sft_weight: 0.5}", "train.micro_batch_tokens=90"),
}


@pytest.mark.parametrize(
    "variant",
    [pytest.param(each, marks=pytest.mark.exhaustive if each != "ipo" else ()) for each in VARIANTS],
)
def test_relatives_of_dpo_resume_to_the_bit(variant: str, never_stopped: World) -> None:
    root, plain = never_stopped("llama")
    overrides = [each.replace("REFERENCE", str(root / "run" / "export")) for each in VARIANTS[variant]]
    expected = digests(train(root, *RESUMED, *overrides, run=f"whole {variant}"))
    assert expected != plain
    assert stop_and_resume(root, f"cut {variant}", [6], *overrides) == expected


def test_references_that_are_kept_give_the_run_of_references_that_are_computed(never_stopped: World) -> None:
    root, expected = never_stopped("llama")
    with pytest.raises(StoppedError):
        train(root, *RESUMED, "train.stop_after=1", run="before")
    made: list[int] = []
    right = reference_module.ReferenceModel.values

    def counted(self: Any, examples: Any, *more: Any) -> Any:
        made.append(len(examples))
        return right(self, examples, *more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference_module.ReferenceModel, "values", counted)
        again = train(root, *RESUMED, run="again")
    assert digests(again) == expected
    assert max(made) <= reference_module.PROBES  # only those that are recomputed to check the cache


def test_references_of_other_batches_are_not_taken(tmp_path: Path) -> None:
    """Sums differ in their last digits with the batches that they are computed in; runs are reproducible to the bit."""
    write_preferences(tmp_path, records=FEW)
    kept = []
    for tokens in (200, 60, 200):
        train(tmp_path, *SHORT, f"train.micro_batch_tokens={tokens}", run=f"run-{len(kept)}")
        kept.append(len(list((tmp_path / "cache" / "references").iterdir())))
    assert kept == [1, 2, 2]


def test_a_damaged_cache_of_references_is_computed_again(never_stopped: World) -> None:
    root, expected = never_stopped("llama")
    for file in (root / "cache" / "references").rglob("values.bin"):
        values = np.frombuffer(file.read_bytes(), "<f4")
        file.write_bytes(values[::-1].tobytes())
    assert digests(train(root, *RESUMED, run="repaired")) == expected


# Gates: what does not belong together is found before a weight moves


def assert_nothing_was_trained(run: Path) -> None:
    assert not (run / "checkpoints").exists() or not list((run / "checkpoints").iterdir())
    assert not (run / "metrics.jsonl").exists() or not (run / "metrics.jsonl").read_text()


def refused(root: Path, error: type[TunesmithError], match: str, *overrides: str) -> None:
    with pytest.raises(error, match=match):
        train(root, *SHORT, *overrides, run="refused")
    assert_nothing_was_trained(root / "refused")


def test_a_cache_that_was_put_in_another_order_with_its_digest_is_found(tmp_path: Path) -> None:
    write_preferences(tmp_path, records=FEW)
    train(tmp_path, *SHORT)
    for directory in (tmp_path / "cache" / "references").iterdir():
        file = directory / "values.bin"
        file.write_bytes(np.random.default_rng(0).permutation(np.frombuffer(file.read_bytes(), "<f4")).tobytes())
        index = json.loads((directory / "index.json").read_text())
        (directory / "index.json").write_text(json.dumps({**index, "sha256": sha256(file)}))
    refused(tmp_path, InternalError, MISMATCH)


def test_values_that_are_mixed_up_after_they_were_read_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_preferences(tmp_path, records=FEW)
    train(tmp_path, *SHORT)
    right = reference_module._read

    def mixed(*arguments: Any) -> Any:
        values = right(*arguments)
        return None if values is None else np.roll(values, 1)

    monkeypatch.setattr(reference_module, "_read", mixed)
    refused(tmp_path, InternalError, MISMATCH)


def test_the_cache_of_another_model_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_preferences(tmp_path, records=FEW)
    monkeypatch.setattr(dpo_module, "weights_digest", lambda model: "the same for every model")
    train(tmp_path, *SHORT, "model.residual_dropout=0")
    # another seed makes other weights; the data are the same
    refused(tmp_path, InternalError, MISMATCH, "seed=6", "model.residual_dropout=0")


def test_the_cache_of_other_data_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_preferences(tmp_path, records=FEW)
    monkeypatch.setattr(reference_module, "fingerprint", lambda known: "0" * 64)
    train(tmp_path, *SHORT)
    file = tmp_path / "rankings.jsonl"
    file.write_text(file.read_text().replace("what what", "that what"))
    refused(tmp_path, InternalError, MISMATCH)


def test_a_policy_that_is_not_its_reference_any_more_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_preferences(tmp_path, records=FEW)
    right = dpo_module.reference_columns

    def moved(setting: Any, *more: Any) -> Any:
        found = right(setting, *more)
        with torch.no_grad():
            for parameter in setting.model.parameters():
                parameter.mul_(1.3)
        return found

    monkeypatch.setattr(dpo_module, "reference_columns", moved)
    refused(tmp_path, InternalError, "policy and reference before the first step")


def test_noise_in_the_reference_pass_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_preferences(tmp_path, records=FEW)
    right = reference_module.ReferenceModel.values

    def noisy(*arguments: Any) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Policy, "eval", Policy.train)
            return right(*arguments)

    monkeypatch.setattr(reference_module.ReferenceModel, "values", noisy)
    with pytest.raises(AssertionError, match="dropout in the reference pass"):
        train(tmp_path, *SHORT, run="refused")
    assert_nothing_was_trained(tmp_path / "refused")


def test_references_in_another_order_than_the_replies_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_preferences(tmp_path, records=FEW)
    right = reference_module.References.columns
    monkeypatch.setattr(
        reference_module.References,
        "columns",
        lambda self, number: {name: values[::-1].copy() for name, values in right(self, number).items()},
    )
    refused(tmp_path, InternalError, MISMATCH)
    # and where the cache itself is not asked, by the gate
    monkeypatch.setattr(reference_module, "check_references", lambda *arguments: None)
    refused(tmp_path, InternalError, "policy and reference before the first step")


@pytest.mark.parametrize("objective", ["loss: ipo, beta: 0.01", "loss: hinge, beta: 0.5", "label_smoothing: 0.1"])
def test_rounding_is_no_fault(tmp_path: Path, objective: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums of long replies differ in the fourth decimal from batch to batch; steep losses make more of that."""
    write_preferences(tmp_path, records=FEW)
    right = reference_module.References.columns

    def rounded(self: Any, number: int) -> Any:
        draw = np.random.default_rng(number)
        noise = {name: draw.choice([-2e-4, 2e-4], len(values)) for name, values in right(self, number).items()}
        return {name: (values + noise[name]).astype(np.float32) for name, values in right(self, number).items()}

    monkeypatch.setattr(reference_module.References, "columns", rounded)
    train(tmp_path, *SHORT, f"objective={{kind: dpo, {objective}}}")


# A separate reference


def test_a_reference_that_changed_on_the_way_is_refused(tmp_path: Path) -> None:
    write_preferences(tmp_path, records=FEW)
    shutil.copytree(train(tmp_path, *SHORT) / "export", tmp_path / "first")
    shutil.copytree(train(tmp_path, *SHORT, "seed=9", run="other") / "export", tmp_path / "second")
    shutil.copytree(tmp_path / "first", tmp_path / "reference")
    reference = f"objective.reference={tmp_path}/reference"
    with pytest.raises(StoppedError):
        train(tmp_path, reference, "train.stop_after=3", run="on")
    shutil.rmtree(tmp_path / "reference")
    shutil.copytree(tmp_path / "second", tmp_path / "reference")
    with pytest.raises(RecipeError, match="reference"):
        train(tmp_path, reference, run="on")


def test_a_reference_that_cannot_be_one_is_refused(tmp_path: Path) -> None:
    write_preferences(tmp_path, records=FEW)
    key = f"objective.reference={tmp_path}"
    refused(tmp_path, MissingInputError, "there is no such directory", f"{key}/nowhere")
    t5 = write_preferences(tmp_path / "t5", architecture="t5", records=FEW).parent
    other = train(t5, *SHORT) / "export"
    refused(tmp_path, RecipeError, "a model of another family", f"objective.reference={other}")
    recipe = small_recipe(tmp_path, [f"objective.reference={other}"])
    (check,) = collect_checks(recipe, lambda done, total, label: None).report.having("fail")
    assert "a model of another family" in check.summary
    dolly = write_preferences(tmp_path / "dolly", format="dolly", records=FEW).parent
    other = train(dolly, *SHORT) / "export"
    refused(tmp_path, RecipeError, "has another tokenizer", f"objective.reference={other}")


def test_a_run_named_as_the_reference_means_its_export(tmp_path: Path) -> None:
    export = tmp_path / "earlier" / "export"
    export.mkdir(parents=True)
    (export / "config.json").write_text("{}")
    recipe = small_recipe(
        write_preferences(tmp_path / "world").parent, [f"objective.reference={tmp_path / 'earlier'}"]
    ).recipe
    assert find_reference(recipe) == str(export)
