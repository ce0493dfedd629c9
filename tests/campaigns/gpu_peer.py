"""The same supervised and DPO steps with TRL on the same GPU, at its settings for speed.

Supervised steps have no padding (``padding_free``, which TRL 1.16 does not offer for DPO), and flash attention where it
is installed. DPO has the log-probabilities of its reference computed before the first step, as Tunesmith has. The first
step is not timed. This module is imported only where TRL is installed. It has run in the rehearsal on a CPU, and never
on a GPU.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from tests.campaigns.gpu_figures import Campaign, Figure
from tests.campaigns.gpu_speed import PROMPT, RECORD, SHAPES, Shape, rehearsed, token_ids
from tests.text.small_tokenizers import byte_level, write_tokenizer

STEPS = 4
END = "<|endoftext|>"
COMPARED = SHAPES[:2]
"""The shapes that leave enough memory for a trainer with float32 states."""


def peer(campaign: Campaign) -> Iterator[Figure]:
    """Useful tokens a second of TRL's trainers; a trainer that fails is a missed figure with the cause."""
    for shape in COMPARED:
        name = f"{shape.name} with TRL: tokens/s"
        try:
            yield Figure(name, f"{_rate(campaign, shape):,.0f} ({attention(campaign)})")
        except Exception as error:  # another library on another machine; the other figures count
            reason = " ".join(str(error).split())[:160]
            yield Figure(name, f"{type(error).__name__}: {reason}", "measured", False)
        campaign.free()


@dataclass(slots=True)
class StepTimer(TrainerCallback):
    """Seconds of all steps but the first one.

    campaign: has the device.
    began, ended: seconds of a clock after the first and after the last step.
    """

    campaign: Campaign
    began: float = 0.0
    ended: float = 0.0

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **others: object
    ) -> None:
        self.campaign.wait()
        self.ended = time.perf_counter()
        if state.global_step == 1:
            self.began = self.ended


def _rate(campaign: Campaign, shape: Shape) -> float:
    """Useful tokens a second: padding does not count, and of a pair the prompt counts once."""
    chosen = rehearsed(shape) if campaign.rehearsal else shape
    timer = StepTimer(campaign)
    with tempfile.TemporaryDirectory() as text:
        directory = Path(text)
        write_tokenizer(directory / "tokenizer", byte_level(), bos=END, eos=END, unk=END, pad=END)
        build = _pairs_trainer if shape.objective == "dpo" else _records_trainer
        trainer, tokens = build(campaign, chosen, directory)
        trainer.add_callback(timer)
        trainer.train()
    return (STEPS - 1) * tokens / (timer.ended - timer.began)


def _records_trainer(campaign: Campaign, shape: Shape, directory: Path) -> tuple[Any, int]:
    """(trainer, tokens of a step)."""
    record = min(RECORD, shape.tokens)
    rows = shape.tokens // record
    data = Dataset.from_list([{"input_ids": token_ids(record).tolist()} for _ in range(rows * STEPS)])
    settings = SFTConfig(**_settings(campaign, directory, rows), max_length=None, padding_free=True)
    trainer = SFTTrainer(
        model=_model(campaign, shape), args=settings, train_dataset=data, processing_class=_tokenizer(directory)
    )
    return trainer, rows * record


def _pairs_trainer(campaign: Campaign, shape: Shape, directory: Path) -> tuple[Any, int]:
    """(trainer, tokens of a step)."""
    record = min(RECORD, shape.tokens)
    rows, prompt = shape.tokens // record, min(PROMPT, record // 4)
    reply = (record - prompt) // 2
    pair = {"prompt": "a" * prompt, "chosen": "b" * reply, "rejected": "c" * reply}  # a byte is a token
    settings = DPOConfig(**_settings(campaign, directory, rows), max_length=record, precompute_ref_log_probs=True)
    trainer: Any = DPOTrainer(
        model=_model(campaign, shape),
        args=settings,
        train_dataset=Dataset.from_list([pair] * (rows * STEPS)),
        processing_class=_tokenizer(directory),
    )
    row = trainer.train_dataset[0]
    return trainer, rows * sum(len(row[name]) for name in ("prompt_ids", "chosen_ids", "rejected_ids"))


def _settings(campaign: Campaign, directory: Path, rows: int) -> dict[str, Any]:
    """Settings of both trainers. rows: records of a step."""
    return {
        "output_dir": str(directory / "trl"),
        "per_device_train_batch_size": rows,
        "max_steps": STEPS,
        "bf16": not campaign.rehearsal,
        "use_cpu": campaign.rehearsal,
        "gradient_checkpointing": True,
        "report_to": [],
        "save_strategy": "no",
        "logging_strategy": "no",
        "disable_tqdm": True,
    }


def _tokenizer(directory: Path) -> Any:
    return AutoTokenizer.from_pretrained(directory / "tokenizer")


def attention(campaign: Campaign) -> str:
    """The attention of transformers that is used."""
    return "flash_attention_2" if find_spec("flash_attn") and not campaign.rehearsal else "sdpa"


def _model(campaign: Campaign, shape: Shape) -> PreTrainedModel:
    entries = dict(shape.entries)
    dtype = torch.float32 if campaign.rehearsal else torch.bfloat16
    with campaign.device:
        configuration = AutoConfig.for_model(str(entries.pop("model_type")), **entries)
        model: PreTrainedModel = AutoModelForCausalLM.from_config(
            configuration, attn_implementation=attention(campaign), dtype=dtype
        )
    return model
