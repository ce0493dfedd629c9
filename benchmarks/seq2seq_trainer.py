"""transformers' Seq2SeqTrainer on the shared world: ``python -m benchmarks.seq2seq_trainer WORLD RESULT default|grouped|loss``.

Its defaults stay as they are (8 examples a step, AdamW, clipping at 1, a linear schedule from 5e-5, its own collator that
pads to the longest of a batch). Set are only: CPU, float32, no reports and no files written, one epoch. ``grouped`` adds
its grouping of examples by length.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    TrainerCallback,
)

from benchmarks.seq2seq_world import MAX_INPUT, MAX_TARGET
from benchmarks.trainer import LOSS_EXAMPLES, PLAIN, Peer, loss_of, main


def read_input_replies(world: Path, tokenizer: Any) -> Dataset:
    """Token ids of inputs and labels, each cut at its limit and closed by the end token."""

    def ids(text: str, limit: int) -> list[int]:
        found = tokenizer(text, add_special_tokens=False, truncation=True, max_length=limit - 1).input_ids
        return [*found, tokenizer.eos_token_id]

    rows = [json.loads(line) for line in (world / "pairs.jsonl").read_text(encoding="utf-8").splitlines()]
    return Dataset.from_list(
        [{"input_ids": ids(row["input"], MAX_INPUT), "labels": ids(row["target"], MAX_TARGET)} for row in rows]
    )


def build_trainer(world: Path, mode: str, callbacks: list[TrainerCallback]) -> Seq2SeqTrainer:
    tokenizer = AutoTokenizer.from_pretrained(world / "tokenizer")
    model = AutoModelForSeq2SeqLM.from_pretrained(world / "model", dtype=torch.float32)
    sampling = "group_by_length" if mode == "grouped" else "random"
    settings = Seq2SeqTrainingArguments(output_dir=str(world / "trainer"), train_sampling_strategy=sampling, **PLAIN)
    return Seq2SeqTrainer(
        model=model,
        args=settings,
        train_dataset=read_input_replies(world, tokenizer),
        data_collator=DataCollatorForSeq2Seq(tokenizer, model=model),
        processing_class=tokenizer,
        callbacks=callbacks,
    )


def one_loss(trainer: Seq2SeqTrainer) -> dict[str, Any]:
    rows = [trainer.train_dataset[index] for index in range(LOSS_EXAMPLES)]
    ids = [[list(row["input_ids"]), list(row["labels"])] for row in rows]
    return {"loss": loss_of(trainer, trainer.data_collator(rows)), "ids": ids}


TOLD = ("per_device_train_batch_size", "max_grad_norm", "learning_rate", "train_sampling_strategy")
PEER = Peer(build_trainer, lambda example: len(example["labels"]), one_loss, TOLD)


if __name__ == "__main__":
    main(PEER)
