"""transformers' side of ``benchmarks.seq2seq``.

    python -m benchmarks.seq2seq_trainer INPUTS RESULT MODE; see ``MODES``

Seq2SeqTrainer has its defaults (8 examples a step, AdamW, clipping at 1, a linear schedule from 5e-5, a collator that
pads to the longest example of a batch) except for CPU, float32, no reports, no files, one epoch, and what the mode
says.
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

from benchmarks.seq2seq_inputs import MAX_INPUT, MAX_TARGET
from benchmarks.transformers_trainer import (
    GROUPED,
    LOSS_EXAMPLES,
    SETTINGS,
    TrainerRunner,
    loss_of,
    main,
    micro_batches,
)

MODES: dict[str, dict[str, Any]] = {
    "default": {},
    "loss": {},
    "grouped": GROUPED,
    "grouped_by_two": {**GROUPED, **micro_batches(2)},
    "one_by_one": micro_batches(1),
}
"""Mode -> what differs from the defaults."""


def tokenize_texts(inputs: Path, tokenizer: Any) -> Dataset:
    """The token ids of inputs and labels, each truncated at its limit and ended by the end token."""

    def ids(text: str, limit: int) -> list[int]:
        found = tokenizer(text, add_special_tokens=False, truncation=True, max_length=limit - 1).input_ids
        return [*found, tokenizer.eos_token_id]

    rows = [json.loads(line) for line in (inputs / "pairs.jsonl").read_text(encoding="utf-8").splitlines()]
    return Dataset.from_list(
        [{"input_ids": ids(row["input"], MAX_INPUT), "labels": ids(row["target"], MAX_TARGET)} for row in rows]
    )


def build_trainer(inputs: Path, mode: str, callbacks: list[TrainerCallback]) -> Seq2SeqTrainer:
    """The trainer of a mode."""
    tokenizer = AutoTokenizer.from_pretrained(inputs / "tokenizer")
    model = AutoModelForSeq2SeqLM.from_pretrained(inputs / "model", dtype=torch.float32)
    settings = Seq2SeqTrainingArguments(output_dir=str(inputs / "trainer"), **SETTINGS, **MODES[mode])
    return Seq2SeqTrainer(
        model=model,
        args=settings,
        train_dataset=tokenize_texts(inputs, tokenizer),
        data_collator=DataCollatorForSeq2Seq(tokenizer, model=model),
        processing_class=tokenizer,
        callbacks=callbacks,
    )


def first_loss(trainer: Seq2SeqTrainer) -> dict[str, Any]:
    """The loss of the first examples, and the token ids of their inputs and labels."""
    rows = [trainer.train_dataset[index] for index in range(LOSS_EXAMPLES)]
    ids = [[list(row["input_ids"]), list(row["labels"])] for row in rows]
    return {"loss": loss_of(trainer, trainer.data_collator(rows)), "ids": ids}


REPORTED = ("per_device_train_batch_size", "max_grad_norm", "learning_rate", "train_sampling_strategy")
RUNNER = TrainerRunner(build_trainer, lambda example: len(example["labels"]), first_loss, REPORTED)


if __name__ == "__main__":
    main(RUNNER)
