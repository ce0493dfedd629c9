"""What several processes compute together in tests: models and steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch.distributed.device_mesh import DeviceMesh

from tests.model.padded import seq2seq_examples, small_t5
from tests.model.rankings import SHAPES, dialogue
from tests.model.test_scalar_policy import small_reward_model
from tests.model.trees import random_tree, small_model
from tests.train.small_rollouts import actor_critic, generator
from tunesmith.batch.columns import PPO_COLUMNS, REFERENCE
from tunesmith.batch.example import Example
from tunesmith.compose.models.families import PACKED, padded
from tunesmith.data.dataset.plan import PlannedStep
from tunesmith.model.dropout import ResidualDropout
from tunesmith.model.local_rows import whole
from tunesmith.model.policy import Policy
from tunesmith.model.scalar_policy import ScalarPolicy
from tunesmith.model.seq2seq import Seq2SeqPolicy
from tunesmith.model.shard import process_mesh
from tunesmith.objectives.preference import PreferenceOptimization
from tunesmith.objectives.proximal import ProximalPolicy
from tunesmith.objectives.ranking import RewardRanking
from tunesmith.objectives.sft import SupervisedFineTuning
from tunesmith.recipe.training import ShardKind
from tunesmith.train.loop import StepTotals, accumulate_gradients
from tunesmith.train.optim.optimizers import clip_coefficient
from tunesmith.train.steps import Step
from tunesmith.world import Communicator, ProcessGroup, deal


@dataclass(frozen=True, slots=True)
class Case:
    """Something that processes train together.

    policy, objective: as of the training loop.
    examples: of one step.
    collate: makes the batches of a share of the examples.
    """

    policy: Any
    objective: Any
    examples: Sequence[Example]
    collate: Callable[[Sequence[Example]], tuple[Any, ...]]


def packed(weighting: Any) -> Callable[[Sequence[Example]], tuple[Any, ...]]:
    return lambda examples: tuple(PACKED.collate(examples, weighting, 60))


def pairs(examples: Sequence[Example]) -> tuple[Any, ...]:
    return tuple(padded(0, 0).collate(examples, "threads", 60))


def trees() -> list[Example]:
    return [Example(number, random_tree(number), seed=number + 1) for number in range(7)]


def ranked() -> list[Example]:
    """Dialogues with ranked replies, and references that a formula gives."""
    found = []
    for number in range(6):
        tree = dialogue(number, SHAPES[number % len(SHAPES)]).tree()
        reference = np.linspace(-30, -20, len(tree.replies)).astype(np.float32)
        found.append(Example(number, tree, seed=number + 1, columns={REFERENCE: reference}))
    return found


def noisy(checkpointing: bool) -> Policy:
    """A policy with residual dropout."""
    model = small_model("gpt_neox", tied=True, checkpointing=checkpointing)
    return Policy(model, dropout=ResidualDropout(model, 0.2, "uniform"))


def rollouts(value: Any) -> Case:
    actor = actor_critic("llama", value)
    found = generator(actor)(0, PlannedStep(0, 0, (4, 1, 3)), 0.05)
    examples = [
        Example(number, each.tree(), 0, {name: found.columns[name][part] for name in PPO_COLUMNS})
        for number, (each, part) in enumerate(zip(found.answered, found.prompt_slices(), strict=True))
    ]
    return Case(actor, ProximalPolicy(), examples, packed("messages"))


CASES: Mapping[str, Callable[[], Case]] = {
    "sft neox": lambda: Case(Policy(small_model("gpt_neox")), SupervisedFineTuning(), trees(), packed("threads")),
    "dropout, checkpointing, tied neox": lambda: Case(noisy(True), SupervisedFineTuning(), trees(), packed("messages")),
    "sft llama": lambda: Case(Policy(small_model("llama")), SupervisedFineTuning(), trees(), packed("threads")),
    "one example": lambda: Case(
        Policy(small_model("llama")), SupervisedFineTuning(z_loss=0.1), trees()[:1], packed("threads")
    ),
    "t5": lambda: Case(Seq2SeqPolicy(small_t5(tied=True)), SupervisedFineTuning(), seq2seq_examples(7), pairs),
    "dpo": lambda: Case(
        Policy(small_model("gpt_neox", tied=True)), PreferenceOptimization(), ranked(), packed("messages")
    ),
    "reward": lambda: Case(ScalarPolicy(small_reward_model("llama")), RewardRanking(), ranked(), packed("messages")),
    "ppo shared": lambda: rollouts("shared"),
    "ppo separate": lambda: rollouts("separate"),
}


CPU = torch.device("cpu")
REPLICATED = ("sft llama", "one example", "t5", "dpo", "ppo separate")
"""Cases that are also computed with several copies of sharded weights."""


def step_of(case: Case, rank: int, size: int) -> Step[Any]:
    costs = [len(example.tree.ids) for example in case.examples]
    own = [case.examples[place] for place in deal(costs, size)[rank]]
    shortest = case.examples[costs.index(min(costs))]
    return Step(0, 0, tuple(range(len(costs))), case.collate(own), idle=lambda: case.collate([shortest])[0])


def gradients(case: Case, communicator: Communicator) -> dict[str, torch.Tensor]:
    """The metrics, the norm and every gradient of a step, by name."""
    case.policy.train()
    step = step_of(case, communicator.rank, communicator.size)
    totals: StepTotals = accumulate_gradients(case.policy, case.objective, step, communicator)
    parameters = case.policy.parameters()
    communicator.sum_gradients(parameters.values())
    norm, _ = clip_coefficient(parameters, 1.0, 0)
    found = {name: whole(each.grad).clone() for name, each in parameters.items() if each.grad is not None}
    found |= {f"metric {name}": torch.tensor(value) for name, value in totals.means().items()}
    return found | {"metric norm": torch.tensor(norm), "metric tokens": torch.tensor(float(totals.tokens))}


@torch.no_grad()
def evaluate_differently(case: Case, rank: int) -> None:
    """A pass of all processes and one of the first process only, as an evaluation runs them."""
    case.policy.eval()
    batch = case.collate(case.examples[:1])[0]
    case.objective(case.policy, batch, 1.0)
    with case.policy.gathered():
        if rank == 0:
            case.objective(case.policy, batch, 1.0)


def compute(rank: int, size: int, directory: Path) -> None:
    """One process: every case with every way of sharding; the first process saves what it found."""
    for name in CASES:
        for kind in ("none", "zero2", "zero3"):
            compute_case(name, kind, process_mesh(CPU, size), directory / f"{name}-{kind}.safetensors", rank)


def compute_replicas(rank: int, size: int, directory: Path) -> None:
    """As ``compute``, with two copies of the sharded weights."""
    for name in REPLICATED:
        compute_case(name, "zero3", process_mesh(CPU, size, 2), directory / f"{name}.safetensors", rank)


def compute_case(name: str, kind: ShardKind, mesh: DeviceMesh, output: Path, rank: int) -> None:
    case = CASES[name]()
    if kind != "none":
        case.policy.shard(mesh, kind)
        evaluate_differently(case, rank)
    found = gradients(case, ProcessGroup(sharded=kind != "none"))
    if rank == 0:
        save_file(found, output)
