"""Training, evaluation, rollouts and decoding on a second device: no operation mixes devices, and few wait for it.

The device computes on the CPU (``tests.virtual_device``). Weights, batches and everything between them have to be on
it; what the host must know, it asks for at most three times a micro-batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.generate.scheduling import generate
from tests.model.kernels import kernels_on_any_device
from tests.model.padded import START, seq2seq_examples, seq2seq_tree, small_t5
from tests.model.rankings import dialogues
from tests.model.test_scalar_policy import small_reward_model
from tests.model.trees import VOCABULARY, random_tree, small_model
from tests.train.small_rollouts import actor_critic, frozen, generator
from tests.virtual_device import VirtualDevice, VirtualTensor, to_virtual_device
from tunesmith.batch.columns import PPO_COLUMNS, REFERENCE
from tunesmith.batch.example import Example
from tunesmith.batch.packed import assemble_packed, collate_packed
from tunesmith.batch.padded import assemble_padded
from tunesmith.batch.threads import split_into_threads
from tunesmith.compose.models.families import PACKED, padded
from tunesmith.compose.models.reference_cache import ReferenceModel, weights_digest
from tunesmith.data.dataset.plan import PlannedStep
from tunesmith.evaluate.loss import validation_loss
from tunesmith.evaluate.objective import objective_metrics
from tunesmith.evaluate.reward import validation_ranking
from tunesmith.generate.decoding import CausalState
from tunesmith.generate.encoder_decoder import EncoderDecoderState
from tunesmith.generate.requests import StoppingCriteria
from tunesmith.generate.running_rows import StaticRows
from tunesmith.generate.sampling import SamplingParameters
from tunesmith.generate.slot_rows import SlotRows
from tunesmith.model import head
from tunesmith.model.policy import Policy
from tunesmith.model.scalar_policy import ScalarPolicy
from tunesmith.model.seq2seq import Seq2SeqPolicy
from tunesmith.objectives.preference import PreferenceOptimization
from tunesmith.objectives.proximal import ProximalPolicy
from tunesmith.objectives.ranking import RewardRanking
from tunesmith.objectives.sft import SupervisedFineTuning
from tunesmith.train.loop import accumulate_gradients, accumulate_metrics
from tunesmith.train.optim.adafactor import Adafactor
from tunesmith.train.optim.optimizers import AdamW
from tunesmith.train.steps import Step
from tunesmith.verify.self_test import self_test, self_test_scalars
from tunesmith.verify.self_test_padded import self_test_padded
from tunesmith.world import SingleProcess

WAITS = 3
"""How often the host may wait in a micro-batch."""
T5_WAITS = 1
"""In addition: transformers looks at the mask of padding twice, and the head of T5 waits twice."""
STEP_WAITS = 1
"""How often it may wait for the sums of a step."""


@dataclass(frozen=True, slots=True)
class Case:
    """Something that is trained.

    policy: on the host.
    objective: its loss.
    batches: micro-batches on the host.
    """

    policy: Any
    objective: Any
    batches: tuple[Any, ...]


def ranked_examples() -> list[Example]:
    trees = [each.tree() for each in dialogues()]
    return [
        Example(number, tree, number + 1, {REFERENCE: np.linspace(-30, -20, len(tree.replies), dtype=np.float32)})
        for number, tree in enumerate(trees)
    ]


def packed(examples: Sequence[Example], parts: int = 3) -> tuple[Any, ...]:
    return tuple(assemble_packed(examples[start::parts], "messages") for start in range(parts))


def trees() -> list[Example]:
    return [Example(number, random_tree(number)) for number in range(6)]


def linear() -> tuple[Any, ...]:
    threads = [thread.tree for number in range(4) for thread in split_into_threads(random_tree(number))]
    return packed([Example(number, tree) for number, tree in enumerate(threads)])


def padded_batches(examples: Sequence[Example]) -> tuple[Any, ...]:
    return tuple(assemble_padded(examples[start::2], "messages", start=START, padding=START) for start in range(2))


def padded_pairs() -> list[Example]:
    found = []
    for number in range(4):
        tree = seq2seq_tree(number, (4, 6))
        ranked = replace(
            tree,
            replies=np.array([(1, 0, 0), (2, 0, 1)], np.int32),
            scores=np.full(2, np.nan, np.float32),
        )
        found.append(Example(number, ranked, 0, {REFERENCE: np.array([-20.0, -30.0], np.float32)}))
    return found


def proximal(value: Any) -> Case:
    actor = actor_critic("llama", value)
    rollouts = generator(actor)(0, PlannedStep(0, 0, (4, 1, 3)), 0.05)
    examples = [
        Example(number, each.tree(), 0, {name: rollouts.columns[name][part] for name in PPO_COLUMNS})
        for number, (each, part) in enumerate(zip(rollouts.answered, rollouts.prompt_slices(), strict=True))
    ]
    return Case(actor, ProximalPolicy(), packed(examples))


CASES: dict[str, Callable[[], Case]] = {
    "sft neox": lambda: Case(Policy(small_model("gpt_neox")), SupervisedFineTuning(), packed(trees())),
    "sft llama": lambda: Case(Policy(small_model("llama")), SupervisedFineTuning(), linear()),
    "sft tied, checkpointing": lambda: Case(
        Policy(small_model("gpt_neox", tied=True, checkpointing=True)), SupervisedFineTuning(), packed(trees())
    ),
    "sft regularised": lambda: Case(
        Policy(small_model("llama")), SupervisedFineTuning(z_loss=0.01, label_smoothing=0.1), packed(trees())
    ),
    "sft with flex attention": lambda: Case(
        Policy(small_model("gpt_neox")).with_kernels(kernels_on_any_device), SupervisedFineTuning(), packed(trees())
    ),
    "sft with varlen attention": lambda: Case(
        Policy(small_model("gpt_neox")).with_kernels(kernels_on_any_device), SupervisedFineTuning(), linear()
    ),
    "dpo": lambda: Case(Policy(small_model("llama")), PreferenceOptimization(), packed(ranked_examples())),
    "dpo with everything": lambda: Case(
        Policy(small_model("llama")),
        PreferenceOptimization(sft_weight=0.2, policy_weighted=True, length_normalized=True, label_smoothing=0.1),
        packed(ranked_examples()),
    ),
    "reward model": lambda: Case(
        ScalarPolicy(small_reward_model("llama")), RewardRanking(l2=0.001), packed(ranked_examples())
    ),
    "ppo, separate": lambda: proximal("separate"),
    "ppo, shared": lambda: proximal("shared"),
    "t5 sft": lambda: Case(Seq2SeqPolicy(small_t5()), SupervisedFineTuning(), padded_batches(seq2seq_examples())),
    "t5 dpo": lambda: Case(Seq2SeqPolicy(small_t5()), PreferenceOptimization(), padded_batches(padded_pairs())),
}


@pytest.fixture
def device() -> Iterator[VirtualDevice]:
    with VirtualDevice() as found:
        yield found


def moved(case: Case, device: VirtualDevice) -> Case:
    """The case with its weights on the device."""
    to_virtual_device(case.policy.model)
    value = getattr(case.policy, "value", None)
    if value is not None:
        to_virtual_device(value.module)
    device.mixed.clear()
    device.waits.clear()
    return case


def held(gradient: Tensor | None) -> Tensor | None:
    return gradient.held if isinstance(gradient, VirtualTensor) else gradient


def step_of(batches: Sequence[Any]) -> Step[Any]:
    return Step(0, 0, (0, 1), tuple(batches))


@pytest.mark.parametrize("name", CASES)
def test_a_step_waits_at_most_three_times_a_micro_batch_and_gives_the_numbers_of_the_host(
    name: str, device: VirtualDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch has several chunks of targets, which wait for nothing."""
    monkeypatch.setattr(head, "_chunk_rows", lambda vocabulary: 16)
    here = CASES[name]()
    here.policy.train()
    expected = accumulate_gradients(here.policy, here.objective, step_of(here.batches), SingleProcess())
    there = moved(CASES[name](), device)
    there.policy.train()
    found = accumulate_gradients(there.policy, there.objective, step_of(there.batches), SingleProcess())
    assert not device.mixed
    waits = WAITS + (T5_WAITS if name.startswith("t5") else 0)
    assert sum(device.waits.values()) <= waits * len(there.batches) + STEP_WAITS, device.waits
    assert found.sums == pytest.approx(expected.sums, rel=1e-4, abs=1e-6)
    gradients = {name: held(each.grad) for name, each in there.policy.parameters().items()}
    for each, parameter in here.policy.parameters().items():
        assert (gradients[each] is None) == (parameter.grad is None)
        if parameter.grad is not None:
            assert (gradients[each] - parameter.grad).norm() <= 1e-5 * parameter.grad.norm() + 1e-7


