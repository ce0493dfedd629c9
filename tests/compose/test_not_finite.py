"""NaN or infinity in a weight or in the state of the optimizer is never saved, exported or loaded."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.reward_worlds import judge_recipe
from tests.worlds import ppo_recipe, preference_recipe, small_recipe, write_world
from tunesmith.compose import train as train_module
from tunesmith.compose import train_recipe
from tunesmith.errors import DataError, InternalError, StorageError
from tunesmith.model.load import new_model
from tunesmith.train.loop import StepResult
from tunesmith.train.run import callbacks, checkpoint, finite_state
from tunesmith.train.run.callbacks import Checkpointer

BASE = ["train.steps=2", "train.save_every=1", "train.evaluate_every=null", "data.validation=0"]
METHODS: dict[str, Callable[[Path, list[str]], Any]] = {
    "sft": lambda root, keys: small_recipe(root, keys),
    "t5": lambda root, keys: small_recipe(root, keys, architecture="t5"),
    "dpo": lambda root, keys: preference_recipe(root, keys),
    "reward": lambda root, keys: judge_recipe(
        root, [*keys, "train.best={metrics: [{name: validation/loss, mode: min}]}"]
    ),
    "ppo": lambda root, keys: ppo_recipe(root, keys),
}
PLACES: dict[str, tuple[str, Callable[[str], bool]]] = {
    "weight": ("model", lambda name: name.endswith(("mlp.down_proj.weight", "wo.weight"))),
    "unused embedding row": ("model", lambda name: name.endswith(("embed_tokens.weight", "shared.weight"))),
    "value head": ("value", lambda name: name.endswith(("score.weight", "weight"))),
    "reward head": ("model", lambda name: name == "score.weight"),
    "exp_avg": ("optimizer", lambda name: name.endswith(".exp_avg")),
    "exp_avg_sq": ("optimizer", lambda name: name.endswith(".exp_avg_sq")),
}
CASES = [
    *[(method, place) for method in METHODS for place in ("weight", "unused embedding row", "exp_avg", "exp_avg_sq")],
    ("ppo", "value head"),
    ("reward", "reward head"),
]


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("worlds")


def plant(tensors: dict[str, Tensor], chosen: Callable[[str], bool], value: float) -> str:
    """Set the last number of the first chosen tensor, which is that of a token that no text has."""
    name = next(name for name in tensors if chosen(name))
    with torch.no_grad():
        tensors[name].view(-1)[-1] = value
    return name


@pytest.mark.parametrize(("method", "place"), CASES)
def test_nothing_is_saved_after_a_step_that_is_not_finite(
    method: str, place: str, roots: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    group, chosen = PLACES[place]
    value = float("nan") if len(method + place) % 2 else float("inf")
    planted: list[str] = []
    call = Checkpointer.__call__

    def broken(self: Checkpointer, result: StepResult) -> None:
        if result.done == 2:
            state = (
                self.optimizer.state_dict() if group == "optimizer" else dict(self.modules[group].named_parameters())
            )
            planted.append(plant(state, chosen, value))
        call(self, result)

    monkeypatch.setattr(Checkpointer, "__call__", broken)
    run = roots / f"{method}-{place.replace(' ', '-')}"
    with pytest.raises(
        InternalError, match=r"not finite .* after step 2, so nothing was saved; the checkpoint of step 1"
    ) as e:
        train_recipe(METHODS[method](roots / method, [*BASE, f"run.directory={run}"]))
    assert repr(planted[0]) in str(e.value)
    assert re.search(r"\(examples of step 2: \d+, \d+", str(e.value))
    assert not (run / "export").exists()
    found = checkpoint.newest(run / "checkpoints", lambda text: pytest.fail(text))
    assert found is not None
    assert found.step == 1
    assert all(tensor.isfinite().all() for name in found.groups for tensor in found.load(name).values())


@pytest.mark.parametrize("method", METHODS)
def test_an_overflow_of_the_step_itself_is_found(method: str, roots: Path) -> None:
    """The rate is so high that the weights overflow in the last step, after which no loss is computed."""
    run = roots / f"{method}-rate"
    keys = [*BASE, "train.steps=1", "train.learning_rate=1e38", "train.optimizer={kind: adamw, weight_decay: 10}"]
    schedule = "train.schedule={kind: constant}"
    with pytest.raises(InternalError, match=r"no checkpoint was written yet; lower train\.learning_rate"):
        train_recipe(METHODS[method](roots / method, [*keys, schedule, f"run.directory={run}"]))
    assert not (run / "export").exists()
    assert not list((run / "checkpoints").iterdir())


def test_an_evaluation_that_is_not_finite_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build = train_module._evaluation

    def broken(*given: Any) -> Any:
        found = build(*given)
        assert found is not None
        evaluate, calls = found.evaluate, []

        def worse() -> Any:
            calls.append(0)
            metrics = evaluate()
            return {**metrics, "all": {**metrics["all"], "loss": float("nan")}} if len(calls) == 2 else metrics

        return type(found)(worse, *[getattr(found, name) for name in list(found.__slots__)[1:]])

    monkeypatch.setattr(train_module, "_evaluation", broken)
    with pytest.raises(InternalError, match=r"validation/all/loss is not finite .* after step 1"):
        train_recipe(small_recipe(tmp_path, ["train.steps=2", "train.evaluate_every=1"]))


def test_a_checkpoint_that_was_saved_without_the_check_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def poisoned(modules: Any, optimizer: Any, step: int, saved: int, examples: Any) -> None:
        if step == 2:
            plant(dict(modules["model"].named_parameters()), lambda name: True, float("nan"))

    root = tmp_path
    monkeypatch.setattr(callbacks, "check_finite_state", poisoned)
    keys = [*BASE, "train.steps=3", "train.save_every=1", "train.keep=3"]
    with pytest.raises(InternalError, match=r"of step 3 holds .* so nothing was exported"):
        train_recipe(small_recipe(root, keys))
    monkeypatch.setattr(callbacks, "check_finite_state", finite_state.check_finite_state)
    with pytest.raises(StorageError, match=r"step-000003: the weight .* move this checkpoint away"):
        train_recipe(small_recipe(root, keys))
    for step in (2, 3):
        (root / "run" / "checkpoints" / f"step-{step:06d}").rename(root / f"away-{step}")
    assert train_recipe(small_recipe(root, keys)).steps == 3


@pytest.mark.parametrize("place", ["weight", "unused embedding row"])
def test_a_base_model_that_is_not_finite_is_named_before_anything_else(place: str, tmp_path: Path) -> None:
    write_world(tmp_path)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64}
    model = new_model({"architecture": "llama", **sizes}, 320, 0)
    name = plant(dict(model.named_parameters()), PLACES[place][1], float("nan"))
    model.save_pretrained(tmp_path / "base")
    with pytest.raises(DataError, match=f"base: the weight '{name}' holds numbers that are not finite"):
        train_recipe(small_recipe(tmp_path, ["model.init=null", f"model.path={tmp_path}/base"]))
