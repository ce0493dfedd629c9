"""The same supervised steps with TRL on the same GPU: its trainer without padding, flash attention where there is any.

This module is imported only where TRL is installed.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from tests.campaigns.gpu_figures import Campaign, Figure
from tests.campaigns.gpu_speed import RECORD, SHAPES, rehearsed, token_ids
from tests.text.small_tokenizers import byte_level, write_tokenizer

STEPS = 4
END = "<|endoftext|>"


def peer(campaign: Campaign) -> Iterator[Figure]:
    """Tokens a second of TRL's trainer with the first shape."""
    name = f"{SHAPES[0].name} with TRL: tokens/s"
    try:
        yield Figure(name, f"{_rate(campaign):,.0f}")
    except Exception as error:  # another library on another machine; the other figures count
        yield Figure(name, f"not measured: {' '.join(str(error).split())[:80]}")


def _rate(campaign: Campaign) -> float:
    shape = rehearsed(SHAPES[0]) if campaign.rehearsal else SHAPES[0]
    record = min(RECORD, shape.tokens)
    rows = shape.tokens // record
    data = Dataset.from_list([{"input_ids": token_ids(record).tolist()} for _ in range(rows * STEPS)])
    with tempfile.TemporaryDirectory() as text:
        directory = Path(text)
        write_tokenizer(directory / "tokenizer", byte_level(), bos=END, eos=END, unk=END, pad=END)
        settings = SFTConfig(
            output_dir=str(directory / "trl"),
            per_device_train_batch_size=rows,
            max_steps=STEPS,
            max_length=record,
            bf16=not campaign.rehearsal,
            use_cpu=campaign.rehearsal,
            gradient_checkpointing=True,
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
        )
        model = _model(campaign, dict(shape.entries))
        tokenizer: Any = AutoTokenizer.from_pretrained(directory / "tokenizer")
        trainer = SFTTrainer(model=model, args=settings, train_dataset=data, processing_class=tokenizer)
        campaign.wait()
        began = time.perf_counter()
        trainer.train()
        campaign.wait()
        return STEPS * rows * record / (time.perf_counter() - began)


def _model(campaign: Campaign, entries: dict[str, Any]) -> PreTrainedModel:
    flash = "flash_attention_2" if find_spec("flash_attn") and not campaign.rehearsal else "sdpa"
    dtype = torch.float32 if campaign.rehearsal else torch.bfloat16
    with campaign.device:
        configuration = AutoConfig.for_model(str(entries.pop("model_type")), **entries)
        model: PreTrainedModel = AutoModelForCausalLM.from_config(configuration, attn_implementation=flash, dtype=dtype)
    return model
