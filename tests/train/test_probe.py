"""The probe of a micro-batch: it measures, changes nothing, and finds the largest one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from tests.model.trees import random_tree, small_model
from tests.virtual_device import VirtualDevice, to_virtual_device
from tunesmith.batch.example import Example
from tunesmith.batch.packed import PackedBatch, assemble_packed
from tunesmith.model.policy import Policy
from tunesmith.objectives.sft import SupervisedFineTuning
from tunesmith.train.probe import MemoryProbe, largest_batch
from tunesmith.train.steps import Step


@dataclass(slots=True)
class Meter:
    """A meter that reports what it is given, and notes what it is asked."""

    bytes: int = 80
    total: int = 100
    calls: list[str] = field(default_factory=list)

    def reset(self) -> None:
        self.calls.append("reset")

    def largest(self) -> int:
        self.calls.append("largest")
        return self.bytes

    def wait(self) -> None:
        self.calls.append("wait")


def batch(*numbers: int) -> PackedBatch:
    return assemble_packed([Example(number, random_tree(number)) for number in numbers], "messages")


@dataclass(frozen=True, slots=True)
class Steps:
    """Steps with these batches each."""

    made: Sequence[Sequence[PackedBatch]]
    asked: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.made)

    def __getitem__(self, number: int) -> Step[PackedBatch]:
        self.asked.append(number)
        return Step(number, 0, (number,), tuple(self.made[number]))


def test_a_probe_measures_two_passes_and_leaves_no_gradient() -> None:
    policy, meter = Policy(small_model("llama")), Meter()
    before = [each.clone() for each in policy.parameters().values()]
    found = MemoryProbe(policy, SupervisedFineTuning(), meter)(batch(1, 2))
    assert meter.calls == ["reset", "wait", "wait", "wait", "wait", "largest"]
    assert (found.tokens, found.largest, found.total, found.share) == (batch(1, 2).tokens, 80, 100, 0.8)
    assert found.seconds > 0
    assert all(each.grad is None for each in policy.parameters().values())
    assert all(map(torch.equal, before, policy.parameters().values()))


def test_memory_that_is_not_enough_is_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = Policy(small_model("llama"))

    def fail(*_: object, **__: object) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Policy, "log_probabilities", fail)
    found = MemoryProbe(policy, SupervisedFineTuning(), Meter())(batch(1))
    assert found.largest is None
    assert found.share > 1


def test_the_largest_micro_batch_is_found_among_steps_over_the_whole_run() -> None:
    small, large = batch(1), batch(1, 2, 3)
    steps = Steps([[small], [small, large], [], [small]])
    assert largest_batch(steps, 0, ahead=True) is large
    assert steps.asked == [0, 1, 2, 3]
    assert largest_batch(steps, 2, ahead=True) is small
    assert largest_batch(Steps([[]]), 0, ahead=True) is None


def test_steps_that_depend_on_the_weights_are_not_made_ahead() -> None:
    steps = Steps([[batch(1)], [batch(1, 2)], [batch(1)]])
    assert largest_batch(steps, 0, ahead=False) is steps.made[0][0]
    assert steps.asked == [0]


def test_a_long_run_has_few_steps_made() -> None:
    steps = Steps([[batch(number % 3)] for number in range(500)])
    largest_batch(steps, 100, ahead=True)
    assert len(steps.asked) == 32
    assert steps.asked[0] == 100
    assert 400 < steps.asked[-1] < 500


def test_a_probe_on_a_device_gives_it_the_batch() -> None:
    policy = Policy(small_model("gpt_neox"))
    with VirtualDevice() as device:
        to_virtual_device(policy.model)
        found = MemoryProbe(policy, SupervisedFineTuning(), Meter())(batch(1, 2))
        assert found.largest == 80
        assert not device.mixed
        assert device.operations > 100
