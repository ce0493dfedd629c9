"""transformers' Seq2SeqTrainer on the shared world: ``python -m benchmarks.seq2seq_trainer WORLD RESULT default|grouped|loss``.

Its defaults stay as they are (8 examples a step, AdamW, clipping at 1, a linear schedule from 5e-5, its own collator that
pads to the longest of a batch). Set are only: CPU, float32, no reports and no files written, one epoch. ``grouped`` adds
its grouping of examples by length.
"""

from __future__ import annotations

import json
import sys
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

from benchmarks.contender import THREADS, WARM_UP, Clock, Measured, peak_memory
from benchmarks.seq2seq_world import MAX_INPUT, MAX_TARGET

LOSS_EXAMPLES = 8


class CountingCollator:
    """The collator of transformers, with the targets that are not padding counted in every batch."""

    def __init__(self, collator: Any) -> None:
        self.collator = collator
        self.targets: list[int] = []

    def __call__(self, examples: list[dict[str, Any]]) -> Any:
        self.targets.append(sum(len(example["labels"]) for example in examples))
        return self.collator(examples)


class StepClock(TrainerCallback):
    """The trainer's step ends."""

    def __init__(self) -> None:
        self.clock = Clock()

    def on_step_end(self, args: Any, state: Any, control: Any, **extra: Any) -> None:
        self.clock.step_ended()


def read_pairs(world: Path, tokenizer: Any) -> Dataset:
    """Token ids of inputs and labels, each cut at its limit and closed by the end token."""

    def ids(text: str, limit: int) -> list[int]:
        found = tokenizer(text, add_special_tokens=False, truncation=True, max_length=limit - 1).input_ids
        return [*found, tokenizer.eos_token_id]

    rows = [json.loads(line) for line in (world / "pairs.jsonl").read_text(encoding="utf-8").splitlines()]
    return Dataset.from_list(
        [{"input_ids": ids(row["input"], MAX_INPUT), "labels": ids(row["target"], MAX_TARGET)} for row in rows]
    )


def build_trainer(world: Path, grouped: bool, callbacks: list[TrainerCallback]) -> Seq2SeqTrainer:
    tokenizer = AutoTokenizer.from_pretrained(world / "tokenizer")
    model = AutoModelForSeq2SeqLM.from_pretrained(world / "model", dtype=torch.float32)
    settings = Seq2SeqTrainingArguments(
        output_dir=str(world / "trainer"),
        use_cpu=True,
        bf16=False,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        num_train_epochs=1,
        train_sampling_strategy="group_by_length" if grouped else "random",
    )
    return Seq2SeqTrainer(
        model=model,
        args=settings,
        train_dataset=read_pairs(world, tokenizer),
        data_collator=DataCollatorForSeq2Seq(tokenizer, model=model),
        processing_class=tokenizer,
        callbacks=callbacks,
    )


def one_loss(trainer: Seq2SeqTrainer) -> dict[str, Any]:
    """Loss of the first examples as the trainer computes it, and their tokens."""
    rows = [trainer.train_dataset[index] for index in range(LOSS_EXAMPLES)]
    ids = [[list(row["input_ids"]), list(row["labels"])] for row in rows]
    batch = trainer.data_collator(rows)
    trainer.model.train()
    with torch.no_grad():
        loss = float(trainer.compute_loss(trainer.model, batch))
    return {"loss": loss, "ids": ids}


def main() -> None:
    world, result, mode = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    torch.set_num_threads(THREADS)
    clock = StepClock()
    trainer = build_trainer(world, mode == "grouped", [clock])
    if mode == "loss":
        result.write_text(json.dumps(one_loss(trainer)), encoding="utf-8")
        return
    counting = CountingCollator(trainer.data_collator)
    trainer.data_collator = counting
    loaded = peak_memory()
    outcome = trainer.train()
    steps = len(clock.clock.ends)
    settings = ("per_device_train_batch_size", "max_grad_norm", "learning_rate", "train_sampling_strategy")
    details = {
        **{name: str(getattr(trainer.args, name)) for name in settings},
        "optimizer": str(trainer.args.optim),
        "attention": trainer.model.config._attn_implementation,
        "steps": steps,
    }
    targets = counting.targets[WARM_UP:steps]
    Measured(targets, clock.clock.seconds(), peak_memory(), loaded, [outcome.training_loss], details).write(result)


if __name__ == "__main__":
    main()
