"""1 process == 2 processes: the same units, the same metrics, the same update."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as distributed
from safetensors.torch import load_file, save_file

from tests.model.padded import T5, V11, VOCABULARY, seq2seq_examples
from tests.model.rankings import SHAPES, dialogue
from tests.model.trees import random_tree, small_model
from tunesmith.batch.example import Example
from tunesmith.compose.models.families import PACKED, padded
from tunesmith.model.load import new_model
from tunesmith.model.policy import Policy
from tunesmith.model.seq2seq import Seq2SeqPolicy
from tunesmith.objectives.preference import PreferenceOptimization
from tunesmith.objectives.sft import SupervisedFineTuning
from tunesmith.train.loop import StepResult, train
from tunesmith.train.optim.optimizers import AdamW
from tunesmith.train.steps import Step
from tunesmith.train.world import Communicator, ProcessGroup, SingleProcess

KINDS = ("threads", "pairs", "preferences")


class Shared:
    """Three steps over seven examples, of which every process takes its share; the last step has one example only."""

    def __init__(self, communicator: Communicator, kind: str) -> None:
        self.communicator, self.kind = communicator, kind

    def __len__(self) -> int:
        return 3

    def __getitem__(self, number: int) -> Step:
        examples = tuple(range(7)) if number < 2 else (3,)
        share = examples[self.communicator.rank :: self.communicator.size]
        if self.kind == "pairs":
            several = seq2seq_examples(7)
            return Step(number, 0, examples, tuple(padded(0, 0).collate([several[n] for n in share], "threads", 60)))
        if self.kind == "preferences":
            return Step(number, 0, examples, tuple(PACKED.collate([ranked(n) for n in share], "messages", 60)))
        mine = [Example(n, random_tree(n)) for n in share]
        return Step(number, 0, examples, tuple(PACKED.collate(mine, "threads", 60)))


def ranked(number: int) -> Example:
    """A dialogue with ranked replies, and references that a formula gives."""
    tree = dialogue(number, SHAPES[number % len(SHAPES)]).tree()
    reference = np.linspace(-30, -20, len(tree.replies)).astype(np.float32)
    return Example(number, tree, columns={"reference": reference})


def run(communicator: Communicator, directory: Path, kind: str) -> None:
    """Train, and save weights and metrics in ``directory``."""
    torch.set_num_threads(1)
    policy = (
        Seq2SeqPolicy(new_model({**T5, **V11}, VOCABULARY, 0)) if kind == "pairs" else Policy(small_model("gpt_neox"))
    )
    results: list[StepResult] = []
    # A large epsilon: Adam divides a gradient of pure rounding (key biases) by its own size otherwise.
    optimizer = AdamW(policy.parameters(), epsilon=1e-3)
    train(
        policy,
        PreferenceOptimization() if kind == "preferences" else SupervisedFineTuning(),
        Shared(communicator, kind),
        optimizer,
        lambda step: 1e-2,
        communicator,
        [results.append],
        clip_norm=1.0,
    )
    metrics = [[*r.metrics.values(), r.units, r.tokens, r.gradient_norm] for r in results]
    tensors = {name: value.detach().clone() for name, value in policy.parameters().items()}
    save_file(
        {**tensors, "metrics": torch.tensor(metrics)},
        directory / f"{communicator.size}-{communicator.rank}.safetensors",
    )


def one_of_two(rank: int, directory: str) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{directory}/meeting", rank=rank, world_size=2)
    for kind in KINDS:
        run(ProcessGroup(), Path(directory) / kind, kind)
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def of_two_processes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory for each kind of batches, with the weights and metrics of both processes."""
    root = tmp_path_factory.mktemp("processes")
    for kind in KINDS:
        (root / kind).mkdir()
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=one_of_two, args=(rank, str(root))) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(240)
        assert process.exitcode == 0
    return root


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore")
def test_two_processes_give_the_update_of_one(of_two_processes: Path, kind: str) -> None:
    directory = of_two_processes / kind
    run(SingleProcess(), directory, kind)
    alone, first, second = (load_file(directory / f"{name}.safetensors") for name in ("1-0", "2-0", "2-1"))
    for name, expected in alone.items():
        assert torch.equal(first[name], second[name]), name
        assert torch.allclose(first[name], expected, rtol=1e-5, atol=2e-5), name
