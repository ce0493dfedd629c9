"""Cases for several processes: optimizers on sharded parameters against the same parameters in one process."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from torch.nn import Parameter

from tests.train.optim.states import restore_state
from tunesmith.errors import InternalError
from tunesmith.model.finite import find_not_finite
from tunesmith.model.local_rows import as_rows_of, is_first_copy, local_part, local_rows, own_rows, whole
from tunesmith.model.shard import process_mesh
from tunesmith.model.split import WeightFormat, WeightStorage, join
from tunesmith.train.optim.adafactor import Adafactor
from tunesmith.train.optim.muon import Muon
from tunesmith.train.optim.optimizers import AdamW, Optimizer, clip_coefficient, gradient_norm
from tunesmith.train.optim.storage import REST, StateFormat

SHAPES: Mapping[str, tuple[int, ...]] = {
    "embedding": (25, 208),
    "up": (32, 48),
    "down": (48, 32),
    "wide": (7, 304),
    "bias": (7,),
    "one": (1,),
    "kernel": (5, 4, 4),
}
"""Divided unevenly, and with fewer rows than processes. Rows are multiples of the width of vector instructions, outside
of which AdamW's kernel rounds in another way; then its results are equal to the bit."""


def adamw(parameters: Mapping[str, Parameter], storage: StateFormat) -> Optimizer:
    return AdamW(parameters, betas=(0.9, 0.95), weight_decay=0.1, storage=storage)


def muon(parameters: Mapping[str, Parameter], storage: StateFormat) -> Optimizer:
    return Muon(parameters, {"up", "down", "wide"}, learning_rate=0.01, adamw_learning_rate=0.01, storage=storage)


def adafactor(parameters: Mapping[str, Parameter], storage: StateFormat) -> Optimizer:
    return Adafactor(parameters, min_dim_size_to_factor=8, weight_decay=0.01, beta1=0.9, storage=storage)


OPTIMIZERS = {"adamw": adamw, "muon": muon, "adafactor": adafactor}
COMBINATIONS = [
    (optimizer, weights, moments, offload)
    for optimizer, weights, (moments, offload) in product(
        OPTIMIZERS, ("float32", "split", "bfloat16-stochastic"), (("float32", False), ("8bit", False), ("8bit", True))
    )
    if optimizer != "adafactor" or moments == "float32"
]


def divided(tensor: Tensor, mesh: DeviceMesh) -> DTensor:
    """A tensor that all processes have, sharded by rows."""
    return distribute_tensor(tensor, mesh, [*[Replicate()] * (mesh.ndim - 1), Shard(0)], src_data_rank=None)


class Training:
    """Parameters whose gradients are functions of the step, whole in this process or sharded over all."""

    def __init__(self, mesh: DeviceMesh | None, optimizer: str, weights: str, moments: str, offload: bool) -> None:
        draw = torch.Generator().manual_seed(0)
        net = nn.ParameterDict({name: torch.randn(shape, generator=draw) for name, shape in SHAPES.items()})
        form: WeightFormat = weights  # type: ignore[assignment]
        stored = WeightStorage(form)
        stored.store(net)
        self.mesh, self.parameters, rests = mesh, dict[str, Parameter](), dict[Parameter, Tensor]()
        for name, parameter in net.items():
            found = parameter if mesh is None else Parameter(divided(parameter.detach(), mesh))
            self.parameters[name] = found
            if parameter in stored.rests:
                rests[found] = stored.rests[parameter]
        seed = 5 if weights == "bfloat16-stochastic" else None
        keys = {"moments": moments, "offload": offload, "rests": rests, "rounding_seed": seed}
        storage = StateFormat(**keys)  # type: ignore[arg-type]
        self.optimizer = OPTIMIZERS[optimizer](self.parameters, storage)

    def set_gradients(self, step: int) -> None:
        draw = torch.Generator().manual_seed(step)
        for name, parameter in self.parameters.items():
            gradient = torch.randn(SHAPES[name], generator=draw)
            if self.mesh is not None:
                gradient = divided(gradient, self.mesh)
            parameter.grad = gradient

    def advance(self, steps: range) -> Training:
        for step in steps:
            self.set_gradients(step)
            self.optimizer.step(1e-2 / (1 + step), 0.5)
            self.optimizer.zero_grad()
        return self

    def tensors(self) -> dict[str, Tensor]:
        return {**{name: each.detach() for name, each in self.parameters.items()}, **self.optimizer.state_dict()}

    def wholes(self) -> dict[str, Tensor]:
        return {name: whole(tensor).clone() for name, tensor in self.tensors().items()}


