"""The pipeline: a Python function from instructions to replies, called like the pipeline of dolly's authors."""

from __future__ import annotations

import secrets
from dataclasses import asdict
from pathlib import Path
from typing import ClassVar, TypeAlias, overload

from transformers import PreTrainedModel

from tunesmith.errors import UsageError
from tunesmith.generate.engine import Engine
from tunesmith.generate.export_directory import open_engine, read_sampling
from tunesmith.generate.requests import ReplyRequest
from tunesmith.generate.sampling import SamplingParameters
from tunesmith.text.tree import Message

Records: TypeAlias = list[dict[str, str]]
"""``{"generated_text": reply}`` for every reply to one instruction."""


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
        texts = [instructions] if isinstance(instructions, str) else list(instructions)
        if not all(isinstance(text, str) for text in texts):
            raise UsageError("instructions must be a text or several texts", where="pipeline")
        if num_return_sequences < 1 or batch_size < 1:
            raise UsageError("num_return_sequences and batch_size must be at least 1", where="pipeline")
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


def open_pipeline(
    path: str | Path, *, format: str | None = None, return_full_text: bool = False, **sampling: float
) -> ReplyPipeline:
    """Load the model directory that ``path`` means; see ``tunesmith.pipeline``."""
    engine, declared = open_engine(path, format)
    return ReplyPipeline(engine, read_sampling({**asdict(declared), **sampling}), return_full_text=return_full_text)
