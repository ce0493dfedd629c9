"""The export: a plain Hugging Face directory that stock transformers loads, carrying prompt format and sampling defaults.

`tunesmith.json` is what our own chat and server read; the chat template says the same to other tools. A reward model is
exported alike, but for the settings of sampling.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from transformers import GenerationConfig, PreTrainedModel

from tunesmith.files import new_directory, write_json
from tunesmith.text.formats.format import Format
from tunesmith.text.tokenizer.tokenizer import Tokenizer
from tunesmith.text.tokens.render import Renderer

DESCRIPTION = "tunesmith.json"


@dataclass(frozen=True, slots=True)
class ExportInfo:
    """What a directory says about itself besides weights and tokenizer.

    format, options: the prompt format. max_length: longest thread it was trained on. sampling: defaults of chat.
    base: the model it came from. recipe: name of the recipe. steps: optimizer steps trained. kind: whether it writes replies
    or scores them.
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
    """Write the directory, whole or not at all; an older one of that name is replaced. Raises StorageError."""
    extra: dict[str, Any] = {"model_max_length": _context(model)}
    if info.kind == "reward" and model.config.pad_token_id is not None:
        # What stock transformers looks past to find the end of a reply, for its tokenizer too.
        extra["pad_token"] = tokenizer.decode([model.config.pad_token_id], skip_controls=False)
    with new_directory(directory) as temporary:
        model.save_pretrained(temporary, safe_serialization=True)
        tokenizer.save(temporary, chat_template=format.chat_template(), extra=extra)
        if info.kind == "assistant":
            _generation_config(model, Renderer(format, tokenizer), info.sampling).save_pretrained(temporary)
        write_json(temporary / DESCRIPTION, {"version": 1, **asdict(info)})


def _generation_config(model: PreTrainedModel, renderer: Renderer, sampling: Mapping[str, Any]) -> GenerationConfig:
    tokenizer = renderer.tokenizer
    return GenerationConfig(  # type: ignore[no-untyped-call]
        **_generation(sampling),
        eos_token_id=sorted(renderer.stop_ids) or tokenizer.eos_id,
        bos_token_id=tokenizer.bos_id,
        pad_token_id=tokenizer.pad_id if tokenizer.pad_id is not None else tokenizer.eos_id,
        decoder_start_token_id=getattr(model.config, "decoder_start_token_id", None),
    )


def _generation(sampling: Mapping[str, Any]) -> dict[str, Any]:
    """Sampling defaults in transformers' words; without sampling its knobs would only be warned about."""
    if sampling.get("do_sample", True):
        return dict(sampling)
    kept = ("do_sample", "repetition_penalty", "min_new_tokens", "max_new_tokens")
    return {key: value for key, value in sampling.items() if key in kept}


def _context(model: PreTrainedModel) -> int:
    return int(getattr(model.config, "max_position_embeddings", None) or 2048)
