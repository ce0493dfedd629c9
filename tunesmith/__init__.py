"""Tunesmith turns a base language model into an assistant, and shows that it got better."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.cli.lazy import load_part

if TYPE_CHECKING:
    from tunesmith.generate.pipeline import ReplyPipeline

__all__ = ["pipeline"]
__version__ = "0.1.0"


def pipeline(
    path: str | Path, *, format: str | None = None, return_full_text: bool = False, **sampling: float
) -> ReplyPipeline:
    """Load a model that answers instructions, as a Python function.

        generate = tunesmith.pipeline("runs/dolly-v2-3b")
        generate("Name three rivers.", num_return_sequences=2)  # [{"generated_text": "..."}, {"generated_text": "..."}]

    Calls and results are those of a pipeline of transformers, so LangChain's HuggingFacePipeline accepts it. No code of
    the model directory is run.

    path: a run directory, its export, or another model directory.
    format: the prompt format of a directory without tunesmith.json.
    return_full_text: whether texts are the instruction, a line break and the reply.
    sampling: settings in place of those of the model, such as ``max_new_tokens``.
    Raises MissingInputError, DataError, UsageError.
    """
    loaded: ReplyPipeline = load_part("tunesmith.generate.pipeline:open_pipeline")(
        path, format=format, return_full_text=return_full_text, **sampling
    )
    return loaded
