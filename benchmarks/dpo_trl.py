"""TRL's DPOTrainer on the shared world: ``python -m benchmarks.dpo_trl WORLD RESULT default|precomputed|loss``.

Its defaults stay as they are (8 pairs a step, 1,024 tokens, gradient checkpointing, AdamW, clipping at 1, beta 0.1, a second
model as the reference, ...). Set are only: CPU, float32, no reports and no files written, one epoch, and the end token of
the dolly format. ``precomputed`` adds ``precompute_ref_log_probs``; the time that this takes is shared out among the pairs.
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

from benchmarks.sft_trl import read_input_replies
from benchmarks.trainer import LOSS_EXAMPLES, PLAIN, Peer, loss_of, main
from benchmarks.world import END

SIDES = ("chosen_ids", "rejected_ids")


class TimedTrainer(DPOTrainer):
    """The trainer, and how long it computed the reference's log-probabilities before training."""

    reference_seconds = 0.0

    def _precompute_ref_logps(self, dataset: Dataset, name: str, batch_size: int) -> Dataset:
        began = time.perf_counter()
        found = super()._precompute_ref_logps(dataset, name, batch_size)
        self.reference_seconds += time.perf_counter() - began
        return found


def load(world: Path, name: str) -> Any:
    return AutoModelForCausalLM.from_pretrained(world / name, dtype=torch.float32)


def build_trainer(world: Path, mode: str, callbacks: list[TrainerCallback]) -> Any:
    settings = DPOConfig(output_dir=str(world / "trl"), precompute_ref_log_probs=mode == "precomputed", **PLAIN)
    return TimedTrainer(
        model=load(world, "model"),
        ref_model=load(world, "reference") if mode == "loss" else None,
        args=settings,
        train_dataset=read_input_replies(world),
        processing_class=AutoTokenizer.from_pretrained(world / "tokenizer", eos_token=END),
        callbacks=callbacks,
    )


def one_loss(trainer: Any) -> dict[str, Any]:
    """Loss of the first pairs with the other weights as the reference; their tokens, each with the number of the prompt's."""
    rows = [trainer.train_dataset[index] for index in range(LOSS_EXAMPLES)]
    batch = trainer.data_collator([{name: row[name] for name in ("prompt_ids", *SIDES)} for row in rows])
    limit = trainer.args.max_length
    ids = [[len(row["prompt_ids"]), *((row["prompt_ids"] + row[side])[:limit] for side in SIDES)] for row in rows]
    return {"loss": loss_of(trainer, batch), "ids": ids}


TOLD = (
    "per_device_train_batch_size",
    "max_length",
    "gradient_checkpointing",
    "max_grad_norm",
    "learning_rate",
    "beta",
    "precompute_ref_log_probs",
)
PEER = Peer(build_trainer, lambda pair: 1, one_loss, TOLD, prepared=lambda trainer: float(trainer.reference_seconds))


if __name__ == "__main__":
    main(PEER)
