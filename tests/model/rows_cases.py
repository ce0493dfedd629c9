"""Cases for several processes: each loads its rows of a model, and needs memory for them only."""

from __future__ import annotations

import threading
from pathlib import Path

import torch
from torch.distributed.device_mesh import init_device_mesh

from tunesmith.compose.models.reference_cache import weights_digest
from tunesmith.model.load import LoadedModel, generating_kind, load_model
from tunesmith.model.load_rows import load_rows
from tunesmith.model.local_rows import local_part, whole
from tunesmith.model.opening import OpenedModel, open_language_model
from tunesmith.model.policy import Policy
from tunesmith.model.shard import Division, layers_of, shard_model
from tunesmith.model.vocabulary import resize_vocabulary
from tunesmith.verify.self_test import self_test

SIZES = {
    "architecture": "llama",
    "hidden_size": 384,
    "num_hidden_layers": 18,
    "num_attention_heads": 6,
    "num_key_value_heads": 3,
    "intermediate_size": 1024,
}
VOCABULARY = 999


class Peak:
    """The largest memory of this process in the block beyond that at its start, in bytes, without mapped files."""

    def __enter__(self) -> Peak:
        self.start = self.highest = _memory()
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.thread.join()

    def _watch(self) -> None:
        while not self.ended.wait(0.0005):
            self.highest = max(self.highest, _memory())

    @property
    def size(self) -> int:
        return self.highest - self.start


def _memory() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def own_memory(rank: int, size: int, directory: Path) -> None:
    """The peak is below 1.2 times the part of this process and one tensor, and the weights are right."""
    path, mesh = directory.parent.parent / "model", init_device_mesh("cpu", (size,))

    def shard(loaded: LoadedModel) -> None:
        resize_vocabulary(loaded.model, VOCABULARY + 5, "exact", 3)
        shard_model(loaded.model, mesh, "zero3", torch.float32)

    kind = generating_kind("llama")
    load_rows(str(path), None, kind, shard)  # imports modules, and fills caches
    with Peak() as peak:
        model = load_rows(str(path), None, kind, shard)
    assert model is not None
    weights = dict(model.named_parameters())
    own = sum(local_part(each).numel() for each in weights.values()) * 4
    largest = max(each.numel() for each in weights.values()) * 4
    (directory / f"{rank}.txt").write_text(f"{peak.size:,} bytes, of its own {own:,}, largest tensor {largest:,}")
    assert peak.size < 1.2 * own + largest, (peak.size, own, largest)
    expected = load_model(str(path))
    resize_vocabulary(expected, VOCABULARY + 5, "exact", 3)
    assert weights_digest(model) == weights_digest(expected)
    for name, tensor in expected.state_dict().items():
        assert torch.equal(whole(model.state_dict()[name]), tensor), name


def gathered_in_test(rank: int, size: int, directory: Path) -> None:
    """While a model is tested, gradients included, a process has gathered a few layers at any time, never all."""
    division = Division(init_device_mesh("cpu", (size,)), "zero3", torch.float32)
    opened = open_language_model(str(directory.parent.parent / "model"), division=division)
    assert opened.root is not None
    layers, held = layers_of(opened.model), list[int]()

    def count(*_: object) -> None:
        held.append(gathered_bytes(opened))

    for layer in layers:
        inside = next(iter(layer.children()))
        inside.register_forward_hook(count)
        inside.register_full_backward_hook(count)
    self_test(Policy(opened.model, sharded=opened.root), VOCABULARY, 30)
    layer_size = sum(each.numel() * 4 for each in layers[0].parameters())
    whole_size = sum(each.numel() * 4 for each in opened.model.parameters())
    outside = whole_size - len(layers) * layer_size
    (directory / f"{rank}.txt").write_text(f"{max(held):,} bytes of {whole_size:,}, a layer has {layer_size:,}")
    assert layer_size < max(held) <= 2 * layer_size + outside, (max(held), layer_size, outside)
    assert gathered_bytes(opened) == 0


def gathered_bytes(opened: OpenedModel) -> int:
    """Bytes of all weights that are gathered now."""
    assert opened.root is not None
    groups = [group for part in opened.root._parts() for group in part._get_fsdp_state()._fsdp_param_groups]
    gathered = [each for group in groups for parameter in group.fsdp_params for each in parameter.all_gather_outputs]
    return sum(each.untyped_storage().nbytes() for each in gathered)


CASES = {"own_memory": own_memory, "gathered_in_test": gathered_in_test}
