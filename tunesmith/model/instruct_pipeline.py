"""A pipeline for stock transformers: the reply of an instruction-tuned model to one instruction.

This file is part of a model directory. It needs transformers, version 4.57 or later, and nothing else:

    from transformers import pipeline
    generate = pipeline("text-generation", model=DIRECTORY, trust_remote_code=True)
    generate("Name three rivers.")  # [{"generated_text": "..."}]

The prompt is that of the chat template, sampling and end tokens are those of generation_config.json.
"""

from __future__ import annotations

import re
from typing import Any

from transformers import Pipeline

# What the marks <_LB_> and <_T_> of line breaks and tabs become in a vocabulary without "<".
MARKS = ((re.compile(" ?_LB_> ?"), "\n"), (re.compile(" ?_T_> ?"), "\t"))


class InstructionTextGenerationPipeline(Pipeline):
    """Instruction -> list of ``{"generated_text": reply}``, one for each of ``num_return_sequences``.

    return_full_text: whether the text is the instruction, a line break and the reply.
    All other arguments of a call are those of ``model.generate``.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.tokenizer.padding_side = "left"

    def _sanitize_parameters(
        self, return_full_text: bool | None = None, **generate: Any
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        return {}, generate, {} if return_full_text is None else {"return_full_text": return_full_text}

    def preprocess(self, instruction: str) -> dict[str, Any]:
        inputs = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": instruction}],
            add_generation_prompt=True,
            return_dict=True,
            return_tensors="pt",
        )
        return {
            "instruction": instruction,
            "input_ids": inputs["input_ids"],
            "attention_mask": inputs["attention_mask"],
        }

    def _forward(self, inputs: dict[str, Any], **generate: Any) -> dict[str, Any]:
        ids = inputs["input_ids"]
        found = self.model.generate(input_ids=ids, attention_mask=inputs["attention_mask"], **generate)
        replies = found if self.model.config.is_encoder_decoder else found[:, ids.shape[1] :]
        return {"instruction": inputs["instruction"], "replies": replies.reshape(len(ids), -1, replies.shape[-1])}

    def postprocess(self, outputs: dict[str, Any], return_full_text: bool = False) -> list[dict[str, str]]:
        texts = [self._read(ids) for ids in outputs["replies"][0]]
        if return_full_text:
            texts = [f"{outputs['instruction']}\n{text}" for text in texts]
        return [{"generated_text": text} for text in texts]

    def _read(self, ids: Any) -> str:
        """The text of a reply, without its end token."""
        text = self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        if self.model.config.is_encoder_decoder:
            for mark, meaning in MARKS:
                text = mark.sub(meaning, text)
        return str(text).strip()
