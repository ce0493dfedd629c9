"""The models of `tunesmith sample`, opened by our own engine or by another one, with what identifies them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith.apps.model_opening import is_unexported, open_run
from tunesmith.compose.models.reference_cache import weights_digest
from tunesmith.files import fingerprint, sha256
from tunesmith.generate.export_directory import declared_format, find_export
from tunesmith.generate.model_identity import model_fingerprint
from tunesmith.generate.reply_generator import ReplyGenerator
from tunesmith.generate.vllm_engine import VllmEngine
from tunesmith.model.directory import read_directory
from tunesmith.text.tokenizer.tokenizer import Tokenizer
from tunesmith.text.tokens.render import Renderer


@dataclass(frozen=True, slots=True)
class SampledModel:
    """A model whose replies are sampled.

    name: in its report.
    generator: writes the replies.
    identity: what decides the replies, apart from the requests, by the words of messages.
    engine: its name in the report.
    fingerprint: digest of its files, by which its card finds the report; empty for a checkpoint.
    close: frees what would keep its memory although nothing refers to the model any more.
    """

    name: str
    generator: ReplyGenerator
    identity: Mapping[str, Any]
    engine: str
    fingerprint: str = ""
    close: Callable[[], None] = lambda: None


def open_own(name: str, path: str, format: str | None, notice: Callable[[str], None]) -> SampledModel:
    """A run, its newest checkpoint or another model directory, in our own engine. Raises as ``open_run``.

    The inputs of an encoder-decoder are as long as in training at most, since reports have no truncated ones.
    """
    engine, _ = open_run(path, format, notice, limit_input=True)
    parameter = next(engine.model.parameters())
    identity = {
        "model": weights_digest(engine.model),
        "device": [parameter.device.type, str(parameter.dtype)],
    }
    files = "" if is_unexported(Path(path).expanduser()) else model_fingerprint(find_export(path))
    return SampledModel(name, engine, identity, "tunesmith", files)


def open_vllm(name: str, path: str, format: str | None, notice: Callable[[str], None]) -> SampledModel:
    """An export or another directory of a causal model, in vLLM.

    Raises MissingInputError, UsageError and DataError as ``VllmEngine`` and ``declared_format``.
    """
    directory = find_export(path)
    notice(f"loading {directory} with vLLM")
    prompt_format, _ = declared_format(directory, format)
    renderer = Renderer(prompt_format, Tokenizer.load(str(directory), prompt_format.controls))
    engine = VllmEngine(directory, renderer)
    files = {file: sha256(found) for file, found in read_directory(directory).files.items()}
    identity = {"model": fingerprint(files), "device": ["vllm", engine.version]}
    return SampledModel(name, engine, identity, f"vllm {engine.version}", model_fingerprint(directory), engine.close)


OPENERS: Mapping[str, Callable[[str, str, str | None, Callable[[str], None]], SampledModel]] = {
    "tunesmith": open_own,
    "vllm": open_vllm,
}
"""Name of an engine -> open(name, path, format, notice)."""
