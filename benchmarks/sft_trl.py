"""TRL's side of ``benchmarks.sft``: ``python -m benchmarks.sft_trl INPUTS RESULT MODE``; see ``MODES``.

SFTTrainer has its defaults (8 examples a step, 1,024 tokens, gradient checkpointing, AdamW, clipping at 1, ...)
except for CPU, float32, no reports, no files, one epoch, the end token of the dolly format, and what the mode says.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from benchmarks.sft_inputs import END
from benchmarks.transformers_trainer import (
    GROUPED,
    LOSS_EXAMPLES,
    SETTINGS,
    TrainerRunner,
    loss_of,
    main,
    micro_batches,
)


def read_texts(inputs: Path) -> Dataset:
    """The texts of pairs.jsonl."""
    lines = (inputs / "pairs.jsonl").read_text(encoding="utf-8").splitlines()
    return Dataset.from_list([json.loads(line) for line in lines])


KEPT = {"gradient_checkpointing": False}
"""Activations are kept, which takes more memory and saves a forward pass."""
MODES: dict[str, dict[str, Any]] = {
    "default": {},
    "loss": {},
    "packing": {"packing": True},
    "kept": KEPT,
    "grouped": {**KEPT, **GROUPED},
    "one_by_one": {**KEPT, **micro_batches(1)},
    "kept_packing": {**KEPT, "packing": True},
    "padding_free": {
        **KEPT,
        "padding_free": True,
        "max_length": None,
        "dataset_kwargs": {"skip_prepare_dataset": True},
    },
}
"""Mode -> what differs from the defaults."""


def build_trainer(inputs: Path, mode: str, callbacks: list[TrainerCallback]) -> Any:
    """The trainer of a mode."""
    rows = read_texts(inputs)
    if mode == "padding_free":  # which does not truncate; so another trainer prepares the rows
        rows = _trainer(inputs, {}, rows, []).train_dataset
    return _trainer(inputs, MODES[mode], rows, callbacks)


def _trainer(inputs: Path, settings: dict[str, Any], rows: Dataset, callbacks: list[TrainerCallback]) -> Any:
    return SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(inputs / "model", dtype=torch.float32),
        args=SFTConfig(output_dir=str(inputs / "trl"), eos_token=END, **SETTINGS, **settings),
        train_dataset=rows,
        processing_class=AutoTokenizer.from_pretrained(inputs / "tokenizer"),
        callbacks=callbacks,
    )


def first_loss(trainer: Any) -> dict[str, Any]:
    """The loss of the first examples, and their token ids."""
    examples = [trainer.train_dataset[index] for index in range(LOSS_EXAMPLES)]
    batch = trainer.data_collator([{name: row[name] for name in ("input_ids", "labels")} for row in examples])
    return {"loss": loss_of(trainer, batch), "ids": [row["input_ids"] for row in examples]}


REPORTED = ("per_device_train_batch_size", "max_length", "gradient_checkpointing", "max_grad_norm", "learning_rate")
RUNNER = TrainerRunner(build_trainer, lambda example: len(example["input_ids"]), first_loss, REPORTED)


if __name__ == "__main__":
    main(RUNNER)