def test_adafactor_and_the_states_of_other_optimizers_are_on_the_device(device: VirtualDevice) -> None:
    """Fused kernels, of AdamW and of the norm of the gradient, refuse this device."""
    case = moved(CASES["sft llama"](), device)
    accumulate_gradients(case.policy, case.objective, step_of(case.batches), SingleProcess())
    parameters = case.policy.parameters()
    Adafactor(parameters, min_dim_size_to_factor=8).step(1e-3, 0.5)
    state = AdamW(parameters).state_dict()
    assert all(isinstance(state[f"{name}.exp_avg"], VirtualTensor) for name in parameters)
    assert not device.mixed


@dataclass(frozen=True, slots=True)
class Stored:
    """As much of a store as evaluation reads."""

    examples: Sequence[Example]

    @property
    def source(self) -> Any:
        return np.zeros(len(self.examples), np.int64)

    def __len__(self) -> int:
        return len(self.examples)

    def tree(self, number: int) -> Any:
        return self.examples[number].tree


EVALUATIONS: dict[str, tuple[str, Callable[[Case], Any], Sequence[Example]]] = {
    "loss": (
        "sft neox",
        lambda case: validation_loss(case.policy, Stored(trees()), ["a"], 60, collate_packed),  # type: ignore[arg-type]
        trees(),
    ),
    "loss of t5": (
        "t5 sft",
        lambda case: validation_loss(
            case.policy,
            Stored(seq2seq_examples()),  # type: ignore[arg-type]
            ["a"],
            60,
            padded(START, START).collate,
        ),
        seq2seq_examples(),
    ),
    "preferences": (
        "dpo",
        lambda case: objective_metrics(
            case.policy,
            case.objective,
            Stored(ranked_examples()),  # type: ignore[arg-type]
            ["a"],
            60,
            collate_packed,
            lambda number: ranked_examples()[number].columns,
        ),
        ranked_examples(),
    ),
    "ranking": (
        "reward model",
        lambda case: validation_ranking(
            case.policy,
            case.objective,
            Stored(ranked_examples()),  # type: ignore[arg-type]
            ["a"],
            60,
        ),
        ranked_examples(),
    ),
    "metrics before the first step": (
        "dpo",
        lambda case: accumulate_metrics(case.policy, case.objective, step_of(case.batches), SingleProcess()),
        (),
    ),
}


