"""TRL's SFTTrainer on the shared world: ``python -m benchmarks.sft_trl WORLD RESULT default|packing|loss``.

Its defaults stay as they are (8 examples a step, 1,024 tokens, gradient checkpointing, AdamW, clipping at 1, ...). Set
are only: CPU, float32, no reports and no files written, one epoch, and the end token of the dolly format.
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

from benchmarks.trainer import LOSS_EXAMPLES, PLAIN, Peer, loss_of, main
from benchmarks.world import END


def read_input_replies(world: Path) -> Dataset:
    lines = (world / "pairs.jsonl").read_text(encoding="utf-8").splitlines()
    return Dataset.from_list([json.loads(line) for line in lines])


def build_trainer(world: Path, mode: str, callbacks: list[TrainerCallback]) -> Any:
    return SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(world / "model", dtype=torch.float32),
        args=SFTConfig(output_dir=str(world / "trl"), packing=mode == "packing", eos_token=END, **PLAIN),
        train_dataset=read_input_replies(world),
        processing_class=AutoTokenizer.from_pretrained(world / "tokenizer"),
        callbacks=callbacks,
    )


def one_loss(trainer: Any) -> dict[str, Any]:
    examples = [trainer.train_dataset[index] for index in range(LOSS_EXAMPLES)]
    batch = trainer.data_collator([{name: row[name] for name in ("input_ids", "labels")} for row in examples])
    return {"loss": loss_of(trainer, batch), "ids": [row["input_ids"] for row in examples]}


TOLD = ("per_device_train_batch_size", "max_length", "gradient_checkpointing", "max_grad_norm", "learning_rate")
PEER = Peer(build_trainer, lambda example: len(example["input_ids"]), one_loss, TOLD)


if __name__ == "__main__":
    main(PEER)
