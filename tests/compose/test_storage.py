"""Runs that store weights, gradients and moments in fewer bits: they resume to the bit, and export exact weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.runs import digests
from tests.worlds import ppo_recipe, preference_recipe, small_recipe, write_world
from tunesmith.compose import train_recipe
from tunesmith.compose.models import families
from tunesmith.compose.run_export import load_checkpoint_model
from tunesmith.errors import RecipeError, StoppedError
from tunesmith.model.split import join
from tunesmith.recipe.load import LoadedRecipe, load

Recipe = Callable[..., LoadedRecipe]
SHORT = ["model.dtype=bfloat16", "train.steps=5", "train.evaluate_every=3", "train.save_every=null"]
SPLIT = [*SHORT, "train.weights=split"]
SMALLEST = [*SHORT, "train.gradients=bfloat16", "train.moments=8bit", "train.offload=moments"]

CASES: list[tuple[Recipe, str, list[str]]] = [
    (small_recipe, "gpt_neox", [*SMALLEST, "train.weights=split", "run.export=best"]),
    (small_recipe, "t5", [*SPLIT, "train.optimizer={kind: adafactor}"]),
    (small_recipe, "llama", [*SMALLEST, "train.weights=bfloat16-stochastic", "train.optimizer={kind: muon}"]),
    (preference_recipe, "llama", SPLIT),
    (ppo_recipe, "llama", [*SMALLEST, "train.weights=bfloat16-stochastic"]),
]


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize(("make", "architecture", "words"), CASES)
def test_a_run_that_was_stopped_ends_as_if_never_stopped(
    make: Recipe, architecture: str, words: list[str], tmp_path: Path
) -> None:
    whole = train_recipe(make(tmp_path, [*words, f"run.directory={tmp_path}/a"], architecture=architecture)).directory
    with pytest.raises(StoppedError):
        train_recipe(make(tmp_path, [*words, f"run.directory={tmp_path}/b", "train.stop_after=2"]))
    again = train_recipe(make(tmp_path, [*words, f"run.directory={tmp_path}/b"])).directory
    assert digests(again) == digests(whole)


@pytest.fixture(scope="module")
def split_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished run of a small recipe with split weights."""
    return train_recipe(small_recipe(tmp_path_factory.mktemp("split"), SPLIT)).directory


def test_the_export_has_the_exact_weights_and_not_their_halves(split_run: Path) -> None:
    last = split_run / "checkpoints" / "step-000005"
    halves, state = load_file(last / "model.safetensors"), load_file(last / "optimizer.safetensors")
    exported = load_file(split_run / "export" / "model.safetensors")
    assert exported
    for name, weight in exported.items():
        assert weight.dtype == torch.float32
        assert halves[name].dtype == torch.bfloat16
        assert torch.equal(weight, join(halves[name], state[f"{name}.rest"])), name
    assert not all(torch.equal(weight, halves[name].float()) for name, weight in exported.items())


def test_a_checkpoint_gives_the_same_model_as_the_export(split_run: Path) -> None:
    found = load_checkpoint_model(split_run, "last", pytest.fail).model.state_dict()
    exported = load_file(split_run / "export" / "model.safetensors")
    assert all(torch.equal(found[name], weight) for name, weight in exported.items())


def test_a_finished_run_is_complete_and_its_export_unchanged(split_run: Path) -> None:
    before = digests(split_run)
    train_recipe(small_recipe(split_run.parent, SPLIT))
    assert digests(split_run) == before


def test_a_checkpoint_in_another_format_is_refused_by_name(split_run: Path) -> None:
    with pytest.raises(RecipeError, match=r'train.weights: "split" -> "bfloat16-stochastic"'):
        train_recipe(small_recipe(split_run.parent, [*SHORT, "train.weights=bfloat16-stochastic"]))


def test_offloading_may_begin_while_a_run_is_stopped(tmp_path: Path) -> None:
    expected = digests(train_recipe(small_recipe(tmp_path, [*SPLIT, f"run.directory={tmp_path}/a"])).directory)
    words = [*SPLIT, f"run.directory={tmp_path}/b"]
    with pytest.raises(StoppedError):
        train_recipe(small_recipe(tmp_path, [*words, "train.stop_after=2"]))
    assert digests(train_recipe(small_recipe(tmp_path, [*words, "train.offload=moments"])).directory) == expected


def test_a_run_of_a_version_without_these_keys_is_continued(tmp_path: Path) -> None:
    expected = digests(train_recipe(small_recipe(tmp_path, [*SHORT, f"run.directory={tmp_path}/a"])).directory)
    words = [*SHORT, f"run.directory={tmp_path}/b"]
    with pytest.raises(StoppedError):
        train_recipe(small_recipe(tmp_path, [*words, "train.stop_after=2"]))
    recorded = tmp_path / "b" / "recipe.yaml"
    keys = ("  weights:", "  gradients:", "  moments:", "  offload:")
    lines = recorded.read_text().splitlines(keepends=True)
    older = [line for line in lines if not line.startswith(keys)]
    assert len(older) == len(lines) - len(keys)
    recorded.write_text("".join(older))
    assert digests(train_recipe(small_recipe(tmp_path, words)).directory) == expected
    shutil.rmtree(tmp_path / "b")


