"""The rollouts of a run on disk: written whole before the first step that uses them, and read back byte by byte.

    rollouts/iteration-000012/
        rollouts.safetensors     replies, their log-probabilities, values, advantages
        iteration.json           the KL coefficients, the measures, and the SHA-256 of the file above
        replies.jsonl            prompts, replies and rewards as text, for people; nothing reads it

A step depends on the weights that wrote its replies, so what was written is part of the run's state, as a checkpoint is.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from tunesmith.batch.columns import PPO_COLUMNS
from tunesmith.errors import StorageError
from tunesmith.files import fingerprint, new_directory, remove_unfinished, sha256, write_json
from tunesmith.train.rollout.rollouts import PromptReplies, Reply, Rollouts, reply_lengths
from tunesmith.train.tensors import write_tensors

TENSORS, INDEX, REPLIES = "rollouts.safetensors", "iteration.json", "replies.jsonl"
PREFIX = "iteration-"

Words = Callable[[Sequence[int]], str]
"""Token ids as text."""


def path_of(directory: Path, iteration: int) -> Path:
    """Where an iteration is kept."""
    return directory / f"{PREFIX}{iteration:06d}"


def save_rollouts(directory: Path, rollouts: Rollouts, words: Words) -> None:
    """Keep an iteration; one of that number that is there already is replaced. Raises StorageError."""
    remove_unfinished(directory)
    with new_directory(path_of(directory, rollouts.iteration)) as temporary:
        digest = write_tensors(temporary / TENSORS, _tensors(rollouts))
        lines = [json.dumps(line, ensure_ascii=False) for line in _readable(rollouts, words)]
        (temporary / REPLIES).write_text("\n".join(lines) + "\n", encoding="utf-8")
        index = {
            "iteration": rollouts.iteration,
            "coefficient": rollouts.coefficient,
            "following": rollouts.following,
            "measures": dict(rollouts.metrics),
            "sha256": digest,
        }
        write_json(temporary / INDEX, {**index, "seal": fingerprint(index)})


def load_rollouts(directory: Path, iteration: int) -> Rollouts:
    """An iteration as it was kept. Raises StorageError if anything in it is not as it was written."""
    path, index = path_of(directory, iteration), read_iteration(directory, iteration)
    if not (path / TENSORS).is_file() or sha256(path / TENSORS) != index["sha256"]:
        raise _lost(path, f"{TENSORS} is missing or not as it was written")
    try:
        tensors = load_file(path / TENSORS)
    except SafetensorError as error:
        raise _lost(path, f"{TENSORS}: {error}") from error
    columns = {name: tensors[name].numpy() for name in PPO_COLUMNS}
    return Rollouts(
        iteration,
        tuple(_answered(tensors)),
        columns,
        tensors["rewards"].numpy(),
        index["coefficient"],
        index["following"],
        index["measures"],
    )


def read_iteration(directory: Path, iteration: int) -> dict[str, Any]:
    """What the index of an iteration says. Raises StorageError."""
    path = path_of(directory, iteration)
    if not (path / INDEX).is_file():
        raise _lost(path, f"{INDEX} is missing")
    try:
        index = json.loads((path / INDEX).read_bytes())
        seal = index.pop("seal")
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):  # whatever a damaged file may hold
        raise _lost(path, f"{INDEX} cannot be read") from None
    if seal != fingerprint(index) or index["iteration"] != iteration:
        raise _lost(path, f"{INDEX} is not as it was written")
    return dict(index)


def forget_rollouts(directory: Path, needed: Collection[int]) -> None:
    """Delete all iterations but those that are needed."""
    for path in sorted(directory.glob(f"{PREFIX}*")):
        number = path.name.removeprefix(PREFIX)
        if number.isdecimal() and int(number) not in needed:
            shutil.rmtree(path, ignore_errors=True)


def _lost(path: Path, what: str) -> StorageError:
    advice = (
        "put it back; or remove the newest checkpoints up to one at the beginning of an iteration, whose replies are written "
        "anew; or begin anew in another run.directory"
    )
    return StorageError(
        f"the rollouts of a step that is to be done again are damaged: {what}", where=path, advice=advice
    )


def _readable(rollouts: Rollouts, words: Words) -> Iterator[dict[str, Any]]:
    rewards = iter(rollouts.rewards.tolist())
    for each in rollouts.answered:
        asked = words(each.prompt)
        for reply in each.replies:
            yield {
                "prompt": each.number,
                "asked": asked,
                "reply": words(reply.ids),
                "finished": reply.stopped,
                "tokens": len(reply.ids),
                "reward": next(rewards),
            }


def _tensors(rollouts: Rollouts) -> dict[str, Tensor]:
    answered = rollouts.answered
    replies = [reply for each in answered for reply in each.replies]
    numbers = {
        "prompt": [each.number for each in answered],
        "copy": [each.copy for each in answered],
        "prompt_length": [len(each.prompt) for each in answered],
        "samples": [len(each.replies) for each in answered],
        "length": reply_lengths(answered).tolist(),
    }
    return {
        **{name: torch.tensor(values, dtype=torch.int64) for name, values in numbers.items()},
        "prompt_ids": torch.tensor([token for each in answered for token in each.prompt], dtype=torch.int32),
        "ids": torch.tensor([token for reply in replies for token in reply.ids], dtype=torch.int32),
        "stopped": torch.tensor([reply.stopped for reply in replies], dtype=torch.bool),
        "rewards": torch.from_numpy(np.asarray(rollouts.rewards, np.float32)),
        **{name: torch.from_numpy(np.asarray(rollouts.columns[name], np.float32)) for name in PPO_COLUMNS},
    }


def _answered(tensors: dict[str, Tensor]) -> Iterator[PromptReplies]:
    prompts = torch.split(tensors["prompt_ids"], tensors["prompt_length"].tolist())
    replies = [
        Reply(tuple(ids.tolist()), stopped)
        for ids, stopped in zip(
            torch.split(tensors["ids"], tensors["length"].tolist()), tensors["stopped"].tolist(), strict=True
        )
    ]
    start = 0
    for number, copy, prompt, count in zip(
        tensors["prompt"].tolist(), tensors["copy"].tolist(), prompts, tensors["samples"].tolist(), strict=True
    ):
        yield PromptReplies(number, copy, tuple(prompt.tolist()), tuple(replies[start : start + count]))
        start += count