@pytest.mark.parametrize("name", EVALUATIONS)
def test_evaluation_gives_the_numbers_of_the_host(name: str, device: VirtualDevice) -> None:
    case, evaluate, examples = EVALUATIONS[name]
    expected = evaluate(CASES[case]())
    found = evaluate(moved(CASES[case](), device))
    assert not device.mixed
    batches = len(list(collate_packed(examples, "messages", 60))) if examples else len(CASES[case]().batches)
    assert sum(device.waits.values()) <= WAITS * batches + 12, device.waits
    assert flat(found) == pytest.approx(flat(expected), rel=1e-4, abs=1e-6)


def flat(value: Any) -> list[float]:
    if isinstance(value, Mapping):
        return [each for child in value.values() for each in flat(child)]
    if hasattr(value, "__slots__"):
        return [float(getattr(value, name)) for name in value.__slots__]
    return [float(value)]


def test_rollouts_are_judged_with_two_waits_a_micro_batch(device: VirtualDevice) -> None:
    planned = PlannedStep(0, 0, (4, 1, 3, 8, 0))
    here = actor_critic("llama")
    rollouts = generator(here, tokens=40)(0, planned, 0.1)
    actor = actor_critic("llama")
    reference = frozen(actor)
    make = generator(actor, reference=reference, tokens=40)
    to_virtual_device(actor.model)
    to_virtual_device(actor.value.module)
    to_virtual_device(reference.model)
    batches = len(list(make._batches(rollouts.answered)))
    device.waits.clear()
    found = make.score(0, rollouts.answered, 0.1)
    assert not device.mixed
    assert batches > 2
    assert sum(device.waits.values()) <= 2 * batches + len(found.columns), device.waits
    for name, values in rollouts.columns.items():
        assert np.allclose(found.columns[name], values, atol=1e-5)


