"""The export: a plain Hugging Face directory that stock transformers loads, with prompt format and sampling defaults.

Our own chat and scoring read `tunesmith.json`; other tools get the same prompt format from the chat template. A reward
model is exported in the same way, but without sampling defaults.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from transformers import GenerationConfig, PreTrainedModel

from tunesmith.files import new_directory, write_json
from tunesmith.model.context import context_length
from tunesmith.text.formats.format import Format
from tunesmith.text.tokenizer.tokenizer import Tokenizer
from tunesmith.text.tokens.render import Renderer

DESCRIPTION = "tunesmith.json"
DEFAULT_CONTEXT = 2048  # model_max_length of a tokenizer whose model sets no limit
GREEDY_SETTINGS = ("do_sample", "repetition_penalty", "min_new_tokens", "max_new_tokens")


@dataclass(frozen=True, slots=True)
class ExportInfo:
    """What `tunesmith.json` records about a model.

    format: name of the prompt format.
    options: options of the prompt format.
    max_length: tokens of the longest thread in training.
    sampling: sampling defaults of chat, in the names of transformers.
    base: path or hub name of the model that training started from.
    recipe: name of the recipe.
    steps: optimizer steps of training.
    kind: whether the model generates replies or scores them.
    """

    format: str
    options: Mapping[str, Any]
    max_length: int
    sampling: Mapping[str, Any]
    base: str
    recipe: str
    steps: int
    kind: Literal["assistant", "reward"] = "assistant"


def export(directory: Path, model: PreTrainedModel, tokenizer: Tokenizer, format: Format, info: ExportInfo) -> None:
    """Write the directory completely or not at all; an existing one of that name is replaced. Raises StorageError."""
    extra: dict[str, Any] = {"model_max_length": context_length(model.config) or DEFAULT_CONTEXT}
    if info.kind == "reward" and model.config.pad_token_id is not None:
        # Stock transformers finds the end of a reply by skipping this token; its tokenizer has to pad with the same
        # one.
        extra["pad_token"] = tokenizer.decode([model.config.pad_token_id], skip_controls=False)
    with new_directory(directory) as temporary:
        save_model(model, temporary)
        tokenizer.save(temporary, chat_template=format.chat_template(), extra=extra)
        if info.kind == "assistant":
            _generation_config(model, Renderer(format, tokenizer), info.sampling).save_pretrained(temporary)
        write_json(temporary / DESCRIPTION, {"version": 1, **asdict(info)})


def save_model(model: PreTrainedModel, directory: Path) -> None:
    """Write weights and configuration of a model into a directory that exists."""
    model.save_pretrained(directory, safe_serialization=True)


def _generation_config(model: PreTrainedModel, renderer: Renderer, sampling: Mapping[str, Any]) -> GenerationConfig:
    tokenizer = renderer.tokenizer
    return GenerationConfig(  # type: ignore[no-untyped-call]
        **_sampling_settings(sampling),
        eos_token_id=sorted(renderer.stop_ids) or tokenizer.eos_id,
        bos_token_id=tokenizer.bos_id,
        pad_token_id=tokenizer.pad_id if tokenizer.pad_id is not None else tokenizer.eos_id,
        decoder_start_token_id=getattr(model.config, "decoder_start_token_id", None),
    )


def _sampling_settings(sampling: Mapping[str, Any]) -> dict[str, Any]:
    """The sampling defaults; without sampling only those that transformers uses then, as it warns about others."""
    if sampling.get("do_sample", True):
        return dict(sampling)
    return {key: value for key, value in sampling.items() if key in GREEDY_SETTINGS}
