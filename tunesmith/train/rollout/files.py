"""The rollouts of a run on disk, written before the first step that uses them, and verified when they are read.

    rollouts/iteration-000012/
        rollouts.safetensors     replies, their log-probabilities, values, advantages
        iteration.json           the KL coefficients, the metrics, and the SHA-256 of the file above
        replies.jsonl            prompts, replies and rewards as text, for people; the program does not read it

A step depends on the weights that sampled its replies, and later steps change them. So rollouts are part of the state
of a run, like a checkpoint.
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
from tunesmith.train.rollout.rollouts import PromptReplies, Rollouts, SampledReply, reply_lengths
from tunesmith.train.tensors import write_tensors

TENSORS, INDEX, REPLIES = "rollouts.safetensors", "iteration.json", "replies.jsonl"
PREFIX = "iteration-"

Decode = Callable[[Sequence[int]], str]
"""Token ids -> text."""


def iteration_directory(directory: Path, iteration: int) -> Path:
    """The directory of one iteration. directory: of all iterations."""
    return directory / f"{PREFIX}{iteration:06d}"


def save_rollouts(directory: Path, rollouts: Rollouts, decode: Decode) -> None:
    """Write an iteration; one of the same number is replaced. Raises StorageError.

    directory: of all iterations.
    decode: makes the text in replies.jsonl.
    """
    remove_unfinished(directory)
    with new_directory(iteration_directory(directory, rollouts.iteration)) as temporary:
        digest = write_tensors(temporary / TENSORS, _tensors(rollouts))
        lines = [json.dumps(line, ensure_ascii=False) for line in _readable_lines(rollouts, decode)]
        (temporary / REPLIES).write_text("\n".join(lines) + "\n", encoding="utf-8")
        index = {
            "iteration": rollouts.iteration,
            "coefficient": rollouts.coefficient,
            "following": rollouts.next_coefficient,
            "measures": dict(rollouts.metrics),
            "sha256": digest,
        }
        write_json(temporary / INDEX, {**index, "seal": fingerprint(index)})


def load_rollouts(directory: Path, iteration: int) -> Rollouts:
    """Read an iteration. Raises StorageError if a file is missing or was changed after it was written."""
    path, index = iteration_directory(directory, iteration), read_index(directory, iteration)
    if not (path / TENSORS).is_file() or sha256(path / TENSORS) != index["sha256"]:
        raise _damaged(path, f"{TENSORS} is missing or was changed")
    try:
        tensors = load_file(path / TENSORS)
    except SafetensorError as error:
        raise _damaged(path, f"{TENSORS}: {error}") from error
    columns = {name: tensors[name].numpy() for name in PPO_COLUMNS}
    return Rollouts(
        iteration,
        tuple(_read_replies(tensors)),
        columns,
        tensors["rewards"].numpy(),
        index["coefficient"],
        index["following"],
        index["measures"],
    )


def read_index(directory: Path, iteration: int) -> dict[str, Any]:
    """The content of iteration.json. Raises StorageError if it is missing or was changed."""
    path = iteration_directory(directory, iteration)
    if not (path / INDEX).is_file():
        raise _damaged(path, f"{INDEX} is missing")
    try:
        index = json.loads((path / INDEX).read_bytes())
        seal = index.pop("seal")
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):  # a damaged file may hold anything
        raise _damaged(path, f"{INDEX} cannot be read") from None
    if seal != fingerprint(index) or index.get("iteration") != iteration:
        raise _damaged(path, f"{INDEX} was changed")
    return dict(index)


def delete_rollouts(directory: Path, needed: Collection[int]) -> None:
    """Delete all iterations except those that are needed."""
    for path in sorted(directory.glob(f"{PREFIX}*")):
        number = path.name.removeprefix(PREFIX)
        if number.isdecimal() and int(number) not in needed:
            shutil.rmtree(path, ignore_errors=True)


def _damaged(path: Path, what: str) -> StorageError:
    advice = (
        "restore it; or remove the newest checkpoints up to one at the beginning of an iteration, whose replies are "
        "then sampled again; or start a new run in another run.directory"
    )
    return StorageError(f"the rollouts that the next step needs are damaged: {what}", where=path, advice=advice)


def _readable_lines(rollouts: Rollouts, decode: Decode) -> Iterator[dict[str, Any]]:
    rewards = iter(rollouts.rewards.tolist())
    for each in rollouts.answered:
        asked = decode(each.prompt)
        for reply in each.replies:
            yield {
                "prompt": each.number,
                "asked": asked,
                "reply": decode(reply.ids),
                "finished": reply.stopped,
                "tokens": len(reply.ids),
                "reward": next(rewards),
            }


def _tensors(rollouts: Rollouts) -> dict[str, Tensor]:
    answered = rollouts.answered
    replies = [reply for each in answered for reply in each.replies]
    integers = {
        "prompt": [each.number for each in answered],
        "copy": [each.copy for each in answered],
        "prompt_length": [len(each.prompt) for each in answered],
        "samples": [len(each.replies) for each in answered],
        "length": reply_lengths(answered).tolist(),
    }
    return {
        **{name: torch.tensor(values, dtype=torch.int64) for name, values in integers.items()},
        "prompt_ids": torch.tensor([token for each in answered for token in each.prompt], dtype=torch.int32),
        "ids": torch.tensor([token for reply in replies for token in reply.ids], dtype=torch.int32),
        "stopped": torch.tensor([reply.stopped for reply in replies], dtype=torch.bool),
        "rewards": torch.from_numpy(np.asarray(rollouts.rewards, np.float32)),
        **{name: torch.from_numpy(np.asarray(rollouts.columns[name], np.float32)) for name in PPO_COLUMNS},
    }


def _read_replies(tensors: dict[str, Tensor]) -> Iterator[PromptReplies]:
    prompts = torch.split(tensors["prompt_ids"], tensors["prompt_length"].tolist())
    replies = [
        SampledReply(tuple(ids.tolist()), stopped)
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
