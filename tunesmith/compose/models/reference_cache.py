"""Reference log-probabilities: computed in one pass before training, kept under what they were made from, checked on use."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tunesmith.batch.columns import REFERENCE
from tunesmith.batch.example import Example
from tunesmith.batch.protocols import Collator, LogProbabilityModel
from tunesmith.data.dataset.store import Store
from tunesmith.errors import InternalError
from tunesmith.files import fingerprint, new_directory, sha256, write_json
from tunesmith.objectives.replies import reply_log_probabilities
from tunesmith.verify.self_test import TOLERANCE

VALUES, INDEX = "values.bin", "index.json"
PROBES = 16  # examples that are computed anew when a cache is used
NOT_THEIRS = "remove the cache of references (below data.cache), and report how it came to this"

Values = NDArray[np.float32]
Progress = Callable[[int, int | None, str], None]


@dataclass(frozen=True, slots=True)
class References:
    """values: float32 [R], one for every ranked reply of a store, in its order. ends: int64 [n], where those of each example end."""

    values: Values
    ends: NDArray[np.int64]

    def columns(self, number: int) -> Mapping[str, Values]:
        """What is known of an example: the column ``reference``."""
        start = int(self.ends[number - 1]) if number else 0
        return {REFERENCE: self.values[start : int(self.ends[number])]}


@dataclass(frozen=True, slots=True)
class ReferenceModel:
    """A policy that nothing changes, how it reads, and what says which one it is (``weights_digest`` and so on)."""

    policy: Any
    collate: Collator
    tokens: int
    identity: Mapping[str, Any]

    @torch.no_grad()
    def values(self, examples: list[Example], progress: Callable[[int], None] = lambda done: None) -> Values:
        """float32 [R], the log-probability of every ranked reply of the examples, in their order."""
        self.policy.eval()
        assert not self.policy.model.training, "noise in the reference pass"
        found: dict[int, list[Values]] = {}
        done = 0
        for batch in self.collate(examples, "messages", self.tokens):
            sums = _reply_sums(self.policy, batch)
            sizes = [len(example.tree.replies) for example in (examples[number] for number in batch.examples)]
            for number, part in zip(batch.examples, np.split(sums, np.cumsum(sizes)[:-1]), strict=True):
                found.setdefault(number, []).append(part)
            done += len(batch.examples)
            progress(done)
        return np.concatenate([np.zeros(0, np.float32), *(part for n in range(len(examples)) for part in found[n])])


def _reply_sums(policy: LogProbabilityModel, batch: Any) -> Values:
    moved = batch.to(policy.device)  # type: ignore[attr-defined]
    found = policy.log_probabilities(moved)
    sums, _ = reply_log_probabilities(found.log_probability, moved.owner, len(moved.replies))
    return np.asarray(sums.float().cpu().numpy(), np.float32)


def weights_digest(module: nn.Module) -> str:
    """Digest of all weights of a model as they are now."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name}/{tensor.dtype}/{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().contiguous().cpu().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def references(model: ReferenceModel, store: Store, cache: Path, progress: Progress) -> References:
    """The values of a store's replies, from the cache if they are there, otherwise computed and put there.

    What comes from the cache is checked: its file against its digest, and the values of some examples against the model.
    Raises InternalError if they do not belong together, StorageError.
    """
    ends = np.cumsum(store.replies)
    # Another cut into batches or another device gives other last digits, and a run is to end with the same ones every time.
    passed = {"tokens": model.tokens, "device": model.policy.device.type}
    key = fingerprint({**model.identity, **passed, "examples": hashlib.sha256(store.keys.tobytes()).hexdigest()})
    directory = cache / "references" / key[:32]
    values = _read(directory, key, int(store.replies.sum()))
    if values is None:
        progress(0, len(store), f"0 of {len(store):,} records")
        examples = [Example(number, store.tree(number)) for number in range(len(store))]
        values = model.values(examples, lambda done: progress(done, len(store), f"{done:,} of {len(store):,} records"))
        _write(directory, key, values)
    found = References(values, ends)
    check_references(model, store, found, directory)
    return found


def check_references(model: ReferenceModel, store: Store, found: References, where: Path) -> None:
    """Compute the values of some examples anew. Raises InternalError if the model does not give the same for these data."""
    numbers = sorted(set(np.linspace(0, len(store) - 1, PROBES).astype(int).tolist()))
    examples = [Example(place, store.tree(number)) for place, number in enumerate(numbers)]
    anew = model.values(examples)
    kept = np.concatenate([found.columns(number)[REFERENCE] for number in numbers])
    targets = np.concatenate([_lengths(example) for example in examples])
    allowed = TOLERANCE[model.policy.compute] * np.sqrt(targets)  # rounding adds up like a random walk
    wrong = np.flatnonzero(~(np.abs(anew - kept) <= allowed))
    if len(wrong):
        first = int(wrong[0])
        raise InternalError(
            f"reference log-probabilities are not those of this model and data: {len(wrong)} of {len(kept)} replies differ, "
            f"one is {kept[first]:.3f} and should be {anew[first]:.3f}",
            where=where,
            advice=NOT_THEIRS,
        )


def _lengths(example: Example) -> NDArray[np.int64]:
    """[R] target tokens of every ranked reply."""
    sizes = dict.fromkeys(example.tree.replies[:, 0].tolist(), 0)
    for start, end, _, message, _ in example.tree.spans.tolist():
        sizes[message] += end - start
    return np.array(list(sizes.values()), np.int64)


def _read(directory: Path, key: str, count: int) -> Values | None:
    """Kept values, or None if there are none that are whole."""
    index, file = directory / INDEX, directory / VALUES
    if not index.is_file() or not file.is_file():
        return None
    try:
        known = json.loads(index.read_bytes())
    except ValueError:
        return None
    if known != {"key": key, "sha256": sha256(file), "replies": count}:
        return None
    return np.frombuffer(file.read_bytes(), "<f4").astype(np.float32)


def _write(directory: Path, key: str, values: Values) -> None:
    with new_directory(directory) as temporary:
        (temporary / VALUES).write_bytes(values.astype("<f4").tobytes())
        found = {"key": key, "sha256": sha256(temporary / VALUES), "replies": len(values)}
        write_json(temporary / INDEX, found)
