"""The pipeline: a Python function from instructions to replies, called like the pipeline of dolly's authors."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import ClassVar, TypeAlias, overload

from transformers import PreTrainedModel

from tunesmith.draws import POSITIVE
from tunesmith.errors import UsageError
from tunesmith.generate.engine import Engine
from tunesmith.generate.export_directory import open_engine, read_sampling
from tunesmith.generate.requests import ReplyRequest
from tunesmith.generate.sampling import SamplingParameters
from tunesmith.text.tree import Message
from tunesmith.text.visible import visible

Records: TypeAlias = list[dict[str, str]]
"""``{"generated_text": reply}`` for every reply to one instruction."""
PIPELINE = "pipeline"
"""Where an argument is wrong, in messages."""
MOST_REPLIES = 1 << 16
"""Replies to one instruction: all of them are in memory at the same time."""
LONGEST_SHOWN = 60


class ReplyPipeline:
    """A model that answers instructions: calls and results are those of a pipeline of transformers.

    Prompt, sampling and end of a reply are those of training, whatever the prompt format. Control tokens that are
    written out in an instruction are text.

    engine: the model with its prompt format.
    sampling: how replies are generated, unless a call says otherwise.
    return_full_text: whether a call returns the instruction with the reply, unless it says otherwise.
    """

    task: ClassVar[str] = "text-generation"
    """By this, LangChain's HuggingFacePipeline knows where the text is in a result."""

    def __init__(self, engine: Engine, sampling: SamplingParameters, *, return_full_text: bool = False) -> None:
        self.engine, self.sampling, self.return_full_text = engine, sampling, return_full_text

    @property
    def model(self) -> PreTrainedModel:
        """The stock model, in eval mode. LangChain reads its name."""
        return self.engine.model

    @overload
    def __call__(
        self,
        instructions: str,
        *,
        context: str = "",
        num_return_sequences: int = 1,
        return_full_text: bool | None = None,
        seed: int | None = None,
        batch_size: int = 8,
        **sampling: float,
    ) -> Records: ...

    @overload
    def __call__(
        self,
        instructions: list[str] | tuple[str, ...],
        *,
        context: str = "",
        num_return_sequences: int = 1,
        return_full_text: bool | None = None,
        seed: int | None = None,
        batch_size: int = 8,
        **sampling: float,
    ) -> list[Records]: ...

    def __call__(
        self,
        instructions: str | list[str] | tuple[str, ...],
        *,
        context: str = "",
        num_return_sequences: int = 1,
        return_full_text: bool | None = None,
        seed: int | None = None,
        batch_size: int = 8,
        **sampling: float,
    ) -> Records | list[Records]:
        """Replies to one instruction, or to each of several.

        Args:
            instructions: one text, or several.
            context: a passage that belongs to the instructions, for prompt formats that have a place for it.
            num_return_sequences: replies to each instruction.
            return_full_text: whether a text is the instruction, a line break and the reply, as LangChain needs it.
            seed: of the random numbers. Reply j to an instruction depends on (seed, j) and not on the others; it is
                choice j of the server's answer to a request with this seed. None chooses a seed.
            batch_size: the largest number of replies that are generated together, which changes none of them.
            sampling: settings in the names of transformers, such as ``max_new_tokens`` and ``top_p``
                (``generate.sampling``), in place of those of the model.
        Returns one record for each reply to one instruction, and a list of such lists for several.
        Raises UsageError for a setting that does not exist or has an impossible value, and DataError for an
        instruction that the prompt format cannot express or that is too long.
        """
        texts = _texts(instructions)
        _check_number("num_return_sequences", num_return_sequences, 1, MOST_REPLIES)
        _check_number("batch_size", batch_size, 1, POSITIVE)
        if seed is not None:
            _check_number("seed", seed, -POSITIVE - 1, POSITIVE)
        if not isinstance(context, str):
            raise UsageError(f"context is no text: {_shown(context)}", where=PIPELINE, advice="give a text")
        _check_boolean("return_full_text", return_full_text)
        settings = read_sampling({**asdict(self.sampling), **sampling})
        chosen = secrets.randbelow(2**31) if seed is None else seed
        prompts = [self.engine.prompt([Message("user", text, context=context)], settings).ids for text in texts]
        requests = [
            ReplyRequest(prompt, settings, chosen, number)
            for prompt in prompts
            for number in range(num_return_sequences)
        ]
        replies = {index: reply.text for index, reply in self.engine.replies(requests, batch_size)}
        whole = self.return_full_text if return_full_text is None else return_full_text
        found: list[Records] = [[] for _ in texts]
        for index in range(len(requests)):
            text = texts[place := index // num_return_sequences]
            found[place].append({"generated_text": f"{text}\n{replies[index]}" if whole else replies[index]})
        return found[0] if isinstance(instructions, str) else found


def _texts(instructions: object) -> list[str]:
    """The instructions of a call. Raises UsageError for what is neither a text nor several."""
    if isinstance(instructions, str):
        return [instructions]
    # A mapping, which stock transformers takes for one message, would be the texts of its keys.
    are_several = isinstance(instructions, Iterable) and not isinstance(instructions, Mapping | bytes)
    texts = list(instructions) if isinstance(instructions, Iterable) and are_several else []
    if not are_several or not all(isinstance(text, str) for text in texts):
        what = f"instructions must be a text or several texts, not {_shown(instructions)}"
        raise UsageError(what, where=PIPELINE, advice="chat with messages in stock transformers, or in tunesmith serve")
    return texts


def _check_number(name: str, value: object, least: int, most: int) -> None:
    if type(value) is not int or not least <= value <= most:
        what = f"{name}={_shown(value)} must be a whole number from {least:,} to {most:,}"
        raise UsageError(what, where=PIPELINE)


def _check_boolean(name: str, value: object) -> None:
    if value is not None and not isinstance(value, bool):
        raise UsageError(f"{name}={_shown(value)} must be True or False", where=PIPELINE)


def _check_path(path: object) -> None:
    if not isinstance(path, str | Path):
        what = f"the model must be the path of a directory, not {_shown(path)}"
        raise UsageError(what, where=PIPELINE, advice="give a run, its export, or another model directory")


def _shown(value: object) -> str:
    """A value that somebody gave, on one short line."""
    text = visible(repr(value))
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


def open_pipeline(
    path: str | Path, *, format: str | None = None, return_full_text: bool = False, **sampling: float
) -> ReplyPipeline:
    """Load the model directory that ``path`` means; see ``tunesmith.pipeline``."""
    _check_path(path)
    _check_boolean("return_full_text", return_full_text)
    engine, declared = open_engine(path, format)
    return ReplyPipeline(engine, read_sampling({**asdict(declared), **sampling}), return_full_text=return_full_text)
