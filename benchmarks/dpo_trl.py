"""TRL's side of ``benchmarks.dpo``: ``python -m benchmarks.dpo_trl INPUTS RESULT MODE``; see ``MODES``.

DPOTrainer has its defaults (8 pairs a step, 1,024 tokens, gradient checkpointing, AdamW, clipping at 1, beta 0.1, a
second model as the reference, ...) except for CPU, float32, no reports, no files, one epoch, the end token of the dolly
format, and what the mode says. Where reference log-probabilities are computed beforehand, every pair is charged with
its share of the time that this takes. ``padding_free`` is not available in TRL's DPOTrainer at present.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer

from benchmarks.sft_inputs import END
from benchmarks.sft_trl import read_texts
from benchmarks.transformers_trainer import (
    GROUPED,
    LOSS_EXAMPLES,
    SETTINGS,
    TrainerRunner,
    loss_of,
    main,
    micro_batches,
)

SIDES = ("chosen_ids", "rejected_ids")
LENGTH = "length"
"""The column by which the trainer groups pairs."""
KEPT = {"precompute_ref_log_probs": True, "gradient_checkpointing": False}
"""Log-probabilities of the reference and activations are kept, which takes more memory and saves forward passes."""
MODES: dict[str, dict[str, Any]] = {
    "default": {},
    "loss": {},
    "precomputed": {"precompute_ref_log_probs": True},
    "kept": KEPT,
    "grouped": {**KEPT, **GROUPED},
    "one_by_one": {**KEPT, **micro_batches(1)},
}
"""Mode -> what differs from the defaults."""


class TimedTrainer(DPOTrainer):
    """DPOTrainer with the seconds that it spent on reference log-probabilities before training."""

    reference_seconds = 0.0

    def _precompute_ref_logps(self, dataset: Dataset, name: str, batch_size: int) -> Dataset:
        began = time.perf_counter()
        found = super()._precompute_ref_logps(dataset, name, batch_size)
        self.reference_seconds += time.perf_counter() - began
        return found


def load_model(directory: Path) -> Any:
    """The model in float32."""
    return AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)


def build_trainer(inputs: Path, mode: str, callbacks: list[TrainerCallback]) -> Any:
    """The trainer of a mode."""
    settings = DPOConfig(output_dir=str(inputs / "trl"), **SETTINGS, **MODES[mode])
    trainer: Any = TimedTrainer(
        model=load_model(inputs / "model"),
        ref_model=load_model(inputs / "reference") if mode == "loss" else None,
        args=settings,
        train_dataset=read_texts(inputs),
        processing_class=AutoTokenizer.from_pretrained(inputs / "tokenizer", eos_token=END),
        callbacks=callbacks,
    )
    lengths = [longest_sequence(row) for row in trainer.train_dataset]
    trainer.train_dataset = trainer.train_dataset.add_column(LENGTH, lengths)
    return trainer


def longest_sequence(row: dict[str, Any]) -> int:
    """The tokens of the longer sequence of a pair, to which the other one is padded."""
    return len(row["prompt_ids"]) + max(len(row[side]) for side in SIDES)


def first_loss(trainer: Any) -> dict[str, Any]:
    """The loss of the first pairs with the weights in reference/ as the reference, and their token ids."""
    rows = [trainer.train_dataset[index] for index in range(LOSS_EXAMPLES)]
    batch = trainer.data_collator([{name: row[name] for name in ("prompt_ids", *SIDES)} for row in rows])
    limit = trainer.args.max_length
    ids = [[len(row["prompt_ids"]), *((row["prompt_ids"] + row[side])[:limit] for side in SIDES)] for row in rows]
    return {"loss": loss_of(trainer, batch), "ids": ids}


REPORTED = (
    "per_device_train_batch_size",
    "max_length",
    "gradient_checkpointing",
    "max_grad_norm",
    "learning_rate",
    "beta",
    "precompute_ref_log_probs",
)
RUNNER = TrainerRunner(
    build_trainer, lambda pair: 1, first_loss, REPORTED, preparation=lambda trainer: float(trainer.reference_seconds)
)


if __name__ == "__main__":
    main(RUNNER)
