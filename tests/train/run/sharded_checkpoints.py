"""Cases for several processes: checkpoints of a sharded model, and the tensors that they hold."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.nn import Parameter

from tests.model.trees import small_model
from tests.train.optim.sharded_cases import divided, new_mesh
from tests.train.ranks import CASES as TRAINED
from tests.train.ranks import gradients
from tunesmith.errors import StorageError
from tunesmith.model.finite import find_not_finite
from tunesmith.model.local_rows import as_rows_of, local_part, whole
from tunesmith.model.split import WeightStorage
from tunesmith.train.optim.optimizers import AdamW
from tunesmith.train.optim.storage import StateFormat
from tunesmith.train.run import checkpoint as module
from tunesmith.train.run.checkpoint import newest, read, rotate, save
from tunesmith.train.run.shards import file_name
from tunesmith.train.tensors import tied_names
from tunesmith.world import ProcessGroup

Groups = Mapping[str, Mapping[str, Tensor]]


def model_tensors(step: int) -> dict[str, Tensor]:
    """Whole tensors of many types, of which some have equal shapes, and some fewer rows than there are processes."""
    draw = torch.Generator().manual_seed(step)
    found = {f"layers.{number}.weight": torch.randn(9, 160, generator=draw) for number in range(4)}
    found |= {f"layers.{number}.bias": torch.randn(5, generator=draw) for number in range(3)}
    found |= {"one": torch.randn(1, 3, generator=draw), "half": torch.randn(7, 2, 2, generator=draw).bfloat16()}
    return found | {"rest": torch.randint(-99, 99, (6, 4), generator=draw).to(torch.int16)}


def groups_of(mesh: DeviceMesh | None, step: int) -> dict[str, dict[str, Tensor]]:
    """A model with a tied weight and a buffer, and the state of its optimizer after a step."""
    tensors = {
        name: Parameter(tensor if mesh is None else divided(tensor, mesh), requires_grad=tensor.is_floating_point())
        for name, tensor in model_tensors(step).items()
    }
    trained = {name: each for name, each in tensors.items() if each.dtype == torch.float32}
    optimizer = AdamW(trained, storage=StateFormat(moments="8bit"))
    for name, gradient in model_tensors(step + 1000).items():
        if name in trained:
            trained[name].grad = gradient if mesh is None else divided(gradient, mesh)
    optimizer.step(1e-2)
    model = {name: each.detach() for name, each in tensors.items()}
    model |= {"head.weight": tensors["layers.2.weight"].detach(), "buffer": torch.arange(3.0) + step}
    return {"model": model, "optimizer": optimizer.state_dict()}


def wholes(groups: Groups) -> dict[str, dict[str, Tensor]]:
    return {group: {name: whole(each).clone() for name, each in tensors.items()} for group, tensors in groups.items()}


def assert_same(found: Groups, expected: Groups) -> None:
    assert found.keys() == expected.keys()
    for group, tensors in expected.items():
        assert found[group].keys() == tensors.keys()
        for name, tensor in tensors.items():
            assert found[group][name].dtype == tensor.dtype
            assert torch.equal(found[group][name], tensor), name


def emptied(groups: Groups) -> dict[str, dict[str, Tensor]]:
    """Tensors of the same types and shapes, sharded in the same way, with other numbers."""
    found = {
        group: {name: as_rows_of(torch.full_like(local_part(each), 77), each) for name, each in tensors.items()}
        for group, tensors in groups.items()
    }
    found["model"]["head.weight"] = found["model"]["layers.2.weight"]
    return found


def fail(_: str) -> None:
    raise AssertionError("a checkpoint was found to be damaged")


def saved(rank: int, size: int, directory: Path) -> None:
    """What was saved is loaded with the same bits, and only what is tied has several names."""
    communicator, groups = ProcessGroup(sharded=True), groups_of(new_mesh(size), 3)
    if rank == 0:
        assert tied_names(groups["model"]) == {"head.weight": "layers.2.weight"}, "equal shapes are not tied"
    path = save(directory.parent.parent / f"of-{size}", 3, groups, {"step": 3}, {"recipe": "abc"}, communicator)
    found = newest(path.parent, fail, communicator)
    assert found is not None
    assert (found.step, found.state, found.facts, set(found.groups)) == (3, {"step": 3}, {"recipe": "abc"}, {*groups})
    loaded = emptied(groups)
    for group, tensors in loaded.items():
        found.load_into(group, tensors, "state")
    assert_same(wholes(loaded), wholes(groups))
    assert_same({group: found.load(group) for group in groups}, wholes(groups))
    assert set(found.load("optimizer", ending=".step")) == {name for name in groups["optimizer"] if "step" in name}
    assert len(list(path.glob("model-*.safetensors"))) == size, "every process has written"


def loaded_by_others(rank: int, size: int, directory: Path) -> None:
    """What another number of processes has saved is loaded with the same bits, however rows are divided."""
    communicator = ProcessGroup(sharded=True)
    for other in directory.parent.parent.glob("of-*"):
        found = newest(other, fail, communicator)
        assert found is not None
        groups = groups_of(new_mesh(size), 3)
        loaded = emptied(groups)
        for group, tensors in loaded.items():
            found.load_into(group, tensors, "state")
        assert_same(wholes(loaded), {group: found.load(group) for group in groups})
        assert torch.equal(whole(loaded["model"]["rest"]), model_tensors(3)["rest"])


def whole_model(rank: int, size: int, directory: Path) -> None:
    """A model that is not sharded is saved as by one process, to the byte."""
    path = save(directory / "all", 3, groups_of(None, 3), {"step": 3}, None, ProcessGroup())
    if rank == 0:
        alone = save(directory / "one", 3, groups_of(None, 3), {"step": 3})
        assert {each.name: each.read_bytes() for each in alone.iterdir()} == {
            each.name: each.read_bytes() for each in path.iterdir()
        }


def refuse(*_: object) -> None:
    raise StorageError("too little")


def without_space(original: Callable[..., str]) -> Callable[..., str]:
    """Writes the first group, and has no space for the second."""

    def write(path: Path, tensors: Mapping[str, Tensor]) -> str:
        if "optimizer" in path.name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return original(path, tensors)

    return write


def errors(rank: int, size: int, directory: Path) -> None:
    """If writing or reading fails in one process, all processes end with its error, and older checkpoints are valid."""
    communicator, mesh = ProcessGroup(sharded=True), new_mesh(size)
    for step in (1, 2):
        save(directory, step, groups_of(mesh, step), {}, None, communicator)
    for bad in range(size):
        with pytest.MonkeyPatch.context() as patch:
            if rank == bad:
                patch.setattr(module, "write_tensors", without_space(module.write_tensors))
            with pytest.raises(StorageError, match="No space left on device") as caught:
                save(directory, 3, groups_of(mesh, 3), {}, None, communicator)
            assert caught.value.exit_code == 74
            assert (f"(in process {bad})" in str(caught.value)) == (rank != bad)
    communicator.barrier()
    assert sorted(each.name for each in directory.iterdir()) == ["step-000001", "step-000002"]
    with pytest.MonkeyPatch.context() as patch:
        if rank == 0:
            patch.setattr(module, "check_free_space", refuse)
        with pytest.raises(StorageError, match="too little"):
            save(directory, 3, groups_of(mesh, 3), {}, None, communicator)
        communicator.barrier()
    found = newest(directory, fail, communicator)
    assert found is not None
    with pytest.raises(StorageError, match=r"the saved weights .* \(missing more\)"):
        found.load_into("model", {**groups_of(mesh, 1)["model"], "more": torch.zeros(1)}, "weights")


def damage(rank: int, size: int, directory: Path) -> None:
    """Damage to the file of any process is found by all; the checkpoint is renamed once, and the older one used."""
    communicator, mesh = ProcessGroup(sharded=True), new_mesh(size)
    save(directory, 1, groups_of(mesh, 1), {}, None, communicator)
    for bad in range(size):
        path = save(directory, 2, groups_of(mesh, 2), {}, None, communicator)
        if rank == 0:
            file = path / f"model-{bad + 1:05d}-of-{size:05d}.safetensors"
            content = bytearray(file.read_bytes())
            content[-2] ^= 8
            file.write_bytes(content)
        communicator.barrier()
        notices: list[str] = []
        found = newest(directory, notices.append, communicator)
        assert found is not None
        assert found.step == 1
        assert len(notices) == (rank == 0)
        assert all(f"model-{bad + 1:05d}" in notice for notice in notices)
    for step in (3, 4, 5):
        save(directory, step, groups_of(mesh, step), {}, None, communicator)
    assert rotate(directory, 2, {1}, fail, communicator) == [3]
    communicator.barrier()
    assert sorted(each.step for each in map(read, directory.glob("step-*"))) == [1, 4, 5]


def split_model(mesh: DeviceMesh | None) -> Groups:
    """A model whose exact weights are halves and rests, and the state of its optimizer."""
    model, stored = small_model("llama"), WeightStorage("split")
    stored.store(model)
    parameters, rests = dict[str, Parameter](), dict[Parameter, Tensor]()
    for name, parameter in model.named_parameters():
        parameters[name] = parameter if mesh is None else Parameter(divided(parameter.detach(), mesh))
        rests[parameters[name]] = stored.rests[parameter]
    optimizer = AdamW(parameters, storage=StateFormat(rests=rests))
    return {"model": {name: each.detach() for name, each in parameters.items()}, "optimizer": optimizer.state_dict()}


def exported(rank: int, size: int, directory: Path) -> None:
    """A model with split weights, of which one process makes an export."""
    communicator = ProcessGroup(sharded=True)
    save(directory.parent.parent / "split", 1, split_model(new_mesh(size)), {}, None, communicator)


class Run:
    """A sharded model that all processes train on the same examples."""

    def __init__(self, mesh: DeviceMesh, communicator: ProcessGroup) -> None:
        self.communicator, self.case = communicator, TRAINED["sft llama"]()
        self.case.policy.shard(mesh, "zero3")
        self.optimizer = AdamW(self.case.policy.parameters(), storage=StateFormat(moments="8bit"))

    def advance(self, steps: range) -> Run:
        for number in steps:
            gradients(self.case, self.communicator)
            self.optimizer.step(1e-2 / (number + 1), 0.5)
            self.optimizer.zero_grad()
        return self

    def groups(self) -> Groups:
        return {"model": self.case.policy.model.state_dict(), "optimizer": self.optimizer.state_dict()}


def resumed(rank: int, size: int, directory: Path) -> None:
    """Training that is stopped and continued gives the bits of training that was never stopped."""
    resume_on(new_mesh(size), directory)


def resume_on(mesh: DeviceMesh, directory: Path) -> None:
    communicator = ProcessGroup(sharded=True)
    never_stopped = Run(mesh, communicator).advance(range(4))
    stopped = Run(mesh, communicator).advance(range(2))
    save(directory, 2, stopped.groups(), {}, None, communicator)
    found, again = newest(directory, fail, communicator), Run(mesh, communicator).advance(range(1))
    assert found is not None
    for group, tensors in again.groups().items():
        found.load_into(group, tensors, "state")
    assert_same(wholes(again.groups()), wholes(stopped.groups()))
    assert_same(wholes(again.advance(range(2, 4)).groups()), wholes(never_stopped.groups()))
    assert find_not_finite(again.groups()["model"]) is None


def replicas(rank: int, size: int, directory: Path) -> None:
    """Of two copies of sharded weights the first is saved, and both are loaded."""
    communicator, mesh = ProcessGroup(sharded=True), new_mesh(size, 2)
    groups = groups_of(mesh, 3)
    path = save(directory / "all", 3, groups, {}, None, communicator)
    for group in groups:
        files = sorted(each.name for each in path.glob(f"{group}-*.safetensors"))
        assert files == [file_name(group, each, size) for each in range(size // 2)]
    found, loaded = newest(path.parent, fail, communicator), emptied(groups)
    assert found is not None
    for group, tensors in loaded.items():
        found.load_into(group, tensors, "state")
    assert_same(wholes(loaded), wholes(groups))
    assert_same({group: found.load(group) for group in groups}, groups_of(None, 3))
    resume_on(mesh, directory / "run")


CASES = {each.__name__: each for each in (saved, loaded_by_others, whole_model, errors, damage, exported, resumed)}
