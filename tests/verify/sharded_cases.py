"""Cases for several processes: the self-test of a sharded model finds what that of a whole one finds."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.model.padded import START, VOCABULARY, seq2seq_examples, small_t5
from tests.model.test_scalar_policy import small_reward_model
from tests.model.trees import SIZES, small_model
from tests.verify.test_self_test import FAULTS, KERNELS, _LosesGradient, kernels_of_cuda
from tunesmith.batch.padded import assemble_padded
from tunesmith.errors import RecipeError
from tunesmith.model.load import new_model
from tunesmith.model.policy import Policy
from tunesmith.model.scalar_policy import ScalarPolicy
from tunesmith.model.seq2seq import Seq2SeqPolicy
from tunesmith.model.shard import Division, process_mesh
from tunesmith.recipe.training import ShardedKind
from tunesmith.verify.self_test import self_test, self_test_scalars
from tunesmith.verify.self_test_padded import self_test_padded

FORMATS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
KINDS: tuple[ShardedKind, ...] = ("zero2", "zero3")
BUILDERS: dict[str, Callable[[], Any]] = {
    "neox": lambda: small_model("gpt_neox"),
    "tied neox": lambda: small_model("gpt_neox", tied=True),
    "llama": lambda: small_model("llama", checkpointing=True),
    "t5": small_t5,
    "tied t5": lambda: small_t5(tied=True),
    "reward": lambda: small_reward_model("llama"),
}


def opened(name: str, compute: torch.dtype, size: int, kind: ShardedKind | None) -> Any:
    """The policy of a model, sharded or whole."""
    model = BUILDERS[name]()
    wrapper: Any = ScalarPolicy if name == "reward" else Seq2SeqPolicy if "t5" in name else Policy
    if kind is None:
        return wrapper(model, compute=compute)
    whole = list(model.score.parameters()) if name == "reward" else []
    root = Division(process_mesh(torch.device("cpu"), size), kind, compute).divide(model, whole)
    return wrapper(model, compute=compute, sharded=root)


def tested(policy: Any) -> Any:
    """What the self-test says; of an encoder-decoder the difference."""
    if isinstance(policy, Seq2SeqPolicy):
        return self_test_padded(policy, VOCABULARY, 40, 20, START)
    test: Any = self_test_scalars if isinstance(policy, ScalarPolicy) else self_test
    return test(policy, VOCABULARY, 40)


def verdicts(rank: int, size: int, directory: Path) -> None:
    """In float32 the verdict is the same to the bit; in bfloat16 the layout is. No weight has a gradient afterwards."""
    for name, (format, compute), kind in itertools.product(BUILDERS, FORMATS.items(), KINDS):
        if (name, format) == ("t5", "bfloat16"):
            continue  # its random weights are too large for it, also whole
        expected, policy = tested(opened(name, compute, size, None)), opened(name, compute, size, kind)
        found = tested(policy)
        if format == "float32" or "t5" not in name:
            assert (found if format == "float32" else found.layout) == (
                expected if format == "float32" else expected.layout
            ), (name, format, kind, found, expected)
        assert all(each.grad is None for each in policy.parameters().values()), (name, format, kind)


def rules(rank: int, size: int, directory: Path) -> None:
    """How logits follow from the head is measured on a divided model as well as on a whole one."""
    for extra in ({"architecture": "granite", "logits_scaling": 3.0}, {"architecture": "cohere", "logit_scale": 0.3}):
        model = new_model({**SIZES["llama"], **extra}, VOCABULARY, 0)
        expected = Policy(model).rule
        root = Division(process_mesh(torch.device("cpu"), size), "zero3", torch.bfloat16).divide(model)
        assert Policy(model, compute=torch.bfloat16, sharded=root).rule == expected
        assert expected.factor != 1.0


def faults_of_kernels(rank: int, size: int, directory: Path) -> None:
    """A kernel that is wrong in all processes, or in one of them, is refused by all with one message."""
    for fault, kernel, everywhere in _kernel_faults():
        change, message = FAULTS[fault]
        faulty = change if everywhere or rank == 1 else lambda each: each
        policy = opened("neox", torch.float32, size, "zero3").with_kernels(kernels_of_cuda(**{kernel: faulty}))
        with pytest.raises(RecipeError, match=f"{KERNELS[kernel]} {message}"):
            tested(policy)


def _kernel_faults() -> Iterator[tuple[str, str, bool]]:
    for fault in FAULTS:
        yield fault, "flex", True
        yield fault, "varlen", True
        if fault != "no compiler":  # a process that fails inside of a pass ends the others
            yield fault, "flex", False


def faults_of_padded_batches(rank: int, size: int, directory: Path) -> None:
    """A gradient that is lost in one process is refused by all."""
    policy = opened("t5", torch.float32, size, "zero3")
    hidden: Callable[[Any], Tensor] = policy.hidden
    if rank == 0:
        policy.hidden = lambda batch: _LosesGradient.apply(hidden(batch))
    with pytest.raises(RecipeError, match=r"largest difference of a gradient 0\.5 of its size"):
        tested(policy)


def training_goes_on(rank: int, size: int, directory: Path) -> None:
    """The gradients of a step are those of a model that was not tested before."""
    batch = assemble_padded(seq2seq_examples(3), "messages", start=START, padding=START)
    found = []
    for is_tested in (True, False):
        policy = opened("t5", torch.float32, size, "zero3")
        if is_tested:
            tested(policy)
        policy.train()
        policy.log_probabilities(batch).log_probability.sum().backward()
        found.append({name: each.grad.to_local() for name, each in policy.parameters().items()})
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[1])
    assert found[0].keys() == found[1].keys()


CASES = {
    each.__name__: each for each in (verdicts, rules, faults_of_kernels, faults_of_padded_batches, training_goes_on)
}
