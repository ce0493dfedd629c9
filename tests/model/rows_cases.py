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
from tunesmith.model.shard import shard_model
from tunesmith.model.vocabulary import resize_vocabulary

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


CASES = {"own_memory": own_memory}