def exact(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors with the exact weights of those that have a rest."""
    joined = {name: join(tensors[name], tensors[name + REST]) for name in SHAPES if name + REST in tensors}
    return {name: tensor for name, tensor in {**tensors, **joined}.items() if not name.endswith(REST)}


def new_mesh(size: int, replicas: int = 1) -> DeviceMesh:
    return process_mesh(torch.device("cpu"), size, replicas)


def same_update(rank: int, size: int, directory: Path) -> None:
    """Every optimizer, however it stores things, gives the update of one process."""
    mesh = new_mesh(size)
    for combination in COMBINATIONS[::size]:
        alone, sharded = (Training(each, *combination).advance(range(3)).wholes() for each in (None, mesh))
        assert alone.keys() == sharded.keys()
        if combination[0] == "adafactor":  # its means are summed in another order
            tolerance = 1e-2 if combination[1] == "bfloat16-stochastic" else 1e-5
            torch.testing.assert_close(exact(sharded), exact(alone), rtol=tolerance, atol=tolerance / 10)
        else:
            unequal = [name for name in alone if not torch.equal(sharded[name], alone[name])]
            assert not unequal, (combination, unequal)


def restored(rank: int, size: int, directory: Path) -> None:
    """A state of whole tensors is divided, one of sharded tensors is copied."""
    mesh = new_mesh(size)
    for combination in (("adamw", "split", "8bit", True), ("muon", "float32", "float32", False)):
        expected = Training(mesh, *combination).advance(range(2))
        wholes = {name: whole(tensor) for name, tensor in expected.optimizer.state_dict().items()}
        for state in (wholes, expected.optimizer.state_dict()):
            found = Training(mesh, *combination)
            restore_state(found.optimizer, state)
            assert all(torch.equal(whole(each), wholes[name]) for name, each in found.optimizer.state_dict().items())


def norms(rank: int, size: int, directory: Path) -> None:
    """The norm is that of the whole gradients, and a number that is not finite is found by all, wherever it is."""
    mesh = new_mesh(size)
    alone, sharded = (Training(each, "adamw", "float32", "float32", False) for each in (None, mesh))
    for each in (alone, sharded):
        each.set_gradients(0)
        each.parameters["one"].requires_grad_(False)  # frozen, so it does not count
    torch.testing.assert_close(gradient_norm(sharded.parameters), gradient_norm(alone.parameters))
    sharded.parameters["replicated"] = Parameter(torch.zeros(3))
    sharded.parameters["replicated"].grad = torch.full((3,), 100.0)
    expected = (gradient_norm(alone.parameters).square() + 30_000).sqrt()
    torch.testing.assert_close(gradient_norm(sharded.parameters), expected)
    for place in range(0, 25, 8):  # in the rows of some process
        weights = {name: each.detach() for name, each in sharded.parameters.items()}
        assert find_not_finite(weights) is None
        bad = torch.zeros(25, 208)
        bad[place, 5] = float("inf")
        found = divided(bad, mesh)
        assert find_not_finite({**weights, "bad": found, "later": found}) == "bad"
        sharded.parameters["embedding"].grad = found
        with pytest.raises(InternalError, match=r"^embedding: .* at step 3"):
            clip_coefficient(sharded.parameters, 1.0, 3)


def rows(rank: int, size: int, directory: Path) -> None:
    """Rows are divided as FSDP2 divides them, and put together again, for every type and number of rows."""
    mesh = new_mesh(size)
    for count, dtype in product((1, 2, 3, 7, 12), (torch.float32, torch.bfloat16, torch.int16, torch.uint8)):
        for shape in ((count,), (count, 3), (count, 2, 2)):
            expected = torch.arange(count * torch.Size(shape[1:]).numel()).reshape(shape).to(dtype)
            sharded = divided(expected, mesh)
            found = local_rows(sharded)
            assert found is not None
            assert torch.equal(local_part(sharded), expected[found.first : found.end])
            assert torch.equal(own_rows(expected, sharded), local_part(sharded))
            assert torch.equal(whole(sharded), expected)
            assert torch.equal(whole(as_rows_of(local_part(sharded), sharded)), expected)
            assert is_first_copy(sharded)
            changed = as_rows_of(local_part(sharded), sharded)
            local_part(changed).zero_()
            assert not whole(sharded).any(), "the memory is the same"
    assert is_first_copy(torch.zeros(1)) == (rank == 0)


def hybrid(rank: int, size: int, directory: Path) -> None:
    """With copies over a second dimension of the mesh, sums count every row once."""
    mesh = init_device_mesh("cpu", (size, 1), mesh_dim_names=("copies", "rows"))
    sharded = distribute_tensor(torch.arange(8.0), mesh, [Replicate(), Shard(0)], src_data_rank=None)
    assert is_first_copy(sharded) == (rank == 0)
    assert local_rows(sharded) == (0, 8)
    parameter = Parameter(sharded)
    parameter.grad = sharded
    assert float(gradient_norm({"w": parameter})) == float(torch.arange(8.0).norm())


CASES = {each.__name__: each for each in (rows, hybrid, norms, same_update, restored)}