def test_references_are_computed_on_the_device(device: VirtualDevice) -> None:
    case = CASES["dpo"]()
    examples = ranked_examples()
    expected = ReferenceModel(case.policy, PACKED.collate, 60, {}).values(examples)
    digest = weights_digest(case.policy.model)
    moved(case, device)
    found = ReferenceModel(case.policy, PACKED.collate, 60, {}).values(examples)
    assert not device.mixed
    assert sum(device.waits.values()) <= WAITS * len(list(collate_packed(examples, "messages", 60))), device.waits
    assert np.allclose(found, expected, atol=1e-4)
    assert weights_digest(case.policy.model) == digest
    assert not device.mixed


@pytest.mark.parametrize("layout", ["tree", "threads"])
@pytest.mark.parametrize("name", ["sft neox", "sft with flex attention"])
def test_the_self_test_passes_on_the_device(name: str, layout: Any, device: VirtualDevice) -> None:
    case = moved(CASES[name](), device)
    assert self_test(case.policy, VOCABULARY, 30, layout).layout == layout
    assert not device.mixed


def test_the_self_tests_of_other_models_pass_on_the_device(device: VirtualDevice) -> None:
    assert self_test_scalars(moved(CASES["reward model"](), device).policy, VOCABULARY, 30).layout == "tree"
    assert self_test_padded(moved(CASES["t5 sft"](), device).policy, VOCABULARY, 30, 20, START) < 1e-4
    assert not device.mixed


SAMPLING = SamplingParameters(do_sample=False, max_new_tokens=6)


@pytest.mark.parametrize("slots", [True, False])
@pytest.mark.parametrize("name", ["sft neox", "sft llama", "t5 sft"])
def test_decoding_gives_the_tokens_of_the_host(name: str, slots: bool, device: VirtualDevice) -> None:
    """slots: whether rows have slots of a cache of their own, which an encoder-decoder has not."""
    prompts = [[5, 6, 7], [8, 9, 10, 11], [12]]
    state = EncoderDecoderState if name.startswith("t5") else CausalState

    def replies(case: Case) -> list[list[int]]:
        case.policy.eval()
        model = case.policy.model
        with_slots = slots and state is CausalState
        rows = SlotRows(model, len(prompts)) if with_slots else StaticRows(lambda: state(model), case.policy.device)
        return generate(rows, prompts, SAMPLING, StoppingCriteria((1,), VOCABULARY, 64))

    expected = replies(CASES[name]())
    assert replies(moved(CASES[name](), device)) == expected
    assert not device.mixed


def test_a_tensor_that_stays_on_the_host_is_seen(device: VirtualDevice) -> None:
    case = moved(CASES["sft neox"](), device)
    batch = case.batches[0].to(case.policy.device)
    case.policy.log_probabilities(replace(batch, source=case.batches[0].source))
    assert any("index_select" in place for place in device.mixed)


def test_waits_are_counted(device: VirtualDevice) -> None:
    ones = VirtualTensor(torch.ones(3))
    before = sum(device.waits.values())
    found = [ones.sum().item(), bool((ones > 0).all()), ones.tolist(), ones.cpu(), ones.nonzero(), ones[ones > 0]]
    assert sum(device.waits.values()) - before == len(found)
