"""Every term of the memory formula equals bytes that are really there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from tests.model.test_outline import SIZES as SMALL
from tunesmith.compose.components.optimizer import hidden_matrices
from tunesmith.compose.sizing.estimate import estimate_memory, head_bytes
from tunesmith.compose.sizing.memory import CONTEXT, GIB, SLACK, MemoryEstimate, MemoryLine
from tunesmith.compose.sizing.networks import ModelSizes
from tunesmith.compose.sizing.run import DataCounts, size_run
from tunesmith.compose.sizing.settings import (
    Distribution,
    FurtherModel,
    Network,
    StateSettings,
    TrainedAdapter,
    Workload,
)
from tunesmith.model import head
from tunesmith.model.footprint import ActivationBytes, StackBytes, StorageCount
from tunesmith.model.load import new_model
from tunesmith.model.split import WeightStorage
from tunesmith.recipe.load import load
from tunesmith.train.optim.adafactor import Adafactor
from tunesmith.train.optim.muon import Muon
from tunesmith.train.optim.optimizers import AdamW, Optimizer
from tunesmith.train.optim.storage import REST, StateFormat

SIZES: Mapping[str, Mapping[str, Any]] = {
    **SMALL,
    "llama": {**SMALL["llama"], "hidden_size": 128, "intermediate_size": 128},
    "t5": {**SMALL["t5"], "d_model": 128, "d_kv": 32, "d_ff": 128},
}
"""Rows of llama and t5 are whole blocks of 8-bit moments, as those of large models are."""
NO_ACTIVATIONS = ActivationBytes(StackBytes(0, 0, 0))
NO_WORK = Workload(0, 0, 0.0, NO_ACTIVATIONS)


def stored(architecture: str, states: StateSettings) -> tuple[nn.Module, Optimizer]:
    """A small model and its optimizer, with gradients, stored like this."""
    model = new_model({"architecture": architecture, **SIZES[architecture]}, 96, 0)
    weights = WeightStorage(states.weights)
    weights.store(model)
    parameters = {name: each for name, each in model.named_parameters() if each.requires_grad}
    keys = StateFormat(
        gradients=torch.bfloat16 if states.gradients == "bfloat16" else torch.float32,
        moments=states.moments,
        offload=states.offload,
        rests=weights.rests,
        rounding_seed=1 if states.weights == "bfloat16-stochastic" else None,
    )
    optimizers: Mapping[str, Any] = {
        "adamw": lambda: AdamW(parameters, storage=keys),
        "muon": lambda: Muon(
            parameters, hidden_matrices(model), learning_rate=1.0, adamw_learning_rate=1.0, storage=keys
        ),
        "adafactor": lambda: Adafactor(parameters, beta1=0.9 if states.first_moment else None, storage=keys),
    }
    optimizer: Optimizer = optimizers[states.optimizer]()
    for each in parameters.values():
        each.grad = torch.zeros(each.shape, dtype=each.grad_dtype or each.dtype)
    return model, optimizer


def size(tensors: Any) -> int:
    return sum(each.numel() * each.element_size() for each in tensors)


COMBINATIONS = [
    StateSettings(weights, gradients, moments, False, optimizer)  # type: ignore[arg-type]
    for weights, gradients, moments, optimizer in product(
        ("float32", "split", "bfloat16-stochastic"), ("float32", "bfloat16"), ("float32", "8bit"), ("adamw", "muon")
    )
    if (weights, gradients) != ("float32", "bfloat16")
] + [
    StateSettings("split", optimizer="adafactor"),
    StateSettings("float32", optimizer="adafactor", first_moment=True, compute="float32"),
]


@pytest.mark.parametrize(
    ("states", "architecture"),
    [*((each, "llama") for each in COMBINATIONS), *((each, "t5") for each in COMBINATIONS[::-4])],
    ids=str,
)
def test_weights_gradients_and_moments_have_the_bytes_of_the_formula(states: StateSettings, architecture: str) -> None:
    model, optimizer = stored(architecture, states)
    network = ModelSizes({"model_type": architecture, "vocab_size": 96, **SIZES[architecture]}).network()
    lines = {line.name: line.bytes for line in estimate_memory(network, states, NO_WORK).lines}
    state = optimizer.state_dict()
    rests = [tensor for name, tensor in state.items() if name.endswith(REST)]
    counters = [tensor for name, tensor in state.items() if tensor.ndim == 0]
    moments = [tensor for name, tensor in state.items() if not name.endswith(REST) and tensor.ndim]
    assert network.parameters == sum(each.numel() for each in model.parameters())
    assert lines["weights"] == size(model.parameters()) + size(rests)
    assert lines["gradients"] == size(each.grad for each in model.parameters() if each.grad is not None)
    # Scales of blocks that are not full, and the ends of factored moments.
    assert lines.get("moments", 0) == pytest.approx(size(moments), rel=0.05, abs=200)
    assert size(counters) < 0.01 * lines["weights"] + 1000


def test_offloaded_moments_are_not_on_the_gpu_and_the_disk_has_them() -> None:
    network = ModelSizes({"model_type": "llama", "vocab_size": 96, **SIZES["llama"]}).network()
    states = StateSettings("split", offload=True)
    assert "moments" not in {line.name for line in estimate_memory(network, states, NO_WORK).lines}
    assert states.moment_bytes(network) == 8 * network.parameters


@pytest.mark.parametrize("frozen", [False, True])
def test_the_head_has_the_buffers_of_the_formula(frozen: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, hidden, targets, chunk = 400, 64, 200, 50
    monkeypatch.setattr(head, "_chunk_rows", lambda vocabulary: chunk)
    monkeypatch.setattr("tunesmith.compose.sizing.estimate.TABLE", chunk * rows)
    network = Network(0, 0, 0, 0, 0, 0, 1, hidden, rows, 0)
    states = torch.randn(targets, hidden, requires_grad=True)
    weight = torch.randn(rows, hidden, requires_grad=not frozen)
    target = torch.randint(rows, (targets,))
    with StorageCount([states, weight, target]) as count:
        head.target_log_probabilities(states * 1.0, weight, None, target, torch.ones(targets))
    settings = StateSettings("float32", compute="float32")
    assert head_bytes(network, settings, targets, frozen=frozen) == pytest.approx(count.peak, rel=0.1)


def test_a_reward_model_has_no_head() -> None:
    assert head_bytes(Network(0, 0, 0, 0, 0, 0, 1, 64, 0, 0), StateSettings("split"), 100) == 0


@pytest.mark.parametrize("architecture", ["gpt_neox", "llama", "t5"])
def test_the_cache_of_generation_has_the_bytes_of_the_formula(architecture: str) -> None:
    model = new_model({"architecture": architecture, **SIZES[architecture]}, 96, 0)
    model.eval()
    found = ModelSizes({"model_type": architecture, "vocab_size": 96, **SIZES[architecture]}).network()
    ids = torch.ones(1, 7, dtype=torch.long)
    given = {"decoder_input_ids": ids} if architecture == "t5" else {}
    cache = model(input_ids=ids, **given, use_cache=True).past_key_values
    parts = [cache.self_attention_cache, cache.cross_attention_cache] if architecture == "t5" else [cache]
    kept = [each for part in parts for layer in part.layers for each in (layer.keys, layer.values)]
    assert sum(each.numel() for each in kept) == 7 * found.cached


def network(parameters: int = 1_000_000, layers: int = 10) -> Network:
    return Network(parameters, parameters // 2, 1000, parameters // 10, 5000, 100, layers, 64, 400, 20)


WORK = Workload(512, 512, 1.0, ActivationBytes(recomputed=StackBytes(1000, 100, 8000)))


def lines(estimate: MemoryEstimate) -> dict[tuple[str, str], int]:
    return {(line.name, line.phase): line.bytes for line in estimate.lines}


def test_the_need_is_the_largest_phase_and_a_reserve() -> None:
    found = MemoryEstimate(
        (
            MemoryLine("weights", 100, "always"),
            MemoryLine("gradients", 40, "training"),
            MemoryLine("activations", 30, "training"),
            MemoryLine("gradients", 40, "update"),
            MemoryLine("cache", 80, "replies"),
        )
    )
    assert (found.largest_phase, found.tensors) == ("replies", 180)
    assert found.needed == 180 + CONTEXT + round(180 * SLACK)


@pytest.mark.parametrize("shard", ["zero2", "zero3"])
def test_sharing_divides_states_and_adds_what_is_gathered(shard: Literal["zero2", "zero3"]) -> None:
    states, work = StateSettings("float32"), replace(WORK, replies=2, reply_length=10)
    alone, shared = (estimate_memory(network(), states, work, each) for each in (None, Distribution(4, shard)))
    before, now = lines(alone), lines(shared)
    for name in (("weights", "always"), ("gradients", "training"), ("moments", "always")):
        assert now[name] == before[name] // 4
    assert now["activations", "training"] == before["activations", "training"]
    gathered = now["gathered", "training"]
    layer, outside = 90_000, 100_000
    whole = 2 * 1_000_000 if shard == "zero2" else 2 * (2 * layer + outside)
    assert gathered == whole + 6 * layer
    kept = now["weights", "always"] + now["moments", "always"]
    assert kept + now["whole", "loading"] == max(kept, before["weights", "always"])
    assert now["gathered", "replies"] == 2 * 1_000_000


@pytest.mark.parametrize("shard", ["zero2", "zero3"])
def test_a_model_that_is_loaded_by_rows_is_never_whole(shard: Literal["zero2", "zero3"]) -> None:
    states, layer, outside = StateSettings("float32"), 90_000, 100_000
    spread, work = Distribution(16, shard), replace(WORK, by_rows=True)
    found = lines(estimate_memory(network(), states, work, spread))
    gathered = 1_000_000 if shard == "zero2" else 2 * layer + outside
    assert ("whole", "loading") not in found
    assert found["tested", "loading"] == 4 * gathered - found["moments", "always"]
    assert ("gathered", "replies") not in found
    assert lines(estimate_memory(network(), states, work)) == lines(estimate_memory(network(), states, WORK))


@pytest.mark.parametrize("shard", ["zero2", "zero3"])
def test_frozen_models_next_to_one_that_is_loaded_by_rows_are_divided(shard: Literal["zero2", "zero3"]) -> None:
    models = [FurtherModel("reference", network()), FurtherModel("reward model", network())]
    work = replace(WORK, replies=4, reply_length=100, by_rows=True)
    estimate = estimate_memory(network(), StateSettings("float32"), work, Distribution(4, shard), further=models)
    found = lines(estimate)
    assert found["reference", "always"] == found["reward model", "always"] == 4 * 1_000_000 // 4
    layers = 1_000_000 if shard == "zero2" else 2 * 90_000 + 100_000
    gathered = [line.bytes for line in estimate.lines if (line.name, line.phase) == ("gathered", "replies")]
    assert sorted(gathered) == sorted([2 * layers, 2 * 1_000_000])


def test_copies_of_divided_weights_take_as_much_as_fewer_gpus() -> None:
    assert Distribution(16, "zero3", 2).parts == Distribution(8, "zero3").parts


def test_several_gpus_that_share_nothing_need_as_much_as_one() -> None:
    states = StateSettings("split")
    assert estimate_memory(network(), states, WORK) == estimate_memory(network(), states, WORK, Distribution(8))


def test_an_adapter_leaves_frozen_weights_and_its_own_states() -> None:
    found = lines(estimate_memory(network(), StateSettings("split"), WORK, adapter=TrainedAdapter(10_000)))
    assert found["weights", "always"] == 2_000_000
    assert (found["adapter", "always"], found["moments", "always"]) == (4 * 10_000, 8 * 10_000)
    assert found["gradients", "training"] == 40_000
    quantised = lines(estimate_memory(network(), StateSettings("split"), WORK, adapter=TrainedAdapter(10_000, 0.6)))
    assert quantised["weights", "always"] == 600_000


def test_a_model_is_in_float32_with_casts_until_it_is_tested() -> None:
    """Only few states are less: weights in 16 bits, whose moments are on the host or rows and columns."""
    least = StateSettings("bfloat16-stochastic", "bfloat16", offload=True)
    found = estimate_memory(network(), least, NO_WORK)
    assert lines(found)["weights", "always"] + lines(found)["tested", "loading"] == 6 * 1_000_000
    assert found.largest_phase == "loading"
    assert found.tensors == 6 * 1_000_000
    plain = estimate_memory(network(), replace(least, compute="float32", weights="float32"), NO_WORK)
    assert ("tested", "loading") not in lines(plain)


@pytest.mark.parametrize("states", [each for each in COMBINATIONS if each.weights != "bfloat16-stochastic"], ids=str)
def test_loading_is_never_the_peak_of_exact_weights(states: StateSettings) -> None:
    """Gradients take as much as the casts, and the moments come in addition."""
    assert estimate_memory(network(), states, NO_WORK).largest_phase != "loading"


def test_a_frozen_model_is_in_float32_until_it_is_tested() -> None:
    judge = replace(network(), parameters=5_000_000)
    models = [FurtherModel("reward model", judge), FurtherModel("reference", judge, copied=True)]
    found = lines(estimate_memory(network(), StateSettings("split"), NO_WORK, further=models))
    assert found["reward model", "always"] == 2 * 5_000_000
    assert found["tested", "loading"] == 4 * 5_000_000 - found["moments", "always"]
    halves = lines(estimate_memory(network(), StateSettings("split"), NO_WORK, adapter=TrainedAdapter(10_000)))
    assert ("tested", "loading") not in halves


def test_ppo_adds_frozen_models_in_16_bits_and_trains_the_value_function() -> None:
    models = [FurtherModel("reference", network()), FurtherModel("value function", network(), trained=True)]
    work = replace(WORK, value_activations=WORK.activations, replies=4, reply_length=100)
    found = lines(estimate_memory(network(), StateSettings("split"), work, further=models))
    plain = lines(estimate_memory(network(), StateSettings("split"), WORK))
    assert found["reference", "always"] == 2_000_000
    assert found["weights", "always"] == 2 * plain["weights", "always"]
    assert found["moments", "always"] == 2 * plain["moments", "always"]
    assert found["activations", "training"] == plain["activations", "training"] + WORK.activations.after_forward(10, 1)
    assert found["cache", "replies"] == 20 * 2 * 4 * 100


def test_with_adapters_a_copy_of_the_model_needs_no_further_weights() -> None:
    models = [
        FurtherModel("reference", network(), copied=True),
        FurtherModel("value function", network(), trained=True, copied=True),
    ]
    states, adapter = StateSettings("split"), TrainedAdapter(20_000)
    found = lines(estimate_memory(network(), states, WORK, further=models, adapter=adapter))
    assert found["weights", "always"] == 2 * network().parameters
    assert ("reference", "always") not in found
    separate = [FurtherModel("reference", network()), FurtherModel("value function", network(), trained=True)]
    found = lines(estimate_memory(network(), states, WORK, further=separate, adapter=TrainedAdapter(20_000, 4)))
    assert found["weights", "always"] == 4 * 2 * network().parameters
    assert found["casts", "training"] == 2 * 2 * network().parameters
    assert found["reference", "always"] == 4 * network().parameters


@pytest.mark.parametrize(
    ("words", "size"), [([], 2), (["model.dtype=float32"], 4), (["model.adapter.base=float32"], 4)]
)
def test_a_frozen_weight_has_the_bytes_of_its_format(words: list[str], size: float) -> None:
    adapter = size_run(load(["oasst-rm-pythia-1.4b", "lora"], words).recipe, DataCounts()).adapter
    assert adapter is not None
    assert adapter.base_bytes == size


def test_float32_weights_that_compute_in_bfloat16_are_cast_as_a_whole() -> None:
    found = lines(estimate_memory(network(), StateSettings("float32", compute="bfloat16"), WORK))
    assert found["casts", "training"] == 2_000_000
    assert ("casts", "training") not in lines(
        estimate_memory(network(), StateSettings("float32", compute="float32"), WORK)
    )


BYTES: dict[str, tuple[StateSettings, float]] = {
    "float32": (StateSettings("float32", compute="float32"), 16),
    "split": (StateSettings("split"), 16),
    "split, gradients bfloat16": (StateSettings("split", "bfloat16"), 14),
    "split, 8bit": (StateSettings("split", moments="8bit"), 10.0625),
    "split, 8bit, gradients bfloat16": (StateSettings("split", "bfloat16", "8bit"), 8.0625),
    "stochastic, 8bit": (StateSettings("bfloat16-stochastic", "bfloat16", "8bit"), 6.0625),
    "split, offloaded": (StateSettings("split", offload=True), 8),
}


@pytest.mark.parametrize("name", BYTES)
def test_a_parameter_needs_the_bytes_of_the_documents(name: str) -> None:
    states, expected = BYTES[name]
    found = lines(estimate_memory(network(), states, replace(NO_WORK, activations=NO_ACTIVATIONS)))
    total = found["weights", "always"] + found["gradients", "training"] + found.get(("moments", "always"), 0)
    assert total == pytest.approx(expected * network().parameters, rel=1e-4)
    assert GIB == 2**30


def test_tensors_are_counted_like_this() -> None:
    assert size([Tensor([1.0, 2.0]), torch.zeros(3, dtype=torch.bfloat16)]) == 14
