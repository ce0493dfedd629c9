"""A run may go on with the other form of the same weights: float32, or split into bfloat16 and a rest."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.train.launched import run_launched
from tests.worlds import ppo_recipe, preference_recipe, small_recipe
from tunesmith.compose import train_recipe
from tunesmith.compose.models import families
from tunesmith.errors import RecipeError, StoppedError
from tunesmith.model.local_rows import local_part, local_rows, whole
from tunesmith.model.split import join
from tunesmith.recipe.load import LoadedRecipe
from tunesmith.train.run.callbacks import Checkpointer
from tunesmith.train.run.checkpoint import newest
from tunesmith.train.run.checkpoint_files import Checkpoint
from tunesmith.train.run.exact_weights import OPTIMIZER

Recipe = Callable[..., LoadedRecipe]
SHORT = ["model.dtype=bfloat16", "train.steps=4", "train.evaluate_every=null", "train.save_every=null"]
MUON = ["train.optimizer={kind: muon}", "train.moments=8bit"]
FORMS = {"float32": "train.weights=float32", "split": "train.weights=split"}

CASES = [
    pytest.param(small_recipe, "gpt_neox", []),
    pytest.param(small_recipe, "llama", MUON),
    pytest.param(small_recipe, "t5", ["train.optimizer={kind: adafactor}"], marks=pytest.mark.exhaustive),
    pytest.param(preference_recipe, "llama", ["train.moments=8bit"], marks=pytest.mark.exhaustive),
    pytest.param(ppo_recipe, "llama", []),
]


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> None:
    torch.set_num_threads(1)


def exact_state(found: Checkpoint) -> dict[str, Tensor]:
    """Every tensor of a checkpoint, with joined weights."""
    state = found.load(OPTIMIZER)
    rests = {name.removesuffix(".rest"): state.pop(name) for name in list(state) if name.endswith(".rest")}
    tensors = {f"{OPTIMIZER} {name}": each for name, each in state.items()}
    for group in found.groups:
        for name, tensor in {} if group == OPTIMIZER else found.load(group).items():
            first = found.tied.get(group, {}).get(name, name)
            rest = rests.get(f"value.{first}" if group == "value" else first)
            assert tensor.dtype != torch.bfloat16 or rest is not None, name
            tensors[f"{group} {name}"] = tensor if rest is None else join(tensor, rest)
    return tensors


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype, name
        assert torch.equal(found[name], tensor), name


def note_restored(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Tensor]]:
    """What a run has in memory after it has loaded a checkpoint, saved as it saves it."""
    found: list[dict[str, Tensor]] = []
    restore = Checkpointer.restore

    def noting(self: Checkpointer, checkpoint: Checkpoint) -> None:
        restore(self, checkpoint)
        self.saved = 0
        self.save(checkpoint.step)
        saved = newest(self.directory, pytest.fail)
        assert saved is not None
        found.append(exact_state(saved))

    monkeypatch.setattr(Checkpointer, "restore", noting)
    return found


@pytest.mark.parametrize(("before", "after"), [("float32", "split"), ("split", "float32")])
@pytest.mark.parametrize(("make", "architecture", "words"), CASES)
def test_a_run_that_goes_on_in_the_other_form_has_the_same_bits(
    make: Recipe,
    architecture: str,
    words: list[str],
    before: str,
    after: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = [*SHORT, *words]
    with pytest.raises(StoppedError):
        train_recipe(make(tmp_path, [*words, FORMS[before], "train.stop_after=2"], architecture=architecture))
    stopped = newest(tmp_path / "run" / "checkpoints", pytest.fail)
    assert stopped is not None
    expected = exact_state(stopped)
    restored = note_restored(monkeypatch)
    run = train_recipe(make(tmp_path, [*words, FORMS[after]], architecture=architecture))
    assert_same(restored[0], expected)
    assert f'train.weights: "{before}" -> "{after}"' in "".join(capsys.readouterr())
    assert run.steps == 4


def test_the_other_form_gives_the_metrics_of_the_first_one(tmp_path: Path) -> None:
    lines: dict[str, list[dict[str, Any]]] = {}
    for after in FORMS:
        words = [*SHORT, f"run.directory={tmp_path}/{after}", "model.residual_dropout=0"]
        with pytest.raises(StoppedError):
            train_recipe(small_recipe(tmp_path, [*words, FORMS["float32"], "train.stop_after=2"]))
        train_recipe(small_recipe(tmp_path, [*words, FORMS[after]]))
        records = (tmp_path / after / "metrics.jsonl").read_text().splitlines()
        lines[after] = [each for each in map(json.loads, records) if "loss" in each]
    for found, expected in zip(lines["split"], lines["float32"], strict=True):
        assert found["loss"] == pytest.approx(expected["loss"], rel=2e-2)


def test_weights_without_a_rest_are_another_run(tmp_path: Path) -> None:
    with pytest.raises(StoppedError):
        train_recipe(small_recipe(tmp_path, [*SHORT, FORMS["float32"], "train.stop_after=2"]))
    with pytest.raises(RecipeError, match=r'train.weights: "float32" -> "bfloat16-stochastic"'):
        train_recipe(small_recipe(tmp_path, [*SHORT, "train.weights=bfloat16-stochastic"]))


def on_gpus() -> None:
    """``train.weights: auto`` means what it means on machines with GPUs."""
    families.best_device = lambda: torch.device("cuda")  # type: ignore[attr-defined]


def begin(rank: int, directory: Path) -> None:
    on_gpus()
    words = [*SHORT, "train.stop_after=2", f"run.directory={directory}/run"]
    with pytest.raises(BaseException, match=r"stop_after|75"):
        train_recipe(small_recipe(directory, words))


def continue_run(rank: int, directory: Path) -> None:
    """Go on, and compare what every process has loaded with the files."""
    on_gpus()
    restore = Checkpointer.restore

    def checking(self: Checkpointer, checkpoint: Checkpoint) -> None:
        restore(self, checkpoint)
        expected, state = exact_state(checkpoint), self.optimizer.state_dict()
        for name, parameter in self.modules["model"].named_parameters():
            loaded = whole(parameter)
            if (rest := state.get(f"{name}.rest")) is not None:
                loaded = join(loaded, whole(rest))
            assert torch.equal(loaded, expected[f"model {name}"]), name
        moments = {name: each for name, each in state.items() if not name.endswith(".rest")}
        assert {f"{OPTIMIZER} {name}" for name in moments} <= expected.keys()
        for name, tensor in moments.items():
            assert torch.equal(whole(tensor), expected[f"{OPTIMIZER} {name}"]), name
        rows = [local_rows(each) for each in self.modules["model"].parameters()]
        assert all(each is not None for each in rows) == (self.world.size > 1)
        assert sum(local_part(each).numel() for each in self.modules["model"].parameters())
        (directory / f"compared-{rank}").touch()

    Checkpointer.restore = checking  # type: ignore[method-assign]
    train_recipe(small_recipe(directory, [*SHORT, f"run.directory={directory}/run"]))


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1)])
def test_a_run_on_a_gpu_goes_on_with_another_number_of_processes(before: int, after: int, tmp_path: Path) -> None:
    """With bfloat16 ``auto`` splits the weights of one process, and several divide them in float32."""
    small_recipe(tmp_path)
    for target, size in ((begin, before), (continue_run, after)):
        ended = run_launched(target, size, tmp_path)
        assert [each.code for each in ended] == [0] * size, ended
    assert sorted(path.name for path in tmp_path.glob("compared-*")) == [f"compared-{rank}" for rank in range(after)]
    recorded = (tmp_path / "run" / "recipe.yaml").read_text()
    assert f"weights: {'split' if after == 1 else 'float32'}\n" in recorded
    assert (tmp_path / "run" / "export" / "model.safetensors").is_file()
