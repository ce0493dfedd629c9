"""A run that does not fit is refused before it is loaded, and before its first step, with the words that help."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.model.trees import small_model
from tests.runs import digests
from tests.train.test_probe import Meter, batch
from tests.worlds import small_recipe
from tunesmith.compose import train_recipe
from tunesmith.compose.sizing import start
from tunesmith.compose.sizing.hardware import GPUS
from tunesmith.compose.sizing.memory import GIB
from tunesmith.compose.sizing.settings import Distribution
from tunesmith.compose.sizing.start import (
    check_before_loading,
    check_host,
    check_largest_batch,
    host_memory,
)
from tunesmith.errors import RecipeError
from tunesmith.model.policy import Policy
from tunesmith.objectives.sft import SupervisedFineTuning
from tunesmith.recipe.load import load
from tunesmith.recipe.schema import Recipe
from tunesmith.train.probe import MemoryProbe, ProbeResult
from tunesmith.world import SingleProcess


@cache
def recipe(name: str = "dolly-v2-12b") -> Recipe:
    return load([name]).recipe


def test_a_run_whose_tensors_are_too_many_is_refused_before_it_is_loaded() -> None:
    with pytest.raises(RecipeError) as caught:
        check_before_loading(recipe(), gpu=GPUS["h200"])
    text = str(caught.value)
    assert "the run needs 192.6 GiB (weights 44.1 GiB, gradients 44.1 GiB, moments 88.3 GiB" in text
    assert "H200 has 139.0 GiB" in text
    assert "append train.moments=8bit (124.5 GiB)" in text
    assert "\n" not in text


def test_a_run_that_may_fit_and_one_without_a_gpu_go_on() -> None:
    check_before_loading(recipe("dolly-v2-3b"), gpu=GPUS["h200"])
    check_before_loading(recipe())


def probe(meter: Meter) -> MemoryProbe[Policy, object]:
    return MemoryProbe(Policy(small_model("llama")), SupervisedFineTuning(), meter)  # type: ignore[arg-type]


def test_a_micro_batch_that_takes_too_much_is_refused_with_advice() -> None:
    meter = Meter(bytes=round(0.97 * 139 * GIB), total=139 * GIB)
    with pytest.raises(RecipeError) as caught:
        check_largest_batch(recipe(), probe(meter), batch(1), GPUS["h200"], lambda line: None)
    text = str(caught.value)
    assert "needs 97 % of the 139.0 GiB of the device" in text
    assert "append train." in text


def test_a_micro_batch_that_fits_is_a_line_for_the_user() -> None:
    lines: list[str] = []
    check_largest_batch(recipe(), probe(Meter(3 * GIB, 4 * GIB)), batch(1), GPUS["h200"], lines.append)
    assert len(lines) == 1
    assert lines[0].startswith("memory: 3.0 GiB of 4.0 GiB for the largest micro-batch, ")
    check_largest_batch(recipe(), probe(Meter()), None, GPUS["h200"], lines.append)
    assert len(lines) == 1


def test_advice_after_a_measurement_counts_what_was_measured() -> None:
    """The plan of this run fits; the device needed more than the plan."""
    found = ProbeResult(tokens=12288, seconds=1.0, largest=round(1.2 * 79 * GIB), total=79 * GIB)
    proposals = start._proposals(recipe("dolly-v2-3b"), found, GPUS["h100"], Distribution())
    assert proposals
    assert proposals[0].words == ("train.moments=8bit",)


def test_the_memory_of_a_machine_without_a_gpu_is_compared_with_weights_gradients_and_moments() -> None:
    parameters = {"a": nn.Parameter(torch.zeros(1000))}
    small = load(["dolly-v2-3b", "tiny"]).recipe
    check_host(small, parameters, 16_000)
    with pytest.raises(RecipeError, match="this machine has"):
        check_host(small, parameters, 15_999)


def test_the_memory_of_a_container_is_its_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(start, "CGROUP_LIMIT", limit)
    whole = host_memory()
    limit.write_text("max\n")
    assert host_memory() == whole
    limit.write_text("1048576\n")
    assert host_memory() == 1 << 20


def test_a_run_with_a_probe_ends_with_the_bits_of_one_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["train.steps=4", "train.save_every=null", "train.evaluate_every=null"]
    plain = train_recipe(small_recipe(tmp_path, [*words, f"run.directory={tmp_path}/plain"])).directory
    monkeypatch.setattr(start, "present_gpu", lambda: GPUS["h200"])
    monkeypatch.setattr(start, "CudaMeter", lambda device: Meter(bytes=50))
    probed = train_recipe(small_recipe(tmp_path, [*words, f"run.directory={tmp_path}/probed"])).directory
    assert digests(probed) == digests(plain)


def test_a_run_that_is_refused_has_no_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "present_gpu", lambda: GPUS["h200"])
    monkeypatch.setattr(start, "CudaMeter", lambda device: Meter(bytes=96))
    with pytest.raises(RecipeError, match="needs 96 %"):
        train_recipe(small_recipe(tmp_path, ["train.steps=4"]))
    assert not (tmp_path / "run" / "metrics.jsonl").is_file() or not (tmp_path / "run" / "metrics.jsonl").read_text()


class Processes(SingleProcess):
    """Several processes with equal GPUs, of which this one has the given rank; memory: that of the last one."""

    def __init__(self, size: int, rank: int = 0, memory: int | None = None) -> None:
        self.size, self.rank, self.is_first, self.memory = size, rank, rank == 0, memory
        self.waited = 0

    def gather(self, value: Any) -> list[Any]:
        return [value] * (self.size - 1) + [value if self.memory is None else self.memory]

    def barrier(self) -> None:
        self.waited += 1


def test_a_run_of_several_processes_is_counted_as_it_is_divided() -> None:
    """The example of docs/scale.md: 13B does not fit on one GPU, and fits on 16."""
    judge = recipe("tulu-2.5-13b-uf-rm")
    with pytest.raises(RecipeError, match="the run needs"):
        check_before_loading(judge, gpu=GPUS["h100"])
    world = Processes(16)
    check_before_loading(judge, world, GPUS["h100"])
    assert world.waited == 1


def test_a_run_that_is_too_large_for_several_gpus_is_refused_by_the_first_process() -> None:
    with pytest.raises(RecipeError) as caught:
        check_before_loading(recipe("tulu-2.5-70b-uf-rm"), Processes(8), GPUS["h100"])
    text = str(caught.value)
    assert "each of 8 processes needs 173.1 GiB (weights 32.0 GiB" in text
    assert "use 32 GPUs (73.3 GiB on each)" in text
    other = Processes(8, rank=1)
    check_before_loading(recipe("tulu-2.5-70b-uf-rm"), other, GPUS["h100"])
    assert other.waited == 1


def test_the_smallest_gpu_counts() -> None:
    judge = recipe("tulu-2.5-13b-uf-rm")
    with pytest.raises(RecipeError, match=r"has 8\.0 GiB"):
        check_before_loading(judge, Processes(16, memory=8 * GIB), GPUS["h100"])


def test_what_is_not_divided_does_not_fit_because_there_are_more_gpus() -> None:
    whole = load(["dolly-v2-12b"], ["train.shard=none"]).recipe
    with pytest.raises(RecipeError, match=r"append train\.shard=zero3 \("):
        check_before_loading(whole, Processes(8), GPUS["h100"])