@pytest.mark.parametrize(
    ("words", "device", "format"),
    [
        ([], "cpu", "float32"),
        ([], "cuda", "float32"),
        (["model.dtype=bfloat16"], "cpu", "float32"),
        (["model.dtype=bfloat16"], "cuda", "split"),
        (["model.dtype=bfloat16", "train.gradients=bfloat16"], "cpu", "split"),
        (["model.dtype=bfloat16", "train.weights=float32"], "cuda", "float32"),
    ],
)
def test_auto_splits_on_a_gpu_with_bfloat16_or_with_gradients_in_it(
    words: list[str], device: str, format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_world(tmp_path)
    monkeypatch.setattr(families, "best_device", lambda: torch.device(device))
    recipe = small_recipe(tmp_path, words).recipe
    assert families.weight_format(recipe) == families.name_storage(recipe, 1).train.weights == format


def test_dpo_starts_with_a_policy_that_is_its_reference_exactly(tmp_path: Path) -> None:
    words = [*SPLIT, "train.steps=1", "train.evaluate_every=1", "model.residual_dropout=0"]
    run = train_recipe(preference_recipe(tmp_path, words)).directory
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    first = next(line for line in lines if line["step"] == 1 and "loss" in line)
    assert first["loss"] == pytest.approx(0.6931, abs=1e-4)
    assert first["rewards/margins"] == pytest.approx(0.0, abs=1e-4)


@pytest.mark.parametrize("gradients", ["float32", "bfloat16"])
def test_micro_batches_change_only_rounding(gradients: str, tmp_path: Path) -> None:
    moved = {}
    for tokens in (100, 10_000):
        keys = [
            f"run.directory={tmp_path}/{tokens}",
            f"train.micro_batch_tokens={tokens}",
            f"train.gradients={gradients}",
        ]
        optimizer = "train.optimizer={kind: adamw, epsilon: 1.0}"  # then a step is in proportion to the gradient
        words = [
            *SPLIT,
            *keys,
            "train.steps=1",
            optimizer,
            "model.residual_dropout=0",
            "train.schedule={kind: constant}",
        ]
        run = train_recipe(small_recipe(tmp_path, words)).directory
        state = load_file(run / "checkpoints" / "step-000001" / "optimizer.safetensors")
        moved[tokens] = torch.cat([state[n].flatten() for n in sorted(state) if n.endswith(".exp_avg")])
    difference = (moved[100] - moved[10_000]).norm() / moved[10_000].norm()
    assert 0.0 < difference < 0.01


@pytest.mark.parametrize(
    ("shard", "dtype", "expected"), [("zero3", "bfloat16", "split"), ("zero3", "float32", "float32")]
)
def test_frozen_models_of_a_divided_run_are_in_the_format_of_gathered_weights(
    tmp_path: Path, shard: str, dtype: str, expected: str
) -> None:
    recipe = small_recipe(tmp_path, [f"train.shard={shard}", f"model.dtype={dtype}"]).recipe
    named = families.name_storage(recipe, 8)
    assert (named.train.weights, families.frozen_format(named)) == ("float32", expected)


@pytest.mark.parametrize(("processes", "replicas", "is_refused"), [(8, 2, False), (8, 3, True), (1, 3, False)])
def test_processes_share_copies_of_divided_weights_equally(
    tmp_path: Path, processes: int, replicas: int, is_refused: bool
) -> None:
    recipe = small_recipe(tmp_path, [f"train.replicas={replicas}"]).recipe
    with pytest.raises(RecipeError, match="8 processes cannot share 3 copies") if is_refused else nullcontext():
        families.name_storage(recipe, processes)


def test_adapters_and_the_layer_of_a_machine_train_and_what_has_no_effect_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*SHORT, "train.steps=1", "train.evaluate_every=null", "train.gradients=bfloat16"]
    run = train_recipe(small_recipe(tmp_path, [*words, "model.adapter={rank: 4}"])).directory
    assert "train.gradients=bfloat16 has no effect" in "".join(capsys.readouterr())
    recorded = load([str(run / "recipe.yaml")]).recipe.train
    assert (recorded.weights, recorded.gradients) == ("float32", "float32")
    named = families.name_storage(small_recipe(tmp_path, [*words, "model.adapter={rank: 4}"]).recipe, 2)
    assert (named.train.shard, named.train.gradients) == ("zero3", "float32")
