"""Stopped and resumed == never stopped, bit for bit: weights, optimizer, metrics, consumed examples, export."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.runs import digests
from tests.worlds import small_recipe, write_world
from tunesmith.compose import train_recipe
from tunesmith.errors import StoppedError
from tunesmith.train import steps as steps_module
from tunesmith.train.run.checkpoint_files import Checkpoint
from tunesmith.train.run.exact_weights import OPTIMIZER


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def never_stopped(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, dict[str, str]]]:
    """architecture -> (its world, the digests of its uninterrupted run)."""
    made: dict[str, tuple[Path, dict[str, str]]] = {}

    def find(architecture: str) -> tuple[Path, dict[str, str]]:
        if architecture not in made:
            root = tmp_path_factory.mktemp(architecture)
            write_world(root, architecture=architecture)
            run = train_recipe(small_recipe(root)).directory
            made[architecture] = root, digests(run)
        return made[architecture]

    return find


def stop_and_resume(root: Path, name: str, stops: list[int]) -> Path:
    """Run with a stop after each of ``stops``, then to the end; returns the directory, which the caller removes."""
    directory = root / name
    for stop in stops:
        with pytest.raises(StoppedError, match=f"stopped after step {stop} of 30"):
            train_recipe(small_recipe(root, [f"run.directory={directory}", f"train.stop_after={stop}"]))
    train_recipe(small_recipe(root, [f"run.directory={directory}"]))
    return directory


CHAINS = {"once": [13], "before the end": [29], "some": [2, 3, 9, 10, 17, 29], "every step": list(range(1, 30))}


CASES = [
    *(("t5", "some"), ("llama", "once"), ("gpt_neox", "before the end")),
    *(
        pytest.param(architecture, stops, marks=pytest.mark.exhaustive)
        for architecture, stops in [
            *(("t5", "once"), ("t5", "before the end"), ("t5", "every step")),
            *(("llama", "every step"), ("gpt_neox", "some")),
        ]
    ),
]
"""What is special about an architecture is in its weights, so each chain is run for one that has most kinds of them."""


@pytest.mark.parametrize(("architecture", "stops"), CASES)
def test_a_run_that_was_stopped_ends_as_if_never_stopped(
    architecture: str, stops: str, never_stopped: Callable[[str], tuple[Path, dict[str, str]]]
) -> None:
    """A difference after any of the stops would be part of all weights after it."""
    root, expected = never_stopped(architecture)
    run = stop_and_resume(root, stops.replace(" ", "-"), CHAINS[stops])
    assert digests(run) == expected
    shutil.rmtree(run)


_load_into = Checkpoint.load_into


def _all_but_the_optimizer(self: Checkpoint, group: str, *given: Any) -> None:
    if group != OPTIMIZER:
        _load_into(self, group, *given)


def _other_noise(*given: int) -> int:
    return int(torch.randint(0, 2**62, ()).item())


FAULTS: dict[str, tuple[Any, str, Any]] = {
    "optimizer not restored": (Checkpoint, "load_into", _all_but_the_optimizer),
    "noise from a global generator": (steps_module, "noise_seed", _other_noise),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_in_resuming_is_seen(
    fault: str,
    never_stopped: Callable[[str], tuple[Path, dict[str, str]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root, expected = never_stopped("llama")
    monkeypatch.setattr(*FAULTS[fault])
    assert digests(stop_and_resume(root, fault.replace(" ", "-"), [13])) != expected


@pytest.mark.parametrize(("architecture", "optimizer"), [("gpt_neox", "muon"), ("t5", "adafactor")])
def test_other_optimizers_resume_to_the_bit(architecture: str, optimizer: str, tmp_path: Path) -> None:
    write_world(tmp_path, architecture=architecture)
    kind = f"train.optimizer={{kind: {optimizer}}}"
    expected = digests(train_recipe(small_recipe(tmp_path, [kind, f"run.directory={tmp_path}/one"])).directory)
    again = [kind, f"run.directory={tmp_path}/two"]
    with pytest.raises(StoppedError):
        train_recipe(small_recipe(tmp_path, [*again, "train.stop_after=11"]))
    assert digests(train_recipe(small_recipe(tmp_path, again)).directory) == expected


@pytest.mark.parametrize("architecture", ["llama", "t5"])
def test_micro_batches_change_only_rounding(architecture: str, tmp_path: Path) -> None:
    write_world(tmp_path, architecture=architecture)
    for tokens in (50, 10_000):
        run = [f"run.directory={tmp_path}/{tokens}", f"train.micro_batch_tokens={tokens}", "train.steps=3"]
        train_recipe(small_recipe(tmp_path, [*run, "train.optimizer={kind: adamw, epsilon: 1e-3}"]))
    found, expected = (_weights(tmp_path / str(tokens)) for tokens in (50, 10_000))
    for name, tensor in expected.items():
        assert torch.allclose(found[name], tensor, atol=2e-5), name
    consumed = [(tmp_path / str(tokens) / "consumed.jsonl").read_bytes() for tokens in (50, 10_000)]
    assert consumed[0] == consumed[1]


def _weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "export" / "model.safetensors")


def test_a_finished_run_is_left_as_it_is(never_stopped: Callable[[str], tuple[Path, dict[str, str]]]) -> None:
    root, expected = never_stopped("llama")
    train_recipe(small_recipe(root))
    assert digests(root / "run") == expected


WINDOWS = ["text.truncation=window", "text.max_length=110", "objective.weighting=threads"]


def test_a_run_with_windows_resumes_to_the_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows are a formula of seed, epoch and example; from a global generator they would not be the same."""
    write_world(tmp_path)
    expected = digests(train_recipe(small_recipe(tmp_path, [*WINDOWS, f"run.directory={tmp_path}/one"])).directory)
    assert _stopped_once(tmp_path, "two") == expected
    monkeypatch.setattr(steps_module, "crop_seed", _other_noise)
    assert _stopped_once(tmp_path, "three") != expected


def _stopped_once(root: Path, name: str) -> dict[str, str]:
    run = [*WINDOWS, f"run.directory={root}/{name}"]
    with pytest.raises(StoppedError):
        train_recipe(small_recipe(root, [*run, "train.stop_after=11"]))
    return digests(train_recipe(small_recipe(root, run)).directory)
