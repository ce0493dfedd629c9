"""TRL's side of ``benchmarks.data``: ``python -m benchmarks.data_trl WORLD RESULT``.

The trainer prepares its data when it is made. Timed is making one with all records and a very small model, less making
one with eight records; reading the file is counted.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from datasets import Dataset
from transformers import AutoTokenizer, GPTNeoXConfig, GPTNeoXForCausalLM
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from benchmarks.sft_trl import read_input_replies

FEW = 8


def seconds_to_make(world: Path, rows: Dataset) -> float:
    shape = GPTNeoXConfig(
        vocab_size=60000, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1
    )
    model = GPTNeoXForCausalLM(shape)
    tokenizer = AutoTokenizer.from_pretrained(world / "tokenizer")
    settings = SFTConfig(output_dir=str(world / "trl"), use_cpu=True, bf16=False, report_to="none", eos_token="### End")
    began = time.perf_counter()
    SFTTrainer(model=model, args=settings, train_dataset=rows, processing_class=tokenizer)
    return time.perf_counter() - began


def main() -> None:
    world, result = Path(sys.argv[1]), Path(sys.argv[2])
    seconds_to_make(world, read_input_replies(world).select(range(FEW)))  # whatever happens only once
    base = seconds_to_make(world, read_input_replies(world).select(range(FEW)))
    began = time.perf_counter()
    rows = read_input_replies(world)
    reading = time.perf_counter() - began
    found = {"seconds": reading + seconds_to_make(world, rows) - base, "records": len(rows)}
    result.write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
