"""Reference log-probabilities: computed once before training, cached under a digest of their inputs, checked on use."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tunesmith.batch.columns import REFERENCE
from tunesmith.batch.example import Example
from tunesmith.batch.protocols import BatchT, Collator
from tunesmith.compose.models.families import LanguagePolicy
from tunesmith.data.dataset.store import Store
from tunesmith.errors import InternalError
from tunesmith.files import fingerprint, new_directory, sha256, write_json
from tunesmith.model.local_rows import whole
from tunesmith.objectives.replies import reply_log_probabilities
from tunesmith.verify.self_test import TOLERANCE
from tunesmith.world import ALONE, Communicator, deal

VALUES, INDEX = "values.bin", "index.json"
PROBES = 16  # examples that are recomputed whenever a cache is used
MISMATCH_ADVICE = "remove the folder `references` below data.cache, and report how this happened"

Values = NDArray[np.float32]
Progress = Callable[[int, int | None, str], None]


@dataclass(frozen=True, slots=True)
class References:
    """Reference log-probabilities of the E examples of a store, which have R ranked replies in all.

    values: float32 [R], the log-probability of every reply in nats, in the order of the store.
    ends: int64 [E], index in ``values`` after the last reply of each example.
    """

    values: Values
    ends: NDArray[np.int64]

    def columns(self, number: int) -> Mapping[str, Values]:
        """The column ``reference`` of an example: float32, one value for each of its ranked replies."""
        start = int(self.ends[number - 1]) if number else 0
        return {REFERENCE: self.values[start : int(self.ends[number])]}


@dataclass(frozen=True, slots=True)
class ReferenceModel(Generic[BatchT]):
    """A policy whose weights do not change, and how it reads examples.

    policy: of a language model.
    collate: makes batches of the kind that the policy reads.
    tokens: largest micro-batch, in tokens.
    identity: what decides the values (``weights_digest`` and so on); part of the key of the cache.
    """

    policy: LanguagePolicy[BatchT]
    collate: Collator[BatchT]
    tokens: int
    identity: Mapping[str, Any]

    @torch.no_grad()
    def values(
        self,
        examples: list[Example],
        progress: Callable[[int], None] = lambda done: None,
        passes: Callable[[int], int] = lambda count: count,
        idle: Sequence[Example] = (),
    ) -> Values:
        """float32 [R], the log-probability of every ranked reply of the examples, in their order, in nats.

        progress: called with the number of examples that are done.
        passes: as of ``Communicator``.
        idle: what a process reads in passes for which it has no batch.
        """
        self.policy.eval()
        assert not self.policy.model.training, "dropout in the reference pass"
        found: dict[int, list[Values]] = {}
        done = 0
        batches = list(self.collate(examples, "messages", self.tokens))
        count = passes(len(batches))  # asked before the first pass, in which others wait for this process
        for batch in batches:
            sums = _reply_sums(self.policy, batch)
            sizes = [len(example.tree.replies) for example in (examples[number] for number in batch.examples)]
            for number, part in zip(batch.examples, np.split(sums, np.cumsum(sizes)[:-1]), strict=True):
                found.setdefault(number, []).append(part)
            done += len(batch.examples)
            progress(done)
        for _ in range(len(batches), count):
            _reply_sums(self.policy, next(iter(self.collate(idle, "messages", self.tokens))))
        return np.concatenate([np.zeros(0, np.float32), *(part for n in range(len(examples)) for part in found[n])])


def _reply_sums(policy: LanguagePolicy[BatchT], batch: BatchT) -> Values:
    """float32 [R], the log-probability of every reply of a batch."""
    moved = batch.to(policy.device)
    found = policy.log_probabilities(moved)
    sums, _ = reply_log_probabilities(found.log_probability, moved.owner, len(moved.replies))
    return np.asarray(sums.float().cpu().numpy(), np.float32)


def weights_digest(module: nn.Module) -> str:
    """Digest of names, types, shapes and present values of all weights of a model, also of a sharded one."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name}/{tensor.dtype}/{tuple(tensor.shape)}".encode())
        digest.update(whole(tensor).contiguous().cpu().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def cached_references(
    model: ReferenceModel[BatchT], store: Store, cache: Path, progress: Progress, world: Communicator = ALONE
) -> References:
    """The reference log-probabilities of a store, read from the cache, or computed and written to it.

    Each process of ``world`` computes those of some examples.

    A cache is checked whenever it is used: the file against its digest, some of its values against the model.
    Raises InternalError if they do not agree, StorageError.
    """
    ends = np.cumsum(store.replies)
    # Other micro-batches or another device give other last digits, and a run must be reproducible to the bit.
    pass_settings: dict[str, Any] = {"tokens": model.tokens, "device": model.policy.device.type}
    if world.size > 1:
        pass_settings["processes"] = world.size
    key = fingerprint({**model.identity, **pass_settings, "examples": hashlib.sha256(store.keys.tobytes()).hexdigest()})
    directory = cache / "references" / key[:32]
    values = _read(directory, key, int(store.replies.sum()))
    if world.agree(None if values is not None else "no cache") is not None:
        values = _computed(model, store, progress, world)
        if world.is_first:
            _write(directory, key, values)
        world.barrier()
    assert values is not None, "read or computed"
    found = References(values, ends)
    check_references(model, store, found, directory)
    return found


def _computed(model: ReferenceModel[BatchT], store: Store, progress: Progress, world: Communicator) -> Values:
    """float32 [R], the values of all examples of a store, each computed by one of the processes."""
    shares = deal(store.tokens.tolist(), world.size)
    own = shares[world.rank]
    progress(0, len(own), f"0 of {len(own):,} records")
    examples = [Example(place, store.tree(number)) for place, number in enumerate(own)]
    found = model.values(
        examples,
        lambda done: progress(done, len(own), f"{done:,} of {len(own):,} records"),
        world.passes,
        [Example(0, store.tree(int(np.argmin(store.tokens))))],
    )
    values, ends = np.zeros(int(store.replies.sum()), np.float32), np.cumsum(store.replies)
    for share, content in zip(shares, world.gather_bytes(found.tobytes()), strict=True):
        places = [np.arange(ends[number] - store.replies[number], ends[number]) for number in share]
        if places:
            values[np.concatenate(places)] = np.frombuffer(content, np.float32)
    return values


def check_references(model: ReferenceModel[BatchT], store: Store, found: References, where: Path) -> None:
    """Recompute the values of some examples. Raises InternalError if one differs by more than rounding explains."""
    numbers = sorted(set(np.linspace(0, len(store) - 1, PROBES).astype(int).tolist()))
    examples = [Example(place, store.tree(number)) for place, number in enumerate(numbers)]
    recomputed = model.values(examples)
    cached = np.concatenate([found.columns(number)[REFERENCE] for number in numbers])
    targets = np.concatenate([_lengths(example) for example in examples])
    allowed = TOLERANCE[model.policy.compute] * np.sqrt(targets)  # rounding adds up like a random walk
    wrong = np.flatnonzero(np.logical_not(np.abs(recomputed - cached) <= allowed))  # NaN is wrong, too
    if len(wrong):
        first = int(wrong[0])
        raise InternalError(
            f"the cached reference log-probabilities do not belong to this model and data: {len(wrong)} of "
            f"{len(cached)} replies differ; the first is {cached[first]:.3f} and should be {recomputed[first]:.3f}",
            where=where,
            advice=MISMATCH_ADVICE,
        )


def _lengths(example: Example) -> NDArray[np.int64]:
    """int64 [R], the number of target tokens of every ranked reply."""
    sizes = dict.fromkeys(example.tree.replies[:, 0].tolist(), 0)
    for start, end, _, message, _ in example.tree.spans.tolist():
        sizes[message] += end - start
    return np.array(list(sizes.values()), np.int64)


def _read(directory: Path, key: str, count: int) -> Values | None:
    """The cached values; None if there are none, or none that match their digest."""
    index, file = directory / INDEX, directory / VALUES
    if not index.is_file() or not file.is_file():
        return None
    try:
        description = json.loads(index.read_bytes())
    except ValueError:
        return None
    if description != {"key": key, "sha256": sha256(file), "replies": count}:
        return None
    return np.frombuffer(file.read_bytes(), "<f4").astype(np.float32)


def _write(directory: Path, key: str, values: Values) -> None:
    with new_directory(directory) as temporary:
        (temporary / VALUES).write_bytes(values.astype("<f4").tobytes())
        description = {"key": key, "sha256": sha256(temporary / VALUES), "replies": len(values)}
        write_json(temporary / INDEX, description)
