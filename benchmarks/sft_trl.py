"""TRL's SFTTrainer on the shared world: ``python -m benchmarks.sft_trl WORLD RESULT default|packing|loss``.

Its defaults stay as they are (8 examples a step, 1,024 tokens, gradient checkpointing, AdamW, clipping at 1, ...). Set
are only: CPU, float32, no reports and no files written, one epoch, and the end token of the dolly format.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from benchmarks.contender import THREADS, WARM_UP, Clock, Measured, peak_memory

LOSS_EXAMPLES = 8


class CountingCollator:
    """The trainer's own collator, with the tokens that are not padding counted in every batch."""

    def __init__(self, collator: Any) -> None:
        self.collator = collator
        self.tokens: list[int] = []

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        self.tokens.append(sum(len(example["input_ids"]) for example in examples))
        batch: dict[str, Any] = self.collator(examples)
        return batch


class StepClock(TrainerCallback):
    """The trainer's step ends."""

    def __init__(self) -> None:
        self.clock = Clock()

    def on_step_end(self, args: Any, state: Any, control: Any, **extra: Any) -> None:
        self.clock.step_ended()


def read_pairs(world: Path) -> Dataset:
    lines = (world / "pairs.jsonl").read_text(encoding="utf-8").splitlines()
    return Dataset.from_list([json.loads(line) for line in lines])


def build_trainer(world: Path, packing: bool, callbacks: list[TrainerCallback]) -> Any:
    settings = SFTConfig(
        output_dir=str(world / "trl"),
        use_cpu=True,
        bf16=False,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        num_train_epochs=1,
        packing=packing,
        eos_token="### End",
    )
    return SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(world / "model", dtype=torch.float32),
        args=settings,
        train_dataset=read_pairs(world),
        processing_class=AutoTokenizer.from_pretrained(world / "tokenizer"),
        callbacks=callbacks,
    )


def one_loss(trainer: Any) -> dict[str, Any]:
    """Loss of the first examples as the trainer computes it, and their tokens."""
    examples = [trainer.train_dataset[index] for index in range(LOSS_EXAMPLES)]
    batch = trainer.data_collator([{name: row[name] for name in ("input_ids", "labels")} for row in examples])
    trainer.model.train()
    with torch.no_grad():
        loss = float(trainer.compute_loss(trainer.model, batch))
    return {"loss": loss, "ids": [row["input_ids"] for row in examples]}


def main() -> None:
    world, result, mode = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    torch.set_num_threads(THREADS)
    clock = StepClock()
    trainer = build_trainer(world, mode == "packing", [clock])
    if mode == "loss":
        result.write_text(json.dumps(one_loss(trainer)), encoding="utf-8")
        return
    counting = CountingCollator(trainer.data_collator)
    trainer.data_collator = counting
    loaded = peak_memory()
    outcome = trainer.train()
    seconds = clock.clock.seconds()
    steps = len(clock.clock.ends)
    settings = ("per_device_train_batch_size", "max_length", "gradient_checkpointing", "max_grad_norm", "learning_rate")
    details = {
        **{name: getattr(trainer.args, name) for name in settings},
        "optimizer": str(trainer.args.optim),
        "attention": trainer.model.config._attn_implementation,
        "steps": steps,
    }
    tokens = counting.tokens[WARM_UP:steps]
    Measured(tokens, seconds, peak_memory(), loaded, [outcome.training_loss], details).write(result)


if __name__ == "__main__":
    main()
